"""What do the roots, the exponent and the grid do to K and to the errors?

A root-placed formula (vsvf.formulas.root_placed_belm) has k - 1 spurious modes. Where their roots lie, with which exponent the step
sizes weigh them, and in which coordinate modes and slopes are measured is free. The controls change these; what the page then shows
is computed in the page itself, by the formulas of the package.

K is the largest factor by which a march amplifies a perturbation while the slopes do not react. E is what a march from exact
starting states is off by at most, in x_bar, on Gaussian data, whose solution is known in closed form: the sum over all rows of
|effect on the end| times |local error|, and of that the root mean square over seven standard deviations from 0.01 to 1. "Reaction"
is the largest effect that a row's error has on the end when the slopes do react, over the same data: K does not see it. O-BELM is
the two-step formula with the root -1 and exponent 2; on the figures it is the grey line.

The table has the numbers that the view shows for named formulas with 50 steps, computed by the package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import vsvf
from analysis.common import save_answer, save_table, save_view
from vsvf.formula import Formula
from vsvf.formulas.root_placed import STABLE, root_placed_belm, roots_at
from vsvf.stability.gaussian import DATA_STDS, truncation_errors
from vsvf.stability.growth import log_amplification

STEPS = (10, 20, 50, 100, 200)
SHOWN = 50
GRIDS = {
    "DDPM, leading": (vsvf.Schedule.linear, "leading"),
    "Stable Diffusion, leading": (vsvf.Schedule.scaled_linear, "leading"),
    "Stable Diffusion, Karras": (vsvf.Schedule.scaled_linear, "karras"),
    "Stable Diffusion, uniform log-SNR": (vsvf.Schedule.scaled_linear, "log_snr"),
}
Settings = dict[str, object]


def settings(
    angles: tuple[float, ...], exponent: float, mode_rho: float = 1.0, slope_rho: int = 1, modulus: float = 1.0
) -> Settings:
    """What the controls hold, by the names that the page's script uses."""
    return {"angles": angles, "modulus": modulus, "exponent": exponent, "modeRho": mode_rho, "slopeRho": slope_rho}


MEMBERS = {
    "stable_belm(3)": settings(STABLE[3][0], STABLE[3][1], slope_rho=STABLE[3][2]),
    "belm(2), O-BELM": settings((1.0,), 2.0),
    **{f"stable_belm({k})": settings(angles, power, slope_rho=rho) for k, (angles, power, rho) in STABLE.items() if k in (2, 4, 5)},
    "coarse_belm": settings((17 / 20,), 1.65, 1.4, 3),
}


def formula_of(chosen: Settings) -> Formula:
    """The formula of these settings."""
    roots = roots_at(chosen["angles"], chosen["modulus"])  # type: ignore[arg-type]
    return root_placed_belm(roots, chosen["exponent"], chosen["modeRho"], chosen["slopeRho"])  # type: ignore[arg-type]


def grid_of(name: str, steps: int) -> vsvf.Grid:
    """N steps down to the schedule's smallest sigma_bar."""
    schedule, spacing = GRIDS[name]
    return vsvf.Grid.from_schedule(schedule(), steps, spacing, "smallest")


def study(formula: Formula, grid: vsvf.Grid) -> dict[str, dict[str, float]]:
    """K, E and the largest reaction, along sampling and along inversion."""
    plan, found = formula.plan(grid), {}
    for direction, march in (("sampling", plan), ("inversion", plan.inverse())):
        errors, reaction = truncation_errors(march)
        found[direction] = {
            "K": float(np.exp(log_amplification(march.a))),
            "E": float(np.sqrt(np.mean(errors**2))),
            "reaction": float(reaction.max()),
        }
    return found


def main(out: Path) -> None:
    """Write the view and explore_*.csv into `out`."""
    conclude(out)
    here = Path(__file__).parent
    data = {
        "grids": {name: {steps: grid_of(name, steps).sigma_bar.tolist() for steps in STEPS} for name in GRIDS},
        "members": MEMBERS,
        "stds": DATA_STDS.tolist(),
        "shown": SHOWN,
    }
    form = (here / "explore.html").read_text(encoding="utf-8")
    scripts = [(here / name).read_text(encoding="utf-8") for name in ("explore.js", "explore_view.js")]
    save_view(out, "explore_view", "Choose a formula and a grid.", form, data, scripts)
    rows = []
    for name in GRIDS:
        grid = grid_of(name, SHOWN)
        base = study(formula_of(MEMBERS["belm(2), O-BELM"]), grid)
        for member, chosen in MEMBERS.items():
            found = study(formula_of(chosen), grid)
            row: list[object] = [member, name]
            for quantity in ("K", "E"):
                row += [found[direction][quantity] for direction in found]
            row += [found[direction]["E"] / base[direction]["E"] for direction in found]
            rows.append([*row, found["sampling"]["reaction"]])
    header = ["formula", "grid", *(f"{what} | {way}" for what in ("K", "E", "E / O-BELM's") for way in ("sampling", "inversion"))]
    save_table(out, "explore_members", f"Named formulas with {SHOWN} steps.", [*header, "reaction, sampling"], rows)


def conclude(out: Path) -> None:
    """What the exponent and the modulus do to three steps on the first grid."""
    grid = grid_of(next(iter(GRIDS)), SHOWN)
    angles = STABLE[3][0]
    low, high = (study(formula_of(settings(angles, exponent, slope_rho=3)), grid) for exponent in (0.0, 2.0))
    own, damped = (study(formula_of(settings(angles, 1.0, slope_rho=3, modulus=modulus)), grid) for modulus in (1.0, 0.9))
    k_down, k_up = ((low[way]["K"], high[way]["K"]) for way in ("sampling", "inversion"))
    milder, worse = damped["sampling"]["E"] / own["sampling"]["E"], damped["inversion"]["K"] / own["inversion"]["K"]
    save_answer(
        out, "explore",
        f"The exponent sets what inversion amplifies: with three steps on {SHOWN} DDPM nodes, from 0 to 2 it takes inversion's K "
        f"from {k_up[0]:.2g} to {k_up[1]:.1e}, sampling's from {k_down[0]:.2g} to {k_down[1]:.2g}. Roots drawn in to modulus 0.9 "
        f"multiply the sampling error by {milder:.2f} and inversion's K by {worse:.0f}.",
    )  # fmt: skip
