"""Predicted rounding errors against marches carried out in float32 and float16."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vsvf
from vsvf import formulas, predictors
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.schedule import Schedule
from vsvf.stability.grids import uniform_time
from vsvf.stability.roundoff import predicted_roundoff

STD = 0.5
DIMENSIONS = 2000
GRIDS = {"SD": uniform_time(Schedule.scaled_linear()), "DDPM": uniform_time(Schedule.linear())}
METHODS = ("belm(2)", "bdia(1)", "edict(0.93)", "stable_belm(2)", "stable_belm(3)", "stable_belm(4)", "stable_belm(5)")


def eps(x: np.ndarray, sigma_bar: float) -> np.ndarray:
    """The exact predictor of Gaussian data, in x = alpha x_bar with alpha = 1/sqrt(1 + sigma_bar^2)."""
    return x.astype(np.float64) * sigma_bar * np.sqrt(1.0 + sigma_bar**2) / (STD**2 + sigma_bar**2)


def march(plan: Plan, window: np.ndarray, dtype: type) -> list[np.ndarray]:
    """States in `dtype`, rows in at least float32 with coefficients rounded to it, as the engine works."""
    k = plan.steps
    wide = np.float32 if dtype is np.float16 else dtype
    z = [row.astype(dtype) for row in window]
    slopes = [eps(row, node).astype(dtype) for row, node in zip(z, plan.node)]
    for m in range(plan.rows):
        new = np.zeros(z[0].shape, wide)
        for j in range(1, k + 1):
            new += wide(plan.a[m, j - 1]) * z[k + m - j].astype(wide)
            new += wide(plan.c[m, j]) * slopes[k + m - j].astype(wide)
        z.append(new.astype(dtype))
        slopes.append(eps(z[-1], plan.node[k + m]).astype(dtype))
    return z


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("grid", [GRIDS["SD"](20), GRIDS["SD"](100), GRIDS["DDPM"](50)], ids=["SD 20", "SD 100", "DDPM 50"])
@pytest.mark.parametrize("name", METHODS)
def test_prediction_is_within_a_small_factor(name: str, grid: Grid, dtype: type) -> None:
    formula = formulas.by_name(name)
    plan = formula.plan(grid)
    alpha = np.interp(plan.position, grid.sigma_bar, grid.alpha)
    sampling = plan.rescaled(alpha)
    inversion = sampling.inverse()
    noise = np.random.default_rng(0).normal(size=DIMENSIONS)
    exact = (alpha * np.hypot(STD, plan.position))[:, None] * noise
    k = plan.steps

    def error(march_plan: Plan, window: np.ndarray) -> tuple[float, list[np.ndarray]]:
        start = window.astype(dtype)
        low, high = march(march_plan, start, dtype), march(march_plan, start.astype(np.float64), np.float64)
        last = march_plan.rows + march_plan.last
        return rms(low[last] - high[last]), low

    sampled, states = error(sampling, exact[:k])
    inverted, _ = error(inversion, exact[::-1][:k])
    back = march(inversion, np.array(states[-k:][::-1]), dtype)
    returned = rms(back[inversion.rows + inversion.last].astype(np.float64) - states[sampling.first])

    predicted = predicted_roundoff(formula, grid, dtype, data_std=STD, detail_std=STD)
    # EDICT's mixing acts on two nearly equal states: its roundings are not independent
    factor = 10.0 if name.startswith("edict") else 4.0
    assert 1.0 / factor < sampled / predicted.sampling < factor
    assert 1.0 / factor < inverted / predicted.inversion < factor
    assert returned / predicted.round_trip < factor
    assert dtype is np.float16 or returned / predicted.round_trip > 1.0 / factor


def test_errors_scale_with_the_unit_of_rounding() -> None:
    grid = GRIDS["SD"](20)
    fine = predicted_roundoff(formulas.belm(2), grid, "float64")
    for dtype in (torch.float16, np.dtype("float16"), "float16", np.float16):
        coarse = predicted_roundoff(formulas.belm(2), grid, dtype)
        assert coarse.dtype == "float16"
        assert 2.0**40 < coarse.round_trip / fine.round_trip < 2.0**43
    assert predicted_roundoff(formulas.belm(2), grid, torch.bfloat16).sampling > coarse.sampling
    with pytest.raises(ValueError, match="dtype"):
        predicted_roundoff(formulas.belm(2), grid, "fixed")


def test_without_an_exact_inverse_or_with_an_exploding_one_the_prediction_is_inf() -> None:
    grid = GRIDS["SD"](500)
    assert predicted_roundoff(formulas.adams_bashforth(2), grid, "float32").round_trip == np.inf
    assert predicted_roundoff(formulas.belm(3), grid, "float32").sampling == np.inf


def test_the_slopes_matter() -> None:
    grid = GRIDS["DDPM"](100)
    still = np.zeros_like(grid.sigma_bar)
    reacting, homogeneous = (predicted_roundoff(formulas.belm(2), grid, "float32", slope=s) for s in (None, still))
    assert homogeneous.round_trip > 30.0 * reacting.round_trip


@pytest.mark.parametrize("steps", [20, 50])
@pytest.mark.parametrize(
    "name", ["bdia(1)", "edict(0.93)", "mccallum_foster(0.999)", "belm(2)", "stable_belm(3)", "stable_belm(4)"]
)
def test_round_trips_on_the_digits_network_agree_within_a_factor_of_ten(name: str, steps: int) -> None:
    grid = Grid.from_schedule(Schedule.linear(), steps, "leading", "smallest")
    formula = formulas.by_name(name)
    predictor = predictors.digits(3, guidance=2.0)
    for dtype in (torch.float32, torch.float16) if steps == 20 else (torch.float32,):
        noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(7)).to(dtype)
        sampled = vsvf.sample(predictor, noise, grid, formula, warn=False)
        returned = vsvf.invert(predictor, sampled, grid, formula, warn=False).x
        measured = rms((returned.double() - noise.double()).numpy())
        ratio = measured / predicted_roundoff(formula, grid, dtype).round_trip
        assert 0.1 < ratio < 10.0, (dtype, ratio)


@pytest.mark.parametrize("name, factor", [("belm(2)", 5.0), ("stable_belm(2)", 5.0), ("edict(0.93)", 10.0)])
def test_sampling_errors_on_the_digits_network(name: str, factor: float) -> None:
    grid = GRIDS["SD"](20)
    formula, predictor = formulas.by_name(name), predictors.digits(3, guidance=2.0)
    noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(7))
    low, high = (vsvf.sample(predictor, x, grid, formula, warn=False).x.double() for x in (noise, noise.double()))
    predicted = predicted_roundoff(formula, grid, "float32").sampling
    assert 1.0 / factor < rms((low - high).numpy()) / predicted < factor
