"""`vsvf sample`: pictures from an embedded model or a local one."""

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

DESCRIPTION = """\
Sample pictures: draw noise, march it along the ODE with a formula, write a contact sheet of the pictures (PREFIX.png) and the
states that exact inversion needs (PREFIX.safetensors). Handwritten digits, unless --model says otherwise."""

EXAMPLES = f"""\
examples:
  vsvf sample --out digits                           one digit of each class: digits.png, digits.safetensors
  vsvf sample --formula 'belm(2)' --steps 50 --label 3 --guidance 2 --seed 0 --count 10 --out threes
  vsvf sample --formula 'edict(0.93)' --steps 100 --label 7 --count 4 --separate --out sevens/
  vsvf sample --model scenes --prompt 'a red three on a blue background' --count 4 --out red
  vsvf sample --model FOLDER --prompt 'a photograph of a cat' --count 1     Stable Diffusion from your own folder
  vsvf sample --from photo.inverted.safetensors      from noise that `vsvf invert` wrote: the photo again

what it prints:
  NFE         evaluations of the network in the march (of all images at once)
  recognised  in how many of the images a classifier (digits) or judge (scenes) reads what was asked for. It had no part in
              training the network.
  values      the images' range; the training images lie in [-1, 1], far outside the formula is unstable on this grid

Noise comes from a generator with --seed and has variance alpha^2 + sigma^2 (1 for the default schedule): a seed gives the
same noise whatever the formula, the number of steps and the arithmetic. Several images go to one sheet, small ones enlarged;
a single one keeps its size. Latents become pictures by the model's autoencoder; the state file holds the latents.

{FORMULAS}"""

DEFAULTS: dict[str, Any] = {"formula": "belm(2)", "starter": "ddim", "guidance": 2.0}
ASKED = {"digits": "the digit", "scenes": "the scene"}
SUSPICIOUS = 3.0  # images lie in [-1, 1], a little overshoot is normal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf sample`."""
    parser.add_argument("--seed", type=whole_seed, metavar="S", help="of the noise (default 0)")
    parser.add_argument("--count", type=positive, metavar="B", help="how many images (default 10)")
    parser.add_argument("--from", dest="source", metavar="STATE", help="start from a state file at the noise end instead")
    add_network_arguments(
        parser,
        label="the digit asked for, or several in turn as in 0,1,2, or none (default 0 to 9 in turn)",
        guidance="classifier-free guidance: 1 = none, more pushes harder towards the condition (default 2)",
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
        start, saved = recall(args.source)
        if start.record.node == 0:
            raise ValueError(f"{args.source} stands at the data end already; `vsvf invert` takes it to noise")
    seed, count = args.seed or 0, (args.count or 10) if start is None else start.x.shape[0]
    march = decide(args, DEFAULTS | {"count": count}, saved)
    if start is not None:
        start = fitted(start, saved, args.source, march, device)
    width = len(str(count - 1))
    pictures = [f"-{n:0{width}d}.png" for n in range(count)] if args.separate else [".png"]
    outputs = Outputs(args.out, "samples", [*pictures, ".safetensors"], args.force)
    predictor = march.predictor(count)
    shape = (count, *march.model.latents)
    x = draw_noise(shape, seed, predictor, march.grid, device) if start is None else start
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
    pictures_found = march.model.codec.decode(state.x)
    low, high = float(pictures_found.min()), float(pictures_found.max())
    if max(-low, high) > SUSPICIOUS:
        note(
            f"values from {low:.3g} to {high:.3g} are not an image in [-1, 1]: `vsvf check '{march.name}'` on this grid "
            "tells whether the formula is unstable here; more steps or less guidance may help"
        )
    memory = march.memory(count)
    recognised = _recognised(march.model, pictures_found, march.conditions(count))
    if start is None:
        memory |= {"seed": seed, "count": count}
    _write(outputs, pictures_found, pictures, args.columns)
    outputs.write(".safetensors", remember(state, memory, march.model).save)
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
        *([] if recognised is None else [f"recognised as {ASKED[march.model.name]} asked for: {recognised} of {count}"]),
        f"values from {low:.3f} to {high:.3f}",
        *(f"wrote {path}" for path in outputs.written),
    ]
    return Answer(document, "\n".join(lines), args.json)


def _recognised(model: Model, pictures: torch.Tensor, conditions: list[Any]) -> int | None:
    """In how many pictures of an embedded model its classifier or judge reads the condition; None where none can be read."""
    import torch

    if model.name not in ASKED or not conditions:
        return None
    with torch.no_grad():
        pictures = pictures.detach().cpu().float().clamp(-1.0, 1.0)
        if model.name == "digits":
            from vsvf.apps.classifier import load_digits_classifier

            return int((load_digits_classifier()(pictures).argmax(dim=1) == torch.tensor(conditions)).sum())
        from vsvf.scenes.captions import parse
        from vsvf.scenes.judge import agreement, load_judge

        try:
            wanted = [parse(prompt) for prompt in conditions]
        except ValueError:  # words of the vocabulary, but no caption: nothing definite is asked for
            return None
        return sum(all(agreement(*pair).values()) for pair in zip(load_judge().read(pictures), wanted, strict=True))


def _write(outputs: Outputs, x: torch.Tensor, pictures: list[str], columns: int | None) -> None:
    from vsvf.apps.images import contact_sheet, save_image

    if len(pictures) > 1:
        for suffix, image in zip(pictures, x):
            outputs.write(suffix, partial(save_image, image))
    elif len(x) == 1:
        outputs.write(pictures[0], partial(save_image, x[0]))
    else:
        outputs.write(pictures[0], partial(save_image, contact_sheet(x, columns, scale=enlarged(x))))
