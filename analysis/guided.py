"""Strong guidance: which samplers still draw what the prompt says, on which nodes, and whether a march says that it does not.

    python -m analysis.guided --out OUT --count 24 --guidance 3 5 7.5

The embedded text-to-image model, prompts with one digit, 50 steps, the same noise for all (DDIM starter, float32): pictures in
which the judge reads every attribute as asked, the largest latent (pictures encode to 8 at most), and whether the march warned of
spurious modes. On trailing timesteps to sigma_bar = 0, on Stable Diffusion's leading ones, and on log-SNR nodes.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis import progress
from analysis.common import generator, save_figure, save_table
from vsvf import formulas, predictors
from vsvf.apps.scenes import scenes_codec
from vsvf.predictors.scenes import LATENTS
from vsvf.scenes import Scene, caption, load_glyphs, random_scene
from vsvf.scenes.judge import agreement, load_judge

METHODS = ("ddim", "dpm_solver_pp(2)", "edict(0.93)", "bdia(1)", "belm(2)", "stable_belm(2)", "stable_belm(3)")
ABOVE_ZERO = "pec_belm"  # on nodes that end above sigma_bar = 0
SHOWN, PROMPTS = ("ddim", "edict(0.93)", "belm(2)", "stable_belm(3)", "pec_belm"), 6
NODES: dict[str, dict[str, Any]] = {
    "trailing, to 0": {"spacing": "trailing", "final": "zero"},
    "leading": {"spacing": "leading", "final": "smallest", "steps_offset": 1},
    "log-SNR": {"spacing": "log_snr", "final": "smallest"},
}
HEADER = ["guidance", "nodes", "formula", "as asked", "pictures", "largest latent", "warned"]


def names(grid: vsvf.Grid) -> list[str]:
    """The formulas compared, and what is recommended on these nodes for both ways without guidance."""
    more = (ABOVE_ZERO,) if grid.sigma_bar[0] > 0.0 else ()
    return list(dict.fromkeys((*METHODS, *more, formulas.recommended(grid).name)))


def drawn(prompts: Sequence[str], guidance: float, grid: vsvf.Grid, name: str) -> torch.Tensor:
    """Latents that a formula draws for the prompts, the same noise for all formulas."""
    eps = predictors.scenes(list(prompts), guidance)
    noise = predictors.noise((len(prompts), *LATENTS), eps, grid, generator=generator(5))
    return vsvf.sample(eps, noise, grid, name).x


def measure(scenes: Sequence[Scene], prompts: Sequence[str], guidance: float, grid: vsvf.Grid, name: str) -> list[Any]:
    """Pictures as asked, of how many, the largest latent, "yes" or "" for a warning."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        latents = drawn(prompts, guidance, grid, name)
    read = load_judge().read(scenes_codec().decode(latents))
    right = sum(all(agreement(found, scene.attributes).values()) for found, scene in zip(read, scenes, strict=True))
    warned = any(issubclass(warning.category, vsvf.SpuriousModeWarning) for warning in said)
    return [right, len(scenes), float(latents.abs().max()), "yes" if warned else ""]


def pictures(out: Path, prompts: Sequence[str], guidance: float, grid: vsvf.Grid) -> None:
    """guided_pictures.png: what some formulas draw for the first prompts on leading timesteps."""
    prompts = prompts[:PROMPTS]
    figure, axes = plt.subplots(len(SHOWN), len(prompts), figsize=(1.2 * len(prompts) + 1.4, 1.2 * len(SHOWN)), squeeze=False)
    figure.subplots_adjust(hspace=0.05, wspace=0.05)
    for line, name in zip(axes, SHOWN):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", vsvf.SpuriousModeWarning)
            images = scenes_codec().decode(drawn(prompts, guidance, grid, name))
        for axis, image in zip(line, images):
            axis.imshow(((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    save_figure(
        out, "guided_pictures", f"The same prompts and noise under guidance {guidance:g}, {grid.steps} leading timesteps: only the "
        "first row, DDIM, has no exact inverse.", figure,
    )  # fmt: skip


def main(out: Path, count: int = 24, scales: Sequence[float] = (3.0, 5.0, 7.5), steps: int = 50, seed: int = 77) -> list[list[Any]]:
    """Write guided.csv into `out`."""
    draw, glyphs = generator(seed), load_glyphs()
    scenes = [random_scene(glyphs, draw, count=1) for _ in range(count)]
    prompts = [caption(scene, draw) for scene in scenes]
    grids = {nodes: vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), steps, **options) for nodes, options in NODES.items()}
    jobs = [(w, nodes, name) for w in scales for nodes, grid in grids.items() for name in names(grid)]
    rows = [[w, nodes, name, *measure(scenes, prompts, w, grids[nodes], name)] for w, nodes, name in progress.steps(jobs, "guided")]
    save_table(out, "guided", f"{count} prompts, {steps} steps, DDIM starter.", HEADER, rows)
    if "leading" in grids:
        pictures(out, prompts, max(scales), grids["leading"])
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Samplers under strong guidance.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--guidance", nargs="+", type=float, default=[3.0, 5.0, 7.5])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=77, help="of the scenes that the prompts describe")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    main(args.out, args.count, args.guidance, args.steps, args.seed)
