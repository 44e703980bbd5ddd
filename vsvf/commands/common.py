"""What the commands share: grids from arguments, settings, output files. Imports no torch."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsvf.grid import Grid
    from vsvf.schedule import Schedule

OWN = "own"  # a schedule setting: that of the model, where it is not named by an option
SCHEDULES = ("linear", "scaled_linear", "cosine", "edm", "rectified_flow")
SPACINGS = ("leading", "linspace", "trailing", "karras", "log_snr", "sigma_bar")
GRID_KEYS = ("nodes", "schedule", "steps", "spacing", "final", "steps_offset", "rho", "sigma_bar_max")

FORMULAS = """\
formulas (quote the parentheses for the shell):
  ddim                          Euler's method, order 1
  adams_bashforth(k) deis(k)    explicit multistep, order k
  dpm_solver_pp(2|3)            DPM-Solver++ multistep
  unipc(p)                      UniPC, predictor and corrector from one evaluation, p = 1, 2, 3
  adams_moulton(k) bdf(k)       implicit
  belm(k)                       O-BELM: exactly invertible, highest order; stable for k = 2 only
  stable_belm(k)                exactly invertible and zero-stable both ways, k = 2 … 6
  root_placed_belm((z,…),g)     the same with your own roots and exponent; …,r,q) modes and slopes in sigma_bar^(1/r), ^(1/q)
  coarse_belm                   the three-step member for coarse grids
  power_fitted_belm(p,t,g,b)    the same for x_bar/sigma_bar^p, roots e^(+-i pi t)
  corrected(FORMULA,p,M)        a formula and one more row at the last node: halves the error of leading timesteps
  pec_belm pec_belm(p,f,t,g,b)  predictor and corrector from one evaluation, exactly invertible: for strong guidance
  bdia(gamma) edict(p) mccallum_foster(coupling)        exactly invertible, order 1 or 2
"""


class UsageError(Exception):
    """Arguments that do not go together: exit code 2."""


# ---- grids ---------------------------------------------------------------------------------------------------


def add_grid_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that make a grid, all None when not given."""
    group = parser.add_argument_group(
        "grid", "the noise levels sigma_bar_0 < … < sigma_bar_N (index 0 = data) between which the steps are taken"
    )
    group.add_argument("--nodes", type=_numbers, metavar="S0,S1,…", help="your own nodes, increasing")
    group.add_argument(
        "--schedule", type=_choice(SCHEDULES), metavar="NAME", help=f"noise schedule: {', '.join(SCHEDULES)} (default: the model's)"
    )
    group.add_argument("--steps", type=whole(1, MOST_STEPS), metavar="N", help="number of steps (default 50)")
    group.add_argument(
        "--spacing",
        type=_choice(SPACINGS),
        metavar="NAME",
        help=f"how the nodes are spread: {', '.join(SPACINGS)} (default trailing; karras for schedules without timesteps)",
    )
    group.add_argument(
        "--final",
        type=_choice(("zero", "smallest")),
        metavar="NAME",
        help="where sampling ends: zero = clean data, smallest = the schedule's smallest sigma_bar (default zero)",
    )
    group.add_argument("--steps-offset", type=whole(0), metavar="T", help="added to leading timesteps (Stable Diffusion: 1)")
    group.add_argument("--rho", type=finite, metavar="R", help="exponent of the karras spacing (default 7)")
    group.add_argument("--sigma-bar-max", type=finite, metavar="S", help="start below the schedule's largest noise level")


def given_settings(args: argparse.Namespace, keys: tuple[str, ...]) -> dict[str, Any]:
    """Those options that the user gave."""
    return {key: getattr(args, key) for key in keys if getattr(args, key, None) is not None}


def grid_settings(given: Mapping[str, Any], saved: Mapping[str, Any] | None = None, schedule: str = "linear") -> dict[str, Any]:
    """The grid's settings: what was given, over what a state remembers, over the defaults, `schedule` among them.

    Raises:
        UsageError: own nodes and options of a schedule at once.
    """
    scheduled = [key for key in GRID_KEYS if key in given and key != "nodes"]
    if "nodes" in given:
        if scheduled:
            raise UsageError(f"--nodes gives the whole grid and does not go with --{scheduled[0].replace('_', '-')}")
        return {"nodes": given["nodes"]}
    known = {key: saved[key] for key in GRID_KEYS if saved and saved.get(key) is not None}
    if scheduled:
        known.pop("nodes", None)
    if "nodes" in known:
        return {"nodes": known["nodes"]}
    settings = {"schedule": schedule, "steps": 50, "final": "zero", **known, **{key: given[key] for key in scheduled}}
    settings.setdefault("spacing", "karras" if settings["schedule"] in ("edm", "rectified_flow") else "trailing")
    return settings


def make_grid(settings: Mapping[str, Any], own: Schedule | None = None) -> Grid:
    """The grid of `grid_settings`; `own` is the model's schedule."""
    from vsvf.grid import Grid
    from vsvf.schedule import Schedule

    if "nodes" in settings:
        return Grid.from_sigma_bar(settings["nodes"])
    options = {key: settings[key] for key in ("steps_offset", "rho", "sigma_bar_max") if key in settings}
    schedule = own if own is not None and settings["schedule"] == OWN else getattr(Schedule, settings["schedule"])()
    return Grid.from_schedule(schedule, settings["steps"], settings["spacing"], settings["final"], **options)


def describe_grid(grid: Grid) -> str:
    """ "linear, trailing, final zero: 50 steps, sigma_bar 0 to 157.4"."""
    return f"{grid.name}: {grid.steps} steps, sigma_bar {grid.sigma_bar[0]:.4g} to {grid.sigma_bar[-1]:.4g}"


def images(count: int) -> str:
    """ "1 image", "2 images"."""
    return "1 image" if count == 1 else f"{count} images"


# ---- types of arguments --------------------------------------------------------------------------------------


def whole(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """A reader of whole numbers in a range."""
    bounds = f"from {low} to {high}" if high < 2**63 - 1 else f"from {low} on, below 2^63"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # not a number, or one of thousands of digits
            raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number {bounds}")
        return value

    return read


positive, seed = whole(1), whole(0)
MOST_STEPS = 100_000  # more than any table has; a million steps would be minutes of a march that nobody wants


def finite(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a finite number")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _numbers(text: str) -> list[float]:
    return [finite(word) for word in text.replace(",", " ").split()]


def _choice(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        name = text.strip().lower().replace("-", "_")
        if name not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} is not known; choose one of {', '.join(allowed)}")
        return name

    return convert


# ---- output --------------------------------------------------------------------------------------------------


def check_output(path: str | os.PathLike[str], force: bool, otherwise: str) -> None:
    """Refuse a file that cannot be written, or that exists and is not to be replaced.

    Raises:
        ValueError: it exists already. OSError: it is no file, or its folder is not there or cannot be written to.
    """
    from vsvf.files import writable_target

    target = writable_target(path)
    if target.exists() and not force:
        raise ValueError(f"{path} exists already; --force overwrites it, {otherwise}")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"the folder {target.parent} cannot be written to")


class Outputs:
    """The files that a command will write: refused together before the work, written one by one after it.

    Args:
        out: --out: an existing folder or a name that ends in "/" (a folder, made if need be), else the beginning of the files'
            names; None is the working directory.
        stem: how the files are called in a folder.
        suffixes: their endings, as in ".png".
        force: overwrite.

    Raises:
        ValueError: a file exists already and `force` is not given. OSError: the folder cannot be.
    """

    def __init__(self, out: str | None, stem: str, suffixes: list[str], force: bool) -> None:
        self.make_folder = out is not None and out.endswith(("/", os.sep))
        if out is None:
            base = Path(stem)
        elif self.make_folder or Path(out).is_dir():
            base = Path(out) / stem
        else:
            base = Path(out)
            if base.suffix.lower() in (".png", ".safetensors"):
                base = base.with_suffix("")
        self.paths = {suffix: base.with_name(base.name + suffix) for suffix in suffixes}
        self.written: list[Path] = []
        folder = base.parent
        existing = folder
        while self.make_folder and not os.path.lexists(existing):
            existing = existing.parent
        if not existing.is_dir():
            fix = "is not a folder" if existing.exists() else "does not exist (end --out with / to have a folder made)"
            raise FileNotFoundError(f"the folder {existing} {fix}")
        if not os.access(existing, os.W_OK):
            raise PermissionError(f"the folder {existing} cannot be written to")
        for path in self.paths.values() if folder.is_dir() else ():
            check_output(path, force, "--out writes elsewhere")

    def write(self, suffix: str, save: Callable[[Path], None]) -> None:
        """Write one file with `save(path)`; on failure say which files are complete."""
        path = self.paths[suffix]
        try:
            if self.make_folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            save(path)
        except OSError as error:
            done = f"; complete already: {', '.join(map(str, self.written))}" if self.written else ""
            raise OSError(f"could not write {path}: {error.strerror or error}{done}") from error
        self.written.append(path)
