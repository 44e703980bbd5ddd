"""The spurious component of a window of states, from what the march holds anyway: a run-time watch on weak instability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vsvf.formulas import lagrange

SUSPECT = 0.4  # of marches on leading timesteps: those that stayed close to the solution had 0.37 at most (docs/stability.md)


def unexplained_share(positions: Sequence[float], states: Sequence[torch.Tensor], slopes: Sequence[torch.Tensor]) -> torch.Tensor:
    """How much of the states' movement over a window the slopes do not explain, as a share of the movement.

    A solution moves by the integral of its slope. With the slopes' interpolant l over the window, the residual increments

        r_j = x_bar_j - x_bar_{j+1} - int_{s_{j+1}}^{s_j} l(s) ds

    are of the order of its truncation error, while a spurious mode, whose increments alternate or turn from state to state without
    any slope, stays in them whole. The share is sqrt(sum_j mean r_j^2 / sum_j mean (x_bar_j - x_bar_{j+1})^2).

    Args:
        positions: n >= 2 different sigma_bar. states: n states x_bar (B, …) there. slopes: eps_bar at all of these.

    Returns:
        a tensor without dimensions, on the states' device: nothing waits for it until it is read. 0 where the states do not move.

    Raises:
        ValueError: fewer than 2 states, or numbers of positions, states and slopes that differ.
    """
    if len(states) < 2 or not len(positions) == len(states) == len(slopes):
        raise ValueError(
            f"positions, states and slopes must be of one length from 2 on, got {len(positions)}, {len(states)}, {len(slopes)}"
        )
    s = np.asarray(positions, dtype=np.float64)
    place = s - s[0]
    unexplained: list[torch.Tensor] = []
    movement: list[torch.Tensor] = []
    for j in range(len(s) - 1):
        weights = lagrange.integral(place[None], place[None, j + 1], place[None, j])[0]
        move = states[j] - states[j + 1]
        rest = move - sum(float(w) * slope for w, slope in zip(weights, slopes))
        unexplained.append(rest.double().pow(2).mean())
        movement.append(move.double().pow(2).mean())
    total = torch.stack(movement).sum()
    return torch.where(total > 0.0, (torch.stack(unexplained).sum() / total.clamp_min(1e-300)).sqrt(), torch.zeros_like(total))
