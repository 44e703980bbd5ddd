"""The judge reads scenes of digits that it never saw in training."""

import pytest
import torch

from vsvf.scenes import load_glyphs, random_scene, render_batch
from vsvf.scenes.judge import Judge, agreement, cut, load_judge


@pytest.fixture(scope="module")
def readings():
    glyphs, generator, judge = load_glyphs(), torch.Generator().manual_seed(11), load_judge()
    scenes = [random_scene(glyphs, generator) for _ in range(300)]
    read = judge.read(render_batch(scenes, glyphs)[0])
    return [agreement(found, scene.attributes) for found, scene in zip(read, scenes)]


@pytest.mark.parametrize(
    ("name", "share"),
    [("count", 0.98), ("value", 0.93), ("colour", 0.98), ("style", 0.97), ("background", 0.99), ("texture", 0.99)],
)
def test_attributes_are_read(readings, name, share):
    assert sum(same[name] for same in readings) >= share * len(readings)


def test_agreement_names_what_differs():
    wanted = {"digits": ((3, "red", "filled"), (7, "white", "outlined")), "background": "blue", "texture": "dots"}
    assert all(agreement(wanted, wanted).values())
    other = {**wanted, "digits": ((3, "red", "filled"), (8, "white", "outlined")), "texture": "plain"}
    assert [name for name, same in agreement(other, wanted).items() if not same] == ["value", "texture"]
    fewer = {**wanted, "digits": wanted["digits"][:1]}
    assert [name for name, same in agreement(fewer, wanted).items() if not same] == ["count", "value", "colour", "style"]


def test_a_frame_is_cut_where_it_stands():
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, :, 20:30, 40:50] = 1.0
    inside = cut(picture, torch.tensor([[45 / 64, 25 / 64, 10 / 64 * 28 / 24]]))
    assert inside.shape == (1, 3, 28, 28) and torch.allclose(inside[..., 1:-1, 1:-1], torch.ones(()))
    assert (cut(picture, torch.tensor([[15 / 64, 50 / 64, 10 / 64]])) == 0).all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"the judge reads pictures \(B, 3, 64, 64\), got shape \(1, 1, 28, 28\)"):
        Judge().read(torch.zeros(1, 1, 28, 28))


def test_loading_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    load_judge()
    assert torch.equal(torch.random.get_rng_state(), before)
