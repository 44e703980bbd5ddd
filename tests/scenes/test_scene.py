"""A scene as data: what may be, how one attribute is changed, how scenes are drawn."""

from collections import Counter

import pytest
import torch

from vsvf.scenes import COLOURS, STYLES, TEXTURES, Digit, Scene, load_glyphs, random_scene

PAIR = Scene((Digit(3, "red", x=18.0, size=36.0), Digit(7, "white", "outlined", x=46.0, size=36.0)), "blue", "dots", (3, 5))


@pytest.fixture(scope="module")
def glyphs():
    return load_glyphs()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Digit(10, "red"), "value must be a digit from 0 to 9, got 10"),
        (lambda: Digit(True, "red"), "value must be a digit"),
        (lambda: Digit(1, "purple"), "colour must be one of red, green, blue, yellow, white, black, got 'purple'"),
        (lambda: Digit(1, "red", "hollow"), "style must be one of filled, outlined, got 'hollow'"),
        (lambda: Digit(1, "red", size=1.0), "size must lie between"),
        (lambda: Scene((), "red"), "digits must be one or two, got 0"),
        (lambda: Scene((Digit(1, "red"),), "grey"), "background must be one of"),
        (lambda: Scene((Digit(1, "red"),), "blue", "waves"), "texture must be one of plain, stripes, checks, dots, got 'waves'"),
        (lambda: Scene((Digit(1, "red"),), "red"), "a red digit cannot be seen on a red background"),
        (lambda: Scene((Digit(1, "red"), Digit(2, "red")), "blue"), "x must grow"),
        (lambda: PAIR.change(2, value=1), "which must lie in 0 … 1, got 2"),
        (lambda: PAIR.change(wings=2), "no attribute is named wings"),
        (lambda: PAIR.change(background="red"), "cannot be seen"),
    ],
)
def test_what_cannot_be_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_one_attribute_is_changed_and_the_rest_stays():
    changed = PAIR.change(1, colour="green")
    assert changed.digits[0] == PAIR.digits[0]
    assert changed.attributes["digits"][1] == (7, "green", "outlined")
    assert changed.change(1, colour="white") == PAIR
    assert PAIR.change(texture="plain", value=5).attributes == {
        "digits": ((5, "red", "filled"), (7, "white", "outlined")),
        "background": "blue",
        "texture": "plain",
    }


def test_a_generator_gives_the_same_scenes_again(glyphs):
    drawn = [[random_scene(glyphs, g) for _ in range(20)] for g in (torch.Generator().manual_seed(s) for s in (4, 4, 5))]
    assert drawn[0] == drawn[1] != drawn[2]


def test_drawing_leaves_the_callers_random_numbers_alone(glyphs):
    before = torch.random.get_rng_state()
    random_scene(glyphs, torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_attribute_is_drawn_as_often_as_is_said(glyphs):
    """Counts of 4000 scenes within 5 standard deviations of the binomial's."""
    generator = torch.Generator().manual_seed(1)
    scenes = [random_scene(glyphs, generator) for _ in range(4000)]
    digits = [digit for scene in scenes for digit in scene.digits]

    def check(found, shares):
        total = sum(found.values())
        assert set(found) == set(shares)
        for name, p in shares.items():
            assert abs(found[name] - total * p) < 5 * (total * p * (1 - p)) ** 0.5, name

    check(Counter(len(scene.digits) for scene in scenes), {1: 0.5, 2: 0.5})
    check(Counter(scene.background for scene in scenes), dict.fromkeys(COLOURS, 1 / 6))
    check(Counter(scene.texture for scene in scenes), dict.fromkeys(TEXTURES, 1 / 4))
    check(Counter(digit.value for digit in digits), dict.fromkeys(range(10), 1 / 10))
    check(Counter(digit.style for digit in digits), dict(zip(STYLES, (0.7, 0.3))))


@pytest.mark.parametrize("count", [1, 2])
def test_the_number_of_digits_can_be_asked_for(glyphs, count):
    generator = torch.Generator().manual_seed(2)
    assert all(len(random_scene(glyphs, generator, count=count).digits) == count for _ in range(20))
    with pytest.raises(ValueError, match="count must be 1, 2 or None, got 3"):
        random_scene(glyphs, generator, count=3)
