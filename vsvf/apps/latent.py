"""Single-latent inversion: the one noise x_N whose sample, starter included, is a given image.

An exactly invertible k-step method carries an image to k states, and all k carry it back. Whoever keeps x_N alone lets a starter
make the other k - 1 again, which are not those of the inversion, and the image is lost by as much as they differ. DDIM and
DPM-Solver++ have no inverse march at all. In all these cases x_N is the solution of equations that Newton's method solves, each
linear system by GMRES for every sample of the batch by itself. Which equations depends on the formula: `Path`, the whole path at
once, unless a formula is explicit both ways and its spurious modes would amplify what is amiss in a row of the path by more than
`AMPLIFIED`: then `Ends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

import vsvf
from vsvf import formulas
from vsvf.apps.latent_equations import Ends, Equations, Path, gmres
from vsvf.errors import NonFiniteError
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor

AMPLIFIED = 1e3  # by more than this `Path` is not solved


@dataclass(frozen=True)
class Latent:
    """A noise and how well it does.

    Attributes:
        x: (B, …), at node N.
        error: (B,) the largest |sample(x) - image| of each sample. converged: whether all are within the tolerance.
        first_error: (B,) the same before the first iteration, of the noise that an inversion with a starter gives (under the first
            of the predictors).
        iterations: of Newton, in all. nfe: evaluations of eps in all, the samplings that are compared with the image included.
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
    by: Sequence[Predictor] = (),
    tolerance: float = 1e-5,
    iterations: int = 12,
    directions: int = 40,
    reduction: float = 1e-2,
) -> Latent:
    """The x_N from which `vsvf.sample(…, starter=starter)` gives the image, by Newton–Krylov iteration.

    Args:
        predictor: smooth, in float32 or float64: a direction's derivative is a difference of two evaluations.
        image: (B, …), in the predictor's scale; the iteration is in float64.
        grid, formula, starter: of the sampling; a Runge-Kutta starter.
        by: predictors on the way to this one, as of weaker guidance: each equation's solution is where the next one's iteration
            begins (continuation), for images whose own beginning is too far off.
        tolerance: on the largest |sample - image|. iterations: most Newton iterations, for each predictor.
        directions: most GMRES directions for each. reduction: of the residual that GMRES aims at.

    Returns:
        The best x_N found. `converged` says whether it is within the tolerance; nothing is raised if not.

    Raises:
        ValueError: an implicit formula. What `vsvf.sample` and `vsvf.invert` raise.
    """
    image = image.detach().double()
    chosen = formulas.by_name(formula) if isinstance(formula, str) else formula
    z, done, nfe, first = None, 0, 0, None
    for stage in (*by, predictor):
        problem = equations_of(stage, image, grid, chosen, starter)
        z = problem.guess() if z is None else z
        best = problem.noise(z)
        error = _judged(problem, stage, best, image, grid, chosen, starter)
        first = error if first is None else first
        value, left = problem.residual(z), iterations
        while left and bool((error > tolerance).any()) and z.shape[1] > 0:
            left, done = left - 1, done + 1
            wanted = torch.where((error > tolerance)[:, None], -value, 0.0)
            step = problem.corrected(gmres(problem.derivative(z, value), wanted, directions, reduction))
            z, value, moved = damped(problem, z, value, step)
            x = problem.noise(z)
            found = _judged(problem, stage, x, image, grid, chosen, starter)
            better = found < error
            error = torch.where(better, found, error)
            best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, best)
            if not moved:
                break
        nfe += problem.nfe
    assert first is not None
    return Latent(best, error, first, bool((error <= tolerance).all()), done, nfe)


def _judged(
    problem: Equations, predictor: Predictor, noise: torch.Tensor, image: torch.Tensor, grid: Grid, formula: Formula, starter: str
) -> torch.Tensor:
    """(B,): the largest |sample - image|; infinite where the sampling overflows."""
    try:
        again = vsvf.sample(predictor, noise, grid, formula, starter=starter, warn=False)
    except NonFiniteError:
        return torch.full((len(image),), float("inf"), dtype=image.dtype, device=image.device)
    problem.nfe += again.nfe
    return (again.x - image).abs().flatten(1).amax(1)


def equations_of(predictor: Predictor, image: torch.Tensor, grid: Grid, formula: Formula, starter: str) -> Equations:
    """The equations that `single_latent` solves for this formula on this grid."""
    path = Path(predictor, image, grid, formula, starter)
    if path.amplification > AMPLIFIED and formula.plan(grid).bidirectionally_explicit:
        return Ends(predictor, image, grid, formula, starter)
    return path


def damped(problem: Equations, z: torch.Tensor, value: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """z + t step with t = 1, 1/2, 1/4 … for each sample until its residual is smaller, and whether any sample moved."""
    size = z.new_ones((len(z), 1))
    idle = ~step.any(dim=1)
    for _ in range(8):
        new = problem.residual(z + size * step)
        better = new.norm(dim=1) < value.norm(dim=1)
        if bool((better | idle).all()):
            break
        size = torch.where((better | idle)[:, None], size, 0.5 * size)
    kept = (better & ~idle)[:, None]
    return torch.where(kept, z + size * step, z), torch.where(kept, new, value), bool(kept.any())
