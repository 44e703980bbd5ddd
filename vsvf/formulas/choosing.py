"""Which formula for which grid: the recommendation of docs/choosing.md as a function."""

from __future__ import annotations

from vsvf.formula import Formula
from vsvf.formulas.adams import ddim
from vsvf.formulas.belm import belm
from vsvf.formulas.power_fitted import power_fitted_belm
from vsvf.formulas.predictor_corrector import pec_belm
from vsvf.formulas.root_placed import coarse_belm, stable_belm
from vsvf.grid import Grid

LONG_LAST_STEP = 3.0  # s_1 / s_0 from which the lowest step makes most of the error,
LONGER = 2.0  # if ln(s_1 / s_0) is also so many times ln(s_2 / s_1)
KINDS = ("epsilon", "sample", "v", "score", "velocity")
DIRECTIONS = ("sampling", "inversion", "both")


def recommended(grid: Grid, kind: str = "epsilon", direction: str = "both") -> Formula:
    """The formula for a grid, a kind of predictor and a use (docs/choosing.md has the measurements).

    - 2 steps: O-BELM; 1 step: DDIM, whose inverse is an equation.
    - Grids that end at sigma_bar = 0: stable_belm(3), which needs nothing of the last node.
    - Grids whose lowest step is long, s_1 / s_0 above 3, and more than twice as long in ln sigma_bar as the next, as leading
      timesteps that end at the smallest sigma_bar: a predictor-corrector formula, or coarse_belm where only an inversion is wanted.
    - Grids without such a step, as Karras's and log-SNR nodes: another member of that family, or a power-fitted formula of three
      steps for an inversion alone or on 5 steps or fewer.

    The kind of predictor decides nothing at present: on the networks measured, of both kinds, the same formulas were best.

    Args:
        grid: the nodes. kind: what the network predicts, as `Predictor` takes it. direction: "sampling", "inversion" or "both".

    Raises:
        ValueError: an unknown kind or direction.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction={direction!r} is not known; choose one of {', '.join(DIRECTIONS)}")
    if grid.steps < 3:
        return belm(2) if grid.steps == 2 else ddim()
    lowest = grid.sigma_bar[:3]
    if lowest[0] == 0.0:
        return stable_belm(3)
    if lowest[1] / lowest[0] > max(LONG_LAST_STEP, (lowest[2] / lowest[1]) ** LONGER):
        return coarse_belm() if direction == "inversion" else pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)
    if direction == "inversion" or grid.steps <= 5:
        return power_fitted_belm(0.7, 7 / 8, 2.0, 0.75)
    return pec_belm(0.88, 0.56, (0.45, 1), 1.1, 1.07)
