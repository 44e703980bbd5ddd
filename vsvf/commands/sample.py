"""`vsvf sample`: digits from the embedded network."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer, note
from vsvf.commands.common import FORMULAS, Outputs, UsageError, describe_grid, images, positive
from vsvf.commands.common import seed as whole_seed
from vsvf.commands.network import (
    add_network_arguments,
    add_output_arguments,
    decide,
    draw_noise,
    iteration_options,
    recall,
    remember,
    usable_device,
)

if TYPE_CHECKING:
    import torch

DESCRIPTION = """\
Sample handwritten digits: draw noise, march it along the ODE with a formula, write a contact sheet of the images
(PREFIX.png) and the states that exact inversion needs (PREFIX.safetensors)."""

EXAMPLES = f"""\
examples:
  vsvf sample --out digits                           one digit of each class: digits.png, digits.safetensors
  vsvf sample --formula 'belm(2)' --steps 50 --label 3 --guidance 2 --seed 0 --count 10 --out threes
  vsvf sample --formula 'edict(0.93)' --steps 100 --label 7 --count 4 --separate --out sevens/
  vsvf sample --from photo.inverted.safetensors      from noise that `vsvf invert` wrote: the photo again

what it prints:
  NFE         evaluations of the network in the march (of all images at once)
  recognised  how many of the images a classifier takes for the digit asked for. It had no part in training the network.
  values      the images' range; the training images lie in [-1, 1], far outside the formula is unstable on this grid

Noise comes from a generator with --seed and has variance alpha^2 + sigma^2 (1 for the default schedule): a seed gives the
same noise whatever the formula, the number of steps and the arithmetic. Several images go to one sheet, enlarged 4 times;
a single one keeps its 28x28 pixels.

{FORMULAS}"""

DEFAULTS: dict[str, Any] = {
    "formula": "belm(2)",
    "starter": "ddim",
    "label": list(range(10)),
    "guidance": 2.0,
    "dtype": "float32",
}
SUSPICIOUS = 3.0  # images lie in [-1, 1], a little overshoot is normal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf sample`."""
    parser.add_argument("--seed", type=whole_seed, metavar="S", help="of the noise (default 0)")
    parser.add_argument("--count", type=positive, metavar="B", help="how many images (default 10)")
    parser.add_argument("--from", dest="source", metavar="STATE", help="start from a state file at the noise end instead")
    add_network_arguments(
        parser,
        label="the digit asked for, or several in turn as in 0,1,2, or none (default 0 to 9 in turn)",
        guidance="classifier-free guidance: 1 = none, more pushes harder towards the label (default 2)",
        formula="belm(2)",
    )
    add_output_arguments(parser, "the files' names")
    parser.add_argument("--separate", action="store_true", help="one PNG per image: PREFIX-00.png, …")
    parser.add_argument("--columns", type=positive, metavar="C", help="images per row of the sheet (default 10)")


def run(args: argparse.Namespace) -> Answer:
    """Sample and write."""
    import vsvf

    device = usable_device(args.device)
    start: vsvf.State | None = None
    saved: dict[str, Any] = {}
    if args.source is not None:
        if args.seed is not None or args.count is not None:
            raise UsageError("--from gives the noise and does not go with --seed or --count")
        start, saved = recall(args.source, device)
        if start.record.node == 0:
            raise ValueError(f"{args.source} stands at the data end already; `vsvf invert` takes it to noise")
    seed, count = args.seed or 0, (args.count or 10) if start is None else start.x.shape[0]
    march = decide(args, DEFAULTS, saved)
    width = len(str(count - 1))
    pictures = [f"-{n:0{width}d}.png" for n in range(count)] if args.separate else [".png"]
    outputs = Outputs(args.out, "samples", [*pictures, ".safetensors"], args.force)
    predictor = march.predictor(count, device)
    x = draw_noise(count, seed, predictor, march.grid, device) if start is None else start
    began = time.perf_counter()
    state = vsvf.sample(
        predictor,
        x,
        march.grid,
        march.name,
        starter=march.settings["starter"],
        arithmetic=args.arithmetic or ("float64" if start is None else None),
        progress=sys.stderr.isatty(),
        **iteration_options(args),
    )
    seconds = time.perf_counter() - began
    low, high = float(state.x.min()), float(state.x.max())
    if max(-low, high) > SUSPICIOUS:
        note(
            f"values from {low:.3g} to {high:.3g} are not an image in [-1, 1]: `vsvf check '{march.name}'` on this grid "
            "tells whether the formula is unstable here; more steps or less guidance may help"
        )
    memory = march.memory(count)
    recognised = _recognised(state.x, memory["label"]) if memory["label"] else None
    if start is None:
        memory |= {"seed": seed, "count": count}
    _write(outputs, state.x, pictures, args.columns)
    outputs.write(".safetensors", remember(state, memory).save)
    document = {
        "command": "sample",
        **memory,
        "from": args.source,
        "grid": describe_grid(march.grid),
        "arithmetic": state.record.arithmetic,
        "count": count,
        "nfe": state.nfe,
        "seconds": seconds,
        "recognised": recognised,
        "values": [low, high],
        "files": outputs.written,
    }
    lines = [
        march.heading,
        f"starter {state.record.starter or 'not needed'}, arithmetic {state.record.arithmetic}",
        f"NFE {state.nfe}, {seconds:.1f} s for {images(count)}",
        *([] if recognised is None else [f"recognised as the digit asked for: {recognised} of {count}"]),
        f"values from {low:.3f} to {high:.3f}",
        *(f"wrote {path}" for path in outputs.written),
    ]
    return Answer(document, "\n".join(lines), args.json)


def _recognised(x: torch.Tensor, labels: list[int]) -> int:
    """How many the classifier takes for their label."""
    import torch

    from vsvf.apps.classifier import load_digits_classifier

    with torch.no_grad():
        found = load_digits_classifier()(x.detach().cpu().float().clamp(-1.0, 1.0)).argmax(dim=1)
    return int((found == torch.tensor(labels)).sum())


def _write(outputs: Outputs, x: torch.Tensor, pictures: list[str], columns: int | None) -> None:
    from vsvf.apps.images import contact_sheet, save_image

    if len(pictures) > 1:
        for suffix, image in zip(pictures, x):
            outputs.write(suffix, partial(save_image, image))
    elif len(x) == 1:
        outputs.write(pictures[0], partial(save_image, x[0]))
    else:
        outputs.write(pictures[0], partial(save_image, contact_sheet(x, columns, scale=4)))
