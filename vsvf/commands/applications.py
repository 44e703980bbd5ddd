"""What the commands that run over many images share: the model, its grid, run folders, how they end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import note
from vsvf.commands.common import UsageError, finite, positive, whole
from vsvf.commands.network import DTYPES, usable_device

if TYPE_CHECKING:
    from vsvf.apps.models import Model
    from vsvf.apps.run_folder import RunFolder
    from vsvf.grid import Grid

SPACINGS = ("leading", "linspace", "trailing", "karras", "log_snr", "sigma_bar")
NOT_REPEATED = ("out", "force", "json", "debug", "command")


def add_model_arguments(
    parser: argparse.ArgumentParser, guidance: str, *, model: str = "digits", conditions: bool = True, spacing: str = "leading"
) -> None:
    """The model (by default `model`), its grid (by default of `spacing`) and, if `conditions`, its condition and guidance."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=model,
        metavar="NAME",
        help=f"digits or scenes, which are embedded, or a folder that diffusers wrote (default {model})",
    )
    if conditions:
        group.add_argument("--label", type=whole(0), metavar="DIGIT", help="the class of every image")
        group.add_argument("--prompt", metavar="TEXT", help="the prompt of every image, for models that take prompts")
        group.add_argument("--captions", metavar="FILE", help="captions_val2014.json, CSV or text: a prompt for each image")
        group.add_argument("--guidance", type=finite, default=1.0, metavar="W", help=guidance)
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="the network's own precision (default float32)")
    group.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, … (default cpu)")
    group.add_argument(
        "--threads", type=positive, default=1, metavar="T", help="of this process (default 1): bits may depend on it"
    )
    grid = parser.add_argument_group("grid", "nodes of the model's own schedule")
    why = "leading, as published codes have it" if spacing == "leading" else spacing
    grid.add_argument("--spacing", choices=SPACINGS, default=spacing, help=f"(default {why})")
    grid.add_argument("--final", choices=("zero", "smallest"), default="smallest", help="where sampling ends (default smallest)")
    grid.add_argument("--steps-offset", type=whole(0), metavar="T", help="added to leading timesteps (Stable Diffusion: 1)")


def add_run_arguments(parser: argparse.ArgumentParser, folder: str) -> None:
    """--out, --force, --json."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", default=folder, metavar="FOLDER", help=f"the run's folder (default {folder}); the same command goes on"
    )
    group.add_argument("--force", action="store_true", help="replace the run that the folder holds")
    group.add_argument("--json", action="store_true", help="one JSON document on stdout; messages go to stderr")


def repeatable(args: argparse.Namespace) -> dict[str, Any]:
    """The options that `vsvf rerun` repeats; paths become absolute."""
    options = {key: value for key, value in vars(args).items() if key not in NOT_REPEATED}
    for key in ("inputs", "reference", "captions", "model", "mask", "pie"):
        value = options.get(key)
        if isinstance(value, list):
            options[key] = [_absolute(item) for item in value]
        elif isinstance(value, str):
            options[key] = _absolute(value)
    return json.loads(json.dumps(options))


def _absolute(text: str) -> str:
    return str(Path(text).resolve()) if Path(text).exists() else text


def make_model(args: argparse.Namespace) -> Model:
    """The model on its device; sets the number of threads."""
    import torch

    from vsvf.apps.model_names import model_by_name

    torch.set_num_threads(args.threads)
    model = model_by_name(args.model, getattr(torch, args.dtype), usable_device(args.device))
    for option, kind in (("label", "label"), ("prompt", "prompt")):
        if getattr(args, option, None) is not None and model.condition != kind:
            takes = "no condition" if model.condition == "none" else f"a {model.condition}"
            raise UsageError(f"--{option} does not go with {model.name}, which takes {takes}")
    return model


def condition_of(args: argparse.Namespace) -> Any | None:
    """--label or --prompt."""
    return args.label if args.label is not None else args.prompt


def check_march(
    args: argparse.Namespace, model: Model, methods: Iterable[str], steps: Iterable[int], conditions: Any | None
) -> None:
    """Refuse what a march would refuse, before the run's folder is made.

    Args:
        methods: names of formulas. steps: N. conditions: of pictures, or None.

    Raises:
        ValueError: a starter, an arithmetic or a condition that is not known, or a grid that is too short for a formula.
    """
    from vsvf.engine.floating import FLOATS
    from vsvf.formulas import by_name
    from vsvf.starter import LOWER_ORDER, starter_by_name

    if args.starter != LOWER_ORDER:
        starter_by_name(args.starter)
    if getattr(args, "arithmetic", "fixed") not in (*FLOATS, "fixed"):
        raise UsageError(f"--arithmetic {args.arithmetic} is not known; choose one of {', '.join(FLOATS)}, fixed")
    for count in steps:
        for method in methods:
            by_name(method).plan(grid_of(args, model, count))
    if conditions is not None:
        model.predict(list(conditions), args.guidance)


def model_settings(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """The part of a run's settings that the model and its grid decide."""
    keys = ("guidance", "dtype", "threads", "spacing", "final", "steps_offset", "label", "prompt")
    return {"model": model.name, "weights": model.fingerprint, **{key: getattr(args, key, None) for key in keys}}


def grid_of(args: argparse.Namespace, model: Model, steps: int) -> Grid:
    """The nodes of the model's schedule. Of a schedule whose sigma_bar is infinite at its end (zero SNR there), karras and log_snr
    nodes begin where as many leading timesteps do."""
    from vsvf.grid import Grid

    options: dict[str, Any] = {} if args.steps_offset is None else {"steps_offset": args.steps_offset}
    if args.spacing in ("karras", "log_snr") and model.schedule.sigma_bar_max == float("inf"):
        options["sigma_bar_max"] = float(Grid.from_schedule(model.schedule, steps, "leading", args.final).sigma_bar[-1])
    return Grid.from_schedule(model.schedule, steps, args.spacing, args.final, **options)


def say_resumed(run: RunFolder) -> None:
    """Notes on stderr when a run goes on."""
    if run.resumed:
        note(f"going on with the run in {run.path}")
        for change in run.changed_versions:
            note(f"{change}: bits may differ from those of the part done")


def report_problems(problems: Iterable[str]) -> int:
    """A line on stderr for each; the exit code, 1 if there are any."""
    found = list(dict.fromkeys(problems))
    for problem in found:
        print(f"vsvf: skipped: {problem}", file=sys.stderr)
    if found:
        print(
            f"vsvf: error: {len(found)} {'thing' if len(found) == 1 else 'things'} skipped; everything else is done",
            file=sys.stderr,
        )
    return 1 if found else 0
