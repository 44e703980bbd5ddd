"""The error budget: parts that add up, and that mean what they say."""

import pytest
import strategies as own
import torch

from vsvf.apps.budget import KEYS, Codec, budget, eight_bit_codec, fine_nodes, tensor_codec, unrounded
from vsvf.predictors import Guided, Predictor, gaussian_mixture

GRID = own.ddpm_grid(20, "smallest")
U = unrounded(torch.linspace(-1.0, 1.0, 256).reshape(1, 1, 16, 16))


def network(guidance=1.0):
    def eps(x, t, condition):
        return 0.6 * x + 0.2 * torch.tanh(x) * condition.reshape(-1, 1, 1, 1)

    return Predictor(Guided(eps, torch.ones(1), torch.zeros(1), guidance), own.Schedule.linear())


def sizes(parts):
    return {part.key: part.size for part in parts}


@pytest.mark.parametrize("method", ["ddim_inversion", "belm(2)", "stable_belm(3)", "edict(0.93)", "bdia(1)", "ddim"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_shares_add_up(method, guidance):
    found = budget(network(guidance), U, GRID, method, unguided=network() if guidance != 1.0 else None, reference_steps=64)
    for parts, whole in ((found.noise_parts, found.noise), (found.image_parts, found.image)):
        assert tuple(part.key for part in parts) == KEYS
        assert sum(part.share for part in parts) == pytest.approx(1.0, abs=1e-9)
        assert whole <= sum(part.size for part in parts) * (1.0 + 1e-9)
        assert all(part.sentence for part in parts)


def test_ddim_inversion_fails_by_truncation_and_an_invertible_method_by_rounding_alone():
    inexact = sizes(budget(network(), U, GRID, "ddim_inversion", arithmetic="float64").image_parts)
    assert inexact["truncation"] > 1e-3 and inexact["rounding"] == inexact["starter"] == inexact["guidance"] == 0.0
    exact = sizes(budget(network(), U, GRID, "belm(2)", arithmetic="float32").image_parts)
    assert exact["rounding"] > 1e-8
    assert max(exact["truncation"], exact["starter"], exact["guidance"]) < 1e-9


def test_in_fixed_point_only_the_codec_is_left():
    found = budget(network(2.0), U, GRID, "belm(2)", unguided=network(), arithmetic="fixed", codec=tensor_codec(torch.float16))
    assert found.exact == "fixed" and sizes(found.image_parts)["rounding"] == 0.0
    assert sizes(found.image_parts)["image"] == pytest.approx(found.image, rel=1e-4)
    assert found.image > 1e-5
    whole = budget(network(), U, GRID, "belm(2)", arithmetic="fixed", codec=eight_bit_codec())
    assert whole.image == whole.largest == 0.0


def test_guidance_moves_the_noise_and_drives_ddim_inversion_off():
    found = budget(network(5.0), U, GRID, "ddim_inversion", unguided=network())
    assert sizes(found.noise_parts)["guidance"] > 0.1 and sizes(found.image_parts)["guidance"] > 1e-3
    assert sizes(budget(network(), U, GRID, "ddim_inversion").noise_parts)["guidance"] == 0.0


def test_a_better_starter_has_a_smaller_part():
    parts = [sizes(budget(network(), U, GRID, "stable_belm(3)", starter=s).noise_parts)["starter"] for s in ("ddim", "heun", "rk4")]
    assert parts[0] > 2.0 * parts[1] > 4.0 * parts[2]


def test_truncation_falls_with_the_steps():
    parts = [sizes(budget(network(), U, own.ddpm_grid(n, "smallest"), "belm(2)").noise_parts)["truncation"] for n in (20, 80)]
    assert parts[1] < parts[0] / 3.0


def test_half_precision_rounds_more():
    parts = [sizes(budget(network(), U, GRID, "belm(2)", arithmetic=a).image_parts)["rounding"] for a in ("float16", "float32")]
    assert parts[0] > 100.0 * parts[1] > 0.0


def test_an_autoencoder_that_loses_something():
    lossy = Codec(
        "means of 2", lambda u: torch.nn.functional.avg_pool2d(u, 2), lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    found = budget(network(), U, GRID, "belm(2)", arithmetic="fixed", codec=lossy)
    assert found.codec == "means of 2" and sizes(found.image_parts)["image"] == pytest.approx(found.image, rel=1e-6)
    assert found.image > 1e-3


def test_the_reference_is_the_ode():
    mixture = gaussian_mixture(torch.zeros(1, 4, dtype=torch.float64), 0.5, schedule=own.Schedule.linear())
    u = torch.tensor([[0.3, -0.2, 0.1, 0.7]], dtype=torch.float64)
    found = budget(mixture, u, own.ddpm_grid(200, "smallest"), "belm(2)", starter="rk4", arithmetic="float64")
    assert found.reference_error < 1e-4 and found.noise < 0.05
    nodes = fine_nodes(GRID, 10)
    assert nodes[0] == GRID.sigma_bar[0] and nodes[-1] == GRID.sigma_bar[-1] and (nodes[1:] > nodes[:-1]).all()


def test_what_explodes_is_examined_in_float64():
    found = budget(network(), U, own.ddpm_grid(10, "smallest"), "belm(3)", arithmetic="float64")
    assert found.exact in ("fixed", "float64") and found.noise > 1.0


def test_wrong_arguments():
    for steps in (0, 7):
        with pytest.raises(ValueError, match="reference_steps"):
            budget(network(), U, GRID, reference_steps=steps)
    with pytest.raises(ValueError, match="not known"):
        budget(network(), U, GRID, "euler")
