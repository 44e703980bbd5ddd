"""Zero-stability of any formula on any grid, along sampling and along inversion.

    K = max over windows of || product of companion matrices ||_inf

is the factor by which a march can amplify a perturbation of its states (rounding, a starter's error) when the slopes do
not react; a formula is zero-stable on a family of grids when K stays bounded as the grids are refined. Sources: Dahlquist
1956; Crouzeix & Lisbona, SIAM J. Numer. Anal. 21 (1984); Hairer, Nørsett & Wanner I, III.3 and III.5; docs/stability.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vsvf.formula import Formula
from vsvf.formulas.adams import ddim
from vsvf.grid import Grid
from vsvf.stability.gaussian import IMAGE_STD, truncation_errors
from vsvf.stability.grids import GridFamily
from vsvf.stability.growth import log_amplification, log_mode_growth, log_volume
from vsvf.stability.regions import root_condition, spurious_roots

Array = np.ndarray

HARMLESS = 10.0  # a K below this costs at most one digit
LARGE = 1e3
MUCH_WORSE = 3.0  # an error so many times DDIM's is a matter of errors that grow, not of order


class Verdict(StrEnum):
    """Zero-stability by the root condition of the uniform-grid formula, in each direction."""

    BOTH = "zero-stable both ways"
    SAMPLING = "zero-stable for sampling only"
    INVERSION = "zero-stable for inversion only"
    NEITHER = "not zero-stable"


@dataclass(frozen=True)
class StabilityReport:
    """What `stability` found.

    Attributes:
        formula, grid: what was examined, as text.
        log10_k_sampling, log10_k_inversion: log10 K; inversion is inf where no row can be solved for its oldest state.
        spurious_roots: (K-1,) complex, of the uniform-grid formula (for a coupled method, of one step's matrix).
        zero_stable_sampling, zero_stable_inversion: the root condition, which decides on smooth grids as N grows.
        inversion: "explicit", "implicit" (an equation per step has to be solved) or "none".
        log10_mode_growth: (K-1,) log10 of the growth of the spurious modes from the first window to the last, sampling.
        log10_volume: log10 prod |a_K| over the rows, sampling; minus it, inversion.
        gaussian_error: what sampling from exact starting states can be off by, per element, on Gaussian data of standard
            deviation 0.5 (`stability_gaussian`): K with the reaction of the slopes, and with the errors that there are.
        ddim_error: the same number for DDIM on this grid.
    """

    formula: str
    grid: str
    log10_k_sampling: float
    log10_k_inversion: float
    spurious_roots: Array
    zero_stable_sampling: bool
    zero_stable_inversion: bool
    inversion: str
    log10_mode_growth: Array
    log10_volume: float
    gaussian_error: float
    ddim_error: float

    @property
    def k_sampling(self) -> float:
        """K along sampling; inf beyond the range of float64 (`log10_k_sampling` is finite then)."""
        return _power(self.log10_k_sampling)

    @property
    def k_inversion(self) -> float:
        """K along inversion; inf beyond the range of float64, and where the formula has no exact inverse."""
        return _power(self.log10_k_inversion)

    @property
    def volume_sampling(self) -> float:
        """prod |a_K|: the factor by which sampling scales the volume of k-state windows (inversion: by its inverse)."""
        return _power(self.log10_volume)

    @property
    def volume_defect(self) -> float:
        """|log10 of (product of the modes' growths / prod |a_K|)|: zero by the volume law, 0.0 where a_K = 0."""
        if np.isneginf(self.log10_volume):
            return 0.0
        return float(abs(np.sum(self.log10_mode_growth) - self.log10_volume))

    @property
    def verdict(self) -> Verdict:
        if self.zero_stable_sampling:
            return Verdict.BOTH if self.zero_stable_inversion else Verdict.SAMPLING
        return Verdict.INVERSION if self.zero_stable_inversion else Verdict.NEITHER

    @property
    def too_coarse(self) -> bool:
        """Zero-stable for sampling, and still more than three times worse than DDIM on Gaussian data with these steps.

        Either its errors feed on the slopes (weak instability: EDICT and McCallum-Foster) or the formula has too many steps
        for the grid. K sees neither; finer grids cure EDICT with fixed p < 1, whose mixing damps once per step.
        """
        return self.zero_stable_sampling and not self.gaussian_error <= MUCH_WORSE * self.ddim_error

    @property
    def sentence(self) -> str:
        """One sentence for somebody new to the subject."""
        sampling = _describe("sampling", self.log10_k_sampling, self.zero_stable_sampling)
        if self.too_coarse:
            sampling = (
                f"sampling is zero-stable but inaccurate with these steps: where images are Gaussian with standard deviation "
                f"{IMAGE_STD}, it is off by up to {_short(self.gaussian_error)}, DDIM by {_short(self.ddim_error)}"
            )
        if self.inversion == "none":
            return (
                f"{sampling}; there is no exact inversion: the oldest state has no weight of its own (a_k = 0), so no step "
                "can be undone"
            )
        inverting = _describe("inverting", self.log10_k_inversion, self.zero_stable_inversion)
        if self.inversion == "implicit":
            inverting += ", by solving an implicit equation for every step"
        return f"{sampling}; {inverting}"

    def unsafe(self, direction: str) -> bool:
        """Whether marching that way deserves a warning: not zero-stable, and K on this very grid above 1e3.

        Args:
            direction: "sampling" or "inversion".
        """
        if direction not in ("sampling", "inversion"):
            raise ValueError(f"direction must be 'sampling' or 'inversion', got {direction!r}")
        stable = self.zero_stable_sampling if direction == "sampling" else self.zero_stable_inversion
        log10_k = self.log10_k_sampling if direction == "sampling" else self.log10_k_inversion
        return not stable and log10_k > np.log10(LARGE)


def stability(formula: Formula, grid: Grid) -> StabilityReport:
    """Examine a formula on a grid, both directions. About 0.2 s for a two-step formula and N = 1000, 1 s for EDICT.

    Raises:
        ValueError: the grid has fewer steps than the formula needs.
    """
    plan = formula.plan(grid)
    invertible = plan.backward_solvable
    stable_sampling, stable_inversion = root_condition(formula)
    std = np.array([IMAGE_STD])
    return StabilityReport(
        formula=formula.name,
        grid=repr(grid),
        log10_k_sampling=log_amplification(plan.a) / np.log(10.0),
        log10_k_inversion=log_amplification(plan.inverse().a) / np.log(10.0) if invertible else np.inf,
        spurious_roots=spurious_roots(formula),
        zero_stable_sampling=stable_sampling,
        zero_stable_inversion=stable_inversion and invertible,
        inversion="none" if not invertible else "explicit" if plan.backward_explicit else "implicit",
        log10_mode_growth=log_mode_growth(plan.a) / np.log(10.0),
        log10_volume=log_volume(plan.a) / np.log(10.0),
        gaussian_error=float(truncation_errors(plan, std)[0][0]),
        ddim_error=float(truncation_errors(ddim().plan(grid), std)[0][0]),
    )


def _power(log10: float) -> float:
    return float(10.0**log10) if log10 < 308.0 else np.inf


def _short(value: float) -> str:
    return "1e300 or more" if value > 1e300 else f"{value:.2g}"


def _describe(action: str, log10_k: float, zero_stable: bool) -> str:
    factor = f"{_power(log10_k):.2g}" if log10_k < 15.0 else f"1e{log10_k:.0f}"
    if log10_k > np.log10(HARMLESS):
        text = f"{action} amplifies rounding by {'up to ' if log10_k <= np.log10(LARGE) else ''}{factor}"
        return text if zero_stable else f"{text} and blows up as steps are added"
    if zero_stable:
        return f"{action} is safe"
    return f"{action} is still safe with this many steps (rounding grows by {factor}) but blows up as steps are added"


# ---- refinement --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Growth:
    """K against the number of steps, and what it does.

    Attributes:
        steps: (n,) N.
        log10_k: (n,) log10 K.
        kind: "bounded", "power" (K ~ N^exponent), "exploding" (K ~ base^N) or "none" (no exact inverse).
        exponent: slope of log K against log N over the finer half.
        base: exp of the slope of log K against N over the finer half.
        residual: rms misfit, in log10 K, of the model that was chosen.
    """

    steps: Array
    log10_k: Array
    kind: str
    exponent: float
    base: float
    residual: float

    @property
    def sentence(self) -> str:
        fitted = f"fit over N = {self.steps[len(self.steps) // 2]} … {self.steps[-1]}, misfit {self.residual:.2g} in log10 K"
        return {
            "none": "no exact inverse",
            "bounded": f"bounded: K = {_power(self.log10_k.max()):.3g} at most",
            "power": f"growing like N^{self.exponent:.2f} ({fitted})",
            "exploding": f"exploding like {self.base:.5g}^N ({fitted})",
        }[self.kind]


@dataclass(frozen=True)
class Refinement:
    """`refine`'s verdict in each direction.

    Attributes:
        formula: its name. sampling, inversion: how K grows along each.
    """

    formula: str
    sampling: Growth
    inversion: Growth


def refine(formula: Formula, family: GridFamily, steps: Sequence[int] = (50, 100, 200, 400, 600, 800)) -> Refinement:
    """K on ever finer grids N -> family(N): bounded, growing like N^p, or exploding, with the fit that says so.

    Over the finer half of `steps`, log K is fitted by lines in log N (a power), in N (an exponential), and in 1/N and
    N^(-1/2) (a limit being approached); the smallest misfit decides. Growth by less than N^0.2 is called bounded outright.

    Args:
        formula: the formula. family: the grid of N steps. steps: at least 4 increasing numbers of steps.
    """
    counts = np.asarray(steps, dtype=int)
    if counts.ndim != 1 or len(counts) < 4 or np.any(np.diff(counts) <= 0):
        raise ValueError(f"steps must be at least 4 increasing numbers, got {steps!r}")
    plans = [formula.plan(family(int(n))) for n in counts]
    sampling = np.array([log_amplification(plan.a) for plan in plans]) / np.log(10.0)
    inversion = np.array(
        [log_amplification(plan.inverse().a) / np.log(10.0) if plan.backward_solvable else np.inf for plan in plans]
    )
    return Refinement(formula.name, _growth(counts, sampling), _growth(counts, inversion))


def _growth(steps: Array, log10_k: Array) -> Growth:
    if not np.all(np.isfinite(log10_k)):
        return Growth(steps, log10_k, "none", np.nan, np.nan, np.nan)
    fine = slice(len(steps) // 2 - 1, None)
    n, values = steps[fine].astype(np.float64), log10_k[fine]
    power, power_misfit = _line(np.log10(n), values)
    rate, rate_misfit = _line(n, values)
    limit_misfit = min(_line(1.0 / n, values)[1], _line(n**-0.5, values)[1])
    if power < 0.2 or limit_misfit < min(power_misfit, rate_misfit):
        kind, residual = "bounded", limit_misfit
    elif power_misfit <= rate_misfit:
        kind, residual = "power", power_misfit
    else:
        kind, residual = "exploding", rate_misfit
    return Growth(steps, log10_k, kind, power, float(10.0**rate), residual)


def _line(x: Array, y: Array) -> tuple[float, float]:
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(np.sqrt(np.mean((y - slope * x - offset) ** 2)))
