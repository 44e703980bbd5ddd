"""Ready-made patterns of the published families, by the names that `vsvf.formulas` uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sympy import Add, Dummy, Expr, Integer, Poly, Rational, Symbol, cos, factorial, log, pi

from vsvf.formulas.names import numbers, split
from vsvf.symbolic import symbols
from vsvf.symbolic.parse import expression
from vsvf.symbolic.pattern import LARGEST_STEPS, Pattern
from vsvf.symbolic.symbols import SIGMA_BAR


def belm(k: int = 2) -> Pattern:
    """Bidirectionally explicit, all 2k-1 coefficients unknown: (14) of Wang et al., BELM, NeurIPS 2024. k >= 2."""
    k = _steps(k, 2, "a 1-step row that is explicit in both directions has no slope")
    unknown = [f"a{j}" for j in range(1, k + 1)] + [f"b{j}" for j in range(1, k)]
    return Pattern(k, unknown, name=f"belm({k})")


def ddim() -> Pattern:
    """Explicit Euler in sigma_bar: x_bar_{i-1} = a_1 x_bar_i + b_1 h_i eps_bar_i. Song, Meng & Ermon, ICLR 2021."""
    return Pattern(1, ("a1", "b1"), name="ddim")


def adams_bashforth(k: int = 2) -> Pattern:
    """a = (1, 0, …), slopes at s_1 … s_k. Hairer, Nørsett & Wanner I, III.5."""
    k = _steps(k, 1)
    return Pattern(k, ("a1", *(f"b{j}" for j in range(1, k + 1))), name=f"adams_bashforth({k})")


def adams_moulton(k: int = 1) -> Pattern:
    """As Adams-Bashforth, with the slope at s_0 too: implicit. Hairer, Nørsett & Wanner I, III.5."""
    k = _steps(k, 1)
    return Pattern(k, ("a1", *(f"b{j}" for j in range(k + 1))), name=f"adams_moulton({k})")


def bdf(k: int = 2) -> Pattern:
    """States at s_1 … s_k and the slope at s_0 only: implicit. Hairer, Nørsett & Wanner I, III.5."""
    k = _steps(k, 1)
    return Pattern(k, (*(f"a{j}" for j in range(1, k + 1)), "b0"), name=f"bdf({k})")


def bdia(gamma: Any = "gamma") -> Pattern:
    """A 2-step BELM row with a_2 = gamma alpha_{i+1}/alpha_{i-1}, exact for 1 and sigma_bar. Zhang, Lewis & Kleijn 2023."""
    weight = gamma if isinstance(gamma, str) else f"({gamma})"
    return Pattern(2, ("a1", "b1"), {"a2": f"{weight}*alpha2/alpha0"}, name="bdia" if gamma == "gamma" else f"bdia({gamma})")


def deis(k: int = 2) -> Pattern:
    """DEIS (tAB, log-rho): as Adams-Bashforth, exact for slopes 1, log s, …, log^{k-1} s. Zhang & Chen, ICLR 2023."""
    k = _steps(k, 1, largest=6)
    functions: list[Expr] = [Integer(1)]
    for n in range(k):  # the integral of log^n s is s sum_m (-1)^{n-m} n!/m! log^m s
        terms = [(-1) ** (n - m) * factorial(n) / factorial(m) * log(SIGMA_BAR) ** m for m in range(n + 1)]
        functions.append(SIGMA_BAR * Add(*terms))
    unknown = ("a1", *(f"b{j}" for j in range(1, k + 1)))
    return Pattern(k, unknown, basis=tuple(functions), name=f"deis({k})")


def root_placed(recursion: Sequence[Any], exponent: Any = 1, name: str = "", slope_rho: int = 1) -> Pattern:
    """BELM with placed roots: prod_r (z - zeta_r) = z^{k-1} - sum_{j=2..k} B_j z^{k-j}, A_j = B_j (h_i/h_{i+j-1})^exponent,

        a_1 = 1 + A_2,   a_j = A_{j+1} - A_j,   a_k = -A_k,

    and b_1 … b_{k-1} from exactness for the slopes 1, u, …, u^{k-2} with u = sigma_bar^{1/slope_rho}. `recursion` is B_2 … B_k.
    Source: `vsvf.formulas.root_placed_belm`.
    """
    k = len(recursion) + 1
    _steps(k, 2)
    names = symbols.code_names(k)
    power = expression(exponent, names, "exponent")
    weights = [Integer(1)]
    for j, entry in enumerate(recursion, start=2):
        weights.append(expression(entry, names, "recursion") * (symbols.h(0) / symbols.h(j - 1)) ** power)
    fixed = {f"a{j}": (weights[j] if j < k else Integer(0)) - (weights[j - 1] if j > 1 else -1) for j in range(1, k + 1)}
    slopes = [f"b{j}" for j in range(1, k)]
    name = name or f"root-placed, {k} steps"
    if slope_rho == 1 or k == 2:  # one slope is a constant in any coordinate
        return Pattern(k, slopes, fixed, conditions=k, name=name)
    del fixed["a1"]  # what exactness for constants leaves
    basis = (Integer(1), *(SIGMA_BAR ** (1 + Rational(m, slope_rho)) for m in range(k - 1)))
    return Pattern(k, ("a1", *slopes), fixed, basis=basis, name=name)


def stable_belm(k: int = 2) -> Pattern:
    """The recommended root-placed BELM, its roots exp(i pi r) with r rational written exactly."""
    from vsvf.formulas.root_placed import STABLE

    _steps(k, 2, largest=max(STABLE))
    angles, exponent, slope_rho = STABLE[k]
    z = Dummy("z")
    product = Poly(1, z, extension=True)
    for angle in angles:
        exact = Rational(str(angle)).limit_denominator(1000)
        factor = z + 1 if exact == 1 else z**2 - 2 * cos(pi * exact) * z + 1
        product = product * Poly(factor, z, extension=True)
    recursion = [-c for c in product.all_coeffs()[1:]]
    return root_placed(recursion, Rational(str(exponent)), f"stable_belm({k})", slope_rho=slope_rho)


def gaussian(k: int = 2) -> Pattern:
    """A BELM pattern with as few slopes as exactness on 1, sigma_bar, sqrt(sigma_bar^2 + c^2) needs (k = 2): the solutions
    for data that are Gaussian with standard deviation c are x_bar = mu + z sqrt(sigma_bar^2 + c^2), so the row makes no
    error on them.
    """
    if k != 2:
        raise ValueError(f"k must be 2 for the Gaussian pattern (three functions, three unknowns), got {k!r}")
    basis = ("1", "sigma_bar", "sqrt(sigma_bar**2 + c**2)")
    return Pattern(2, ("a1", "a2", "b1"), basis=basis, name="gaussian")


def power_fitted(k: int = 3, p: Any = "p") -> Pattern:
    """A row for z = x_bar / sigma_bar^p and its slope r = dz/d sigma_bar, bidirectionally explicit, with given a_2 … a_k (the
    parameters w2 … wk) and exact where x_bar is sigma_bar^p, 1, sigma_bar, sigma_bar^{3/2}, … (k functions).

    In x_bar it reads a_j = (s_0/s_j)^p (w_j - p c_j / s_j), c_j = (s_0/s_j)^p times this row's. Source:
    `vsvf.formulas.power_fitted_belm`, where they place the roots and are called alpha_j.
    """
    k = _steps(k, 3, "power-fitted formulas have at least two slopes", largest=6)
    fixed = {f"a{j}": f"w{j}" for j in range(2, k + 1)}
    return Pattern(k, ("a1", *(f"b{j}" for j in range(1, k))), fixed, basis=_powers(k, p), name=f"power-fitted, {k} steps, in z")


def corrector(k: int = 3, p: Any = "p") -> Pattern:
    """The corrector row of `vsvf.formulas.corrected` after a k-step formula, for z = x_bar / sigma_bar^p: k-1 states above s_0,
    slopes at s_0 and at all of these but the oldest, a_{k-1} = M and a_{k-2} = 1 - M, exact on the k functions of `power_fitted`.

    The slope at s_0 makes it look implicit; the march puts the state before the correction there.
    """
    k = _steps(k, 3, "with two states there is no free a", largest=6)
    fixed = {f"a{k - 1}": "M"}
    unknown = (f"a{k - 2}", *(f"b{j}" for j in range(k - 1)))
    return Pattern(k - 1, unknown, fixed, basis=_powers(k, p), name=f"corrector, {k} states, in z")


def pec_corrector(k: int = 3, p: Any = "p") -> Pattern:
    """The corrector's row of `vsvf.formulas.pec_belm` for z = x_bar / sigma_bar^p: k states, slopes at s_0 and at all of these but
    the oldest, given a_2 … a_k (the parameters w2 … wk), exact on the k + 1 functions of `power_fitted` with a step more.

    The slope at s_0 makes it look implicit; the march takes it at the predicted state. The predictor's row is `power_fitted` with
    w2 = … = wk = 0 and the differences of predicted and corrected states added, which no solution has.
    """
    k = _steps(k, 2, "with one state there is nothing to place", largest=5)
    fixed = {f"a{j}": f"w{j}" for j in range(2, k + 1)}
    unknown = ("a1", *(f"b{j}" for j in range(k)))
    return Pattern(k, unknown, fixed, basis=_powers(k + 1, p), name=f"corrector of every node, {k} states, in z")


def _powers(k: int, p: Any) -> tuple[Expr, ...]:
    """1 and sigma_bar^{q-p} for the k - 1 exponents q = 0, 1, 3/2, …"""
    exponent = expression(p, {"p": Symbol("p", positive=True)}, "p")
    powers = [Integer(0), *(1 + Rational(n, 2) for n in range(k - 2))]
    return (Integer(1), *(SIGMA_BAR ** (q - exponent) for q in powers))


PATTERNS: dict[str, Callable[..., Pattern]] = {
    "belm": belm,
    "ddim": ddim,
    "adams_bashforth": adams_bashforth,
    "adams_moulton": adams_moulton,
    "bdf": bdf,
    "bdia": bdia,
    "deis": deis,
    "gaussian": gaussian,
    "stable_belm": stable_belm,
}


def by_name(name: str, steps: int | None = None) -> Pattern:
    """ "belm(3)", "ddim", "bdia(0.5)"; `steps` is k for a family's bare name.

    Raises:
        ValueError: an unknown family, an argument it refuses, or steps that contradict the name.
    """
    family, argument = split(name, PATTERNS, "pattern", "belm(3)")
    if family == "bdia":  # gamma may be any expression
        made = bdia(argument) if argument else bdia()
    else:
        arguments = numbers(argument, name, "pattern")
        if len(arguments) > (0 if family == "ddim" else 1):
            takes = "no argument" if family == "ddim" else "one argument, the number of steps"
            raise ValueError(f"pattern {name!r}: {family} takes {takes}")
        if arguments and (isinstance(arguments[0], bool) or not isinstance(arguments[0], int)):
            raise ValueError(f"pattern {name!r}: the number of steps must be an integer, got {argument!r}")
        given = arguments or (() if steps is None or family == "ddim" else (steps,))
        made = PATTERNS[family](*given)
    if steps is not None and made.steps != steps:
        raise ValueError(f"steps={steps} contradicts pattern {name!r}, which has {made.steps}")
    return made


def _steps(k: int, smallest: int, why: str = "", largest: int = LARGEST_STEPS) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or not smallest <= k <= largest:
        reason = f" ({why})" if why else ""
        raise ValueError(f"steps must be an integer from {smallest} to {largest}{reason}, got {k!r}")
    return k
