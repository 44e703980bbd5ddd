"""`vsvf invert`: from an image or a saved state to noise, and back again."""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer, note
from vsvf.commands.common import FORMULAS, Outputs, UsageError, describe_grid, images
from vsvf.commands.network import (
    add_network_arguments,
    add_output_arguments,
    decide,
    draw_noise,
    enlarged,
    fitted,
    iteration_options,
    recall,
    remember,
    usable_device,
)

if TYPE_CHECKING:
    import torch

    from vsvf.apps.models import Model
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
  vsvf invert scene.png --model scenes --prompt 'a red three on a blue background'
  vsvf invert three.png --label 3 --noise-alone                  forget all states but the noise itself

what it prints:
  MSE, max    mean squared and largest error of the reconstruction, pixels in [-1, 1]
  PSNR        10 log10(2^2 / MSE) in dB: the range of the pixels is 2; infinite (in JSON null) when not a bit differs
  levels      how many pixels differ once rounded to 8 bits: 0 means that the PNG is the same
  noise       mean and standard deviation of the inverted noise (a sample's were near 0 and 1), and for a state made from a
              seed, how far it is from the noise that the seed drew, relative to its size
  autoencoder for models with one: what encoding and decoding alone change, and how far the latents come back
  NFE         evaluations of the network, each way

Images: any kind that Pillow reads, whatever the file is called. The centre is cut to the model's shape and resized, [black,
white] becomes [-1, 1], transparency is laid on black. The digits network knows white digits on black, colour becomes grey; for
dark ones on light paper use --invert-colours (transparency is then laid on white). A k-step formula needs k states and the
image is one: --starter makes the others. State files bring their own settings; options that change the grid or the formula
do not fit them, and are refused.

{FORMULAS}"""

DEFAULTS: dict[str, Any] = {"formula": "belm(2)", "starter": "ddim", "guidance": 1.0, "count": 0}


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


def run(args: argparse.Namespace) -> Answer:
    """Invert, sample again, write."""
    from vsvf.apps.roundtrip import compare, from_image

    device = usable_device(args.device)
    path = Path(args.input)
    state, saved = (None, {}) if path.suffix.lower() != ".safetensors" else recall(path)
    if state is not None and args.invert_colours:
        raise ValueError("--invert-colours is for image files, not for states")
    march = decide(args, DEFAULTS, saved)
    codec = march.model.codec
    start: State | torch.Tensor
    if state is not None:
        state = start = fitted(state, saved, path, march, device)
        original, picture = state.x, codec.decode(state.x)
    else:
        picture = _read(args, march.model, device)
        original = start = codec.encode(picture)
    from_state = state is not None
    count = original.shape[0]
    outputs = Outputs(
        args.out, Path(args.input).stem, [".inverted.safetensors", ".reconstruction.png", ".difference.png"], args.force
    )
    predictor = march.predictor(count)
    if state is not None and state.record.node == march.grid.steps:
        raise ValueError(f"{args.input} stands at the noise end already; `vsvf sample --from {args.input}` samples from it")
    began = time.perf_counter()
    trip = from_image(
        predictor,
        start,
        march.grid,
        march.name,
        starter=march.settings["starter"],
        arithmetic=args.arithmetic or (None if from_state else "float64"),
        noise_alone=args.noise_alone,
        progress=sys.stderr.isatty(),
        **iteration_options(args),
    )
    seconds = time.perf_counter() - began
    noise = trip.turned
    if noise is None:
        raise UsageError(f"{march.name} keeps no state to write; `vsvf budget` measures it")
    found = codec.decode(trip.end)
    errors = compare(found, picture)
    alone = _latent_figures(march.model, trip.end, original, picture)
    inverted = _noise_figures(noise, saved, predictor, march.grid)
    memory = march.memory(count)
    _write(outputs, remember(noise, memory, march.model), found, picture)
    document = {
        "command": "invert",
        "input": args.input,
        **memory,
        "grid": describe_grid(march.grid),
        "arithmetic": noise.record.arithmetic,
        "starter_used": noise.record.starter,
        "reconstructed_from": "noise alone" if args.noise_alone else "all states",
        "count": count,
        "error": asdict(errors),
        "autoencoder": alone,
        "noise": inverted,
        "nfe": {"inversion": trip.nfe[0], "reconstruction": trip.nfe[1]},
        "residual": noise.record.residual,
        "seconds": seconds,
        "files": outputs.written,
    }
    used = noise.record.starter or ("none, the states come from the file" if from_state else "not needed")
    psnr = "infinite" if math.isinf(errors.psnr) else f"{errors.psnr:.1f} dB"
    seed = inverted["from_seed"]
    lines = [
        march.heading,
        f"starter: {used}; arithmetic {noise.record.arithmetic}",
        f"NFE {trip.nfe[0]} to invert, {trip.nfe[1]} to sample again, {seconds:.1f} s for {images(count)}",
        f"reconstruction from {'the noise alone and a starter' if args.noise_alone else 'all states'}, pixels in [-1, 1]:",
        f"  MSE {errors.mse:.3g}, max {errors.max:.3g}, PSNR {psnr} (range 2)",
        f"  8-bit levels that differ: {errors.levels} of {errors.pixels}",
        *([] if alone is None else [LATENTS.format(**alone)]),
        f"noise: mean {inverted['mean']:.4f}, standard deviation {inverted['standard_deviation']:.4f}",
        *([] if seed is None else [f"  relative distance to the noise of seed {saved['seed']}: {seed:.3g}"]),
        *(f"wrote {path}" for path in outputs.written),
    ]
    return Answer(document, "\n".join(lines), args.json)


LATENTS = (
    "autoencoder: encoding and decoding alone change the pixels by MSE {pixels:.3g}; the latents come back to MSE {latents:.3g}, "
    "max {largest:.3g}"
)


def _latent_figures(model: Model, end: torch.Tensor, original: torch.Tensor, picture: torch.Tensor) -> dict[str, float] | None:
    """The autoencoder's part of the error, and the march's; None for a model of pixels."""
    if not model.has_autoencoder:
        return None
    difference = end.detach().cpu().double() - original.detach().cpu().double()
    once = model.codec.decode(model.codec.encode(picture))
    return {
        "pixels": float((once - picture).double().square().mean()),
        "latents": float(difference.square().mean()),
        "largest": float(difference.abs().max()),
    }


def _read(args: argparse.Namespace, model: Model, device: torch.device) -> torch.Tensor:
    """The image as a batch of one, (1, C, H, W) float64."""
    from vsvf.apps.images import read_image

    image, changes = read_image(Path(args.input), model.pictures[1:], model.mode, background=1.0 if args.invert_colours else 0.0)
    if changes:
        note(f"{args.input}: {', '.join(changes)}")
    if args.invert_colours:
        image = -image
    elif model.name == "digits" and float(image.mean()) > 0.0:
        note(f"{args.input} is mostly light, the network knows white digits on black: --invert-colours?")
    return image.double().to(device)


def _noise_figures(noise: State, saved: dict[str, Any], predictor: Predictor, grid: Grid) -> dict[str, float | None]:
    x = noise.x.detach().cpu().double()
    distance = None
    if "seed" in saved and x.shape[0] == saved.get("count"):
        drawn = draw_noise(x.shape, saved["seed"], predictor, grid, x.device)
        distance = float((x - drawn).norm() / drawn.norm())
    deviation = float(x.std(correction=0))
    return {"mean": float(x.mean()), "standard_deviation": deviation, "from_seed": distance}


def _write(outputs: Outputs, noise: State, found: torch.Tensor, original: torch.Tensor) -> None:
    from vsvf.apps.images import contact_sheet, save_image

    found = found.detach().cpu().double()
    difference = 10.0 * (found - original.detach().cpu().double())
    outputs.write(".inverted.safetensors", noise.save)
    for suffix, batch in ((".reconstruction.png", found), (".difference.png", difference)):
        sheet = batch[0] if len(batch) == 1 else contact_sheet(batch, scale=enlarged(batch))
        outputs.write(suffix, partial(save_image, sheet))
