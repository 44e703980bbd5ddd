"""Which formula for which grid: the recommendation of docs/choosing.md as a function."""

from __future__ import annotations

import numpy as np

from vsvf.formula import Formula
from vsvf.formulas.adams import ddim
from vsvf.formulas.belm import belm
from vsvf.formulas.checks import real
from vsvf.formulas.corrected import corrected
from vsvf.formulas.power_fitted import power_fitted_belm
from vsvf.formulas.predictor_corrector import pec_belm
from vsvf.formulas.root_placed import coarse_belm, stable_belm
from vsvf.grid import Grid

LONG_LAST_STEP = 3.0  # s_1 / s_0 from which the lowest step makes most of the error,
LONGER = 2.0  # if ln(s_1 / s_0) is also so many times ln(s_2 / s_1)
STRONG = 4.0  # guidance from which spurious modes grow on timesteps,
UNEVEN = 2.0  # that is, where the longest step in ln sigma_bar is so many times the shortest
KINDS = ("epsilon", "sample", "v", "score", "velocity")
DIRECTIONS = ("sampling", "inversion", "both")


def recommended(grid: Grid, kind: str = "epsilon", direction: str = "both", guidance: float = 1.0) -> Formula:
    """The formula for a grid, a kind of predictor and a use (docs/choosing.md has the measurements).

    - 2 steps: O-BELM; 1 step: DDIM, whose inverse is an equation.
    - Grids that end at sigma_bar = 0: stable_belm(3), which needs nothing of the last node.
    - Grids whose lowest step is long, s_1 / s_0 above 3, and more than twice as long in ln sigma_bar as the next, as leading
      timesteps that end at the smallest sigma_bar: a corrector row behind a power-fitted formula for sampling, behind coarse_belm
      for both, and coarse_belm alone where only an inversion is wanted, which the row does not help.
    - Grids without such a step, as Karras's and log-SNR nodes: power-fitted formulas, of five steps for sampling, the nearer to
      beta = 1 the more the inversion counts, and of three for an inversion alone or on 5 steps or fewer. With few steps those of
      five want a starter="heun" or "rk4": DDIM's error over four log-SNR steps of ten is far above theirs.
    - Guidance of 4 and more on timesteps, or other nodes that are uneven in ln sigma_bar: pec_belm(), whose modes do not
      grow there.

    The kind of predictor decides nothing at present: on the networks measured, of both kinds, the same formulas were best.

    Args:
        grid: the nodes. kind: what the network predicts, as `Predictor` takes it. direction: "sampling", "inversion" or "both".
        guidance: the scale of classifier-free guidance in either direction, 1 for none.

    Raises:
        ValueError: an unknown kind or direction, or a scale that is no finite number.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction={direction!r} is not known; choose one of {', '.join(DIRECTIONS)}")
    strong = real("guidance", guidance) >= STRONG
    if grid.steps < 3:
        return belm(2) if grid.steps == 2 else ddim()
    lowest = grid.sigma_bar[:3]
    if lowest[0] == 0.0:
        return stable_belm(3)
    lengths = np.diff(np.log(grid.sigma_bar))
    if strong and lengths.max() > UNEVEN * lengths.min():
        return pec_belm()
    if lowest[1] / lowest[0] > max(LONG_LAST_STEP, (lowest[2] / lowest[1]) ** LONGER):
        if direction == "sampling":
            return corrected(power_fitted_belm(0.95, 0.877, 0.94, 0.52), 0.6, 2.0)
        return coarse_belm() if direction == "inversion" else corrected(coarse_belm(), 0.7, 4.0)
    if direction == "inversion" or grid.steps <= 5:
        return power_fitted_belm(0.7, 7 / 8, 2.0, 0.75)
    if direction == "sampling":
        return power_fitted_belm(0.9, (0.42, 0.79), 0.65, 1.09)
    return power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06)
