"""Tokens, words and the matrices between two prompts, against examples written out by hand."""

import numpy as np
import pytest
from diffusers_models import small_stable_diffusion

from vsvf.apps.edit.alignment import Tokens, changed_words, equaliser, refinement, replacement, tokenise


def tokens(prompt, sizes, ids, length=8):
    """A prompt whose words have so many tokens each."""
    places, place = [], 1
    for size in sizes:
        places.append(tuple(range(place, place + size)))
        place += size
    return Tokens(prompt, tuple(prompt.split()), (100, *ids, 101), tuple(places), length)


def test_replacement_by_hand():
    """A word of one token that becomes two: half of its attention each; what follows moves by one."""
    source, target = tokens("a cat sits", (1, 1, 1), (1, 2, 3)), tokens("a zebra sits", (1, 2, 1), (1, 4, 5, 3))
    assert replacement(source, target).tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0.5, 0.5, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ]
    back = replacement(target, source)
    assert back[2].tolist() == back[3].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert back[4, 3] == back[5, 4] == back[7, 6] == 1.0


def test_replacement_keeps_sums_and_is_the_identity_between_equal_prompts(generator):
    source, target = tokens("a b c", (2, 1, 3), range(6), 10), tokens("d e f", (1, 3, 1), range(10, 15), 10)
    assert np.array_equal(replacement(source, source), np.eye(10))
    maps = np.random.default_rng(0).dirichlet(np.ones(10), 5)
    assert np.allclose((maps @ replacement(source, target)).sum(1), 1.0)
    with pytest.raises(ValueError, match=r"as many words, got 3 .* and 2 .*refine"):
        replacement(source, tokens("d e", (1, 1), (1, 2), 10))
    with pytest.raises(ValueError, match="token places"):
        replacement(source, tokens("a b c", (1, 1, 1), (1, 2, 3), 12))


def test_refinement_by_hand():
    """A word put in: it is new, what stands behind it comes from one place earlier."""
    source, target = tokens("a cat sits", (1, 1, 1), (1, 2, 3)), tokens("a red cat sits", (1, 1, 1, 1), (1, 9, 2, 3))

    def read(matrix, own):
        assert ((matrix == 0) | (matrix == 1)).all() and (matrix.sum(0) + own == 1).all()
        return own.tolist(), [int(column.argmax()) for column, new in zip(matrix.T, own) if not new]

    assert read(*refinement(source, target)) == ([0, 0, 1, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6])
    assert read(*refinement(target, source)) == ([0] * 8, [0, 1, 3, 4, 5, 6, 7, 7])
    own, places = read(*refinement(source, tokens("a dog sits", (1, 1, 1), (1, 7, 3))))
    assert own == [0, 0, 1, 0, 0, 0, 0, 0] and places[2:] == [3, 4, 5, 6, 7]


def test_equaliser_and_changed_words():
    source, target = tokens("a cat, sits", (1, 1, 1), (1, 2, 3)), tokens("a zebra sits", (1, 2, 1), (1, 4, 5, 3))
    assert equaliser(target, {"zebra": 2.0}).tolist() == [1, 1, 2, 2, 1, 1, 1, 1]
    assert changed_words(source, target) == (["cat"], ["zebra"])
    with pytest.raises(ValueError, match="'dog' is not in the prompt 'a zebra sits'"):
        equaliser(target, {"dog": 2.0})


def test_tokens_of_a_word_that_the_tokenizer_cuts_up(tmp_path):
    tokenizer = small_stable_diffusion(tmp_path).tokenizer
    found = tokenise(tokenizer, "a Cat by zoo")
    assert found.words == ("a", "cat", "by", "zoo")
    assert found.places == ((1,), (2,), (3, 4), (5, 6, 7)) and found.length == 16
    assert len(found.ids) == 9 and found.of("ZOO") == (5, 6, 7)
