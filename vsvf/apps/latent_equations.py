"""The equations of single-latent inversion, in two forms, and the iteration that solves their linear systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

import vsvf
from vsvf.engine.arguments import Request
from vsvf.engine.path import equations
from vsvf.engine.run import starter_plan
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor
from vsvf.starter import LOWER_ORDER
from vsvf.state import State

Array = np.ndarray
Map = Callable[[torch.Tensor], torch.Tensor]


class Equations(Protocol):
    """As many equations as unknowns z, (B, n), for every sample by itself.

    Attributes:
        nfe: evaluations of eps so far.
    """

    nfe: int

    def guess(self) -> torch.Tensor:
        """Where the iteration begins."""

    def noise(self, z: torch.Tensor) -> torch.Tensor:
        """x_N, (B, …)."""

    def residual(self, z: torch.Tensor) -> torch.Tensor:
        """What is to vanish, (B, n)."""

    def derivative(self, z: torch.Tensor, value: torch.Tensor) -> Map:
        """y -> the derivative of the residual, which is `value` at z, along `corrected(y)`."""

    def corrected(self, y: torch.Tensor) -> torch.Tensor:
        """The step for a solution y of the linear system with that derivative."""


class Ends(Equations):
    """For formulas that are explicit both ways: the k - 1 states beside the image at the data end are unknown. The inverse march
    takes them and the image to k states z_0 … z_{k-1} at the noise end, and these are the ones that the starter S makes if

        R_n = z_n - S_n(z_0) = 0,   n = 1 … k - 1.

    What R answers to is the spurious part of the states at the data end. Off the data it shrinks on the way up as the solution
    itself shrinks on the way down, so R alone is nearly singular. A change of z_1 … z_{k-1} alone, carried down by the march, is
    mostly spurious when it arrives; by how much it moves the states there against the image nearly inverts R's derivative: on
    modes of a Gaussian the product has eigenvalues from 0.7 to 1.2 on log-SNR grids, from 0.1 to 1.1 on leading ones, for the
    two-step formulas. GMRES is given this product. A direction costs a march down and a march up.

    Args:
        predictor, image, grid, formula, starter: as in `single_latent`.

    Raises:
        ValueError: another starter than a Runge-Kutta one.
    """

    def __init__(self, predictor: Predictor, image: torch.Tensor, grid: Grid, formula: Formula, starter: str) -> None:
        if starter == LOWER_ORDER:
            raise ValueError(f"starter={LOWER_ORDER!r} cannot invert {formula.name} to begin with: use 'ddim', 'heun' or 'rk4'")
        self.predictor, self.image, self.grid, self.formula, self.starter = predictor, image, grid, formula, starter
        self.plan, self.nfe = formula.plan(grid), 0
        steps = self.plan.steps
        self.others = [n for n in range(steps) if n != self.plan.last]
        scale = predictor.alpha(self.plan.node[-steps:])
        self.share = torch.as_tensor(scale[self.others] / scale[self.plan.last], dtype=image.dtype, device=image.device)

    def guess(self) -> torch.Tensor:
        begun = vsvf.invert(self.predictor, self.image, self.grid, self.formula, starter=self.starter, warn=False)
        self.nfe += begun.nfe
        return self._flat(self._down(begun.values)[self.others])  # what the starter chose there

    def noise(self, z: torch.Tensor) -> torch.Tensor:
        return self._up(z)[self.plan.first].clone()

    def residual(self, z: torch.Tensor) -> torch.Tensor:
        top = self._up(z)
        return self._flat(top[1:] - self._started(top[0]))

    def derivative(self, z: torch.Tensor, value: torch.Tensor) -> Map:
        self.top = self._up(z)
        self.bottom = self._flat(self._down(self.top)[self.others])
        along = difference(self.residual, z, value, self.predictor)
        return lambda y: along(self.corrected(y))

    def corrected(self, y: torch.Tensor) -> torch.Tensor:
        def moved(beside: torch.Tensor) -> torch.Tensor:
            values = self._down(torch.cat([self.top[:1], self._stacked(beside)]))
            against = self.share.view(-1, *[1] * self.image.ndim) * (values[self.plan.last] - self.image)
            return self._flat(values[self.others] - against)

        return difference(moved, self._flat(self.top[1:]), self.bottom, self.predictor)(y)

    def _flat(self, states: torch.Tensor) -> torch.Tensor:
        return states.transpose(0, 1).flatten(1)

    def _stacked(self, flat: torch.Tensor) -> torch.Tensor:
        return flat.reshape(len(self.image), len(self.others), *self.image.shape[1:]).transpose(0, 1)

    def _down(self, values: torch.Tensor) -> torch.Tensor:
        """The k states at the data end from those at the noise end."""
        state = State.at("noise", values, self.formula, self.grid)
        found = vsvf.sample(self.predictor, state, self.grid, self.formula, warn=False)
        self.nfe += found.nfe
        return found.values

    def _up(self, z: torch.Tensor) -> torch.Tensor:
        """The k states at the noise end from the image and those beside it."""
        values = self.image.new_empty((self.plan.steps, *self.image.shape))
        values[self.plan.last], values[self.others] = self.image, self._stacked(z)
        state = State.at("data", values, self.formula, self.grid)
        found = vsvf.invert(self.predictor, state, self.grid, self.formula, warn=False)
        self.nfe += found.nfe
        return found.values

    def _started(self, x: torch.Tensor) -> torch.Tensor:
        """The states 1 … k - 1 that the starter makes of state 0."""
        found, plan = [], self.plan
        for here, there in zip(plan.position[: plan.steps - 1], plan.position[1 : plan.steps]):
            if here != there:
                x, used = vsvf.integrate(self.predictor, x, [here, there], self.starter)
                self.nfe += used
            found.append(x)
        return torch.stack(found)


class Path(Equations):
    """The states of the whole path, x_N among them, are unknown, and solve

        A z = C eps(z),   the image given,

    the rows of the starter and of the plan (`vsvf.engine.path`). The residual is a list of rows and not a march through them, so
    Newton's method bears a poor first path. What is off the data is noise to the network, eps = (x_bar - x_0) / sigma_bar; with
    that Jacobian, 1 / sigma_bar, the equations are the same few numbers for every entry of the image, and their inverse is applied
    to the residual. A direction costs one evaluation at every state, all in one batch.

    How well this goes is in that inverse. Off the data the states of a solution are proportional to sigma_bar; `amplification` is
    by how much a residual of a row, relative to that, is magnified in a state, the image being held. On log-SNR nodes it is 1 for
    DDIM, DPM-Solver++(2M) and O-BELM, and 1e4 for stable_belm(2): its spurious mode falls no faster than the solution.

    Args:
        predictor, image, grid, formula, starter: as in `single_latent`.

    Attributes:
        amplification: see above.

    Raises:
        ValueError: an implicit formula.
    """

    def __init__(self, predictor: Predictor, image: torch.Tensor, grid: Grid, formula: Formula, starter: str) -> None:
        request = Request(image, grid, formula, "sampling", starter=starter)
        plan = request.plan
        if not plan.explicit:
            raise ValueError(f"{plan.name} is implicit: its sampling is no function of x_N alone; use an explicit formula")
        self.predictor, self.image, self.grid, self.nfe = predictor, image, grid, 0
        positions = plan.position[: plan.steps]
        started = None if np.all(positions == positions[0]) else starter_plan(request, positions)[0]
        a, c, self.nodes, window = equations(plan, started)
        self.place = window[0]  # of x_N
        known = len(self.nodes) - plan.steps + plan.last  # the image's
        self.unknown = np.flatnonzero(np.arange(len(self.nodes)) != known)
        self.asked = np.flatnonzero(np.any(c != 0.0, axis=0))  # states whose slope is taken,
        self.free = np.flatnonzero(self.asked != known)  # those of them that are unknown,
        self.where = np.searchsorted(self.unknown, self.asked[self.free])  # and their places among the unknown states
        self.scale = predictor.alpha(self.nodes)
        matrix = a[:, self.unknown] / self.scale[self.unknown]
        # Jacobian of eps by x off the data; the equations with it, solved
        level = self.nodes[self.asked] * self.scale[self.asked]
        jacobian = np.divide(1.0, level, out=np.zeros_like(level), where=level > 0.0)
        linear = matrix.copy()
        linear[:, self.where] -= c[:, self.asked[self.free]] * jacobian[self.free]
        inverse = np.linalg.inv(linear)
        size = (self.nodes * self.scale)[self.unknown, None]  # of a solution off the data
        self.amplification = float(np.max(np.abs(inverse) * self.nodes[1:] / np.where(size > 0.0, size, np.inf)))
        self.matrix, self.gain, self.carry = (
            torch.as_tensor(part, dtype=image.dtype, device=image.device)
            for part in (inverse @ matrix, inverse @ c[:, self.asked], inverse @ a[:, known] / self.scale[known])
        )

    def noise(self, z: torch.Tensor) -> torch.Tensor:
        place = int(np.searchsorted(self.unknown, self.place))
        return self._states(z)[:, place].reshape(self.image.shape).clone()

    def guess(self) -> torch.Tensor:
        # what an inversion by stable_belm(2) passes, and lines in sigma_bar between its states
        predictor, levels = self.predictor, self.grid.sigma_bar
        passed = {float(levels[0]): self.image}
        passed[float(levels[1])], spent = vsvf.integrate(predictor, self.image, levels[:2], "heun")
        told = vsvf.invert(
            predictor,
            self.image,
            self.grid,
            "stable_belm(2)",
            starter="heun",
            warn=False,
            callback=lambda step: passed.update({step.sigma_bar: step.x.clone()}),
        )
        self.nfe += spent + told.nfe
        known = np.array(sorted(passed))
        states = []
        for node, scale in zip(self.nodes[self.unknown], self.scale[self.unknown]):
            high = int(np.clip(np.searchsorted(known, node), 1, len(known) - 1))
            low_x, high_x = (passed[level] / float(predictor.alpha(level)) for level in known[[high - 1, high]])
            share = float((node - known[high - 1]) / (known[high] - known[high - 1]))
            states.append(float(scale) * torch.lerp(low_x, high_x, share).flatten(1))
        return torch.stack(states, dim=1).flatten(1)

    def residual(self, z: torch.Tensor) -> torch.Tensor:
        slopes = self._slopes(self._asked_at(z, self.image))
        left = torch.matmul(self.matrix, self._states(z)) - torch.matmul(self.gain, slopes)
        return (left + self.carry[:, None] * self.image.flatten(1)[:, None]).flatten(1)

    def derivative(self, z: torch.Tensor, value: torch.Tensor) -> Map:
        return difference(self.residual, z, value, self.predictor)

    def corrected(self, y: torch.Tensor) -> torch.Tensor:
        return y

    def _states(self, z: torch.Tensor) -> torch.Tensor:
        return z.reshape(len(z), len(self.unknown), -1)

    def _asked_at(self, z: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """The states whose slopes are taken, (B, asked, pixels)."""
        states = image.flatten(1)[:, None].repeat(1, len(self.asked), 1)
        states[:, self.free] = self._states(z)[:, self.where]
        return states

    def _slopes(self, states: torch.Tensor) -> torch.Tensor:
        """eps at states (B, asked, pixels), in one batch."""
        count, asked, size = states.shape
        batch = states.transpose(0, 1).reshape(asked * count, *self.image.shape[1:])
        with torch.no_grad():
            found = self.predictor.epsilon(batch, np.repeat(self.nodes[self.asked], count))
        self.nfe += asked
        return found.to(states.dtype).reshape(asked, count, size).transpose(0, 1)


def difference(function: Map, at: torch.Tensor, value: torch.Tensor, predictor: Predictor) -> Map:
    """v -> the derivative of a function along v, by a difference whose step suits the predictor's digits; 0 along 0."""
    precision = torch.finfo(predictor.precision or at.dtype).eps ** 0.5

    def apply(v: torch.Tensor) -> torch.Tensor:
        length = v.norm(dim=1, keepdim=True)
        step = precision * (1.0 + at.norm(dim=1, keepdim=True)) / length.clamp(min=torch.finfo(v.dtype).tiny)
        along = length > 0.0
        found = (function(at + torch.where(along, step * v, 0.0)) - value) / step
        return torch.where(along, found, 0.0)

    return apply


def gmres(apply: Map, right: torch.Tensor, directions: int, reduction: float) -> torch.Tensor:
    """s with A s = right by GMRES without restart (Saad & Schultz 1986), each row of the batch by itself, (B, n).

    Args:
        apply: v -> A v, row by row. directions: the most that are taken. reduction: of every residual at which it stops.
    """
    tiny = torch.finfo(right.dtype).tiny
    size = right.norm(dim=1)
    basis = [right / size.clamp(min=tiny)[:, None]]
    columns: list[torch.Tensor] = []
    weights = right.new_zeros((len(right), 0, 1))
    for m in range(1, directions + 1):
        new = apply(basis[-1])
        column = right.new_zeros((len(right), directions + 1))
        for _ in range(2):  # orthogonal to rounding
            for n, v in enumerate(basis):
                part = (new * v).sum(1)
                column[:, n] += part
                new = new - part[:, None] * v
        column[:, m] = new.norm(dim=1)
        columns.append(column)
        hessenberg = torch.stack(columns, dim=2)[:, : m + 1]
        target = right.new_zeros((len(right), m + 1, 1))
        target[:, 0, 0] = size
        weights = torch.linalg.lstsq(hessenberg, target, driver="gelsd" if right.device.type == "cpu" else None).solution
        left = (hessenberg @ weights - target).norm(dim=(1, 2))
        if bool((left <= reduction * size).all()):
            break
        basis.append(new / column[:, m].clamp(min=tiny)[:, None])
    return sum((weights[:, n] * basis[n] for n in range(weights.shape[1])), torch.zeros_like(right))
