"""`vsvf interpolate`: the pictures between two noises, or between two inverted pictures."""

from __future__ import annotations

import argparse
import io
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer, note
from vsvf.commands.applications import (
    add_model_arguments,
    add_run_arguments,
    check_march,
    condition_of,
    grid_of,
    make_model,
    model_settings,
    repeatable,
    say_resumed,
)
from vsvf.commands.common import FORMULAS, UsageError, positive, whole
from vsvf.commands.progress import Progress

if TYPE_CHECKING:
    import torch

    from vsvf.apps.models import Model
    from vsvf.state import State

DESCRIPTION = """\
The pictures between two: spherical interpolation of all k states of the latents of two noises, or of two pictures that are
inverted first. The pictures at the ends return exactly."""

EXAMPLES = f"""\
examples:
  vsvf interpolate seed:1 seed:2 --label 3                    between two random threes
  vsvf interpolate own:30 own:80 --frames 17                  between two of the model's own pictures, labels and all
  vsvf interpolate a.png b.png --formula 'stable_belm(3)' --out between

what it writes into its folder:
  strip.png        the pictures in a row
  animation.gif    there and back
  results.json     moves between neighbours; unevenness (1 = even); detour (1 = as a crossfade); error at the ends
  run.json         versions, options, the model's fingerprint

{FORMULAS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf interpolate`."""
    parser.add_argument("inputs", nargs=2, metavar="seed:N|own:N|IMAGE", help="the two ends: a seed, an own picture, or a file")
    parser.add_argument("--frames", type=positive, default=9, metavar="F", help="pictures, the ends included (default 9)")
    parser.add_argument("--formula", default="stable_belm(2)", metavar="NAME", help="(default stable_belm(2))")
    parser.add_argument("--steps", type=positive, default=50, metavar="N", help="(default 50)")
    parser.add_argument("--starter", default="ddim", metavar="NAME", help="ddim, heun, rk4 (default ddim)")
    parser.add_argument("--to-label", type=whole(0), metavar="DIGIT", help="the class of the second end (default: as the first)")
    parser.add_argument("--to-prompt", metavar="TEXT", help="the prompt of the second end (default: as the first)")
    parser.add_argument("--batch", type=positive, default=10, metavar="B", help="pictures at once (default 10)")
    add_model_arguments(parser, "classifier-free guidance (default 1 = none)")
    add_run_arguments(parser, "interpolation")


def run(args: argparse.Namespace) -> Answer:
    """Invert, interpolate, sample, write."""
    import torch

    from vsvf import formulas, sample
    from vsvf.apps.interpolate import between, blended, smoothness
    from vsvf.apps.run_folder import RunFolder

    if args.frames < 2:
        raise UsageError("--frames must be at least 2: the ends")
    if args.captions is not None:
        raise UsageError("interpolate takes --prompt and --to-prompt, not --captions")
    model, formula = make_model(args), formulas.by_name(args.formula).name
    grid = grid_of(args, model, args.steps)
    given = condition_of(args)
    last = args.to_label if args.to_label is not None else args.to_prompt
    ends = [_End(model, text, condition) for text, condition in zip(args.inputs, (given, given if last is None else last))]
    check_march(args, model, [formula], [args.steps], [end.condition for end in ends if end.condition is not None] or None)
    keys = ("inputs", "frames", "steps", "starter", "to_label", "to_prompt", "batch")
    settings = {**model_settings(args, model), **{key: getattr(args, key) for key in keys}, "formula": formula}
    with RunFolder(args.out, "interpolate", repeatable(args), settings, args.force) as folder:
        say_resumed(folder)
        first, second = (end.latent(args, grid, formula) for end in ends)
        shares = [n / (args.frames - 1) for n in range(args.frames)]
        predictors = [model.predict(None if end.condition is None else [end.condition], args.guidance) for end in ends]
        same = ends[0].condition == ends[1].condition
        pictures = []
        with Progress(args.frames, "interpolate", "pictures") as progress:
            for start in range(0, args.frames, args.batch):
                part = shares[start : start + args.batch]
                predictor = predictors[0] if same else blended(predictors[0], predictors[1], part)
                state = sample(predictor, between(first, second, part), grid, formula, warn=False)
                pictures.append(model.codec.decode(state.x).double().cpu())
                progress.add(len(part))
        strip = torch.cat(pictures)
        smooth = smoothness(strip)
        errors = [end.error(picture) for end, picture in zip(ends, (strip[0], strip[-1]))]
        _write(folder, strip)
        results = {**asdict(smooth), "end_mse": errors, "frames": args.frames}
        folder.write_json("results.json", results)
        folder.finish()
        files = [folder / name for name in ("strip.png", "animation.gif", "results.json")]
        document = {"command": "interpolate", "folder": folder.path, **settings, **results, "files": files}
        lines = [
            f"{formula}, {grid.name}, {args.frames} pictures from {args.inputs[0]} to {args.inputs[1]}",
            f"unevenness {smooth.unevenness:.2f} (1 = even), detour {smooth.detour:.2f} (1 = a crossfade)",
            *(f"{end.text} returns with MSE {error:.2g}" for end, error in zip(ends, errors) if error is not None),
            f"wrote {folder.path}: {', '.join(path.name for path in files)}",
        ]
        return Answer(document, "\n".join(lines), args.json)


class _End:
    """One end: its picture (None for a seed) and its condition."""

    def __init__(self, model: Model, text: str, condition: Any | None) -> None:
        self.model, self.text, self.condition = model, text, condition
        self.picture: torch.Tensor | None = None
        self.seed: int | None = None
        match = re.fullmatch(r"(seed|own):(\d+)", text)
        if match is None:
            self.picture = _read(model, text)
        elif match[1] == "seed":
            self.seed = int(match[2][:20])
            if self.seed >= 2**63:
                raise ValueError(f"{text[:40]}: a seed lies below 2^63")
        else:
            if model.own is None:
                raise UsageError(f"{model.name} has no pictures of its own: give image files or seeds")
            pictures, conditions = model.own()
            if int(match[2]) >= len(pictures):
                raise UsageError(f"{text}: {model.name} has the pictures 0 … {len(pictures) - 1}")
            self.picture = pictures[int(match[2])][None]
            self.condition = conditions[int(match[2])] if condition is None else condition

    def latent(self, args: argparse.Namespace, grid: Any, formula: str) -> State:
        """The k states, (k, 1, …)."""
        from vsvf.apps.interpolate import latent_of_noise, latent_of_picture
        from vsvf.apps.models import noise_of_seeds

        predictor = self.model.predict(None if self.condition is None else [self.condition], args.guidance)
        if self.picture is None:
            assert self.seed is not None
            noise = noise_of_seeds(self.model, [self.seed], float(grid.sigma_bar[-1]), args.device)
            return latent_of_noise(predictor, noise, grid, formula, args.starter)
        x = self.model.codec.encode(self.picture.to(args.device).double()).double()
        return latent_of_picture(predictor, x, grid, formula, args.starter)

    def error(self, found: torch.Tensor) -> float | None:
        """MSE of the picture that returned at this end; None for a seed."""
        return None if self.picture is None else float((found - self.picture[0].double()).square().mean())


def _read(model: Model, text: str) -> torch.Tensor:
    from vsvf.apps.budget import unrounded
    from vsvf.apps.images import read_image

    image, changes = read_image(Path(text), model.pictures[1:], model.mode)
    if changes:
        note(f"{text}: {', '.join(changes)}")
    return unrounded(image)


def _write(folder: Any, strip: torch.Tensor) -> None:
    import numpy as np
    from PIL import Image

    from vsvf.apps.images import contact_sheet, save_image, to_levels

    scale = max(1, 112 // strip.shape[-1])
    save_image(contact_sheet(strip, len(strip), scale=scale), folder / "strip.png")
    levels = to_levels(strip.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3))
    frames = [Image.fromarray(x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))) for x in levels]
    there_and_back = frames + frames[-2:0:-1]
    content = io.BytesIO()
    there_and_back[0].save(content, "GIF", save_all=True, append_images=there_and_back[1:], duration=100, loop=0)
    folder.write("animation.gif", content.getvalue())
