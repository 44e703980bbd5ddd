"""`vsvf invert`: from an image or a saved state to noise, and back again."""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.common import (
    FORMULAS,
    GRID_KEYS,
    Outputs,
    describe_grid,
    given_settings,
    grid_settings,
    make_grid,
    note,
    print_json,
)
from vsvf.commands.network import (
    KEYS,
    SHAPE,
    add_network_arguments,
    add_output_arguments,
    draw_noise,
    iteration_options,
    labels_for,
    make_predictor,
    recall,
    remember,
    usable_device,
)

if TYPE_CHECKING:
    import torch

    from vsvf.grid import Grid
    from vsvf.predictors import Predictor
    from vsvf.state import State

DESCRIPTION = """\
Invert: march an image (or a state that `vsvf sample` wrote) along the same relations to noise, then sample from there
again and compare. Writes the inverted state (PREFIX.inverted.safetensors), the reconstruction (PREFIX.reconstruction.png)
and the difference times 10 on mid-grey (PREFIX.difference.png)."""

EXAMPLES = f"""\
examples:
  vsvf sample --out digits && vsvf invert digits.safetensors     the round trip of ten samples
  vsvf invert three.png --label 3 --formula 'belm(2)' --steps 50
  vsvf invert scan.jpg --invert-colours --label 7 --out results/
  vsvf invert three.png --label 3 --noise-alone                  forget all states but the noise itself

what it prints:
  MSE, max    mean squared and largest error of the reconstruction, pixels in [-1, 1]
  PSNR        10 log10(2^2 / MSE) in dB: the range of the pixels is 2; infinite (in JSON null) when not a bit differs
  levels      how many pixels differ once rounded to 8 bits: 0 means that the PNG is the same
  noise       mean and standard deviation of the inverted noise (a sample's were near 0 and 1), and for a state made from a
              seed, how far it is from the noise that the seed drew, relative to its size
  NFE         evaluations of the network, each way

Images: any kind that Pillow reads, whatever the file is called. Colour becomes grey, 28x28 pixels are cut from the centre
and resized, [black, white] becomes [-1, 1], transparency is laid on black. The network knows white digits on black; for
dark ones on light paper use --invert-colours (transparency is then laid on white). A k-step formula needs k states and the
image is one: --starter makes the others. State files bring their own settings; options that change the grid or the formula
do not fit them, and are refused.

{FORMULAS}"""

DEFAULTS: dict[str, Any] = {"formula": "belm(2)", "starter": "ddim", "label": [], "guidance": 1.0, "dtype": "float32"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf invert`."""
    parser.add_argument("input", metavar="INPUT", help="an image file, or a state file (.safetensors)")
    parser.add_argument("--invert-colours", "--invert-colors", action="store_true", help="the image is dark on light")
    parser.add_argument(
        "--noise-alone",
        action="store_true",
        help="reconstruct from the noise x_N and a starter, not from all k states: another experiment, and not exact for k > 1",
    )
    add_network_arguments(
        parser,
        label="the digit in the picture, or none (default none; a state's own)",
        guidance="classifier-free guidance: 1 = none (default 1; a state's own)",
        formula="belm(2), or a state's own",
    )
    add_output_arguments(parser, "the files' names")


def run(args: argparse.Namespace) -> int:
    """Invert, sample again, write, report."""
    import vsvf
    from vsvf import formulas

    given = given_settings(args, (*GRID_KEYS, *KEYS))
    device = usable_device(args.device)
    start, saved = _load(args, device)
    original = start.x if isinstance(start, vsvf.State) else start
    end = start.record.node if isinstance(start, vsvf.State) else 0
    count = original.shape[0]
    settings = {**DEFAULTS, **{key: saved[key] for key in KEYS if key in saved}, **given}
    if settings["label"] == [] and "guidance" not in given:
        settings["guidance"] = 1.0
    chosen = grid_settings(given, saved)
    formula, grid = formulas.by_name(settings["formula"]), make_grid(chosen)
    outputs = Outputs(
        args.out, Path(args.input).stem, [".inverted.safetensors", ".reconstruction.png", ".difference.png"], args.force
    )
    predictor = make_predictor(settings, count, device)
    if end == grid.steps:
        raise ValueError(f"{args.input} stands at the noise end already; `vsvf sample --from {args.input}` samples from it")
    options: dict[str, Any] = {"starter": settings["starter"], "progress": sys.stderr.isatty(), **iteration_options(args)}
    arithmetic = args.arithmetic or (None if isinstance(start, vsvf.State) else "float64")
    began = time.perf_counter()
    noise = vsvf.invert(predictor, start, grid, formula, arithmetic=arithmetic, **options)
    source = noise.x.clone() if args.noise_alone else noise
    again = vsvf.sample(predictor, source, grid, formula, arithmetic=noise.record.arithmetic, stop=end, **options)
    seconds = time.perf_counter() - began
    errors = compare(again.x, original)
    inverted = _noise_figures(noise, saved, predictor, grid)
    memory = {key: settings[key] for key in ("starter", "guidance", "dtype")} | {"formula": formula.name} | chosen
    memory |= {"label": labels_for(settings["label"], count)}
    _write(outputs, remember(noise, memory), again.x, original)
    if args.json:
        print_json(
            {
                "command": "invert",
                "input": args.input,
                **memory,
                "grid": describe_grid(grid),
                "arithmetic": noise.record.arithmetic,
                "starter_used": noise.record.starter,
                "reconstructed_from": "noise alone" if args.noise_alone else "all states",
                "count": count,
                "error": errors,
                "noise": inverted,
                "nfe": {"inversion": noise.nfe, "reconstruction": again.nfe},
                "residual": noise.record.residual,
                "seconds": seconds,
                "files": outputs.written,
            }
        )
        return 0
    used = noise.record.starter or ("none, the states come from the file" if isinstance(start, vsvf.State) else "not needed")
    print(f"{formula.name} on {describe_grid(grid)}")
    print(f"starter: {used}; arithmetic {noise.record.arithmetic}")
    images = "1 image" if count == 1 else f"{count} images"
    print(f"NFE {noise.nfe} to invert, {again.nfe} to sample again, {seconds:.1f} s for {images}")
    print(f"reconstruction from {'the noise alone and a starter' if args.noise_alone else 'all states'}, pixels in [-1, 1]:")
    psnr = "infinite" if math.isinf(errors["psnr"]) else f"{errors['psnr']:.1f} dB"
    print(f"  MSE {errors['mse']:.3g}, max {errors['max']:.3g}, PSNR {psnr} (range 2)")
    print(f"  8-bit levels that differ: {errors['levels']} of {errors['pixels']}")
    print(f"noise: mean {inverted['mean']:.4f}, standard deviation {inverted['standard_deviation']:.4f}")
    if inverted["from_seed"] is not None:
        print(f"  relative distance to the noise of seed {saved['seed']}: {inverted['from_seed']:.3g}")
    for path in outputs.written:
        print(f"wrote {path}")
    return 0


def compare(found: torch.Tensor, original: torch.Tensor) -> dict[str, Any]:
    """Errors of images on [-1, 1]: mse, max, psnr with range 2, and the number of pixels whose 8-bit levels differ."""
    from vsvf.apps.images import to_levels

    difference = found.detach().cpu().double() - original.detach().cpu().double()
    mse = float(difference.square().mean())
    return {
        "mse": mse,
        "max": float(difference.abs().max()),
        "psnr": 10.0 * math.log10(4.0 / mse) if mse > 0.0 else math.inf,
        "psnr_range": 2.0,
        "levels": int((to_levels(found) != to_levels(original)).sum()),
        "pixels": difference.numel(),
    }


def _load(args: argparse.Namespace, device: torch.device) -> tuple[State | torch.Tensor, dict[str, Any]]:
    """A state and its settings, or an image (1, 1, 28, 28) and none."""
    path = Path(args.input)
    if path.suffix.lower() == ".safetensors":
        if args.invert_colours:
            raise ValueError("--invert-colours is for image files, not for states")
        return recall(path, device)
    from vsvf.apps.images import read_image

    image, changes = read_image(path, SHAPE[1:], "L", background=1.0 if args.invert_colours else 0.0)
    if changes:
        note(f"{path}: {', '.join(changes)}")
    if args.invert_colours:
        image = -image
    elif float(image.mean()) > 0.0:
        note(f"{path} is mostly light, the network knows white digits on black: --invert-colours?")
    return image.double().to(device), {}


def _noise_figures(noise: State, saved: dict[str, Any], predictor: Predictor, grid: Grid) -> dict[str, float | None]:
    x = noise.x.detach().cpu().double()
    distance = None
    if "seed" in saved and x.shape[0] == saved.get("count"):
        drawn = draw_noise(x.shape[0], saved["seed"], predictor, float(grid.sigma_bar[-1]), x.device)
        distance = float((x - drawn).norm() / drawn.norm())
    deviation = float(x.std(correction=0))
    return {"mean": float(x.mean()), "standard_deviation": deviation, "from_seed": distance}


def _write(outputs: Outputs, noise: State, found: torch.Tensor, original: torch.Tensor) -> None:
    from vsvf.apps.images import contact_sheet, save_image

    found = found.detach().cpu().double()
    difference = 10.0 * (found - original.detach().cpu().double())
    outputs.write(".inverted.safetensors", noise.save)
    for suffix, images in ((".reconstruction.png", found), (".difference.png", difference)):
        sheet = images[0] if len(images) == 1 else contact_sheet(images, scale=4)
        outputs.write(suffix, partial(save_image, sheet))
