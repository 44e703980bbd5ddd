"""The front of the root-placed family on the digits network: sampling error against inversion error of many members.

One number of steps, both schedules, exact starters, guidance 2; errors relative to O-BELM's. The scan covers roots on the circle
(k = 2 … 5) and inside it (k = 3, 4), with the exponents that matter, and modes and slopes in coordinates sigma_bar^(1/rho). It has
seeds of its own: what is chosen from it is to be measured with others, by `python -m analysis.pareto --seeds … --methods …`.

    python -m analysis.members --steps 20 [--seeds 101 102 103] [--spacing leading] [--out results]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

import vsvf
from analysis import style
from analysis.common import generator, save_figure, save_table
from analysis.pareto import (
    BASE,
    INVERSION_GOAL,
    SAMPLING_GOAL,
    SCHEDULES,
    Errors,
    Key,
    Settings,
    formula_of,
    make_grid,
    study,
    trajectory,
)
from vsvf import predictors
from vsvf.convergence.order import exact_state
from vsvf.convergence.problems import Problem
from vsvf.formulas.root_placed import increments, roots_at

Array = np.ndarray

DEFAULTS = tuple(f"stable_belm({k})" for k in (2, 3, 4, 5))
KINDS = {"": "roots on the circle", "modulus": "roots inside it", "slopes": "on it, in coordinates"}


def kind_of(member: str) -> str:
    """Which of `KINDS`."""
    return next((kind for kind in ("modulus", "slopes") if kind in member), "")


def members() -> tuple[str, ...]:
    """Names as `analysis.pareto.formula_of` reads them: angles in units of pi; exponent; and what else differs from the default."""
    k2 = [f"k=2: 1; {exponent:g}" for exponent in (0.0, 0.5, 1.0, 1.5)]
    k3 = [f"k=3: {n}/24; {exponent:g}" for n in range(10, 24, 2) for exponent in (0.5, 0.75, 1.0, 1.25, 1.5)]
    k4 = [f"k=4: 1, {n}/24; {exponent:g}" for n in (6, 8, 10, 12) for exponent in (0.5, 1.0, 1.5)]
    pairs = [(4, 14), (4, 17), (8, 15), (8, 18), (8, 20), (10, 20)]
    k5 = [f"k=5: {n}/24, {m}/24; {exponent:g}" for n, m in pairs for exponent in (0.5, 0.75, 1.0)]
    damped = [
        f"k={3 + one}: {'1, ' * one}{n}/24; {exponent:g}; modulus {modulus:g}"
        for one, angles in ((0, (16, 18, 20, 22)), (1, (8,)))
        for n in angles
        for exponent in (0.5, 1.0)
        for modulus in (0.8, 0.9, 0.95)
    ]
    stretched = [
        f"k=3: {angle}; {exponent:g}; modes {rho:g}; slopes 3"
        for angle in ("2/3", "3/4", "5/6", "17/20", "7/8")
        for exponent, rho in ((1.0, 1.0), (1.25, 1.2), (1.65, 1.2), (1.65, 1.4), (1.65, 1.6))
    ]
    longer = [
        f"k={k}: {angles}; {exponent:g}; modes 1.2; slopes 2"
        for k, angles, exponent in ((4, "1, 1/3", 1.0), (4, "1, 1/3", 1.25), (5, "1/3, 5/6", 0.75), (5, "1/3, 2/3", 0.75))
    ]
    return (*k2, *k3, *k4, *k5, *damped, *stretched, *longer)


def relative(found: dict[Key, Errors], schedule: str, steps: int, method: str) -> tuple[float, float]:
    """(sampling, inversion) errors, rms over the images, relative to O-BELM's."""
    own, base = (found[schedule, steps, "exact", name].rms for name in (method, BASE))
    return own[0] / base[0], own[1] / base[1]


def solution_part(errors: Array, roots: Array, w: Array) -> Array:
    """What of the errors of an inversion's last k states lies in the solution, and not in the spurious modes.

    The mode of root z has increments z^n w_n. Summed by parts,

        sum_{n<m} z^n w_n = ( z^m w_{m-1} - w_0 - sum_{0<n<m} z^n (w_n - w_{n-1}) ) / (z - 1),

    of which the first term oscillates and the rest is a constant that the solution has taken up.

    Args:
        errors: (k, …) of x_bar at nodes N, N-1, …. roots: (k-1,). w: (N,) weights of the intervals from the data end on.
    """
    k, steps = len(errors), len(w)
    n = np.arange(steps)
    matrix, constants = np.ones((k, k), dtype=complex), np.ones(k, dtype=complex)
    for column, z in enumerate(roots, start=1):
        sums = np.concatenate([[0.0], np.cumsum(z**n * w)])
        matrix[:, column] = sums[steps - np.arange(k)]
        constants[column] = -(w[0] + np.sum(z ** n[1:] * np.diff(w))) / (z - 1.0)
    found: Array = (constants @ np.linalg.solve(matrix, errors.reshape(k, -1).astype(complex))).real
    return found.reshape(errors.shape[1:])


def kept(settings: Settings) -> list[list[Any]]:
    """Rows: a member with k = 3, and per schedule its inversion error and the part of it that stays in the solution, rms over the
    images of the first seed, relative to O-BELM's error."""
    labels = torch.tensor(settings.labels)
    predictor, steps = predictors.digits(labels, guidance=2.0), settings.steps[0]
    noise = torch.randn(len(labels), 1, 28, 28, generator=generator(settings.seeds[0]), dtype=torch.float64)
    chosen = [(f"{n}/24", e, 1.0, slopes) for slopes in (1, 3) for n in (12, 16, 18, 20, 22) for e in (0.5, 1.0, 1.5)]
    chosen += [("17/20", 1.65, rho, 3) for rho in (1.0, 1.2, 1.4, 1.6)]
    names = {f"k=3: {a}; {e:g}; modes {rho:g}; slopes {slopes}": (float(Fraction(a)), e, rho) for a, e, rho, slopes in chosen}
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for schedule in settings.schedules:
        grid = make_grid(schedule, steps, settings.spacing)
        nodes = grid.sigma_bar
        path = trajectory(predictor, noise, nodes)
        exact = Problem("trajectory", "", predictor, lambda s, path=path: path[s])

        def errors(method: str, grid: vsvf.Grid = grid, exact: Problem = exact) -> Array:
            """Of x_bar at nodes N, N-1, …, relative to sigma_bar_N."""
            formula = formula_of(method)
            state = vsvf.invert(predictor, exact_state(formula, grid, exact, "data"), grid, formula, warn=False)
            at = grid.sigma_bar[::-1][: len(state.values)]
            return np.stack([((x - exact.exact(s)) / float(predictor.alpha(s) * at[0])).numpy() for x, s in zip(state.values, at)])

        base = np.sqrt(np.mean(errors(BASE)[0] ** 2))
        for method, row in rows.items():
            found = errors(method)
            angle, exponent, rho = names[method]
            part = solution_part(found, roots_at([angle]), increments(nodes, rho) ** exponent)
            row += [float(np.sqrt(np.mean(e**2)) / base) for e in (found[0], part)]
    return [[method, *row] for method, row in rows.items()]


def main(out: Path, settings: Settings, methods: Sequence[str]) -> None:
    """Write members_N.csv, members_N_kept.csv and members_N.svg into `out` for the N = settings.steps[0]."""
    found, steps = study("digits network", settings, (BASE, *methods)), settings.steps[0]
    ratios = {m: [relative(found, schedule, steps, m) for schedule in settings.schedules] for m in methods}
    rows = sorted(([m, *[v for pair in pairs for v in pair]] for m, pairs in ratios.items()), key=lambda row: max(row[1::2]))
    header = ["member", *[f"{what}, {schedule}" for schedule in settings.schedules for what in ("sampling", "inversion")]]
    images = len(settings.labels) * len(settings.seeds)
    what = f"digits network, N = {steps}, {settings.spacing} timesteps, exact starters, {images} images"
    save_table(out, f"members_{steps}", f"Errors relative to O-BELM's: {what}.", header, rows)

    header = ["member", *[f"{what}, {schedule}" for schedule in settings.schedules for what in ("error", "kept in the solution")]]
    caption = "Inversion errors relative to O-BELM's, k = 3, and what of them no reading of the noise could remove."
    save_table(out, f"members_{steps}_kept", caption, header, kept(settings))

    figure, axes = plt.subplots(
        1, len(settings.schedules), figsize=(5.2 * len(settings.schedules), 5.2), squeeze=False, constrained_layout=True
    )
    groups = [("k=2", "s"), ("k=3", "o"), ("k=4", "^"), ("k=5", "D")]
    for axis, schedule, column in zip(axes[0], settings.schedules, range(len(settings.schedules))):
        axis.fill_between([1e-9, SAMPLING_GOAL], 1e-9, INVERSION_GOAL, color=style.COLOURS[2], alpha=0.15, lw=0)
        for n, (group, marker) in enumerate(groups):
            colour = style.COLOURS[n]
            for kind, face, edge in (("", colour, colour), ("modulus", "none", colour), ("slopes", colour, "black")):
                chosen = [m for m in methods if m.startswith(group) and kind_of(m) == kind]
                points = np.array([ratios[m][column] for m in chosen]).reshape(-1, 2)
                look = {"s": 18, "lw": 0.9, "marker": marker, "edgecolors": edge, "facecolors": face}
                if len(points):
                    axis.scatter(points[:, 0], points[:, 1], label=f"{group}, {KINDS[kind]}", **look)
        for name in (m for m in methods if m in DEFAULTS):
            axis.annotate(name, ratios[name][column], fontsize=7, xytext=(4, 4), textcoords="offset points")
            axis.plot(*ratios[name][column], "k.", ms=4)
        axis.plot(1.0, 1.0, "k*", ms=9)
        axis.annotate("O-BELM", (1.0, 1.0), fontsize=7, xytext=(5, 3), textcoords="offset points")
        axis.set(xscale="log", yscale="log", xlim=(0.6, 30.0), ylim=(0.03, 10.0), title=f"{schedule}, N = {steps}")
        axis.set(xlabel="sampling error / O-BELM's", ylabel="inversion error / O-BELM's")
        axis.grid(alpha=0.3, which="both")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    goal = "at most an eighth of O-BELM's inversion error at 1.1 of its sampling error"
    caption = f"Members of the root-placed family, {what}. Green: {goal}."
    save_figure(out, f"members_{steps}", caption, figure)


def command(arguments: Sequence[str] | None = None) -> None:
    """The scan on its own: a quarter of an hour for 20 steps and one seed on one core."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.members", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--labels", type=int, nargs="+", default=tuple(range(10)), help="the digits asked for, an image each")
    parser.add_argument("--seeds", type=int, nargs="+", default=(101,))
    parser.add_argument("--spacing", choices=("leading", "trailing", "linspace", "log_snr"), default="leading")
    parser.add_argument("--methods", nargs="+", default=(*members(), *DEFAULTS), help="such as 'k=3: 7/8; 1'; default: all")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    chosen = Settings((args.steps,), ("exact",), tuple(SCHEDULES), tuple(args.labels), tuple(args.seeds), args.spacing)
    main(args.out, chosen, tuple(args.methods))


if __name__ == "__main__":
    command()
