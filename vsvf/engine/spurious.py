"""The spurious component of the states, from what a march holds anyway: a run-time watch on weak instability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from vsvf.engine.register import Register
from vsvf.formulas import lagrange
from vsvf.plan import Plan

Array = np.ndarray

INTERVALS = 12  # about as many are looked at, and all of a short march's: a mode that harms a march stays for many steps
ENTRIES = 512  # of every state that is looked at
LIMIT, SMALLEST = 0.32, 0.01  # of r / (lambda^2 |x_bar|) and of r / |x_bar|; docs/choosing.md has what they tell apart
PREDICTED = 0.6  # in the place of SMALLEST for predicted states, whose modes reach the image through their slopes alone


class Unexplained(NamedTuple):
    """The first interval of a march over which the states moved in a way that their slopes do not explain.

    Attributes:
        s: the state at its end. sigma_bar: where that stands.
        size: rms of the unexplained part over that of the state. limit: what it must stay below.
    """

    s: int
    sigma_bar: float
    size: float
    limit: float


class Movement:
    """Looks at the moves between neighbouring states of one march, and keeps a few entries of these on the device.

    A solution moves by the integral of its slope. What the trapezoidal rule leaves of a move,

        r_s = x_bar_s - x_bar_{s-1} - (sigma_bar_s - sigma_bar_{s-1}) (eps_bar_s + eps_bar_{s-1}) / 2,

    is of the order lambda^3 |x_bar| for solutions that are smooth in ln sigma_bar, and for the truncation errors of rows, with
    lambda = |ln(sigma_bar_s / sigma_bar_{s-1})|. A spurious mode, whose increments alternate or turn from state to state without
    any slope, stays in it whole. So r_s should be below LIMIT lambda^2 |x_bar_s|, or else below SMALLEST |x_bar_s|. Where slopes
    are taken at predicted states, these are looked at, with PREDICTED for SMALLEST.

    Args:
        rows: the march's rows, as its questions name them. alpha: (M+K,) of their states, x = alpha x_bar.
    """

    def __init__(self, rows: Plan, alpha: Array) -> None:
        self.rows, self.alpha = rows, alpha
        asked = asked_states(rows)
        self.apart = int(asked[1] - asked[0])  # 2 where predicted states alone have slopes
        stride = max(1, (rows.rows + rows.steps) // self.apart // INTERVALS)
        self.wanted = frozenset(
            s for s in asked.tolist() if s // self.apart % stride <= 1
        )  # two neighbours in every `stride` states
        self._seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def see(self, s: int, register: Register, slope: torch.Tensor) -> None:
        """State s of the march, one of those that are wanted, which stands in the register, and its slope."""
        self._seen[s] = some_entries(register.state(s)), some_entries(slope)

    def first(self) -> Unexplained | None:
        """Where the limit was exceeded first, if it was; waits for the device."""
        numbers = np.array(sorted(self._seen), dtype=np.int64)
        at = self.rows.position[numbers]
        end = np.flatnonzero((np.diff(numbers) == self.apart) & (np.diff(at) != 0.0)) + 1
        if not len(end):
            return None
        kept = [self._seen[s][part] for part in (0, 1) for s in numbers.tolist()]
        x, slopes = torch.stack(kept).double().cpu().numpy().reshape(2, len(numbers), -1)
        before = end - 1
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            x = x / self.alpha[numbers, None]
            new = x[end]
            rest = new - x[before] - (0.5 * (at[end] - at[before]))[:, None] * (slopes[end] + slopes[before])
            size = np.sqrt(_squares(rest) / np.maximum(_squares(new), 1e-300))
            least = SMALLEST if self.apart == 1 else PREDICTED
            limit = np.maximum(LIMIT * np.log(at[end] / at[before]) ** 2, least)
        over = np.flatnonzero(~(size <= limit))
        if not len(over):
            return None
        n = int(over[0])
        return Unexplained(int(numbers[end[n]]), float(at[end[n]]), float(size[n]), float(limit[n]))


def _squares(x: Array) -> Array:
    return np.einsum("ij,ij->i", x, x)


def some_entries(x: torch.Tensor) -> torch.Tensor:
    """About ENTRIES numbers of x, in order and evenly spread, copied."""
    step = -(-x.numel() // ENTRIES) | 1  # odd: an even one would meet the same columns of every image again
    flat = x if x.is_contiguous() else x.contiguous()
    return flat.as_strided((-(-x.numel() // step),), (step,)).clone()


def asked_states(rows: Plan) -> Array:
    """The states whose slopes the rows read, in order."""
    count, read = rows.rows, rows.c != 0.0
    asked = np.zeros(count + rows.steps, dtype=bool)
    for j in range(rows.steps + 1):
        asked[rows.steps - j : rows.steps - j + count] |= read[:, j]
    return np.flatnonzero(asked)


def has_spurious_modes(rows: Plan) -> bool:
    """Whether some row sums several states, and the slopes are taken at one approximation of the solution after another, each at
    its own node (not at a coupled method's halves)."""
    asked = asked_states(rows)
    at = rows.position[asked]
    one_by_one = np.array_equal(at, rows.node[asked]) and bool(np.all(np.diff(at) < 0.0))
    several = bool(np.any(np.count_nonzero(rows.a, axis=1) > 1))
    return len(asked) > 1 and one_by_one and several and rows.backward_solvable


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
