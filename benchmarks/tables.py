"""The share of processor time that `vsvf fid` and `vsvf reconstruct` spend inside the network.

    python -m benchmarks.tables [--steps 20] [--model digits]

Process time, not the clock's: other programs on the machine do not count. A first small run loads what is loaded once. What is
outside is work for each picture, whatever the steps: writing and reading it, the judge's features, SSIM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vsvf.cli import main as command
from vsvf.predictors import Predictor

RUNS = {
    "fid": ["fid", "--formula", "ddim", "belm(2)", "--count", "100"],
    "reconstruct": ["reconstruct", "--formula", "belm(2)", "stable_belm(2)", "--count", "20"],
}
WARM_UP = {
    "fid": ["fid", "--formula", "ddim", "--steps", "1", "--count", "20"],
    "reconstruct": ["reconstruct", "--formula", "belm(2)", "--steps", "2", "--count", "1"],
}


@contextlib.contextmanager
def inside() -> Iterator[list[float]]:
    """Sums the process time inside `Predictor.epsilon`, in the list's one entry."""
    original, spent = Predictor.epsilon, [0.0]

    def timed(self: Predictor, *args: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return original(self, *args, **options)
        finally:
            spent[0] += time.process_time() - began

    Predictor.epsilon = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        Predictor.epsilon = original  # type: ignore[method-assign]


def share(arguments: list[str], out: Path) -> tuple[float, float]:
    """Seconds inside the network and in all."""
    with inside() as spent, contextlib.redirect_stdout(io.StringIO()):
        began = time.process_time()
        if command([*arguments, "--out", str(out)]):
            raise RuntimeError(f"{arguments[0]} failed")
        return spent[0], time.process_time() - began


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.tables", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of every sampling (default 20)")
    parser.add_argument("--model", default="digits", help="digits, scenes or a folder, as in the commands")
    args = parser.parse_args(argv)
    own = ["--model", args.model]
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in RUNS.items():
            share([*WARM_UP[name], *own], Path(folder) / f"{name}-warm-up")
            network, whole = share([*arguments, *own, "--steps", str(args.steps)], Path(folder) / name)
            print(f"{name}: {network:.1f} s of {whole:.1f} s inside the network, {100 * network / whole:.1f} %")


if __name__ == "__main__":
    main()
