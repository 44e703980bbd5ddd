"""The share of processor time that `vsvf fid` and `vsvf reconstruct` spend inside the network.

    python -m benchmarks.tables [--steps 20] [--model digits | --model FOLDER --pictures FOLDER]

Process time, not the clock's: other programs on the machine do not count. A first small run loads what is loaded once. Two shares:
of the network that the sampler asks, and of all networks, the autoencoder and the one whose features are compared with it. What is
outside all of them is work for each picture, whatever the steps: writing and reading it, SSIM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from vsvf.cli import main as command
from vsvf.predictors import Predictor

RUNS = {"fid": ["--formula", "ddim", "belm(2)"], "reconstruct": ["--formula", "belm(2)", "stable_belm(2)"]}
COUNTS = {"fid": 100, "reconstruct": 20}
WARM_UP = {
    "fid": ["--formula", "ddim", "--steps", "1", "--count", "20"],
    "reconstruct": ["--formula", "belm(2)", "--steps", "2", "--count", "1"],
}


class Spent:
    """Process time within calls of a method, calls within calls counted once, while a `with` block lasts.

    Args:
        of: the class. name: of the method. counts: which objects are meant; all if not given.
    """

    def __init__(self, of: type, name: str, counts: Callable[[Any], bool] = lambda _: True) -> None:
        self.of, self.name, self.counts = of, name, counts
        self.seconds, self.within = 0.0, False

    def __enter__(self) -> Spent:
        original = self.original = getattr(self.of, self.name)

        def timed(called: Any, *args: Any, **options: Any) -> Any:
            if self.within or not self.counts(called):
                return original(called, *args, **options)
            self.within, began = True, time.process_time()
            try:
                return original(called, *args, **options)
            finally:
                self.seconds += time.process_time() - began
                self.within = False

        setattr(self.of, self.name, timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self.of, self.name, self.original)


def network(module: nn.Module) -> bool:
    """Whether a module is (a part of) a network, and not a measure that torchmetrics makes a module."""
    return not type(module).__module__.startswith("torchmetrics")


def shares(arguments: list[str], out: Path) -> tuple[float, float, float]:
    """Seconds inside the sampler's network, inside all networks, and in all."""
    quiet = contextlib.redirect_stdout(io.StringIO())
    with Spent(Predictor, "epsilon") as asked, Spent(nn.Module, "__call__", network) as called, quiet:
        began = time.process_time()
        if command([*arguments, "--out", str(out)]):
            raise RuntimeError(f"{arguments[0]} failed")
        return asked.seconds, called.seconds, time.process_time() - began


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.tables", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of every sampling (default 20)")
    parser.add_argument("--model", default="digits", help="digits, scenes or a folder, as in the commands")
    parser.add_argument("--count", type=int, metavar="N", help="pictures (default 100 for fid, 20 for reconstruct)")
    parser.add_argument("--pictures", metavar="FOLDER", help="of a model that has none of its own")
    args = parser.parse_args(argv)
    own = {"fid": ["fid", "--model", args.model], "reconstruct": ["reconstruct", "--model", args.model]}
    if args.pictures is not None:
        own["fid"] += ["--reference", args.pictures, "--features", "scenes"]
        own["reconstruct"].insert(1, args.pictures)
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in RUNS.items():
            shares([*own[name], *WARM_UP[name]], Path(folder) / f"{name}-warm-up")
            size = ["--steps", str(args.steps), "--count", str(args.count or COUNTS[name])]
            asked, called, whole = shares([*own[name], *arguments, *size], Path(folder) / name)
            print(
                f"{name}: of {whole:.1f} s {100 * asked / whole:.1f} % inside the network that the sampler asks, "
                f"{100 * called / whole:.1f} % inside networks"
            )


if __name__ == "__main__":
    main()
