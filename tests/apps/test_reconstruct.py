import math

import pytest
import torch

import vsvf
from vsvf.apps.budget import Codec
from vsvf.apps.models import digits, noise_of_seeds, pixels
from vsvf.apps.published import FID, LATENTS, PIXELS, STEPS, published
from vsvf.apps.reconstruct import ALL_STATES, NOISE_ALONE, reconstruct
from vsvf.apps.reconstruct_table import agreement, cells, tables
from vsvf.predictors import ideal_denoiser

GRID = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 12, "leading", "smallest")


@pytest.fixture
def world(generator):
    """A few pictures and the exact denoiser of a distribution around them."""
    data = torch.rand(4, 1, 16, 16, generator=generator, dtype=torch.float64) * 2 - 1
    return ideal_denoiser(data, std=0.2, schedule=vsvf.Schedule.linear()), data


def test_an_exact_method_returns_from_all_states_and_not_from_one(world):
    eps, pictures = world
    for method in ("belm(2)", "stable_belm(3)", "edict(0.93)", "bdia(1)"):
        found = reconstruct(eps, pictures, GRID, method, codec=pixels())
        assert max(found.ways[ALL_STATES].latent_mse) < 1e-18
        assert min(found.ways[NOISE_ALONE].latent_mse) > 1e-8
        assert found.ways[ALL_STATES].nfe_up == found.ways[NOISE_ALONE].nfe_up > 0


def test_from_x_n_alone_is_sampling_from_the_inverted_noise(world):
    eps, pictures = world
    found = reconstruct(eps, pictures, GRID, "stable_belm(2)", codec=pixels(), starter="heun")
    noise = vsvf.invert(eps, pictures, GRID, "stable_belm(2)", starter="heun").x
    by_hand = vsvf.sample(eps, noise, GRID, "stable_belm(2)", starter="heun").x
    assert torch.equal(found.ways[NOISE_ALONE].latents, by_hand)
    expected = (by_hand - pictures).square().mean(dim=(1, 2, 3)).tolist()
    assert found.ways[NOISE_ALONE].latent_mse == pytest.approx(expected, rel=1e-12)


def test_ddim_inversion_is_euler_up_and_euler_down(world):
    eps, pictures = world
    found = reconstruct(eps, pictures, GRID, "ddim_inversion", codec=pixels())
    noise, up = vsvf.integrate(eps, pictures, GRID.sigma_bar, "ddim")
    back, _ = vsvf.integrate(eps, noise, GRID.sigma_bar[::-1], "ddim")
    assert torch.equal(found.ways[ALL_STATES].latents, back) and found.ways[ALL_STATES].nfe_up == up
    assert found.ways[ALL_STATES].latent_mse == found.ways[NOISE_ALONE].latent_mse


def test_the_floor_is_the_codecs_own_loss_and_pixels_reach_it(world):
    eps, pictures = world
    lossy = Codec("halves", lambda u: torch.round(u * 4.0) / 4.0, lambda x: x)
    found = reconstruct(eps, pictures, GRID, "belm(2)", codec=lossy)
    expected = (torch.round(pictures * 4.0) / 4.0 - pictures).square().mean(dim=(1, 2, 3)).tolist()
    assert found.floor.mse == pytest.approx(expected, rel=1e-12)
    assert found.ways[ALL_STATES].closeness.mse == pytest.approx(expected, rel=1e-6)
    assert max(found.ways[ALL_STATES].latent_mse) < 1e-18


def test_a_march_that_overflows_is_infinite_not_an_error(world):
    eps, pictures = world
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 100, "leading", "smallest")
    found = reconstruct(eps, pictures.float(), grid, "belm(3)", codec=pixels(), arithmetic="float32")
    assert found.ways[ALL_STATES].latent_mse == [math.inf] * 4


# ---- tables ----------------------------------------------------------------------------------------------------


def rows(method, steps, mode, error, floor=0.004):
    measures = {"mse_pixels": floor + error, "mse_latents": error, "psnr": 20.0, "ssim": 0.9, "floor_mse": floor}
    return [{"method": method, "steps": steps, "mode": mode, "nfe_up": steps, "nfe_down": steps, **measures} for _ in range(3)]


def test_tables_are_laid_out_as_the_papers_with_its_numbers_beside():
    found = cells(rows("ddim_inversion", 10, ALL_STATES, 0.3) + rows("belm(2)", 10, ALL_STATES, 0.0))
    text = tables(found, latent_model=True)
    assert "| 10 | 0.004 (0.004) | 0.304 (0.026) | 0.004 (0.004) |" in text
    assert "| 10 | 0.3 (0.414) | 0 (0.000) |" in text


def test_agreement_says_yes_and_no():
    good = [rows("ddim_inversion", n, m, e) for n, e in ((10, 0.4), (50, 0.1)) for m in (ALL_STATES, NOISE_ALONE)]
    good += [rows("belm(2)", n, ALL_STATES, 0.0) + rows("belm(2)", n, NOISE_ALONE, 0.8) for n in (10, 50)]
    lines = agreement(cells([row for group in good for row in group]))
    assert sum(line.startswith("agrees") for line in lines) == 3 and not any(line.startswith("DOES NOT") for line in lines)
    assert any("50 steps, belm(2) lies 8.0 times above DDIM inversion" in line for line in lines)
    bad = [rows("ddim_inversion", n, m, e) for n, e in ((10, 0.1), (50, 0.4)) for m in (ALL_STATES, NOISE_ALONE)]
    bad += [rows("belm(2)", n, m, 0.01) for n in (10, 50) for m in (ALL_STATES, NOISE_ALONE)]
    lines = agreement(cells([row for group in bad for row in group]))
    assert sum(line.startswith("DOES NOT AGREE") for line in lines) == 3


def test_published_numbers_are_looked_up_by_method():
    assert published(LATENTS, "ddim_inversion", 20) == 0.243 and published(PIXELS, "belm(2)", 50) == 0.004
    assert published(FID["CIFAR-10"], "edict(0.93)", 10) == 87.11
    assert published(LATENTS, "stable_belm(2)", 10) is None and published(LATENTS, "belm(2)", 30) is None
    assert all(len(values) == len(STEPS) for table in (PIXELS, LATENTS, *FID.values()) for values in table.values())


# ---- models ----------------------------------------------------------------------------------------------------


def test_the_digits_model_is_the_predictor_of_the_package():
    from vsvf import predictors

    model = digits()
    pictures, labels = model.own()
    assert pictures.shape == (100, 1, 28, 28) and labels[:10] == [0] * 10
    ours, theirs = model.predict([3, 4], 2.0), predictors.digits(torch.tensor([3, 4]), 2.0)
    assert torch.equal(ours.epsilon(pictures[:2], 1.0), theirs.epsilon(pictures[:2], 1.0))
    assert torch.equal(model.predict(None, 1.0).epsilon(pictures[:2], 1.0), predictors.digits().epsilon(pictures[:2], 1.0))
    with pytest.raises(ValueError, match="digits from 0 to 9"):
        model.predict([11], 1.0)


def test_a_samples_noise_depends_on_its_seed_alone():
    model = digits()
    together, alone = noise_of_seeds(model, [5, 6, 7], 3.0), noise_of_seeds(model, [6], 3.0)
    assert torch.equal(together[1:2], alone)
    alpha = float(model.schedule.alpha_at(3.0))
    assert float(noise_of_seeds(model, range(50), 3.0).var()) == pytest.approx(alpha**2 * 10.0, rel=0.02)
