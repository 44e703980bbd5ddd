"""`vsvf budget`: why is my reconstruction not exact?"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer, note
from vsvf.commands.common import FORMULAS, UsageError, describe_grid, positive
from vsvf.commands.network import add_network_arguments, decide, usable_device

if TYPE_CHECKING:
    from vsvf.apps.budget import Budget, Codec, Part
    from vsvf.apps.models import Model

DESCRIPTION = """\
An error budget: take an image to noise and back, and say how much of the reconstruction's difference, and of the noise's, is
due to the image itself (with --model, its autoencoder), guidance, the formula's truncation, the starter and rounding."""

EXAMPLES = f"""\
examples:
  vsvf budget three.png --label 3 --formula ddim_inversion --steps 50     DDIM inversion as other tools do it
  vsvf budget three.png --label 3 --formula 'belm(2)' --steps 50 --guidance 2 --arithmetic float16
  vsvf budget three.png --label 3 --formula 'stable_belm(3)' --arithmetic fixed --json
  vsvf budget scene.png --model scenes --prompt 'a red three on a blue background' --guidance 3

what it prints:
  size        root mean square over all pixels: of the image, which lies in [-1, 1] (a step of 8 bits is 0.0078), and of the
              noise, in the network's scale (the noise itself has size about 1)
  share       of the whole difference; the shares add up to 100 %, a negative one cancels others
Each part is the difference of two runs that differ in one thing; together they are the whole difference. The reference is
RK4 on a fine grid.

ddim_inversion is equation (8) of the BELM paper: other relations up than down. The formula ddim, in contrast, is inverted by
solving its own equations.

{FORMULAS}"""

DEFAULTS: dict[str, Any] = {"formula": "belm(2)", "starter": "ddim", "guidance": 1.0, "count": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf budget`."""
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    parser.add_argument("--invert-colours", "--invert-colors", action="store_true", help="the image is dark on light")
    parser.add_argument("--eight-bit", action="store_true", help="compare images as 8-bit files hold them")
    parser.add_argument("--reference-steps", type=positive, metavar="N", default=128, help="RK4 steps of the reference, even")
    add_network_arguments(
        parser,
        label="the digit in the picture, or none (default none)",
        guidance="classifier-free guidance: 1 = none (default 1)",
        formula="belm(2); also ddim_inversion",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> Answer:
    """Measure."""
    from vsvf.apps.budget import DDIM_INVERSION, budget, unrounded
    from vsvf.apps.images import read_image

    if args.tolerance is not None or args.max_iterations is not None:
        raise UsageError("budget takes no --tolerance and no --max-iterations")
    march = decide(args, DEFAULTS)
    device = usable_device(args.device)
    model = march.model
    image, changes = read_image(Path(args.image), model.pictures[1:], model.mode, background=1.0 if args.invert_colours else 0.0)
    if changes:
        note(f"{args.image}: {', '.join(changes)}; the budget begins after that")
    guidance = march.settings["guidance"]
    found = budget(
        march.predictor(1),
        unrounded(-image if args.invert_colours else image).to(device),
        march.grid,
        march.name,
        unguided=None if guidance == 1.0 else march.predictor(1, 1.0),
        starter=march.settings["starter"],
        arithmetic=args.arithmetic or "float32",
        codec=_codec(model, args.eight_bit),
        reference_steps=args.reference_steps,
    )
    grid = describe_grid(march.grid)
    document = {"command": "budget", "input": args.image, "grid": grid, "guidance": guidance, **asdict(found)}
    starter = "no starter" if found.method == DDIM_INVERSION else f"starter {found.starter}"
    lines = [
        f"{found.method} on {grid}",
        f"{starter}; arithmetic {found.arithmetic}; guidance {guidance:g}; NFE {found.nfe} in all runs",
        "",
        f"the reconstruction differs by {found.image:.3g}, at most {found.largest:.3g} (pixels in [-1, 1]):",
        *_table(found.image_parts),
        "",
        f"the noise found differs by {found.noise:.3g} from that of the ODE (known to {found.reference_error:.1g}):",
        *_table(found.noise_parts),
        "",
        _answer(found),
    ]
    return Answer(document, "\n".join(lines), args.json)


def _codec(model: Model, eight_bit: bool) -> Codec:
    """From pixels to the model's x_0 and back, with the rounding of an 8-bit file behind it."""
    from vsvf.apps.budget import Codec, eight_bit_codec, tensor_codec

    if not model.has_autoencoder:
        return eight_bit_codec() if eight_bit else tensor_codec()
    inner, levels = model.codec, eight_bit_codec()
    return Codec(f"{inner.name}, {levels.name}", inner.encode, lambda x: levels.decode(inner.decode(x))) if eight_bit else inner


def _table(parts: tuple[Part, ...]) -> list[str]:
    return [
        f"  {part.key:<11} {part.size:>8.2g} {100.0 * part.share:>6.1f} %  {part.sentence}"
        for part in sorted(parts, key=lambda part: -part.size)
    ]


def _answer(found: Budget) -> str:
    if found.image == 0.0:
        return "The reconstruction is exact, to the last bit."
    largest = max(found.image_parts, key=lambda part: part.size)
    return f"The reconstruction is not exact mainly because of {largest.key}: {largest.sentence}."
