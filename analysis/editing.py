"""Editing: what an inverted latent is worth, where the offset comes from, and what removes the artefacts.

Rendered scenes whose edits have a known result (`vsvf.apps.edit.cases`), the embedded text-to-image model, leading timesteps with
an offset of 1. Five questions:

(a) how much of an inverted latent no solution explains, per method and starter; (b) Direct Inversion's offset, split into guidance
and discretisation; (c) success against the background, for method, sampler, guidance and strength, of small and of large edits;
(d) what removes artefacts; (e) how spurious perturbations grow along the source's and the target's path.

    python -m analysis.editing --out results --scenes 40
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis import progress, style
from analysis.common import generator, save_figure, save_table
from vsvf.apps.edit import Settings, edit
from vsvf.apps.edit.bench import Configuration, one_edit
from vsvf.apps.edit.cases import Case, scene_cases
from vsvf.apps.edit.loop import Conditions
from vsvf.apps.edit.offsets import offsets
from vsvf.apps.edit.scores import mean_and_error, scores
from vsvf.apps.models import Model
from vsvf.apps.scenes_model import scenes_model
from vsvf.engine.spurious import unexplained_share
from vsvf.scenes import load_glyphs
from vsvf.scenes.judge import Judge, load_judge

SCENES, STEPS, GUIDANCE = 8, 50, 3.0
SAMPLERS = ("ddim", "edict(0.93)", "bdia(1)", "belm(2)", "stable_belm(3)", "mccallum_foster(0.999)", "ees25")
LINEAR = ("belm(2)", "stable_belm(2)", "stable_belm(3)", "bdia(1)")
EDIT_METHODS = ("resample", "p2p", "direct", "negative_prompt", "masactrl")
BELM2 = Settings("resample", "belm(2)", guidance=GUIDANCE, starter="ddim")
REMEDIES: tuple[tuple[str, Settings], ...] = (
    ("O-BELM alone, DDIM starter", BELM2),
    ("O-BELM alone, Heun starter", replace(BELM2, starter="heun")),
    ("O-BELM alone, rk4:4 starter", replace(BELM2, starter="rk4:4")),
    ("O-BELM alone, x_N alone kept (the starter makes the target's states)", replace(BELM2, start="starter")),
    ("O-BELM, Direct Inversion", replace(BELM2, method="direct")),
    ("O-BELM, Direct Inversion, Heun starter", replace(BELM2, method="direct", starter="heun")),
    ("O-BELM, Direct Inversion, Heun starter, states shifted", replace(BELM2, method="direct", starter="heun", start="shifted")),
    ("O-BELM, Direct Inversion, local blend", replace(BELM2, method="direct", starter="heun", blend_words=("auto",))),
    ("stable_belm(3) alone, Heun starter", replace(BELM2, formula="stable_belm(3)", starter="heun")),
    ("stable_belm(3), Direct Inversion", replace(BELM2, method="direct", formula="stable_belm(3)", starter="heun")),
    (
        "stable_belm(3), Direct Inversion, local blend",
        replace(BELM2, method="direct", formula="stable_belm(3)", starter="heun", blend_words=("auto",)),
    ),
    ("EES(2,5), Direct Inversion, pinned", replace(BELM2, method="direct", formula="ees25")),
)


def grid_of(model: Model, steps: int) -> vsvf.Grid:
    """Leading timesteps with Stable Diffusion's offset, ending at the schedule's smallest sigma_bar."""
    return vsvf.Grid.from_schedule(model.schedule, steps, "leading", "smallest", steps_offset=1)


def encoded(model: Model, case: Case) -> torch.Tensor:
    """x_0 of a case's picture, float64."""
    return model.codec.encode(case.picture[None].double()).double()


def window_share(model: Model, prompt: str, guidance: float, latent: vsvf.State, plan: vsvf.Plan) -> float:
    """`unexplained_share` of a latent's k states."""
    predictor = model.predict([prompt], guidance)
    window = latent.record.window
    levels = plan.position[window : window + plan.steps]
    slopes = [predictor.epsilon(x, float(s)).double() for x, s in zip(latent.reals, levels)]
    bars = [x / float(predictor.alpha(s)) for x, s in zip(latent.reals, levels)]
    return float(unexplained_share(levels.tolist(), bars, slopes))


def latents(out: Path, model: Model, cases: Sequence[Case], steps: int) -> None:
    """(a): the inverted latent of real pictures, per formula and starter."""
    grid, rows = grid_of(model, steps), []
    jobs = [(name, starter) for name in LINEAR for starter in ("ddim", "heun", "rk4:4")]
    for name, starter in progress.steps(jobs, "latents"):
        plan = vsvf.formulas.by_name(name).plan(grid)
        shares, sizes, answers = [], [], []
        for case in cases:
            predictor = model.predict([case.source], 1.0)
            latent = vsvf.invert(predictor, encoded(model, case), grid, name, starter=starter, arithmetic="float64", warn=False)
            shares.append(window_share(model, case.source, 1.0, latent, plan))
            sizes.append(float(latent.x.std()))
            eps = predictor.epsilon(latent.x, float(grid.sigma_bar[-1])).double()
            answers.append(float(torch.corrcoef(torch.stack([eps.flatten(), latent.x.flatten()]))[0, 1]))
        cells = [f"{mean:.3g} ± {error:.1g}" for mean, error, _ in map(mean_and_error, (shares, sizes, answers))]
        rows.append([name, starter, *cells])
    save_table(
        out, "editing_latents",
        f"Latents of {len(cases)} scenes inverted in {steps} steps at guidance 1: the share of the window's movement that its "
        "slopes do not explain; the deviation of x_N (1 for noise); the correlation of the network's eps with x_N.",
        ["formula", "starter", "unexplained share", "deviation of x_N", "correlation"], rows,
    )  # fmt: skip


def path_of(model: Model, case: Case, grid: vsvf.Grid, name: str) -> list[torch.Tensor]:
    """s_N … s_0 of the inversion at guidance 1."""
    predictor, x = model.predict([case.source], 1.0), encoded(model, case)
    if name == "ddim":
        states = [x]
        for low, high in zip(grid.sigma_bar[:-1], grid.sigma_bar[1:]):
            states.append(vsvf.integrate(predictor, states[-1], [low, high], "ddim")[0])
        return states[::-1]
    latent = vsvf.invert(predictor, x, grid, name, starter="heun", warn=False)
    states = list(latent.values)
    vsvf.sample(predictor, latent, grid, name, callback=lambda step: states.append(step.x.clone()), warn=False)
    return states


def offset_split(out: Path, model: Model, cases: Sequence[Case], steps: int) -> None:
    """(b): the offset's parts along the path."""
    grid, rows = grid_of(model, steps), []
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, sharey=True, constrained_layout=True)
    for name in progress.steps(("ddim", "belm(2)", "stable_belm(3)"), "offsets"):
        found = [
            offsets(Conditions(model, [case.source], [case.target]), path_of(model, case, grid, name), grid, name, GUIDANCE)
            for case in cases
        ]
        for part, axis in zip(("guidance", "discretisation"), axes):
            curve = sum(getattr(one, part) for one in found) / len(found)
            axis.loglog(found[0].sigma_bar, curve.clip(1e-12), label=name, **style.line(len(rows)))
            axis.set(title=part, xlabel="σ̄")
        sums = [[float((getattr(one, p) ** 2).sum() ** 0.5) for one in found] for p in ("guidance", "discretisation", "total")]
        rows.append([name, *(f"{mean_and_error(values)[0]:.3g}" for values in sums)])
    axes[0].set_ylabel("rms of the offset")
    axes[0].legend()
    save_figure(
        out, "editing_offsets_curves", f"Parts of Direct Inversion's offset at guidance {GUIDANCE:g} along the way.", figure
    )
    save_table(
        out, "editing_offsets",
        f"Direct Inversion's offset at guidance {GUIDANCE:g} over a path found at 1, root of the sum of squares, {steps} steps.",
        ["formula", "guidance", "discretisation", "total"], rows,
    )  # fmt: skip


def front(out: Path, model: Model, cases: Sequence[Case], steps: int, judge: Judge, everything: bool) -> None:
    """(c): success against the background."""
    grid, base = grid_of(model, steps), Settings()
    chosen = [Configuration(method, name, GUIDANCE, 1.0) for method in EDIT_METHODS for name in SAMPLERS]
    chosen += [Configuration("null_text", "ddim", GUIDANCE, 1.0)] if everything else []
    if everything:
        chosen += [Configuration("direct", name, w, s) for name in SAMPLERS for w, s in ((1.5, 1.0), (7.5, 1.0), (GUIDANCE, 0.8))]
    rows: list[dict[str, Any]] = []
    for configuration in progress.steps(chosen, "front"):
        rows += [one_edit(model, case, configuration, grid, base, judge)[0] for case in cases]
    table = []
    for configuration in chosen:
        for size in ("small", "large"):
            keys = ("method", "formula", "guidance", "strength")
            some = [r for r in rows if all(r[key] == getattr(configuration, key) for key in keys)]
            some = [r for r in some if (r["kind"] == "several") == (size == "large")]
            if some:
                values = [mean_and_error([r[key] for r in some]) for key in ("success", "kept", "background_mse", "target_mse")]
                c = configuration
                cells = [f"{mean:.3g} ± {error:.1g}" for mean, error, _ in values]
                nfe = some[0]["nfe_up"] + some[0]["nfe_down"]
                table.append([c.method, c.formula, c.guidance, c.strength, size, len(some), nfe, *cells])
    save_table(
        out, "editing_front", f"Edits of {len(cases)} scenes in {steps} steps; mean ± standard error; background and target: MSE.",
        ["method", "sampler", "guidance", "strength", "edits", "n", "NFE", "success", "kept", "background", "target"], table,
    )  # fmt: skip
    figure, axis = plt.subplots(figsize=(6.5, 4.2), constrained_layout=True)
    for n, method in enumerate(EDIT_METHODS):
        some = [r for r in rows if r["method"] == method and r["guidance"] == GUIDANCE and r["strength"] == 1.0]
        points = {f: [r for r in some if r["formula"] == f] for f in SAMPLERS}
        x = [mean_and_error([r["background_mse"] for r in p])[0] for p in points.values()]
        y = [mean_and_error([r["success"] for r in p])[0] for p in points.values()]
        axis.plot(x, y, "o", label=method, color=f"C{n}")
    axis.set(xlabel="background MSE", ylabel="success (judge)", xscale="log")
    axis.legend()
    save_figure(out, "editing_front_plot", "Success against the background: a point for each sampler.", figure)


def remedies(out: Path, model: Model, cases: Sequence[Case], steps: int, judge: Judge) -> None:
    """(d): one change at a time, from the report's edit to the recommended one."""
    grid, rows, pictures = grid_of(model, steps), [], []
    for name, settings in progress.steps(REMEDIES, "remedies"):
        found, shares = [], []
        for n, case in enumerate(cases):
            x = encoded(model, case)
            edited = edit(model, x, [case.source], [case.target], grid, settings)
            picture = model.codec.decode(edited.x)[0].double()
            row = scores(picture, case, judge)
            row["largest"] = float(edited.x.abs().max() / x.abs().max())
            found.append(row)
            if isinstance(edited.latent, vsvf.State):
                plan = vsvf.formulas.by_name(settings.formula).plan(grid)
                shares.append(window_share(model, case.source, 1.0, edited.latent, plan) if plan.index[1] >= 0 else float("nan"))
            if n < 4:
                pictures.append(picture)
        measures = ("success", "kept", "background_mse", "target_mse", "largest")
        values = [mean_and_error([row[key] for row in found]) for key in measures] + [mean_and_error(shares)]
        rows.append([name, *(f"{mean:.3g} ± {error:.1g}" if n else "-" for mean, error, n in values)])
    save_table(
        out, "editing_remedies",
        f"From O-BELM's edit to others, {len(cases)} scenes, {steps} steps, guidance {GUIDANCE:g}. Largest: max |x_0| of the edit "
        "over that of the picture. Share: what the slopes do not explain of the inverted window.",
        ["edit", "success", "kept", "background MSE", "target MSE", "largest", "unexplained share"], rows,
    )  # fmt: skip
    shown = min(4, len(cases))
    figure, axes = plt.subplots(len(REMEDIES) + 1, shown, figsize=(1.6 * shown + 3.4, 1.6 * (len(REMEDIES) + 1)), squeeze=False)
    images = [case.picture.double() for case in cases[:shown]] + pictures
    for n, (axis, image) in enumerate(zip(axes.flat, images)):
        axis.imshow(((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
        axis.set(xticks=[], yticks=[])
        if n % shown == 0:
            label = "picture" if n == 0 else REMEDIES[n // shown - 1][0]
            axis.set_ylabel(label.replace(", ", ",\n"), rotation=0, ha="right", va="center", fontsize=7)
    save_figure(out, "editing_remedies_pictures", "The first scenes: the picture, then the edits of the table, row by row.", figure)


def growth(out: Path, model: Model, cases: Sequence[Case], steps: int) -> None:
    """(e): how spurious perturbations grow along the source's path and along the target's."""
    grid, rows = grid_of(model, steps), []
    ways = (("source, guidance 1", "source", 1.0), ("target, guidance 3", "target", 3.0), ("target, guidance 7.5", "target", 7.5))
    for name in progress.steps(("bdia(1)", "belm(2)", "stable_belm(2)", "stable_belm(3)"), "growth"):
        cells = []
        for _, which, w in ways:
            found = []
            for case in cases:
                predictor = model.predict([getattr(case, which)], w)
                noise = vsvf.predictors.noise((1, *model.latents), predictor, grid, generator=generator(1), dtype=torch.float64)
                found.append(float(vsvf.examine(predictor, noise, grid, name).sampling.growth.max()))
            mean, error, _ = mean_and_error(found)
            cells.append(f"{mean:.3g} ± {error:.1g}")
        rows.append([name, *cells])
    save_table(
        out, "editing_growth", f"Largest growth of perturbations that no solution has, sampling from noise in {steps} steps.",
        ["formula", *(title for title, _, _ in ways)], rows,
    )  # fmt: skip


def main(out: Path, scenes: int = SCENES, steps: int = STEPS, only: Sequence[str] = "abcde", everything: bool = False) -> None:
    """Write editing_*.csv and figures into `out`.

    Args:
        scenes: how many cases, of the kinds in turn. steps: of every march. only: the questions, letters of "abcde".
        everything: null-text inversion, further guidance scales and strengths too.
    """
    model, judge, cases = scenes_model(), load_judge(), scene_cases(range(scenes), load_glyphs())
    if "a" in only:
        latents(out, model, cases, steps)
    if "b" in only:
        offset_split(out, model, cases, steps)
    if "c" in only:
        front(out, model, cases, steps, judge, everything)
    if "d" in only:
        remedies(out, model, cases, steps, judge)
    if "e" in only:
        growth(out, model, cases[:4], steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m analysis.editing", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", default="abcde")
    parser.add_argument("--everything", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    main(args.out, args.scenes, args.steps, args.only, args.everything)
