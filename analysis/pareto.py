"""What does a method lose on the way down, sampling, and what on the way up, inverting?

Every march is compared with the exact trajectory that it should follow, a fine integration by the classical Runge-Kutta method
from noise down through all nodes. Sampling starts on that trajectory at the noise end, inversion at the data end; "exact" starters
take the other k-1 states from the trajectory too, "ddim", "heun" and "rk4" make them. The sampling error is the rms difference
of x at the smallest sigma_bar, per pixel of images in [-1, 1]; the inversion error is that of x_bar_N, divided by sigma_bar_N.
Predictors: the exact denoiser of the shipped test images (each blurred by 0.05), and the digits network with guidance 2. Leading
timesteps end at the schedule's smallest sigma_bar. DDIM is inverted by integrating upwards, equation (8); EDICT, McCallum-Foster
and DDIM need no starter. `python -m analysis.pareto --help` shows how to run more images, steps, starters and schedules.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import vsvf
from analysis import progress, style
from analysis.common import Mark, generator, save_answer, save_figure, save_number, save_table, test_images
from analysis.coupling import coupled, uncoupled
from vsvf import formulas, predictors
from vsvf.convergence.order import exact_state
from vsvf.convergence.problems import Problem
from vsvf.formula import Formula
from vsvf.formulas.root_placed import roots_at
from vsvf.predictors import Predictor

Array = np.ndarray

METHODS = ("ddim", "edict(0.93)", "bdia(1)", "mccallum_foster(0.999)", "belm(2)")
FAMILY = ("stable_belm(2)", "stable_belm(3)", "stable_belm(4)", "stable_belm(5)")
RUNGE_KUTTA = {"ees25": 3, "rex(heun)": 4, "rex(rk4)": 8}  # that are no formulas, and the evaluations of a step
# members beside the defaults that the longer run looks at; the first is meant for coarse grids
OTHERS = ("k=3: 17/20; 1.65; modes 1.4; slopes 3", "k=3: 11/12; 1.1", "k=5: 1/3, 5/6; 0.85")
STARTERS = ("exact", "ddim", "heun", "rk4")
SCHEDULES = {"DDPM": vsvf.Schedule.linear, "Stable Diffusion": vsvf.Schedule.scaled_linear}
REFERENCE_RATIO = 1.12  # largest ratio of neighbouring sigma_bar in the reference integration
BASE, INVERSION_GOAL, SAMPLING_GOAL = "belm(2)", 1.0 / 8.0, 1.1


@dataclass(frozen=True)
class Settings:
    """What is run: numbers of steps, starters, schedules, the digits asked for, one seed per batch of them."""

    steps: tuple[int, ...]
    starters: tuple[str, ...]
    schedules: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...] = (301,)
    spacing: str = "leading"


IDEAL = Settings((10, 20, 50, 100), STARTERS, ("DDPM", "Stable Diffusion"), (3, 8), (301,))
NETWORK = Settings((20, 50), ("exact", "ddim", "rk4"), ("DDPM",), (3, 8), (301,))
FULL = Settings((10, 20, 50, 100), STARTERS, ("DDPM", "Stable Diffusion"), tuple(range(10)), (301, 302, 303))


@dataclass(frozen=True)
class Errors:
    """Mean square errors of every image in both directions, (images,) each; inf where a march overflowed."""

    sampling: Array
    inversion: Array

    @property
    def rms(self) -> tuple[float, float]:
        return float(np.sqrt(self.sampling.mean())), float(np.sqrt(self.inversion.mean()))

    @property
    def median(self) -> tuple[float, float]:
        return float(np.sqrt(np.median(self.sampling))), float(np.sqrt(np.median(self.inversion)))


Key = tuple[str, int, str, str]  # schedule, N, starter, method


def formula_of(method: str) -> Formula:
    """A formula by its name, or a member of the root-placed family: "k=5: 1/3, 5/6; 0.85" has its roots at these angles (in units
    of pi) and this exponent; "; modulus 0.9", "; modes 1.4" and "; slopes 3" behind it are the modulus of the roots, mode_rho and
    slope_rho."""
    if not method.startswith("k="):
        return formulas.by_name(method)
    k, member = method.removeprefix("k=").split(":")
    angles, exponent, *rest = (part.strip() for part in member.split(";"))
    given = dict(part.split() for part in rest)
    if unknown := sorted(set(given) - {"modulus", "modes", "slopes"}):
        raise ValueError(f"{method!r}: {unknown[0]!r} is not known; behind the exponent stand modulus, modes or slopes")
    roots = roots_at([float(Fraction(angle)) for angle in angles.split(",")], float(given.get("modulus", 1)))
    if len(roots) != int(k) - 1:
        raise ValueError(f"{method!r}: k = {k} needs {k} - 1 roots, these are {len(roots)} (an angle stands for a pair, 1 for -1)")
    return formulas.root_placed_belm(roots, float(exponent), float(given.get("modes", 1)), int(given.get("slopes", 1)))


def make_grid(schedule: str, steps: int, spacing: str = "leading") -> vsvf.Grid:
    """N steps that end at the schedule's smallest sigma_bar."""
    return vsvf.Grid.from_schedule(SCHEDULES[schedule](), steps, spacing, "smallest")


def trajectory(
    predictor: Predictor, noise: torch.Tensor, nodes: Array, ratio: float = REFERENCE_RATIO
) -> dict[float, torch.Tensor]:
    """x at every node, by RK4 downwards from noise at the largest, sigma_bar falling by at most `ratio` per step."""
    levels = np.unique(nodes)[::-1]
    x = noise.double()
    path = {float(levels[0]): x}
    for high, low in pairwise(levels):
        count = int(np.ceil(np.log(high / low) / np.log(ratio)))
        between = np.geomspace(high, low, count + 1)
        between[[0, -1]] = high, low
        x = vsvf.integrate(predictor, x, between, "rk4")[0]
        path[float(low)] = x
    return path


def walked(predictor: Predictor, x: torch.Tensor, nodes: Array, method: str) -> torch.Tensor:
    """x at the last of the nodes, by DDIM's step or one of `RUNGE_KUTTA`, downwards or, as its inverse is, upwards.

    "rex(heun)" is Heun's method coupled with itself (`analysis.coupling`), both states alike at first; "ees25" goes back by its own
    step, as it is meant to.
    """
    if not method.startswith("rex("):
        return vsvf.integrate(predictor, x, nodes, method)[0]
    scales = predictor.alpha(nodes[[0, -1]])
    way = coupled if nodes[-1] < nodes[0] else uncoupled
    line = nodes if nodes[-1] < nodes[0] else nodes[::-1]
    pair = (x / float(scales[0]),) * 2
    return float(scales[1]) * way(predictor, pair, line.tolist(), method[4:-1])[0]


def march_errors(
    predictor: Predictor,
    path: dict[float, torch.Tensor],
    grid: vsvf.Grid,
    method: str,
    starter: str = "exact",
    directions: Sequence[str] = ("sampling", "inversion"),
    warn: bool = False,
) -> Errors:
    """Errors of one method in these directions (nan in another), from states of the trajectory; `warn` as in `vsvf.sample`."""
    exact = Problem("trajectory", "", predictor, lambda s: path[s])  # type: ignore[arg-type]
    noise, image = path[float(grid.sigma_bar[-1])], path[float(grid.sigma_bar[0])]
    options = {"starter": "ddim" if starter == "exact" else starter, "warn": False}

    def sampled() -> torch.Tensor:
        if method in RUNGE_KUTTA:
            return walked(predictor, noise, grid.sigma_bar[::-1], method) - image
        formula = formula_of(method)
        start = exact_state(formula, grid, exact, "noise") if starter == "exact" else noise
        return vsvf.sample(predictor, start, grid, formula, **{**options, "warn": warn}).x - image

    def inverted() -> torch.Tensor:
        if method == "ddim" or method in RUNGE_KUTTA:
            found = walked(predictor, image, grid.sigma_bar, method)
        else:
            formula = formula_of(method)
            start = exact_state(formula, grid, exact, "data") if starter == "exact" else image
            found = vsvf.invert(predictor, start, grid, formula, **options).x
        return (found - noise) / float(predictor.alpha(grid.sigma_bar[-1]) * grid.sigma_bar[-1])

    found = []
    for direction, run in (("sampling", sampled), ("inversion", inverted)):
        if direction not in directions:
            found.append(np.full(len(image), np.nan))
            continue
        try:
            found.append((run() ** 2).flatten(1).mean(dim=1).numpy())
        except vsvf.NonFiniteError:
            found.append(np.full(len(image), np.inf))
    return Errors(*found)


def needs_starter(method: str) -> bool:
    """Whether the method has several starting states at different nodes."""
    plan = formula_of(method).plan(make_grid("DDPM", 20))
    return bool(np.ptp(plan.position[: plan.steps]) > 0.0)


Paths = dict[tuple[str, int], dict[float, torch.Tensor]]  # by schedule and seed


def study(name: str, settings: Settings, methods: Sequence[str], paths: Paths | None = None) -> dict[Key, Errors]:
    """All errors on the "ideal denoiser" or the "digits network"; the exact trajectories are left in `paths`."""
    paths = {} if paths is None else paths
    jobs = [
        (schedule, steps, starter, method)
        for schedule in settings.schedules
        for steps in settings.steps
        for starter in settings.starters
        for method in methods
        if starter == "exact" or needs_starter(method)
    ]
    parts: dict[Key, list[Errors]] = {job: [] for job in jobs}
    for seed in settings.seeds:
        labels = torch.tensor(settings.labels)
        predictor = predictors.digits(labels, guidance=2.0) if name == "digits network" else ideal()
        noise = torch.randn(len(labels), 1, 28, 28, generator=generator(seed), dtype=torch.float64)
        for schedule in settings.schedules:
            grids = {steps: make_grid(schedule, steps, settings.spacing) for steps in settings.steps}
            path = trajectory(predictor, noise, np.concatenate([grid.sigma_bar for grid in grids.values()]))
            paths[schedule, seed] = path
            for job in progress.steps([job for job in jobs if job[0] == schedule], f"{name}, {schedule}, seed {seed}"):
                parts[job].append(march_errors(predictor, path, grids[job[1]], job[3], job[2]))
    return {
        job: Errors(np.concatenate([e.sampling for e in found]), np.concatenate([e.inversion for e in found]))
        for job, found in parts.items()
    }


def ideal() -> Predictor:
    """The exact denoiser of the shipped test images."""
    return predictors.ideal_denoiser(test_images()[0].double(), std=0.05, schedule=vsvf.Schedule.linear())


def main(out: Path, network: Settings = NETWORK, denoiser: Settings = IDEAL, methods: Sequence[str] = (*METHODS, *FAMILY)) -> None:
    """Write pareto_*.csv and pareto_*.svg into `out`."""
    paths: Paths = {}
    results = {
        "ideal denoiser": study("ideal denoiser", denoiser, methods),
        "digits network": study("digits network", network, methods, paths),
    }
    rows = []
    for name, found in results.items():
        for (schedule, steps, starter, method), errors in found.items():
            starter = starter if needs_starter(method) else "none"
            rows.append([name, schedule, steps, starter, method, *errors.rms, *errors.median])
    header = ["predictor", "schedule", "N", "starter", "method", "error | sampling", "error | inversion"]
    header += ["median image | sampling", "median image | inversion"]
    settings = f"network: {len(network.labels) * len(network.seeds)} images; {network.spacing} timesteps"
    save_table(out, "pareto_errors", f"Errors against the exact trajectory, rms over the images ({settings}).", header, rows)
    target_table(out, results["digits network"])
    late_starts(out, network, paths)
    front(out, results)
    starters_figure(out, results["digits network"])
    conclude(out, results["digits network"])


def conclude(out: Path, found: dict[Key, Errors]) -> None:
    """The finest grid of the network study in words: the default member with the least inversion error at a sampling error within
    the goal."""
    schedule, steps = next(iter(found))[0], max(key[1] for key in found)
    base = found[schedule, steps, "exact", BASE].rms
    ratios = {
        method: tuple(own / other for own, other in zip(found[schedule, steps, "exact", method].rms, base))
        for method in FAMILY
        if (schedule, steps, "exact", method) in found
    }
    method, (sampling, inversion) = min(
        ratios.items(), key=lambda item: (item[1][0] > SAMPLING_GOAL, item[1][1] if item[1][0] <= SAMPLING_GOAL else item[1][0])
    )
    where = f"on the digits network ({schedule}, {steps} steps, exact starters)"
    save_answer(
        out, "pareto",
        f"Inversion is where methods differ: {where}, {method} inverts with 1/{1 / inversion:.0f} of O-BELM's error at "
        f"{sampling:.2f} of its sampling error. From an image alone, the starter decides more than the method.",
    )  # fmt: skip
    meaning = f"of O-BELM's inversion error is what {method} makes {where}, at {sampling:.2f} of its sampling error."
    save_number(out, "pareto_inversion", f"1/{1 / inversion:.0f}", meaning, "pareto_target")


def target_table(out: Path, found: dict[Key, Errors]) -> None:
    """The stable members' errors relative to O-BELM's, from exact starters, on the digits network."""
    rows = []
    for (schedule, steps, starter, method), errors in found.items():
        if starter != "exact" or method == BASE:
            continue
        base = found[schedule, steps, "exact", BASE]
        sampling, inversion = (own / other for own, other in zip(errors.rms, base.rms))
        middle = tuple(own / other for own, other in zip(errors.median, base.median))
        met = Mark("✓" if sampling <= SAMPLING_GOAL and inversion <= INVERSION_GOAL else "–")
        rows.append([schedule, steps, method, sampling, inversion, *middle, met])
    header = ["schedule", "N", "method", "rms | sampling", "rms | inversion", "median image | sampling", "median image | inversion"]
    header += ["inversion <= 1/8 at sampling <= 1.1"]
    caption = "Errors relative to O-BELM's on the digits network, guidance 2, exact starters."
    save_table(out, "pareto_target", caption, header, rows)


def late_starts(out: Path, settings: Settings, paths: Paths) -> None:
    """Inversion errors when the exact states are given not from node 0 on but from node 1 or 2: which steps make the error.

    What is left from node 1 on is the error of all steps but the lowest ones, which are the coarsest against sigma_bar.
    """
    labels = torch.tensor(settings.labels)
    predictor = predictors.digits(labels, guidance=2.0)
    rows = []
    for schedule in settings.schedules:
        for steps in (n for n in settings.steps if n in (20, 50)):
            grid, path = make_grid(schedule, steps, settings.spacing), paths[schedule, settings.seeds[0]]
            for method in (BASE, "stable_belm(3)", "stable_belm(5)"):
                errors = []
                for node in range(3):
                    rest = vsvf.Grid(grid.sigma_bar[node:], grid.alpha[node:])
                    errors.append(march_errors(predictor, path, rest, method, directions=("inversion",)).rms[1])
                rows.append([schedule, steps, method, *errors, *grid.sigma_bar[:3].tolist()])
    header = [
        "schedule",
        "N",
        "method",
        *(f"exact from node | {n}" for n in range(3)),
        *(f"sigma_bar at node | {n}" for n in range(3)),
    ]
    caption = "Inversion error on the digits network, with exact starting states from node 0, 1 or 2 on: the lowest steps make it."
    save_table(out, "pareto_late_starts", caption, header, rows)


def front(out: Path, results: dict[str, dict[Key, Errors]]) -> None:
    """One panel per predictor and schedule: each method's path through the numbers of steps, from exact starters."""
    panels = [(name, schedule) for name, found in results.items() for schedule in dict.fromkeys(key[0] for key in found)]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.6), constrained_layout=True, squeeze=False)
    for axis, (name, schedule) in zip(axes[0], panels):
        found = results[name]
        steps = sorted({key[1] for key in found})
        for n, method in enumerate(m for m in (*METHODS, *FAMILY) if any(key[3] == m for key in found)):
            points = np.array([found[schedule, count, "exact", method].rms for count in steps])
            shown = np.where(points < 10.0, points, np.nan)
            axis.loglog(shown[:, 0], shown[:, 1], label=method, **style.line(n))
            for count, (x, y) in zip(steps, shown):
                if method == BASE and np.isfinite(x * y):
                    axis.annotate(f"N={count}", (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axis.set(title=f"{name}, {schedule}", xlabel="sampling error", ylabel="inversion error")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, handlelength=3.2)
    caption = "Sampling error against inversion error, exact starters; each line runs through the numbers of steps."
    save_figure(out, "pareto_front", f"{caption} Errors above 10 are left out.", figure)


def starters_figure(out: Path, found: dict[Key, Errors]) -> None:
    """Inversion error by starter, for the methods that need one."""
    first = next(iter(found))[0]
    steps = sorted({key[1] for key in found})
    starters = [s for s in STARTERS if any(key[2] == s for key in found)]
    methods = [m for m in (*METHODS, *FAMILY) if needs_starter(m) and any(key[3] == m for key in found)]
    figure, axes = plt.subplots(1, len(steps), figsize=(4.6 * len(steps), 3.6), constrained_layout=True, squeeze=False, sharey=True)
    for axis, count in zip(axes[0], steps):
        for n, starter in enumerate(starters):
            values = [min(found[first, count, starter, method].rms[1], 10.0) for method in methods]
            axis.bar(np.arange(len(methods)) + 0.2 * n - 0.3, values, width=0.19, label=starter)
        axis.set_xticks(range(len(methods)), methods, rotation=30, ha="right", fontsize=7)
        axis.set(yscale="log", title=f"digits network, {first}, N = {count}")
        axis.grid(alpha=0.3, axis="y")
    axes[0, 0].set_ylabel("inversion error")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save_figure(out, "pareto_starters", "Inversion error by starter: the starter decides.", figure)


def command(arguments: Sequence[str] | None = None) -> None:
    """The study on its own, by default with all settings: hours for the network on one core."""
    parser = argparse.ArgumentParser(prog="python -m analysis.pareto", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--steps", type=int, nargs="+", default=FULL.steps)
    parser.add_argument("--starters", nargs="+", choices=STARTERS, default=FULL.starters)
    parser.add_argument("--schedules", nargs="+", choices=tuple(SCHEDULES), default=FULL.schedules)
    parser.add_argument("--labels", type=int, nargs="+", default=FULL.labels, help="the digits asked for, one image each per seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=FULL.seeds)
    parser.add_argument("--spacing", choices=("leading", "trailing", "linspace"), default=FULL.spacing)
    everything = (*METHODS, *FAMILY, *OTHERS)
    parser.add_argument("--methods", nargs="+", default=everything, help=f"from: {', '.join(everything)}; or others")
    args = parser.parse_args(arguments)
    if "exact" not in args.starters or BASE not in args.methods:
        parser.error(f"--starters must contain exact and --methods {BASE}: the other tables are relative to them")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    chosen = Settings(
        tuple(args.steps), tuple(args.starters), tuple(args.schedules), tuple(args.labels), tuple(args.seeds), args.spacing
    )
    main(args.out, chosen, chosen, tuple(args.methods))


if __name__ == "__main__":
    command()
