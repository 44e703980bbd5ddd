"""Time and peak memory of a gradient through sampling, against the number of steps, for the three ways to find the states again.

Every measurement is a process of its own. Memory is the growth of its peak resident set from just before the march (after one
short march with its gradient, so that libraries and the network are loaded) to after the backward pass; time is processor time,
beside that of a plain march of the same steps in the same process.

    python -m benchmarks.gradient [--steps 10 100 1000] [--ways reversible checkpoint stored] [--network digits] [--out table.csv]
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import vsvf
from vsvf import predictors
from vsvf.predictors import Predictor

FORMULA = "stable_belm(2)"
NETWORKS = ("digits", "small")


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        network, way, steps: what was measured.
        seconds: of march and gradient. ratio: to a plain march. megabytes: the peak's growth.
    """

    network: str
    way: str
    steps: int
    seconds: float
    ratio: float
    megabytes: float


def network_of(name: str) -> tuple[Predictor, tuple[int, ...]]:
    """A predictor and the shape of its states: the digits network, or a pointwise function of large states."""
    if name == "digits":
        return predictors.digits(3), (1, 1, 28, 28)
    return Predictor(lambda x, t: 0.9 * torch.tanh(x), vsvf.Schedule.linear()), (1, 3, 64, 64)


def measure(network: str, way: str, steps: int) -> Result:
    """One measurement, in this process."""
    predictor, shape = network_of(network)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)

    def run(count: int, gradient: str | None) -> float:
        grid = vsvf.Grid.from_schedule(predictor.schedule, count, "log_snr", "smallest")
        leaf = x.clone().requires_grad_(gradient is not None)
        began = time.process_time()
        state = vsvf.sample(predictor, leaf, grid, FORMULA, gradient=gradient, warn=False)
        if gradient is not None:
            state.x.square().mean().backward()
        return time.process_time() - began

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vsvf.RetraceWarning)
        run(4, way)
        before = peak()
        seconds = run(steps, way)
        grown = peak() - before
        plain = run(steps, None)
    return Result(network, way, steps, seconds, seconds / plain, grown)


def peak() -> float:
    """The peak resident set of this process so far, in megabytes (Linux counts it in units of 1024 bytes, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def apart(network: str, way: str, steps: int) -> Result:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gradient", "--one", network, way, str(steps)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent)
    return Result(**json.loads(found.stdout))


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write a table if asked."""
    parser = argparse.ArgumentParser(prog="benchmarks.gradient", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--ways", nargs="+", default=["reversible", "checkpoint", "stored"])
    parser.add_argument("--network", choices=NETWORKS, default="digits")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("NETWORK", "WAY", "STEPS"), help="one measurement, printed as JSON")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.one is not None:
        print(json.dumps(asdict(measure(args.one[0], args.one[1], int(args.one[2])))))
        return
    results = []
    print(f"{'way':<12}{'steps':>7}{'s':>9}{'x plain march':>15}{'MB':>9}")
    for way in args.ways:
        for steps in args.steps:
            found = apart(args.network, way, steps)
            results.append(found)
            print(f"{found.way:<12}{found.steps:>7}{found.seconds:>9.2f}{found.ratio:>15.2f}{found.megabytes:>9.1f}", flush=True)
    if args.out is not None:
        with args.out.open("w", newline="") as file:
            table = csv.DictWriter(file, list(asdict(results[0])))
            table.writeheader()
            table.writerows(asdict(result) for result in results)


if __name__ == "__main__":
    main()
