"""Slow, plain re-derivations that the tests compare the library with."""

from fractions import Fraction
from itertools import pairwise

import torch

from vsvf.errors import ConvergenceError


def solve_exactly(matrix, right):
    """Gauss-Jordan elimination on Fractions."""
    n = len(matrix)
    rows = [[Fraction(v) for v in row] + [Fraction(r)] for row, r in zip(matrix, right)]
    for i in range(n):
        pivot = next(r for r in range(i, n) if rows[r][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for r in range(n):
            if r != i and rows[r][i] != 0:
                factor = rows[r][i]
                rows[r] = [v - factor * w for v, w in zip(rows[r], rows[i])]
    return [row[-1] for row in rows]


def exact_coefficients(nodes, values, slopes, fixed_a=None):
    """(a, c) as Fractions from the order conditions for s^n, n = 0, 1, …, on the window `nodes` = s_0 … s_k.

    `values` and `slopes` list the j whose a_j, c_j are unknown; as many conditions as unknowns are solved. `fixed_a` gives the
    a_j that are known (Adams methods: {1: 1}), and the condition for n = 0, which they satisfy, is left out.
    """
    s = [Fraction(float(v)) - Fraction(float(nodes[1])) for v in nodes]
    fixed_a = fixed_a or {}
    first = 1 if fixed_a else 0
    unknowns = len(values) + len(slopes)
    matrix, right = [], []
    for n in range(first, first + unknowns):
        matrix.append([s[j] ** n for j in values] + [n * s[j] ** (n - 1) if n else Fraction(0) for j in slopes])
        right.append(s[0] ** n - sum(weight * s[j] ** n for j, weight in fixed_a.items()))
    solution = solve_exactly(matrix, right)
    k = len(nodes) - 1
    a, c = [Fraction(0)] * k, [Fraction(0)] * (k + 1)
    for j, weight in fixed_a.items():
        a[j - 1] = Fraction(weight)
    for j, value in zip(values, solution):
        a[j - 1] = value
    for j, value in zip(slopes, solution[len(values) :]):
        c[j] = value
    return a, c


def order_residuals(nodes, a, c, degree):
    """s_0^n - sum_j a_j s_j^n - sum_j c_j n s_j^(n-1), n = 0 … degree, relative to the size of its terms, from exact sums."""
    s = [Fraction(float(v)) - Fraction(float(nodes[1])) for v in nodes]
    a, c = [Fraction(float(v)) for v in a], [Fraction(float(v)) for v in c]
    residuals = []
    for n in range(degree + 1):
        terms = [s[0] ** n, *(-a[j - 1] * s[j] ** n for j in range(1, len(s)))]
        terms += [-c[j] * n * s[j] ** (n - 1) for j in range(len(s)) if n]
        size = sum(abs(t) for t in terms)
        residuals.append(float(sum(terms) / size) if size else 0.0)
    return residuals


def alpha_at(predictor, sigma_bar):
    return float(predictor.alpha(sigma_bar))


def slope(predictor, x_bar, sigma_bar):
    """eps_bar(x_bar, sigma_bar), float64."""
    return predictor.epsilon(x_bar * alpha_at(predictor, sigma_bar), float(sigma_bar)).to(torch.float64)


def euler_states(predictor, x_bar, nodes):
    """States at `nodes` (in marching order) by Euler steps."""
    states = [x_bar]
    for here, there in pairwise(nodes):
        states.append(states[-1] + (there - here) * slope(predictor, states[-1], here))
    return states


def sample_multistep(predictor, states, grid, formula, iterations=2000):
    """A k-step formula by its definition, x_bar_{i-1} = sum a_j x_bar_{i-1+j} + sum c_j eps_bar_{i-1+j}, one window at a time.

    `states` are x_bar_N, x_bar_{N-1}, … (k of them); returns all of x_bar_N … x_bar_0.
    """
    k, s = formula.steps, grid.sigma_bar
    x = {grid.steps - n: value for n, value in enumerate(states)}
    for i in range(grid.steps - k + 1, 0, -1):
        a, c = formula.weights(s[i - 1 : i + k], grid.alpha[i - 1 : i + k])
        explicit = torch.zeros_like(x[i])
        for j in range(1, k + 1):
            explicit = explicit + a[j - 1] * x[i - 1 + j]
            if c[j] != 0.0:
                explicit = explicit + c[j] * slope(predictor, x[i - 1 + j], s[i - 1 + j])
        x[i - 1] = explicit
        if c[0] != 0.0:
            for _ in range(iterations):
                old, x[i - 1] = x[i - 1], explicit + c[0] * slope(predictor, x[i - 1], s[i - 1])
                if float((x[i - 1] - old).abs().max()) <= 1e-15 * float(x[i - 1].abs().max()):
                    break
            else:  # a step too large for a plain iteration: no reference
                raise ConvergenceError("the plain loop does not converge", float("nan"), iterations)
    return [x[i] for i in range(grid.steps, -1, -1)]


def invert_multistep(predictor, states, grid, formula):
    """The same definition solved for x_bar_{i-1+k}. `states` are x_bar_0, x_bar_1, …; returns x_bar_0 … x_bar_N."""
    k, s = formula.steps, grid.sigma_bar
    x = dict(enumerate(states))
    for i in range(1, grid.steps - k + 2):
        a, c = formula.weights(s[i - 1 : i + k], grid.alpha[i - 1 : i + k])
        total = x[i - 1]
        for j in range(1, k):
            total = total - a[j - 1] * x[i - 1 + j]
        for j in range(k):
            if c[j] != 0.0:
                total = total - c[j] * slope(predictor, x[i - 1 + j], s[i - 1 + j])
        x[i - 1 + k] = total / a[k - 1]
    return [x[i] for i in range(grid.steps + 1)]


def edict_sample(epsilon, x, alphas, sigmas, p):
    """EDICT as published, in x; alphas and sigmas from noise to data; epsilon(x, step index)."""
    x, y = x.clone(), x.clone()
    for i in range(len(alphas) - 1):
        ratio = alphas[i + 1] / alphas[i]
        gain = sigmas[i + 1] - ratio * sigmas[i]
        x_mid = ratio * x + gain * epsilon(y, i)
        y_mid = ratio * y + gain * epsilon(x_mid, i)
        x = p * x_mid + (1 - p) * y_mid
        y = p * y_mid + (1 - p) * x
    return x, y


def edict_invert(epsilon, x, y, alphas, sigmas, p):
    """EDICT's inverse as published: from data to noise, every update undone in the opposite order."""
    for i in range(len(alphas) - 2, -1, -1):
        ratio = alphas[i + 1] / alphas[i]
        gain = sigmas[i + 1] - ratio * sigmas[i]
        y_mid = (y - (1 - p) * x) / p
        x_mid = (x - (1 - p) * y_mid) / p
        y = (y_mid - gain * epsilon(x_mid, i)) / ratio
        x = (x_mid - gain * epsilon(y, i)) / ratio
    return x, y


def mccallum_foster_sample(f, y, nodes, coupling):
    """y' = l y + (1-l) z + h f(z, t), z' = z + h f(y', t'), h = t' - t: the published reversible Euler scheme."""
    y, z = y.clone(), y.clone()
    for here, there in pairwise(nodes):
        h = there - here
        y = coupling * y + (1 - coupling) * z + h * f(z, here)
        z = z + h * f(y, there)
    return y, z


def diffusers_sample():
    """The deterministic sample of diffusers' scheduler tests, (4, 3, 8, 8)."""
    count = 4 * 3 * 8 * 8
    return (torch.arange(count) / count).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def diffusers_model(x, t):
    """The model of diffusers' scheduler tests."""
    if isinstance(t, torch.Tensor):
        t = t.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    return x * t / (t + 1)
