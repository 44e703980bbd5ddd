"""Captions: every phrase says what its scene is, and the same words are read back."""

import pytest
import torch

from vsvf.scenes import WORDS, Digit, Scene, caption, load_glyphs, parse, random_scene
from vsvf.scenes.captions import split


@pytest.fixture(scope="module")
def scenes():
    glyphs, generator = load_glyphs(), torch.Generator().manual_seed(0)
    return [random_scene(glyphs, generator) for _ in range(300)]


def test_the_plainest_phrases():
    one = Scene((Digit(3, "red"),), "blue")
    two = Scene((Digit(7, "green", "outlined", x=18.0), Digit(2, "white", x=46.0)), "blue", "stripes")
    assert caption(one) == "a red three on a blue background"
    assert caption(two) == "an outlined green seven and a white two on blue stripes"


@pytest.mark.parametrize(
    ("phrase", "digits", "background", "texture"),
    [
        ("a red three on a blue background", [(3, "red", "filled")], "blue", "plain"),
        ("A filled red three, plain blue", [(3, "red", "filled")], "blue", "plain"),
        (
            "a green seven to the left of a white two, blue stripes",
            [(7, "green", "filled"), (2, "white", "filled")],
            "blue",
            "stripes",
        ),
        (
            "a white two to the right of a green seven on striped blue",
            [(7, "green", "filled"), (2, "white", "filled")],
            "blue",
            "stripes",
        ),
        ("a dotted black background with an outlined one", None, None, None),
        ("black dots with an outlined yellow one", [(1, "yellow", "outlined")], "black", "dots"),
    ],
)
def test_phrases_are_read(phrase, digits, background, texture):
    if digits is None:
        with pytest.raises(ValueError, match="'one' has no colour"):
            parse(phrase)
    else:
        assert parse(phrase) == {"digits": tuple(digits), "background": background, "texture": texture}


def test_every_phrasing_says_its_scene(scenes):
    generator = torch.Generator().manual_seed(1)
    for scene in scenes:
        for _ in range(10):
            assert parse(caption(scene, generator)) == scene.attributes
        assert parse(caption(scene)) == scene.attributes


def test_there_are_many_phrasings_and_every_word_is_used(scenes):
    generator = torch.Generator().manual_seed(2)
    pair = next(scene for scene in scenes if len(scene.digits) == 2 and scene.texture == "dots")
    assert len({caption(pair, generator) for _ in range(300)}) >= 20
    used = {word for scene in scenes for _ in range(10) for word in split(caption(scene, generator))}
    assert used == set(WORDS)


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("a purple three on blue", "the word 'purple' is not in the vocabulary: a an and background"),
        ("a blue background", "names one or two digits, got 0"),
        ("a red one and a red two and a red three on blue", "got 3"),
        ("a red three", "names one background colour, got 0"),
        ("a red three on blue stripes with dots", "names one texture, got 2"),
    ],
)
def test_what_is_not_a_caption_is_named(phrase, words):
    with pytest.raises(ValueError, match=words):
        parse(phrase)
