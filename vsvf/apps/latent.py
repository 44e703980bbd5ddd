"""Single-latent inversion: the one noise x_N whose sample, starter included, is a given image.

An exactly invertible k-step method carries an image to k states, and all k carry it back. Whoever keeps x_N alone lets a starter
make the other k - 1 again, which are not those of the inversion, and the image is lost by as much as they differ. So choose what is
free: the k - 1 states beside the image at the data end. The inverse march takes them and the image to k states z_0 … z_{k-1} at the
noise end, and these are the ones that the starter S makes if

    R_n = z_n - S_n(z_0) = 0,   n = 1 … k - 1.

There are as many equations as unknowns. They are solved by Newton's method, each linear system by GMRES for every sample of the
batch by itself, with derivatives along a direction from differences of two marches. (A formula that is not backward explicit has no
such march; `least_squares_latent` solves for x_N itself, with the gradients of the sampling.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import vsvf
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor
from vsvf.starter import LOWER_ORDER
from vsvf.state import State

Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Latent:
    """A noise and how well it does.

    Attributes:
        x: (B, …), at node N.
        error: (B,) the largest |sample(x) - image| of each sample. converged: whether all are within the tolerance.
        first_error: (B,) the same before the first iteration: the starter's inversion with x_N alone kept.
        iterations: of Newton or Gauss–Newton. nfe: evaluations of eps in all, the last sampling included.
    """

    x: torch.Tensor
    error: torch.Tensor
    first_error: torch.Tensor
    converged: bool
    iterations: int
    nfe: int


def single_latent(
    predictor: Predictor,
    image: torch.Tensor,
    grid: Grid,
    formula: Formula | str,
    *,
    starter: str = "ddim",
    tolerance: float = 1e-5,
    iterations: int = 12,
    directions: int = 40,
    reduction: float = 1e-2,
) -> Latent:
    """The x_N from which `vsvf.sample(…, starter=starter)` gives the image, by Newton–Krylov iteration.

    Args:
        predictor: smooth, best in float64: a direction's derivative is a difference of two marches.
        image: (B, …) float64, in the predictor's scale. grid, formula, starter: of the sampling; a backward explicit formula.
        tolerance: on the largest |sample - image|. iterations: most Newton iterations.
        directions: most GMRES directions for each, one march (and a start) each. reduction: of the residual that GMRES aims at.

    Returns:
        The best x_N found. `converged` says whether it is within the tolerance; nothing is raised if not.

    Raises:
        ValueError: the formula is not backward explicit, or another starter than a Runge–Kutta one.
    """
    chosen = vsvf.formulas.by_name(formula) if isinstance(formula, str) else formula
    plan = chosen.plan(grid)
    if not plan.bidirectionally_explicit or starter == LOWER_ORDER:
        raise ValueError(
            f"{plan.name} with starter={starter!r} has no inverse march from k states to solve with: use a BELM, BDIA, EDICT or "
            "McCallum-Foster formula with a Runge-Kutta starter, or least_squares_latent"
        )
    image = image.detach().double()
    begun = vsvf.invert(predictor, image, grid, chosen, starter=starter, warn=False)
    ended = vsvf.sample(predictor, begun, grid, chosen, warn=False)  # its states at the data end are those that the starter chose
    spent = [begun.nfe + ended.nfe]
    place, steps = ended.record.image, plan.steps
    others = [n for n in range(steps) if n != place]

    def noise(unknown: torch.Tensor) -> State:
        values = torch.empty((steps, *image.shape), dtype=torch.float64, device=image.device)
        values[place] = image
        values[others] = unknown.reshape(image.shape[0], steps - 1, *image.shape[1:]).transpose(0, 1)
        state = vsvf.invert(predictor, State.at("data", values, chosen, grid), grid, chosen, warn=False)
        spent[0] += state.nfe
        return state

    def residual(unknown: torch.Tensor) -> torch.Tensor:
        state = noise(unknown)
        wanted, nfe = _started(predictor, state.values[0], plan, starter)
        spent[0] += nfe
        return (state.values[1:] - wanted).transpose(0, 1).flatten(1)

    def judged(x: torch.Tensor) -> torch.Tensor:
        again = vsvf.sample(predictor, x, grid, chosen, starter=starter, warn=False)
        spent[0] += again.nfe
        return (again.x - image).abs().flatten(1).amax(1)

    unknown = ended.values[others].transpose(0, 1).flatten(1)
    best = begun.x.clone()
    error = first = judged(best)
    done = 0
    value = residual(unknown) if steps > 1 else torch.zeros((image.shape[0], 0), dtype=torch.float64)
    while done < iterations and bool((error > tolerance).any()) and steps > 1:
        done += 1
        step = gmres(_along(residual, unknown, value, predictor), -value, directions, reduction)
        unknown, value, moved = _damped(residual, unknown, value, step)
        x = noise(unknown).x
        found = judged(x)
        better = found < error
        error = torch.where(better, found, error)
        best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, best)
        if not moved:
            break
    return Latent(best, error, first, bool((error <= tolerance).all()), done, spent[0])


def least_squares_latent(
    predictor: Predictor,
    image: torch.Tensor,
    grid: Grid,
    formula: Formula | str,
    *,
    starter: str = "ddim",
    tolerance: float = 1e-5,
    iterations: int = 12,
    directions: int = 60,
    reduction: float = 1e-2,
    gradient: str = "stored",
) -> Latent:
    """The same for any explicit formula, DDIM and DPM-Solver++ too: Gauss–Newton on |sample(x_N) - image|^2 by conjugate gradients.

    J^T u is one backward pass through the march (`gradient="stored"`: each costs one backward march, without a forward one), J v a
    difference of two marches. It begins at the noise that `stable_belm(2)` finds.

    Args, Returns: as in `single_latent`; gradient: as in `vsvf.sample`.
    """
    image = image.detach().double()
    begun = vsvf.invert(predictor, image, grid, "stable_belm(2)", starter="heun", warn=False)
    spent = [begun.nfe]
    x = begun.x.flatten(1)

    def sampled(flat: torch.Tensor, way: str | None = None) -> State:
        state = vsvf.sample(predictor, flat.view_as(image), grid, formula, starter=starter, warn=False, gradient=way)
        spent[0] += state.nfe
        return state

    def residual(flat: torch.Tensor) -> torch.Tensor:
        return (sampled(flat).x - image).flatten(1)

    def transposed(state: State, leaf: torch.Tensor) -> Map:
        out = state.x

        def apply(u: torch.Tensor) -> torch.Tensor:
            spent[0] += state.nfe
            return torch.autograd.grad(out, leaf, u.view_as(out), retain_graph=True)[0]

        return apply

    value = residual(x)
    first = error = value.abs().amax(1)
    done = 0
    while done < iterations and bool((error > tolerance).any()):
        done += 1
        leaf = x.clone().requires_grad_()
        step = cgls(_along(residual, x, value, predictor), transposed(sampled(leaf, gradient), leaf), -value, directions, reduction)
        x, value, moved = _damped(residual, x, value, step)
        error = value.abs().amax(1)
        if not moved:
            break
    return Latent(x.view_as(image), error, first, bool((error <= tolerance).all()), done, spent[0])


# ---- linear systems, each sample of the batch by itself ----------------------------------------------------


def gmres(apply: Map, right: torch.Tensor, directions: int, reduction: float) -> torch.Tensor:
    """s with A s = right by GMRES without restart (Saad & Schultz 1986), (B, n).

    Args:
        apply: v -> A v, row by row. directions: the most that are taken. reduction: of every residual at which it stops.
    """
    size = right.norm(dim=1)
    basis = [right / size.clamp(min=torch.finfo(right.dtype).tiny)[:, None]]
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
        basis.append(new / column[:, m].clamp(min=torch.finfo(right.dtype).tiny)[:, None])
    return sum((weights[:, n] * basis[n] for n in range(weights.shape[1])), torch.zeros_like(right))


def cgls(forward: Map, transposed: Map, right: torch.Tensor, directions: int, reduction: float) -> torch.Tensor:
    """s that makes |J s - right| small, by conjugate gradients on the normal equations (Hestenes & Stiefel 1952), (B, n).

    Args:
        forward: v -> J v. transposed: u -> J^T u. directions, reduction: as in `gmres`.
    """
    tiny = torch.finfo(right.dtype).tiny
    found, left = torch.zeros_like(right), right.clone()
    slope = transposed(left)
    way, size = slope.clone(), slope.square().sum(1)
    for _ in range(directions):
        image = forward(way)
        length = size / image.square().sum(1).clamp(min=tiny)
        found = found + length[:, None] * way
        left = left - length[:, None] * image
        if bool((left.norm(dim=1) <= reduction * right.norm(dim=1)).all()):
            break
        slope = transposed(left)
        new = slope.square().sum(1)
        way, size = slope + (new / size.clamp(min=tiny))[:, None] * way, new
    return found


def _along(residual: Map, at: torch.Tensor, value: torch.Tensor, predictor: Predictor) -> Map:
    """v -> the derivative of the residual along v, by a difference whose step suits the predictor's digits."""
    precision = torch.finfo(predictor.dtype or at.dtype).eps ** 0.5

    def apply(v: torch.Tensor) -> torch.Tensor:
        step = precision * (1.0 + at.norm(dim=1, keepdim=True)) / v.norm(dim=1, keepdim=True).clamp(min=1e-300)
        return (residual(at + step * v) - value) / step

    return apply


def _damped(residual: Map, at: torch.Tensor, value: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """at + t step with t = 1, 1/2, 1/4 … for each sample until its residual is smaller, and whether any sample moved."""
    size = torch.ones((len(at), 1), dtype=at.dtype, device=at.device)
    for _ in range(8):
        new = residual(at + size * step)
        worse = ~(new.norm(dim=1) <= value.norm(dim=1))
        if not bool(worse.any()):
            break
        size = torch.where(worse[:, None], 0.5 * size, size)
    kept = worse[:, None]
    return torch.where(kept, at, at + size * step), torch.where(kept, value, new), not bool(worse.all())


def _started(predictor: Predictor, x: torch.Tensor, plan: Plan, starter: str) -> tuple[torch.Tensor, int]:
    """The states 1 … k - 1 that a starter makes of state 0, (k - 1, B, …), and the evaluations that it took."""
    found, nfe = [], 0
    for here, there in zip(plan.position[: plan.steps - 1], plan.position[1 : plan.steps]):
        if here != there:
            x, used = vsvf.integrate(predictor, x, [here, there], starter)
            nfe += used
        found.append(x)
    return torch.stack(found), nfe
