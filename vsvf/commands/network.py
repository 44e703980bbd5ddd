"""What `vsvf sample`, `invert` and `budget` share: the model, its conditions, the march, what a state remembers of them."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.common import (
    GRID_KEYS,
    OWN,
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

    from vsvf.apps.models import Model
    from vsvf.formula import Formula
    from vsvf.grid import Grid
    from vsvf.predictors import Predictor
    from vsvf.state import State

DTYPES = ("float64", "float32", "bfloat16", "float16")
CONDITIONS = ("label", "prompt")
KEYS = ("formula", "starter", "model", "label", "prompt", "guidance", "dtype")  # what a state remembers, besides the grid's


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
    network = parser.add_argument_group("model", "pictures of its own schedule, unless --schedule says another")
    network.add_argument(
        "--model",
        metavar="NAME",
        help="digits (default), handwritten digits of 28x28 pixels; scenes, a miniature Stable Diffusion of 64x64 (extra: "
        "diffusers); or a folder that diffusers wrote: Stable Diffusion, or an unconditional UNet of pictures",
    )
    network.add_argument("--label", type=_labels, metavar="DIGITS", help=label)
    network.add_argument("--prompt", nargs="+", metavar="TEXT", help="for models that take prompts: one, or several in turn")
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
        return []
    words = text.replace(",", " ").split()
    if not words or any(len(word) != 1 or not word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: give digits from 0 to 9, as in 3 or 0,1,2, or none")
    return [int(word) for word in words]


def in_turn(given: Sequence[Any], count: int) -> list[Any]:
    """`count` conditions: those given, in turn; none if there are none."""
    return [given[n % len(given)] for n in range(count)] if given else []


@dataclass(frozen=True)
class March:
    """What options, a state's memory and defaults decide together about a march of a model.

    Attributes:
        settings: those of `KEYS`. grid_settings: what makes the grid.
        model: the network and what belongs to it, on its device.
        formula, grid: made of the settings; the formula is None for a method that is none ("ddim_inversion").
    """

    settings: dict[str, Any]
    grid_settings: dict[str, Any]
    model: Model
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

    def conditions(self, count: int) -> list[Any]:
        """Labels or prompts of `count` samples; empty for none."""
        return in_turn(self.settings[self.model.condition], count) if self.model.condition in CONDITIONS else []

    def memory(self, count: int) -> dict[str, Any]:
        """What a state of `count` images is to remember."""
        kept = {key: self.settings[key] for key in KEYS if key not in CONDITIONS} | {"formula": self.name}
        conditions = {self.model.condition: self.conditions(count)} if self.model.condition in CONDITIONS else {}
        return kept | self.grid_settings | conditions

    def predictor(self, count: int, guidance: float | None = None) -> Predictor:
        """The network for `count` samples, with the guidance of the settings or another."""
        scale = self.settings["guidance"] if guidance is None else guidance
        conditions = self.conditions(count)
        if not conditions and scale != 1.0:
            kind = self.model.condition
            what = f"give its --{kind} too" if kind in CONDITIONS else f"{self.model.name} takes no condition"
            raise UsageError(f"--guidance {scale:g} pushes towards a condition: {what}")
        return self.model.predict(conditions or None, scale)


def decide(args: argparse.Namespace, defaults: Mapping[str, Any], saved: Mapping[str, Any] | None = None) -> March:
    """What was given, over what a state remembers, over the defaults.

    ``defaults`` has the formula and the starter, "guidance" for a conditioned run, and "count", for how many samples the model's
    usual conditions are taken where none are given (0: none).

    Raises:
        UsageError: options that do not go together. ValueError: a model, a formula or a grid that cannot be.
    """
    from vsvf import formulas
    from vsvf.apps.roundtrip import DDIM_INVERSION

    given, saved = given_settings(args, (*GRID_KEYS, *KEYS)), saved or {}
    settings = {
        "model": "digits",
        "dtype": "float32",
        **{key: defaults[key] for key in ("formula", "starter", "guidance")},
        **{key: saved[key] for key in KEYS if key in saved},
        **{key: given[key] for key in KEYS if key in given},
    }
    model = make_model(settings["model"], settings["dtype"], args.device)
    settings["model"] = model.name
    for kind in CONDITIONS:
        if kind in given and model.condition != kind:
            takes = "no condition" if model.condition == "none" else f"a {model.condition}"
            raise UsageError(f"--{kind} does not go with {model.name}, which takes {takes}")
        if kind == model.condition and kind not in settings:
            settings[kind] = model.usual(defaults["count"]) or []
    if not settings.get(model.condition) and "guidance" not in given:
        settings["guidance"] = 1.0
    chosen = grid_settings(given, saved, "linear" if model.name == "digits" else OWN)
    formula = None if settings["formula"] == DDIM_INVERSION else formulas.by_name(settings["formula"])
    return March(settings, chosen, model, make_grid(chosen, model.schedule), formula)


def make_model(name: str, dtype: str, device: str) -> Model:
    """A model by its name or folder, on a device."""
    import torch

    from vsvf.apps.model_names import model_by_name

    return model_by_name(name, getattr(torch, dtype), usable_device(device))


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


def draw_noise(
    shape: Sequence[int], seed: int, predictor: Predictor, grid: Grid | float, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """x_N of this shape, float64, from a generator of its own on the CPU: a seed gives the same noise on every device."""
    import torch

    from vsvf import predictors

    generator = torch.Generator().manual_seed(seed)
    return predictors.noise(tuple(shape), predictor, grid, generator=generator, dtype=torch.float64, device=device)


def enlarged(x: torch.Tensor) -> int:
    """How often pictures (B, C, H, W) are enlarged on a sheet: small ones 4 times, of 64 pixels twice, larger ones not."""
    return max(1, min(4, 128 // x.shape[-1]))


def iteration_options(args: argparse.Namespace) -> dict[str, Any]:
    """tolerance and max_iterations, as far as given."""
    given = {"tolerance": args.tolerance, "max_iterations": args.max_iterations}
    return {key: value for key, value in given.items() if value is not None}


# ---- what a state remembers ----------------------------------------------------------------------------------


def remember(state: State, settings: Mapping[str, Any], model: Model) -> State:
    """The state with the settings in its record, so that another command can go on from it without options."""
    notes = {**state.record.notes, "command": {**settings, "network": digest(model)}}
    return replace(state, record=replace(state.record, notes=notes))


def recall(path: str | Path) -> tuple[State, dict[str, Any]]:
    """A state file, and the settings that it remembers (its formula at least).

    Raises:
        FileNotFoundError, StateFileError: no such file, or a damaged one.
    """
    from vsvf.state import State

    state = State.load(path)
    saved = dict(state.record.notes.get("command", {}))
    if not saved:
        warnings.warn(
            f"{path} does not say how it was made, as files of `vsvf sample` do: the options must give grid, model, condition, "
            "guidance",
            stacklevel=2,
        )
    saved.setdefault("formula", state.record.formula)
    return state, saved


def fitted(state: State, saved: Mapping[str, Any], path: str | Path, march: March, device: torch.device) -> State:
    """The state on a device, if it is one of the march's model.

    Raises:
        ValueError: states of another shape.
    """
    shape = march.model.latents
    if state.values.ndim != 5 or tuple(state.values.shape[2:]) != shape:
        wanted = ", ".join(str(n) for n in ("k", "B", *shape))
        raise ValueError(
            f"{path} holds states of shape {tuple(state.values.shape)}, not ({wanted}): not {march.model.name}, and --model names "
            "another"
        )
    if saved.get("network", digest(march.model)) != digest(march.model):
        warnings.warn(f"{path} was made with other weights of {march.model.name}: nothing will fit exactly", stacklevel=2)
    tape = {row: cell.to(device) for row, cell in state.tape.items()}
    return replace(state, values=state.values.to(device), tape=tape)


def digest(model: Model) -> str:
    """The part of a model's fingerprint that its weights decide, whatever the dtype."""
    return model.fingerprint.partition("-")[0]
