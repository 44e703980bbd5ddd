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

import vsvf
from analysis import progress
from analysis.common import generator, save_table
from vsvf import formulas, predictors
from vsvf.apps.scenes import scenes_codec
from vsvf.predictors.scenes import LATENTS
from vsvf.scenes import Scene, caption, load_glyphs, random_scene
from vsvf.scenes.judge import agreement, load_judge

METHODS = ("ddim", "dpm_solver_pp(2)", "edict(0.93)", "bdia(1)", "belm(2)", "stable_belm(2)", "stable_belm(3)")
ABOVE_ZERO = "pec_belm"  # on nodes that end above sigma_bar = 0
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


def measure(scenes: Sequence[Scene], prompts: Sequence[str], guidance: float, grid: vsvf.Grid, name: str) -> list[Any]:
    """Pictures as asked, of how many, the largest latent, "yes" or "" for a warning."""
    eps = predictors.scenes(list(prompts), guidance)
    noise = predictors.noise((len(prompts), *LATENTS), eps, grid, generator=generator(5))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        latents = vsvf.sample(eps, noise, grid, name).x
    read = load_judge().read(scenes_codec().decode(latents))
    right = sum(all(agreement(found, scene.attributes).values()) for found, scene in zip(read, scenes, strict=True))
    warned = any(issubclass(warning.category, vsvf.SpuriousModeWarning) for warning in said)
    return [right, len(scenes), float(latents.abs().max()), "yes" if warned else ""]


def main(out: Path, count: int = 24, scales: Sequence[float] = (3.0, 5.0, 7.5), steps: int = 50) -> list[list[Any]]:
    """Write guided.csv into `out`."""
    draw, glyphs = generator(77), load_glyphs()
    scenes = [random_scene(glyphs, draw, count=1) for _ in range(count)]
    prompts = [caption(scene, draw) for scene in scenes]
    grids = {nodes: vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), steps, **options) for nodes, options in NODES.items()}
    jobs = [(w, nodes, name) for w in scales for nodes, grid in grids.items() for name in names(grid)]
    rows = [[w, nodes, name, *measure(scenes, prompts, w, grids[nodes], name)] for w, nodes, name in progress.steps(jobs, "guided")]
    save_table(out, "guided", f"{count} prompts, {steps} steps, DDIM starter.", HEADER, rows)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Samplers under strong guidance.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--guidance", nargs="+", type=float, default=[3.0, 5.0, 7.5])
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    main(args.out, args.count, args.guidance, args.steps)
