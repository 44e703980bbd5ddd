"""Which token of one prompt stands for which of another: the matrices of prompt-to-prompt (Hertz et al. 2022).

A prompt of L token places has maps A (queries, L). The target's become A_source M + A_target diag(own) with M (L, L): all of
them the source's in `replacement` (own = 0), all but those of the tokens that the source does not have in `refinement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
MARKS = ".,;:!?()[]\"'"


@dataclass(frozen=True)
class Tokens:
    """A prompt as the text encoder sees it.

    Attributes:
        prompt: the text. words: its words, parted by blanks, in lower case.
        ids: of the tokens, the marks of beginning and end included, padding not.
        places: for every word, the places of its tokens (the first mark has place 0).
        length: L, places with padding.
    """

    prompt: str
    words: tuple[str, ...]
    ids: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    length: int

    def of(self, word: str) -> tuple[int, ...]:
        """The places of a word's tokens, of every time that it occurs; marks of punctuation around it do not count.

        Raises:
            ValueError: the prompt does not have the word.
        """
        wanted = word.lower().strip(MARKS)
        found = tuple(p for name, places in zip(self.words, self.places) for p in places if name.strip(MARKS) == wanted)
        if not found or not wanted:
            raise ValueError(f"the word {word!r} is not in the prompt {self.prompt!r}")
        return found


def tokenise(tokenizer: Any, prompt: str) -> Tokens:
    """The tokens of a prompt and the words they belong to.

    Args:
        tokenizer: transformers' tokenizer of a text encoder with a mark at the beginning and one at the end (CLIP's).
        prompt: the text; what is longer than the encoder takes is cut off.

    Raises:
        ValueError: tokens that do not spell the prompt's words.
    """
    length = int(tokenizer.model_max_length)
    ids = [int(n) for n in tokenizer(prompt, truncation=True, max_length=length).input_ids]
    words = prompt.lower().split()
    places: list[list[int]] = [[] for _ in words]
    word = used = 0
    for place, number in enumerate(ids[1:-1], start=1):
        piece = "".join(tokenizer.decode([number]).lower().split())
        while word < len(words) and used >= len(words[word]):
            word, used = word + 1, 0
        if word == len(words) or words[word][used : used + len(piece)] != piece:
            raise ValueError(f"the tokens of {prompt!r} do not spell its words: token {place} is {piece!r}")
        places[word].append(place)
        used += len(piece)
    return Tokens(prompt, tuple(words), tuple(ids), tuple(tuple(p) for p in places), length)


def replacement(source: Tokens, target: Tokens) -> Array:
    """M (L, L) for prompts of as many words: word n of the target takes the attention of word n of the source.

    Words of one token count are mapped token by token; otherwise every token of the source's word gives its attention to the n' of
    the target's, 1/n' each. Every row sums to 1, so that maps which sum to 1 keep doing so. The places behind the words follow each
    other; where the source has more of them, the last place of the target takes the rest.

    Raises:
        ValueError: different numbers of words, or of places.
    """
    if len(source.words) != len(target.words):
        raise ValueError(
            f"replace needs prompts of as many words, got {len(source.words)} in {source.prompt!r} and {len(target.words)} in "
            f"{target.prompt!r}; refine takes any"
        )
    length = _same_length(source, target)
    matrix = np.zeros((length, length))
    matrix[0, 0] = 1.0
    for olds, news in zip(source.places, target.places):
        if len(olds) == len(news):
            matrix[list(olds), list(news)] = 1.0
        elif news:
            matrix[np.ix_(list(olds), list(news))] = 1.0 / len(news)
        else:  # cut off: its attention goes to the end
            matrix[list(olds), length - 1] = 1.0
    i, j = len(source.ids) - 1, len(target.ids) - 1
    for step in range(length - i):
        matrix[i + step, min(j + step, length - 1)] = 1.0
    return matrix


def refinement(source: Tokens, target: Tokens) -> tuple[Array, Array]:
    """M (L, L), 1 where a place of the source stands for a place of the target, and own (L,), 1 where the target's place is new.

    Global alignment of the tokens (Needleman & Wunsch 1970): gap 0, match 1, mismatch -1. Padding follows padding.

    Raises:
        ValueError: different numbers of places.
    """
    length = _same_length(source, target)
    a, b = source.ids, target.ids
    score = np.zeros((len(a) + 1, len(b) + 1))
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            same = 1.0 if a[i - 1] == b[j - 1] else -1.0
            score[i, j] = max(score[i - 1, j - 1] + same, score[i - 1, j], score[i, j - 1])
    places, known = np.zeros(length, dtype=np.int64), np.zeros(length)
    i, j = len(a), len(b)
    while j > 0:
        if i > 0 and a[i - 1] == b[j - 1] and score[i, j] == score[i - 1, j - 1] + 1.0:
            places[j - 1], known[j - 1] = i - 1, 1.0
            i, j = i - 1, j - 1
        elif i > 0 and a[i - 1] != b[j - 1] and score[i, j] == score[i - 1, j - 1] - 1.0:
            i, j = i - 1, j - 1
        elif score[i, j] == score[i, j - 1]:
            j -= 1
        else:
            i -= 1
    for step in range(length - len(b)):
        places[len(b) + step], known[len(b) + step] = min(len(a) + step, length - 1), 1.0
    matrix = np.zeros((length, length))
    matrix[places, np.arange(length)] = known
    return matrix, 1.0 - known


def equaliser(tokens: Tokens, weights: dict[str, float]) -> Array:
    """(L,): the weight of every place, 1 where no word is named.

    Raises:
        ValueError: a word that the prompt does not have.
    """
    values = np.ones(tokens.length)
    for word, weight in weights.items():
        values[list(tokens.of(word))] = weight
    return values


def changed_words(source: Tokens, target: Tokens) -> tuple[list[str], list[str]]:
    """The words of each prompt that the other does not have, in order, without marks of punctuation."""

    def only(one: Sequence[str], other: Sequence[str]) -> list[str]:
        names = {name.strip(MARKS) for name in other}
        return list(dict.fromkeys(name.strip(MARKS) for name in one if name.strip(MARKS) not in names))

    return only(source.words, target.words), only(target.words, source.words)


def _same_length(source: Tokens, target: Tokens) -> int:
    if source.length != target.length:
        raise ValueError(f"the prompts must have as many token places, got {source.length} and {target.length}")
    return source.length
