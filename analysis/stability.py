"""Which samplers can be run backwards, and what does it cost?

The tables and figures show K, the largest amplification of a perturbation, for every method along sampling and along inversion
as the grid is refined; where the spurious roots are when steps shrink; the linear stability regions; and how the volume law
shares growth between the two directions. The first table is the comparison table of the BELM literature with no cell left open.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import vsvf
from analysis import progress, style
from analysis.common import Mark, generator, save_answer, save_figure, save_number, save_table
from vsvf import formulas, predictors
from vsvf.convergence.order import order
from vsvf.formula import Formula
from vsvf.formulas.root_placed import roots_at
from vsvf.grid import Grid
from vsvf.stability.bound import amplification_bound
from vsvf.stability.grids import families
from vsvf.stability.growth import homogeneous_rows
from vsvf.stability.regions import (
    boundary_locus,
    geometric_threshold,
    imaginary_interval,
    real_interval,
    root_growth,
    spurious_roots,
    stability_modulus,
    weak_instability,
)
from vsvf.stability.report import Growth, Refinement, StabilityReport, refine, stability
from vsvf.stability.roundoff import Roundoff, predicted_roundoff
from vsvf.stability.search import search

TABLE = (
    "ddim",
    "edict(0.93)",
    "edict(1)",
    "bdia(1)",
    "bdia(0.5)",
    "mccallum_foster(0.999)",
    "mccallum_foster(1)",
    "belm(2)",
    "belm(3)",
    "belm(4)",
    "stable_belm(2)",
    "stable_belm(3)",
    "stable_belm(4)",
    "stable_belm(5)",
    "stable_belm(6)",
)
CURVES = (
    "edict(0.93)",
    "bdia(1)",
    "bdia(0.5)",
    "mccallum_foster(0.999)",
    "belm(2)",
    "belm(3)",
    "stable_belm(3)",
    "stable_belm(4)",
    "stable_belm(5)",
)
REGIONS = (
    "ddim",
    "adams_bashforth(2)",
    "adams_bashforth(3)",
    "edict(0.93)",
    "belm(2)",
    "stable_belm(3)",
    "stable_belm(4)",
    "stable_belm(5)",
)
VOLUMES = (
    "belm(2)",
    "belm(3)",
    "bdia(1)",
    "edict(0.93)",
    "mccallum_foster(0.999)",
    "stable_belm(2)",
    "stable_belm(3)",
    "stable_belm(4)",
    "stable_belm(5)",
)
STEPS = (20, 50, 100, 200, 400, 800)
ROUNDING = ("bdia(1)", "edict(0.93)", "mccallum_foster(0.999)", "belm(2)", "stable_belm(3)", "stable_belm(4)")
ROUNDING_STEPS = (20,)
ORDER_STEPS = (32, 64, 128, 256)
TITLES = ("K refined | sampling", "K refined | inversion")
INVERSES = {
    "explicit": Mark("✓"),
    "implicit": Mark("✗", "the inverse has to be iterated"),
    "none": Mark("✗", "the relations have no inverse"),
}
DECIDED = {  # which file decides a column of table 1
    "exact inversion": "the rows of the plan (a_k = 0, or a slope of the oldest state); measured: roundtrip_errors",
    "local error": "local_order in analysis/stability.py",
    "zero-stable": "root condition; K refined: stability_k, stability_k_curves",
    "convergent": "zero-stable and consistent; slopes measured by vsvf.order in this table, and order_*",
}


def main(out: Path) -> None:
    """Write stability_*.csv and stability_*.svg into `out`."""
    growth = {
        name: {family: refine(formulas.by_name(name), make, STEPS) for family, make in families().items()}
        for name in progress.steps(TABLE, "K on refined grids")
    }
    table_one(out, growth)
    k_against_steps(out, growth)
    for part in progress.steps((root_loci, regions, volume, bound, members, rounding), "parts"):
        part(out)


def local_order(formula: Formula, smooth: bool) -> int:
    """Exponent of the local error's leading power of h, measured on eps_bar = x_bar from exact states.

    Args:
        smooth: windows of the smooth grid g(u) = u + u^2/5, step ratios tending to 1; otherwise windows of fixed ratios.
    """
    errors, sizes = [], (0.1, 0.05, 0.025)
    count = formula.steps
    ratios = 1.0 + 0.4 * np.sin(1.0 + 2.0 * np.arange(count))
    for h in sizes:
        u = 1.0 + h * np.arange(count + 1)
        nodes = u + 0.2 * u**2 if smooth else 1.0 + h * np.concatenate([[0.0], np.cumsum(ratios)])
        plan = formula.plan(Grid.from_sigma_bar(nodes))
        rows = homogeneous_rows(plan, np.ones_like(plan.node))
        z = list(np.exp(plan.position[: plan.steps]))
        for m in range(plan.rows_per_step):
            z.append(float(rows[m] @ np.array(z[: -plan.steps - 1 : -1])))
        end = plan.rows_per_step + plan.last
        errors.append(abs(z[end] - np.exp(plan.position[end])))
    return round(float(np.log2(errors[-2] / errors[-1])))


def table_one(out: Path, growth: dict[str, dict[str, Refinement]]) -> None:
    """Exact inversion, local error, zero-stability and convergence both ways, on the DDPM schedule."""
    rows, details = [], []
    for name in progress.steps(TABLE, "table 1"):
        formula = formulas.by_name(name)
        report = stability(formula, families()["DDPM"](100))
        found = growth[name]["DDPM"]
        convergent = convergence(formula, report)
        rows.append(
            [
                name,
                INVERSES[report.inversion],
                f"h^{local_order(formula, smooth=False)}",
                f"h^{local_order(formula, smooth=True)}",
                Mark("✓" if report.zero_stable_sampling else "✗"),
                Mark("✓" if report.zero_stable_inversion else "✗"),
                *convergent,
                _number(report.log10_k_sampling),
                _number(report.log10_k_inversion),
                _refined(found.sampling),
                _refined(found.inversion),
                max((f"{abs(root):.4g}" for root in report.spurious_roots), key=float, default="-"),
            ]
        )
        roots = " ".join(f"{abs(root):.4g}" for root in report.spurious_roots)
        details.append([name, roots, report.sentence, found.sampling.sentence, found.inversion.sentence])
    header = ["method", "exact inversion", "local error | any grid", "local error | smooth"]
    for what in ("zero-stable", "convergent", "K (N = 100)", "K refined"):
        header += [f"{what} | sampling", f"{what} | inversion"]
    caption = "Table 1 completed: exact inversion, local error, zero-stability and convergence both ways (DDPM schedule)."
    save_table(out, "stability_table1", caption, [*header, "largest spurious root"], rows)
    caption = "The same methods in words, with the moduli of their spurious roots on this grid."
    save_table(out, "stability_words", caption, ["method", "moduli of spurious roots", "in words", *TITLES], details)
    reports = {name: stability(formulas.by_name(name), families()["DDPM"](100)) for name in ("belm(2)", "stable_belm(3)")}
    worst, stable = (10.0**report.log10_k_inversion for report in reports.values())
    both = sum(row[4].symbol == row[5].symbol == "✓" and row[1].symbol == "✓" for row in rows)
    save_answer(
        out, "stability",
        f"{both} of these {len(rows)} methods invert exactly and are zero-stable in both directions. Stable is not harmless: with "
        f"100 DDPM steps O-BELM's inverse amplifies a perturbation by up to {worst:.1e}, stable_belm(3)'s by {stable:.0f}.",
    )  # fmt: skip
    meaning = (
        f"times less than O-BELM's is the amplification of a perturbation by stable_belm(3)'s inverse (K = {stable:.0f} against "
        f"{worst:.1e}, 100 DDPM steps)."
    )
    save_number(out, "stability_gain", f"{worst / stable:.0f}", meaning, "stability_table1")
    caption = "What decides each column of the completed Table 1."
    save_table(out, "stability_table1_sources", caption, ["columns", "decided by"], list(DECIDED.items()))


def _refined(growth: Growth) -> Mark:
    """How K goes on as the grid is refined."""
    if growth.kind == "none":
        return Mark("–", "no exact inverse")
    if growth.kind == "bounded":
        return Mark(f"≤ {10.0 ** growth.log10_k.max():.2g}")
    if growth.kind == "power":
        return Mark(f"N^{growth.exponent:.2f}", "K grows like this power of the number of steps")
    return Mark(f"{growth.base:.3g}^N", "K grows exponentially with the number of steps")


def convergence(formula: Formula, report: StabilityReport) -> list[Mark]:
    """Convergent along sampling, along inversion: the theory's answer, and the slope of the errors that `order` measures.

    Consistent and zero-stable is convergent, and the other way round. An implicit inverse (DDIM) solves the relations of
    sampling, so that its errors are those of sampling, met from the other end.
    """
    measured = order(formula, ORDER_STEPS)
    answers = []
    for stable, slope in (
        (report.zero_stable_sampling, measured.sampling),
        (report.zero_stable_inversion, measured.inversion),
    ):
        if slope is None:
            note = "the inverse is implicit and has the errors of sampling"
        else:
            note = "measured: the errors grow as the grid is refined" if np.isnan(slope) else ""
        measured_slope = "" if slope is None or np.isnan(slope) else f" {slope:.2f}"
        answers.append(Mark(f"{'✓' if stable else '✗'}{measured_slope}", note))
    return answers


def _number(log10: float) -> str:
    return f"{10.0**log10:.3g}" if log10 < 300.0 else f"1e{log10:.0f}"


def _complex(z: complex) -> str:
    """Four digits of a complex number, without a part that is rounding."""
    z = complex(z)
    real, imaginary = (0.0 if abs(part) < 1e-12 else part for part in (z.real, z.imag))
    return f"{real:.4g}" if imaginary == 0.0 else f"{real:.4g}{imaginary:+.4g}i"


def k_against_steps(out: Path, growth: dict[str, dict[str, Refinement]]) -> None:
    rows = []
    for name, by_family in growth.items():
        for family, found in by_family.items():
            for n, forward, backward in zip(STEPS, found.sampling.log10_k, found.inversion.log10_k):
                rows.append([name, family, n, f"{forward:.4f}", f"{backward:.4f}"])
    header = ["method", "grid", "N", "log10 K sampling", "log10 K inversion"]
    save_table(out, "stability_k", "K, the largest amplification of a perturbation, against the number of steps.", header, rows)

    figure, axes = plt.subplots(2, 2, figsize=(8.4, 7.4), sharex=True, sharey=True, constrained_layout=True)
    for row, family in zip(axes, ("Stable Diffusion", "DDPM")):
        for axis, direction in zip(row, ("sampling", "inversion")):
            for n, name in enumerate(CURVES):
                found: Growth = getattr(growth[name][family], direction)
                axis.plot(found.steps, np.minimum(found.log10_k, 20.0), label=name, **style.line(n))
            axis.set(ylim=(-0.5, 20.0), title=f"{family}, {direction}")
            style.steps_axis(axis, STEPS)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("log10 K")
    for axis in axes[0]:
        axis.set_xlabel("")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, handlelength=3.2)
    save_figure(out, "stability_k_curves", "K against the number of steps (cut at 1e20).", figure)


def root_loci(out: Path) -> None:
    """Moduli of the spurious roots on geometric grids h_{i-1} = r h_i."""
    names = ("belm(2)", "belm(3)", "belm(4)", "belm(5)", "stable_belm(3)", "stable_belm(4)", "bdf(3)")
    ratios = np.linspace(0.2, 1.6, 141)
    figure, axis = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for n, name in enumerate(names):
        moduli = np.array([np.abs(spurious_roots(formulas.by_name(name), r)) for r in ratios])
        look = {key: value for key, value in style.line(n).items() if key in ("color", "linestyle", "linewidth")}
        axis.plot(ratios, moduli, **look)
        axis.plot([], [], label=name, **look)
    for k in (3, 4, 5):
        axis.axvline(geometric_threshold(formulas.belm(k)), color=style.COLOURS[k - 2], ls=":", lw=1)
    axis.axhline(1.0, color="k", lw=0.8)
    axis.set(yscale="log", ylim=(1e-2, 1e2), xlabel="step ratio r = h[i-1] / h[i]", ylabel="modulus of the spurious roots")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.6)
    axis.grid(alpha=0.3)
    caption = "Spurious roots on geometric grids; dotted: where the LTE-minimising BELM with k = 3, 4, 5 becomes zero-stable."
    save_figure(out, "stability_roots", caption, figure)
    thresholds = [[f"belm({k})", f"{geometric_threshold(formulas.belm(k)):.5f}"] for k in (3, 4, 5)]
    caption = "Largest zero-stable step ratio on geometric grids."
    save_table(out, "stability_thresholds", caption, ["method", "ratio"], thresholds)


def regions(out: Path) -> None:
    """Linear stability regions |roots| <= 1 (shaded where they have an interior), the boundary locus, and the intervals."""
    x, y = np.meshgrid(np.linspace(-2.2, 0.8, 121), np.linspace(-1.5, 1.5, 121))
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.5), sharex=True, sharey=True, constrained_layout=True)
    for axis, name in zip(axes.ravel(), REGIONS):
        formula = formulas.by_name(name)
        axis.contourf(x, y, stability_modulus(formula, x + 1j * y), levels=[0.0, 1.0], colors=["#9ecae1"])
        if not name.startswith("edict"):
            locus = boundary_locus(formula, 800)
            axis.plot(locus.real, locus.imag, "k.", ms=1)
        axis.set(title=name, xlim=(-2.2, 0.8), ylim=(-1.5, 1.5))
        axis.axhline(0.0, lw=0.4, color="k")
        axis.axvline(0.0, lw=0.4, color="k")
    figure.supxlabel("Re h lambda")
    figure.supylabel("Im h lambda")
    caption = "Linear stability regions shaded, dots: boundary locus. With roots on the circle there is no interior."
    save_figure(out, "stability_regions", caption, figure)
    rows = []
    for name in (*REGIONS, "adams_bashforth(4)", "bdia(1)", "stable_belm(6)", "mccallum_foster(0.999)"):
        formula = formulas.by_name(name)
        roots, mu = root_growth(formula)
        listed = "; ".join(f"{_complex(root)}: {_complex(m)}" for root, m in zip(roots[1:], mu[1:]) if abs(root) > 0.0)
        intervals = (real_interval(formula), imaginary_interval(formula), weak_instability(formula))
        rows.append([name, *(f"{v:.5g}" for v in intervals), listed])
    header = ["method", "interval | real", "interval | imaginary", "worst -Re mu on the circle", "root: mu"]
    save_table(out, "stability_intervals", "Stability intervals of y' = lambda y and the motion mu of the roots.", header, rows)


def volume(out: Path) -> None:
    """Growth of each spurious mode along sampling; their sum is log10 prod |a_K|, the negative is inversion's."""
    rows = []
    figure, axis = plt.subplots(figsize=(9, 4.5), constrained_layout=True)
    for n, name in enumerate(VOLUMES):
        report = stability(formulas.by_name(name), families()["DDPM"](100))
        modes = np.clip(report.log10_mode_growth, -20.0, 20.0)
        place = n + (np.arange(len(modes)) - (len(modes) - 1) / 2.0) * 0.15
        axis.bar(place, modes, width=0.13, color="C0")
        axis.plot([n - 0.4, n + 0.4], [report.log10_volume] * 2, "k-", lw=2)
        listed = " ".join(f"{v:.4f}" for v in report.log10_mode_growth)
        rows.append([name, listed, f"{report.log10_mode_growth.sum():.6f}", f"{report.log10_volume:.6f}"])
    axis.axhline(0.0, color="k", lw=0.8)
    axis.set_xticks(range(len(VOLUMES)), VOLUMES, rotation=25, ha="right", fontsize=8)
    axis.set(ylabel="log10 growth along sampling", ylim=(-21, 21))
    caption = "The volume law: growth of the modes along sampling (bars, cut at 1e±20), prod |a_K| (lines); DDPM, N = 100."
    save_figure(out, "stability_volume", caption, figure)
    header = ["method", "log10 growth of the spurious modes", "their sum", "log10 prod |a_K|"]
    caption = "Growth of the spurious modes along sampling and the volume, DDPM, N = 100."
    save_table(out, "stability_volumes", caption, header, rows)


def bound(out: Path) -> None:
    """The two-sided bound against measured K."""
    rows = []
    for angles, exponent in (((1.0,), 2.0), ((3 / 4,), 1.0), ((1 / 3, 1.0), 1.0), ((1 / 3, 5 / 6), 0.75)):
        formula = formulas.root_placed_belm(roots_at(angles), exponent)
        for family, make in families().items():
            for n in (50, 500):
                grid = make(n)
                report = stability(formula, grid)
                upper = amplification_bound(roots_at(angles), exponent, grid)
                values = (report.k_sampling, upper[0], report.k_inversion, upper[1])
                rows.append([" ".join(f"{a:.4g}" for a in angles), exponent, family, n, *(f"{v:.4g}" for v in values)])
    header = ["angles / pi", "exponent", "grid", "N", "sampling | K", "sampling | bound", "inversion | K", "inversion | bound"]
    save_table(out, "stability_bound", "The two-sided bound (Abel summation) and measured K.", header, rows)


def members(out: Path) -> None:
    """The three best members that the search finds for every k."""
    rows = []
    for k in range(2, 7):
        for member in search(k)[:3]:
            s = member.score
            values = (s.objective, s.sampling, s.inversion, s.k_sampling, s.k_inversion, s.reaction)
            angles = " ".join(f"{a:.4g}" for a in member.angles)
            rows.append([k, angles, member.exponent, *(f"{v:.4g}" for v in values)])
    header = ["k", "angles / pi", "exponent", "objective", "error | sampling", "error | inversion"]
    header += ["K | sampling", "K | inversion", "reaction"]
    caption = "The best root-placed formulas of the search, worst values over the grids, errors relative to O-BELM's."
    save_table(out, "stability_members", caption, header, rows)


def measured_roundoff(method: str, grid: vsvf.Grid, dtype: str, images: int = 2) -> Roundoff:
    """What `predicted_roundoff` predicts, measured on the digits network (guidance 2), rms over all pixels.

    Sampling: against the same march in float64. Round trip: noise, sampled and inverted from the states that sampling returned.
    """
    predictor = predictors.digits(torch.arange(images) % 10, guidance=2.0)
    noise = torch.randn(images, 1, 28, 28, generator=generator(7)).to(getattr(torch, dtype))
    formula = formulas.by_name(method)

    def rms(x: torch.Tensor) -> float:
        return float(x.double().pow(2).mean().sqrt())

    sampled = vsvf.sample(predictor, noise, grid, formula, warn=False)
    exact = vsvf.sample(predictor, noise.double(), grid, formula, warn=False)
    returned = vsvf.invert(predictor, sampled, grid, formula, warn=False)
    return Roundoff(dtype, rms(sampled.x.double() - exact.x), float("nan"), rms(returned.x.double() - noise.double()))


def rounding(out: Path) -> None:
    """Predicted rounding errors beside measured ones, on the digits network."""
    rows = []
    for steps in ROUNDING_STEPS:
        grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), steps, "leading", "smallest")
        for method in ROUNDING:
            for dtype in ("float32", "float16"):
                predicted = predicted_roundoff(formulas.by_name(method), grid, dtype)
                measured = measured_roundoff(method, grid, dtype, images=1)
                row: list[object] = [method, steps, dtype]
                for direction in ("sampling", "round_trip"):
                    expected, found = getattr(predicted, direction), getattr(measured, direction)
                    row += [expected, found, found / expected]
                rows.append(row)
    header = ["method", "N", "arithmetic"]
    for direction in ("sampling", "round trip"):
        header += [f"{direction} | {column}" for column in ("predicted", "measured", "ratio")]
    caption = "Rounding errors, predicted from the plan and measured on the digits network (guidance 2, DDPM, rms per pixel)."
    save_table(out, "stability_roundoff", caption, header, rows)
