"""Editing: what an inverted latent is worth, where the offset comes from, and what removes the artefacts.

Rendered scenes whose edits have a known result (`vsvf.apps.edit.cases`), the embedded text-to-image model, on leading timesteps
with an offset of 1 and on log-SNR nodes. Five questions:

(a) how much of an inverted latent no solution explains, per formula, starter and nodes; (b) Direct Inversion's offset, split into
guidance and discretisation; (c) success against the background, for method, sampler, nodes, guidance, steps and strength, of small
and of large edits, and what removes artefacts; (d) the main rows of (c) for scenes that no setting was chosen on;
(e) how spurious perturbations grow along the source's and the target's path.

    python -m analysis.editing --out results --scenes 24 --confirm 280

(c) takes an hour of a core for 24 scenes, (d) as long for 280. Both may be shared by processes, `--part 0 2` and `--part 1 2`, and
go on where they were stopped; a run without `--part` writes the tables.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis import edits, progress, style
from analysis.common import generator, save_figure, save_table
from analysis.edits import GUIDANCE, NODES, STEPS
from vsvf.apps.edit.bench import encoded
from vsvf.apps.edit.cases import Case, scene_cases
from vsvf.apps.edit.loop import Conditions
from vsvf.apps.edit.offsets import offsets
from vsvf.apps.edit.scores import mean_and_error
from vsvf.apps.models import Model
from vsvf.apps.scenes_model import scenes_model
from vsvf.engine.spurious import unexplained_share
from vsvf.scenes import load_glyphs
from vsvf.scenes.judge import load_judge

SCENES = 8
LINEAR = ("belm(2)", "stable_belm(2)", "stable_belm(3)", "bdia(1)")
LARGE_SCENES = 12
FEW = 8  # scenes of (a), (b) and (e)


def grid_of(model: Model, nodes: str, steps: int) -> vsvf.Grid:
    """The nodes of this name."""
    return vsvf.Grid.from_schedule(model.schedule, steps, **NODES[nodes])


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
    rows = []
    jobs = [(nodes, name, starter) for nodes in NODES for name in LINEAR for starter in ("ddim", "heun", "rk4:4")]
    for nodes, name, starter in progress.steps(jobs, "latents"):
        grid = grid_of(model, nodes, steps)
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
        rows.append([nodes, name, starter, *cells])
    save_table(
        out, "editing_latents",
        f"Latents of {len(cases)} scenes inverted in {steps} steps at guidance 1: the share of the window's movement that its "
        "slopes do not explain; the deviation of x_N (1 for noise); the correlation of the network's eps with x_N.",
        ["nodes", "formula", "starter", "unexplained share", "deviation of x_N", "correlation"], rows,
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
    rows = []
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, sharey=True, constrained_layout=True)
    jobs = [(nodes, name) for nodes in NODES for name in ("ddim", "belm(2)", "stable_belm(3)")]
    for nodes, name in progress.steps(jobs, "offsets"):
        grid = grid_of(model, nodes, steps)
        found = [
            offsets(Conditions(model, [case.source], [case.target]), path_of(model, case, grid, name), grid, name, GUIDANCE)
            for case in cases
        ]
        for part, axis in zip(("guidance", "discretisation"), axes):
            curve = sum(getattr(one, part) for one in found) / len(found)
            axis.loglog(found[0].sigma_bar, curve.clip(1e-12), label=f"{name}, {nodes}", **style.line(len(rows)))
            axis.set(title=part, xlabel="σ̄")
        sums = [[float((getattr(one, p) ** 2).sum() ** 0.5) for one in found] for p in ("guidance", "discretisation", "total")]
        rows.append([nodes, name, *(f"{mean_and_error(values)[0]:.3g}" for values in sums)])
    axes[0].set_ylabel("rms of the offset")
    axes[0].legend(fontsize=7)
    save_figure(
        out, "editing_offsets_curves", f"Parts of Direct Inversion's offset at guidance {GUIDANCE:g} along the way.", figure
    )
    save_table(
        out, "editing_offsets",
        f"Direct Inversion's offset at guidance {GUIDANCE:g} over a path found at 1, root of the sum of squares, {steps} steps.",
        ["nodes", "formula", "guidance", "discretisation", "total"], rows,
    )  # fmt: skip


def growth(out: Path, model: Model, cases: Sequence[Case], steps: int) -> None:
    """(e): how spurious perturbations grow along the source's path and along the target's."""
    rows = []
    scales = (GUIDANCE, edits.STRONG)
    ways = [("source, guidance 1", "source", 1.0)] + [(f"target, guidance {w:g}", "target", w) for w in scales]
    jobs = [(nodes, name) for nodes in NODES for name in ("bdia(1)", "belm(2)", "stable_belm(3)", "pec_belm")]
    for nodes, name in progress.steps(jobs, "growth"):
        grid, cells = grid_of(model, nodes, steps), []
        for _, which, w in ways:
            found = []
            for case in cases:
                predictor = model.predict([getattr(case, which)], w)
                noise = vsvf.predictors.noise((1, *model.latents), predictor, grid, generator=generator(1), dtype=torch.float64)
                found.append(float(vsvf.examine(predictor, noise, grid, name).sampling.growth.max()))
            mean = math.exp(sum(map(math.log, found)) / len(found))
            cells.append(f"{mean:.2g} ({min(found):.2g} … {max(found):.2g})")
        rows.append([nodes, name, *cells])
    save_table(
        out, "editing_growth",
        f"Largest growth of perturbations that no solution has, sampling from noise in {steps} steps: geometric mean over "
        f"{len(cases)} scenes (least … most).",
        ["nodes", "formula", *(title for title, _, _ in ways)], rows,
    )  # fmt: skip


def main(
    out: Path,
    scenes: int = SCENES,
    steps: int = STEPS,
    only: str = "abcde",
    part: tuple[int, int] | None = None,
    confirm: int | None = None,
) -> None:
    """Write editing_*.csv and figures into `out`.

    Args:
        scenes: how many cases of (c), of the kinds in turn; (a), (b) and (e) take the first of them.
        steps: of (a), (b) and (e). only: the questions, letters of "abcde".
        part: (i, n): find every n-th of the edits of (c) and (d), from the i-th on, and write no tables.
        confirm: how many cases of (d), those after the `scenes` of (c); as many if None.
    """
    glyphs = load_glyphs()
    model, cases = scenes_model(), scene_cases(range(scenes), glyphs)
    if "c" in only:
        scored = edits.Scored(out, model, load_judge())
        kinds = len(edits.KINDS)
        more = scene_cases(range(edits.LARGE, edits.LARGE + kinds * LARGE_SCENES, kinds), glyphs)
        wanted = [edits.BASELINE, *edits.methods(), *edits.guided(), *edits.varied(), *(one for _, one in edits.remedies())]
        for chosen, which in ((wanted, cases), ([edits.BASELINE, *edits.large()], more)):
            chosen = edits.unique(chosen)
            scored.all(chosen if part is None else chosen[part[0] :: part[1]], which, "edits")
        if part is None:
            edits.tables(out, scored, cases, more)
    if "d" in only:
        scored, others = edits.Scored(out, model, load_judge()), scene_cases(range(scenes, scenes + (confirm or scenes)), glyphs)
        scored.all(edits.confirmed() if part is None else edits.confirmed()[part[0] :: part[1]], others, "confirmation")
        if part is None:
            edits.confirmation(out, scored, others)
    if "a" in only:
        latents(out, model, cases[:FEW], steps)
    if "b" in only:
        offset_split(out, model, cases[:FEW], steps)
    if "e" in only:
        growth(out, model, cases[:FEW], steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m analysis.editing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--confirm", type=int, metavar="SCENES", help="of (d); as many as --scenes if not given")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", default="abcde", metavar="LETTERS")
    parser.add_argument("--part", nargs=2, type=int, metavar=("I", "N"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    main(args.out, args.scenes, args.steps, args.only, args.part, args.confirm)
