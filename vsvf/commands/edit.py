"""`vsvf edit`: another picture from a picture, by another prompt."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer, note
from vsvf.commands.applications import (
    add_model_arguments,
    add_run_arguments,
    grid_of,
    make_model,
    model_settings,
    repeatable,
    say_resumed,
)
from vsvf.commands.common import FORMULAS, UsageError, finite, positive

if TYPE_CHECKING:
    import torch

    from vsvf.apps.edit import Edited, Settings
    from vsvf.apps.models import Model

DESCRIPTION = """\
Edit a picture without training: take it up to its noise under a prompt that describes it, and down again under another, beside the
source, which retraces its way. Attention layers, a mask or both say what may change."""

EXAMPLES = f"""\
examples:
  vsvf edit own:3 --target 'a blue six on green dots'                       a picture of the model's own, its caption as source
  vsvf edit photo.png --source 'a cat on a sofa' --target 'a dog on a sofa' --model my-stable-diffusion \\
            --guidance 7.5 --spacing leading --formula pec_belm      strong guidance on timesteps
  vsvf edit own:3 --target '…' --blend auto --maps                              only where the changed words look
  vsvf edit own:30 --target 8 --model digits --method resample                  class to class

methods:
  direct            Direct Inversion with prompt-to-prompt: the source branch retraces itself (default)
  p2p               prompt-to-prompt with the source at the target's guidance
  resample          invert and sample, nothing else
  null_text negative_prompt masactrl        the baselines of those names (null_text with --formula ddim)

what it writes into its folder:
  edit.png reconstruction.png     the edit, and the source branch's picture (for resample: the picture through the autoencoder)
  strip.png                       the picture, its reconstruction, the edit
  maps-WORD.png                   with --maps, where each word of the target's prompt looks
  results.json                    numbers: distance to the picture, error of the source branch, evaluations
  run.json                        versions, options, the model's fingerprint

--formula takes also ddim (DDIM inversion up, the source pinned to it) and the Runge-Kutta methods ees25, heun, rk4.

{FORMULAS}"""

SHARED = (
    "guidance_up", "starter", "start", "source_branch", "attention", "cross_until", "self_until", "self_halvings", "arithmetic",
    "apart",
)  # fmt: skip
KEYS = (
    "inputs",
    "steps",
    "source",
    "target",
    "mask",
    "method",
    "formula",
    "guidance",
    "strength",
    "reweight",
    "blend",
    "maps",
    *SHARED,
)


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """How edits are made, as far as `vsvf edit` and `vsvf edit-bench` share it."""
    group = parser.add_argument_group("method")
    group.add_argument("--guidance-up", type=finite, default=1.0, metavar="W", help="guidance of the inversion (default 1)")
    group.add_argument("--starter", default="heun", metavar="NAME", help="of the states that a picture lacks (default heun)")
    group.add_argument("--start", default="source", metavar="WAY", help="the target's first states: source, starter or shifted")
    group.add_argument("--source-branch", default="auto", metavar="WAY", help="replay, pinned or auto (replay where that is exact)")
    group.add_argument("--attention", default="auto", metavar="KIND", help="replace, refine, none or auto (default)")
    group.add_argument("--cross-until", type=finite, default=0.4, metavar="S", help="share of the nodes (default 0.4)")
    group.add_argument("--self-until", type=finite, default=0.6, metavar="S", help="share of the nodes (default 0.6)")
    group.add_argument(
        "--self-halvings",
        type=positive,
        metavar="N",
        help="self-attention up to (h/2^N)(w/2^N) pixels (default: the model's coarsest)",
    )
    group.add_argument("--arithmetic", default="float64", metavar="NAME", help="of the source's states (default float64)")
    group.add_argument("--apart", action="store_true", help="evaluate the source by itself: its bits then depend on no batch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf edit`."""
    parser.add_argument("inputs", metavar="IMAGE|own:N", help="a file, or one of the model's own pictures")
    parser.add_argument("--source", metavar="TEXT", help="the prompt that describes it (own pictures have one)")
    parser.add_argument("--target", required=True, metavar="TEXT", help="the prompt to change to")
    parser.add_argument("--method", default="direct", metavar="NAME", help="(default direct)")
    parser.add_argument("--formula", default="stable_belm(3)", metavar="NAME", help="(default stable_belm(3))")
    parser.add_argument("--guidance", type=finite, default=3.0, metavar="W", help="of the way down (default 3)")
    parser.add_argument("--strength", type=finite, default=1.0, metavar="S", help="share of the way that is gone (default 1)")
    parser.add_argument("--steps", type=positive, default=50, metavar="N", help="(default 50)")
    parser.add_argument("--mask", metavar="FILE", help="white where pixels may change; of the pictures' size")
    parser.add_argument("--blend", nargs="+", default=[], metavar="WORD", help="change only where these words look, or auto")
    parser.add_argument("--reweight", nargs="+", default=[], metavar="WORD=W", help="weights of words of the target's prompt")
    parser.add_argument("--maps", action="store_true", help="write attention maps")
    add_method_arguments(parser)
    add_model_arguments(parser, "", model="scenes", conditions=False, spacing="log_snr")
    add_run_arguments(parser, "edit")


def settings_of(args: argparse.Namespace, **more: Any) -> Settings:
    """The settings that the options of `add_method_arguments` say.

    Raises:
        UsageError: what `Settings` refuses.
    """
    from vsvf.apps.edit import Settings

    keys = ("guidance_up", "starter", "start", "attention", "cross_until", "self_until", "self_halvings", "arithmetic", "apart")
    try:
        return Settings(**{key: getattr(args, key) for key in keys}, source=args.source_branch, **more)
    except ValueError as error:
        raise UsageError(str(error)) from None


def run(args: argparse.Namespace) -> Answer:
    """Edit and write."""
    from vsvf.apps.edit.editing import edit, prepare
    from vsvf.apps.run_folder import RunFolder

    chosen = settings_of(
        args,
        method=args.method,
        formula=args.formula,
        guidance=args.guidance,
        strength=args.strength,
        blend_words=tuple(args.blend),
        reweight=dict(_weight(text) for text in args.reweight),
        maps=args.maps,
    )
    model = make_model(args)
    picture, own = _picture(model, args.inputs)
    source = own if args.source is None else args.source
    if source is None:
        raise UsageError("--source must say what the picture shows")
    pair = [_condition(model, text) for text in (source, args.target)]
    mask = None if args.mask is None else _mask(model, args.mask)
    grid = grid_of(args, model, args.steps)
    prepare(model, [pair[0]], [pair[1]], grid, chosen, mask)
    settings = {**model_settings(args, model), **{key: getattr(args, key) for key in KEYS}}
    with RunFolder(args.out, "edit", repeatable(args), settings, args.force) as folder:
        say_resumed(folder)
        x = model.codec.encode(picture.to(args.device).double()).double()
        edited = edit(model, x, [pair[0]], [pair[1]], grid, chosen, mask)
        results, files = _write(folder, model, picture, x, edited)
        results = {"source": str(pair[0]), "target": str(pair[1]), **results}
        folder.write_json("results.json", results)
        folder.finish()
        document = {"command": "edit", "folder": folder.path, **settings, **results, "files": [folder / name for name in files]}
        error = results["source_error"]
        lines = [
            f"{args.method}, {args.formula}, {grid.name}, from node {edited.node} of {grid.steps}: {pair[0]!r} to {pair[1]!r}",
            f"{edited.nfe_up} calls of the network up, {edited.nfe_down} down"
            + (f", {edited.extra} more evaluations" if edited.extra else ""),
            "no source branch" if error is None else f"the source branch returns to the picture's x_0 within {error:.2g}",
            f"MSE to the picture: the edit {results['edit_mse']:.3g}, the autoencoder alone {results['floor_mse']:.3g}",
            f"wrote {folder.path}: {', '.join(files)}",
        ]
        return Answer(document, "\n".join(lines), args.json)


def _weight(text: str) -> tuple[str, float]:
    word, sign, number = text.rpartition("=")
    if not sign or not word:
        raise UsageError(f"--reweight takes WORD=W, got {text!r}")
    try:
        return word, finite(number)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--reweight {text}: {error}") from None


def _condition(model: Model, text: str) -> Any:
    if model.condition == "label":
        if not str(text).isdecimal():
            raise UsageError(f"{model.name} takes labels from 0 to 9, got {text!r}")
        return int(text)
    return str(text)


def _picture(model: Model, text: str) -> tuple[torch.Tensor, Any]:
    """(1, C, H, W) and the condition that comes with it, None for a file."""
    from vsvf.apps.budget import unrounded
    from vsvf.apps.images import read_image

    match = re.fullmatch(r"own:(\d+)", text)
    if match is None:
        image, changes = read_image(Path(text), model.pictures[1:], model.mode)
        if changes:
            note(f"{text}: {', '.join(changes)}")
        return unrounded(image), None
    if model.own is None:
        raise UsageError(f"{model.name} has no pictures of its own: give an image file")
    pictures, conditions = model.own()
    number = int(match[1])
    if number >= len(pictures):
        raise UsageError(f"{text}: {model.name} has the pictures 0 … {len(pictures) - 1}")
    return pictures[number][None], conditions[number]


def _mask(model: Model, path: str) -> torch.Tensor:
    from vsvf.apps.images import load_image

    mask = load_image(path, mode="L")[0, 0]
    if tuple(mask.shape) != tuple(model.pictures[1:]):
        height, width = model.pictures[1:]
        size = f"{mask.shape[0]} x {mask.shape[1]}"
        raise ValueError(f"{path}: a mask must be {height} x {width} as the pictures are, this one is {size}")
    return (mask + 1.0) / 2.0


def _write(folder: Any, model: Model, picture: torch.Tensor, x: torch.Tensor, edited: Edited) -> tuple[dict[str, Any], list[str]]:
    import torch

    from vsvf.apps.images import contact_sheet, save_image
    from vsvf.apps.metrics import mse

    given = picture.double().cpu()
    source = x if edited.source is None else edited.source
    found, back, through = (model.codec.decode(z).double().cpu() for z in (edited.x, source, x))
    files = ["edit.png", "reconstruction.png", "strip.png", "results.json"]
    for name, image in (("edit.png", found[0]), ("reconstruction.png", back[0])):
        save_image(torch.nan_to_num(image), folder / name)
    strip = torch.nan_to_num(torch.cat([given, back, found]))
    save_image(contact_sheet(strip, 3, scale=max(1, 192 // strip.shape[-1])), folder / "strip.png")
    if edited.maps and edited.tokens is not None:
        files += _write_maps(folder, edited, given.shape[-1])
    results = {
        "edit_mse": mse(found, given)[0],
        "reconstruction_mse": mse(back, given)[0],
        "floor_mse": mse(through, given)[0],
        "source_error": edited.source_error,
        "node": edited.node,
        "nfe_up": edited.nfe_up,
        "nfe_down": edited.nfe_down,
        "extra": edited.extra,
    }
    return results, files


def _write_maps(folder: Any, edited: Edited, width: int) -> list[str]:
    """One picture per word of the target's prompt: the map at the coarsest resolution outside the middle block, enlarged."""
    import torch.nn.functional as F

    from vsvf.apps.edit.alignment import MARKS
    from vsvf.apps.images import save_image

    assert edited.maps is not None and edited.tokens is not None
    maps = edited.maps[min(edited.maps)][1][0]
    names = []
    for number, (word, places) in enumerate(zip(edited.tokens[0][1].words, edited.tokens[0][1].places)):
        heat = maps[..., list(places)].sum(-1)
        heat = F.interpolate(heat[None, None], (max(width, 64), max(width, 64)), mode="nearest")[0]
        name = f"maps-{number:02d}-{re.sub(r'[^0-9a-z]', '', word.strip(MARKS)) or 'word'}.png"
        save_image(2.0 * heat / heat.max().clamp(min=1e-30) - 1.0, folder / name)
        names.append(name)
    return names
