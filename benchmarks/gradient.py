"""Time and peak memory of a gradient through sampling, against the number of steps, for the three ways to find the states again.

Every measurement is a process of its own. Time is processor time, that of march and backward pass beside a plain march of the same
steps in the same process, before and after it. Memory is counted and measured: the most bytes of tensors that are alive at once
(`benchmarks.live`; the network's weights do not count), and the growth of the process's peak resident set from just before the
march (after one short march with its gradient) to after the backward pass.

    python -m benchmarks.gradient [--steps 10 100 1000] [--ways reversible checkpoint stored] [--network digits] [--out table.csv]

"cifar" is the UNet of DDPM for CIFAR-10 (35.7 million parameters, random ones) and needs diffusers.
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
from benchmarks.live import LiveBytes
from vsvf import predictors
from vsvf.predictors import Predictor

FORMULA = "stable_belm(2)"
NETWORKS = ("digits", "cifar", "pointwise")
CIFAR = {
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
"""The architecture of DDPM for CIFAR-10 (Ho, Jain & Abbeel 2020, appendix B), in diffusers' words."""


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        network, way, steps: what was measured.
        seconds: of march and gradient. ratio: to a plain march.
        tensors: most megabytes (2^20) of tensors alive at once. grown: megabytes by which the process's peak grew.
    """

    network: str
    way: str
    steps: int
    seconds: float
    ratio: float
    tensors: float
    grown: float


def network_of(name: str) -> tuple[Predictor, tuple[int, ...]]:
    """A predictor and the shape of its states: the digits network, DDPM's for CIFAR-10, or a function of large states' entries."""
    if name == "digits":
        return predictors.digits(3), (1, 1, 28, 28)
    if name == "cifar":
        from diffusers import UNet2DModel

        with torch.random.fork_rng():
            torch.manual_seed(0)
            unet = UNet2DModel(**CIFAR).eval().requires_grad_(False)
        return Predictor(lambda x, t: unet(x, t).sample, vsvf.Schedule.linear()), (1, 3, 32, 32)
    return Predictor(lambda x, t: 0.9 * torch.tanh(x), vsvf.Schedule.linear()), (1, 3, 64, 64)


def gradient_of(predictor: Predictor, x: torch.Tensor, steps: int, way: str | None, formula: str = FORMULA) -> None:
    """A march of so many steps, and where `way` is given the gradient of a number by its noise."""
    grid = vsvf.Grid.from_schedule(predictor.schedule, steps, "log_snr", "smallest")
    leaf = x.clone().requires_grad_(way is not None)
    state = vsvf.sample(predictor, leaf, grid, formula, gradient=way, warn=False)
    if way is not None:
        state.x.square().mean().backward()


def most_tensors(predictor: Predictor, x: torch.Tensor, steps: int, way: str, formula: str = FORMULA) -> int:
    """The most bytes of tensors that are alive at once during march and backward pass."""
    with LiveBytes() as memory:
        gradient_of(predictor, x, steps, way, formula)
    return memory.peak


def measure(network: str, way: str, steps: int) -> Result:
    """One measurement, in this process."""
    predictor, shape = network_of(network)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)

    def seconds(chosen: str | None) -> float:
        began = time.process_time()
        gradient_of(predictor, x, steps, chosen)
        return time.process_time() - began

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vsvf.RetraceWarning)
        gradient_of(predictor, x, 4, way)
        before, peak_before = seconds(None), peak()
        spent = seconds(way)
        grown = peak() - peak_before
        plain = 0.5 * (before + seconds(None))
        tensors = most_tensors(predictor, x, steps, way) / 2**20
    return Result(network, way, steps, spent, spent / plain, tensors, grown)


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
    print(f"{'way':<12}{'steps':>7}{'s':>9}{'x plain march':>15}{'tensors MB':>12}{'grown MB':>10}")
    for way in args.ways:
        for steps in args.steps:
            found = apart(args.network, way, steps)
            results.append(found)
            print(
                f"{found.way:<12}{found.steps:>7}{found.seconds:>9.2f}{found.ratio:>15.2f}{found.tensors:>12.2f}{found.grown:>10.1f}",
                flush=True,
            )
    if args.out is not None:
        with args.out.open("w", newline="") as file:
            table = csv.DictWriter(file, list(asdict(results[0])))
            table.writeheader()
            table.writerows(asdict(result) for result in results)


if __name__ == "__main__":
    main()
