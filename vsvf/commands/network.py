"""What `vsvf sample` and `vsvf invert` share: the embedded network, its settings, what a state remembers of them."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.common import (
    GRID_KEYS,
    UsageError,
    add_grid_arguments,
    describe_grid,
    finite,
    given_settings,
    grid_settings,
    make_grid,
    positive,
)

if TYPE_CHECKING:
    import torch

    from vsvf.formula import Formula
    from vsvf.grid import Grid
    from vsvf.predictors import Predictor
    from vsvf.state import State

DTYPES = ("float64", "float32", "bfloat16", "float16")
SHAPE = (1, 28, 28)
KEYS = ("formula", "starter", "label", "guidance", "dtype")  # the settings that a state remembers, besides the grid's
NO_LABEL: list[int] = []


def add_network_arguments(parser: argparse.ArgumentParser, label: str, guidance: str, formula: str) -> None:
    """The options of a march with the embedded network, all None when not given."""
    method = parser.add_argument_group("method")
    method.add_argument("--formula", metavar="NAME", help=f"the sampling formula (default {formula}); the list is below")
    method.add_argument(
        "--starter",
        metavar="NAME",
        help="how the first k states of a k-step formula are made from one: ddim, heun, rk4, with sub-steps as in rk4:8, or "
        "lower_order (default ddim)",
    )
    method.add_argument(
        "--arithmetic",
        metavar="NAME",
        help="the solver's numbers: float64, float32, bfloat16, float16, or fixed for integers that return every bit "
        "(default float64; a saved state's own)",
    )
    method.add_argument("--tolerance", type=finite, metavar="X", help="when implicit formulas or inverses count as solved")
    method.add_argument("--max-iterations", type=positive, metavar="N", help="how often these may iterate (default 100)")
    network = parser.add_argument_group("network", "a small class-conditional network of handwritten digits, 28x28 pixels")
    network.add_argument("--label", type=_labels, metavar="DIGITS", help=label)
    network.add_argument("--guidance", type=finite, metavar="W", help=guidance)
    network.add_argument("--dtype", choices=DTYPES, help="the network's own precision (default float32)")
    network.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, … (default cpu)")
    add_grid_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser, names: str) -> None:
    """--out, --force, --json."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", metavar="DIR|PREFIX", help=f"where the files go: a folder (existing, or ending in /), or how {names} begin"
    )
    group.add_argument("--force", action="store_true", help="overwrite files that exist (otherwise that is an error)")
    group.add_argument("--json", action="store_true", help="one JSON document on stdout; messages go to stderr")


def _labels(text: str) -> list[int]:
    if text.strip().lower() == "none":
        return NO_LABEL
    words = text.replace(",", " ").split()
    if not words or any(len(word) != 1 or not word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: give digits from 0 to 9, as in 3 or 0,1,2, or none")
    return [int(word) for word in words]


def labels_for(labels: list[int], count: int) -> list[int]:
    """`count` labels: those given, in turn; none if there are none."""
    return [labels[n % len(labels)] for n in range(count)] if labels else NO_LABEL


@dataclass(frozen=True)
class March:
    """What options, a state's memory and defaults decide together about a march with the embedded network.

    Attributes:
        settings: those of `KEYS`. grid_settings: what makes the grid.
        formula, grid: made of these; the formula is None for a method that is none ("ddim_inversion").
    """

    settings: dict[str, Any]
    grid_settings: dict[str, Any]
    grid: Grid
    formula: Formula | None

    @property
    def name(self) -> str:
        """The formula's full name."""
        return str(self.settings["formula"]) if self.formula is None else self.formula.name

    @property
    def heading(self) -> str:
        """ "belm(2) on linear, trailing, final zero: 50 steps, …"."""
        return f"{self.name} on {describe_grid(self.grid)}"

    def memory(self, count: int) -> dict[str, Any]:
        """What a state of `count` images is to remember."""
        kept = {key: self.settings[key] for key in KEYS if key != "label"} | {"formula": self.name}
        return kept | self.grid_settings | {"label": labels_for(self.settings["label"], count)}

    def predictor(self, count: int, device: torch.device) -> Predictor:
        """The network as these settings want it."""
        return make_predictor(self.settings, count, device)


def decide(args: argparse.Namespace, defaults: Mapping[str, Any], saved: Mapping[str, Any] | None = None) -> March:
    """What was given, over what a state remembers, over the defaults.

    Raises:
        UsageError: options that do not go together. ValueError: a formula or a grid that cannot be.
    """
    from vsvf import formulas
    from vsvf.apps.roundtrip import DDIM_INVERSION

    given, saved = given_settings(args, (*GRID_KEYS, *KEYS)), saved or {}
    settings = {
        **defaults,
        **{key: saved[key] for key in KEYS if key in saved},
        **{key: given[key] for key in KEYS if key in given},
    }
    if settings["label"] == NO_LABEL and "guidance" not in given:
        settings["guidance"] = 1.0
    chosen = grid_settings(given, saved)
    formula = None if settings["formula"] == DDIM_INVERSION else formulas.by_name(settings["formula"])
    return March(settings, chosen, make_grid(chosen), formula)


def make_predictor(settings: Mapping[str, Any], count: int, device: torch.device) -> Predictor:
    """The embedded network with the labels and the guidance of the settings."""
    import torch

    from vsvf import predictors

    labels = labels_for(settings["label"], count)
    if not labels and settings["guidance"] != 1.0:
        raise UsageError(f"--guidance {settings['guidance']:g} pushes towards a class: give its --label too")
    return predictors.digits(
        torch.tensor(labels) if labels else None,
        settings["guidance"],
        dtype=getattr(torch, settings["dtype"]),
        device=device,
    )


def usable_device(name: str) -> torch.device:
    """The device, if tensors can be put there. Raises ValueError."""
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # torch's backends fail in many ways where they are not built in
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from None
    return device


def draw_noise(count: int, seed: int, predictor: Predictor, grid: Grid, device: torch.device) -> torch.Tensor:
    """x_N, (count, 1, 28, 28) float64, from a generator of its own on the CPU: a seed gives the same noise on every device."""
    import torch

    from vsvf import predictors

    generator = torch.Generator().manual_seed(seed)
    return predictors.noise((count, *SHAPE), predictor, grid, generator=generator, dtype=torch.float64, device=device)


def iteration_options(args: argparse.Namespace) -> dict[str, Any]:
    """tolerance and max_iterations, as far as given."""
    given = {"tolerance": args.tolerance, "max_iterations": args.max_iterations}
    return {key: value for key, value in given.items() if value is not None}


# ---- what a state remembers ----------------------------------------------------------------------------------


def remember(state: State, settings: Mapping[str, Any]) -> State:
    """The state with the settings in its record, so that another command can go on from it without options."""
    notes = {**state.record.notes, "command": {**settings, "network": network_digest()}}
    return replace(state, record=replace(state.record, notes=notes))


def recall(path: str | Path, device: torch.device) -> tuple[State, dict[str, Any]]:
    """A state file of digits, put on a device, and the settings that it remembers (its formula at least).

    Raises:
        FileNotFoundError, StateFileError: no such file, or a damaged one. ValueError: not a state of 28x28 digits.
    """
    from vsvf.state import State

    state = State.load(path)
    if state.values.ndim != 5 or tuple(state.values.shape[2:]) != SHAPE:
        raise ValueError(f"{path} holds states of shape {tuple(state.values.shape)}, not (k, B, 1, 28, 28): not digits")
    saved = dict(state.record.notes.get("command", {}))
    if saved.get("network", network_digest()) != network_digest():
        warnings.warn(f"{path} was made with other weights of the embedded network: nothing will fit exactly", stacklevel=2)
    if not saved:
        warnings.warn(
            f"{path} does not say how it was made, as files of `vsvf sample` do: the options must give grid, label, guidance",
            stacklevel=2,
        )
    saved.setdefault("formula", state.record.formula)
    tape = {row: cell.to(device) for row, cell in state.tape.items()}
    return replace(state, values=state.values.to(device), tape=tape), saved


def network_digest() -> str:
    """First 16 hexadecimal digits of the SHA-256 of the embedded network's weights."""
    weights = (resources.files("vsvf") / "assets" / "digits.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest()[:16]
