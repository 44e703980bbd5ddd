"""Pictures and masks: what stands where, and nothing else."""

import math

import pytest
import torch

from vsvf.scenes import COLOURS, TEXTURES, Digit, Glyphs, Scene, load_glyphs, random_scene, render, render_batch
from vsvf.scenes.scene import PERIOD, RIM, SIZE

SCENE = Scene((Digit(3, "red", glyph=4, x=30.0, y=34.0),), "blue", "checks", (3, 5))


@pytest.fixture(scope="module")
def glyphs():
    return load_glyphs()


def levels(colour):
    return torch.tensor(colour, dtype=torch.float32) / 127.5 - 1


def test_the_package_has_a_thousand_digits(glyphs):
    assert [glyphs.count(value) for value in range(10)] == [100] * 10
    assert all(some.dtype == torch.uint8 and some.shape == (100, 28, 28) for some in glyphs.classes)
    for some in glyphs.classes:  # handwriting: ink up to 255, a margin of 4 pixels that is nearly empty
        assert (some.flatten(1).max(1).values > 200).all()
        assert some[:, :3].float().mean() < 5.0


def test_a_glyph_that_is_not_there_is_named(glyphs):
    with pytest.raises(ValueError, match="glyph must lie in 0 … 99 for the digit 3, got 100"):
        render(SCENE.change(glyph=100), glyphs)
    with pytest.raises(ValueError, match=r"no example of the digits \[1, 2, 3, 4, 5, 6, 7, 8, 9\]"):
        Glyphs.of(torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2))


def test_equal_scenes_give_equal_bits_alone_and_in_a_batch(glyphs):
    generator = torch.Generator().manual_seed(0)
    scenes = [random_scene(glyphs, generator) for _ in range(30)]
    pictures, masks = render_batch(scenes, glyphs)
    assert pictures.dtype == torch.float32 and pictures.shape == (30, 3, SIZE, SIZE) and masks.shape == (30, 2, SIZE, SIZE)
    assert pictures.abs().max() <= 1
    for n, scene in enumerate(scenes):
        alone = render(scene, glyphs)
        assert torch.equal(alone.picture, pictures[n])
        assert torch.equal(alone.masks, masks[n, : len(scene.digits)])
        assert alone.attributes == scene.attributes
        assert not masks[n, len(scene.digits) :].any()


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_repeat_and_move_with_their_phase(glyphs, texture):
    still = Scene((Digit(1, "white", size=4.0, x=2.0, y=2.0),), "green", texture)
    here, moved = render(still, glyphs).picture, render(still.change(phase=(2, 3)), glyphs).picture
    far = slice(8, None)
    assert torch.equal(here[:, far, far][:, :-PERIOD, :-PERIOD], here[:, far, far][:, PERIOD:, PERIOD:])
    assert torch.equal(moved[:, 11:, 10:], here[:, 8:-3, 8:-2])
    shades = here[:, far, far].flatten(1).T.unique(dim=0)
    colour, shade = (levels(c) for c in COLOURS["green"])
    assert (shades == colour).all(1).any()
    if texture == "plain":
        assert len(shades) == 1
    else:
        assert (shades == shade).all(1).any()
        line = shade - colour
        share = (shades - colour) @ line / line.dot(line)
        assert torch.allclose(shades, colour + share[:, None] * line, atol=1e-6)


def test_a_digit_is_its_colour_inside_its_mask_and_the_ground_is_untouched_outside(glyphs):
    drawn = render(SCENE, glyphs)
    other = render(SCENE.change(colour="white"), glyphs)
    inside = drawn.masks[0]
    assert 0.05 * SIZE**2 < inside.sum() < 0.4 * SIZE**2
    full = (drawn.picture == levels(COLOURS["red"][0])[:, None, None]).all(0)
    assert (full & inside).sum() > 0.5 * inside.sum()
    assert torch.equal(drawn.picture[:, ~_near(inside)], other.picture[:, ~_near(inside)])


@pytest.mark.parametrize(
    "change",
    [{"colour": "yellow"}, {"value": 8}, {"glyph": 9}, {"style": "outlined"}, {"x": 36.0}, {"size": 50.0}],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_the_digit_changes_its_pixels_only(glyphs, change):
    before, after = render(SCENE, glyphs), render(SCENE.change(**change), glyphs)
    differs = (before.picture != after.picture).any(0)
    assert differs.any()
    assert not (differs & ~_near(before.masks[0] | after.masks[0])).any()


def test_a_change_of_the_ground_leaves_the_digit(glyphs):
    before, after = render(SCENE, glyphs), render(SCENE.change(background="black", texture="stripes"), glyphs)
    assert torch.equal(before.masks, after.masks)
    full = (before.picture == levels(COLOURS["red"][0])[:, None, None]).all(0)
    assert torch.equal(before.picture[:, full], after.picture[:, full])


def test_the_place_is_the_middle_of_the_written_frame(glyphs):
    """The ink's centroid moves as the frame does: MNIST centres it in the frame."""
    for x, y in ((26.0, 30.0), (38.0, 36.0)):
        rows, columns = torch.nonzero(render(SCENE.change(x=x, y=y), glyphs).masks[0]).double().mean(0) + 0.5
        assert math.hypot(columns - x, rows - y) < 2.5


def test_an_outline_is_grey_and_outside_the_digit(glyphs):
    filled, outlined = render(SCENE, glyphs), render(SCENE.change(style="outlined"), glyphs)
    assert (filled.masks & ~outlined.masks).sum() == 0
    ring = outlined.masks[0] & ~_near(filled.masks[0])
    grey = (outlined.picture - levels(RIM)[:, None, None]).norm(dim=0)
    ground = (outlined.picture - filled.picture).norm(dim=0)
    assert ring.sum() > 20 and (grey < ground)[ring].all()


def test_of_two_digits_the_right_one_lies_on_top(glyphs):
    pair = Scene((Digit(0, "white", x=30.0, size=50.0), Digit(1, "red", x=36.0, size=50.0)), "black")
    drawn = render(pair, glyphs)
    assert not (drawn.masks[0] & drawn.masks[1]).any()
    top = render(Scene((pair.digits[1],), "black"), glyphs)
    assert torch.equal(drawn.masks[1], top.masks[0])
    left = render(Scene((pair.digits[0],), "black"), glyphs)
    assert torch.equal(drawn.masks[0], left.masks[0] & ~top.masks[0])


def _near(mask):
    """The mask and every pixel that touches it: edges are soft by one pixel."""
    return torch.nn.functional.max_pool2d(mask[None].float(), 3, stride=1, padding=1)[0] > 0
