"""Inversion of a flow: vsvf's formulas beside Euler, RF-Solver and FireFlow, at the same number of evaluations.

The flow is the exact one of the shipped digits, each blurred by N(0, s^2): with x = (1 - u) x_0 + u eps and u from 1 to 0,

    dx/du = v(x, u) = sum_k w_k(x, u) ( (u - (1 - u) s^2) / r^2 (x - (1 - u) c_k) - c_k ),   r^2 = (1 - u)^2 s^2 + u^2,

w_k the posterior weights of the digits c_k. Every method samples from noise, inverts what it sampled, and inverts an image of the
exact flow. The columns are root mean squares over all pixels: the sample and the inverted noise against a fine reference, and the
round trip noise -> image -> noise against itself. vsvf's formulas begin with Heun's steps.

RF-Solver (Wang et al., Taming Rectified Flow for Inversion and Editing, 2024): the second-order Taylor step whose derivative is a
difference with the velocity half a step ahead, x + h v(x + h/2 v(x, u), u + h/2): two evaluations. FireFlow (Deng et al., FireFlow:
Fast Inversion of Rectified Flow, 2024): the same with the last step's half-way velocity for the inner one: one evaluation.

    python -m benchmarks.flow [--evaluations 16 32 64] [--out flow.csv]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

import vsvf
from vsvf.integrations.diffusers.flow import flow_schedule
from vsvf.predictors import Predictor

Velocity = Callable[[torch.Tensor, float], torch.Tensor]
METHODS = ("euler", "rf_solver", "fireflow", "belm(2)", "stable_belm(3)", "stable_belm(4)")
STD, IMAGES = 0.1, 4
REFERENCE_STEPS = 2000


def digits_flow(std: float = STD) -> tuple[Velocity, torch.Tensor]:
    """The velocity of the flow between the shipped digits and Gaussian noise, float64; and the digits, (100, 1, 28, 28)."""
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())["images"]
    images = data.double()[:, None] / 127.5 - 1.0
    centres = images.flatten(1)

    def velocity(x: torch.Tensor, u: float) -> torch.Tensor:
        r2 = (1.0 - u) ** 2 * std**2 + u**2
        away = x.flatten(1)[:, None] - (1.0 - u) * centres
        weights = torch.softmax(-(away**2).sum(-1) / (2.0 * r2), dim=1)
        slope = (u - (1.0 - u) * std**2) / r2 * away - centres
        return (weights[..., None] * slope).sum(1).reshape(x.shape)

    return velocity, images


def rf_solver(velocity: Velocity, x: torch.Tensor, nodes: np.ndarray) -> torch.Tensor:
    """RF-Solver along the nodes, down or up."""
    for u, following in pairwise(nodes):
        h = following - u
        x = x + h * velocity(x + h / 2.0 * velocity(x, u), u + h / 2.0)
    return x


def fireflow(velocity: Velocity, x: torch.Tensor, nodes: np.ndarray) -> torch.Tensor:
    """FireFlow along the nodes, down or up."""
    inner = velocity(x, nodes[0])
    for u, following in pairwise(nodes):
        h = following - u
        inner = velocity(x + h / 2.0 * inner, u + h / 2.0)
        x = x + h * inner
    return x


def euler(velocity: Velocity, x: torch.Tensor, nodes: np.ndarray) -> torch.Tensor:
    """Euler's steps along the nodes, down or up: what flow-matching schedulers do, and invert by going up."""
    for u, following in pairwise(nodes):
        x = x + (following - u) * velocity(x, u)
    return x


PUBLISHED = {"euler": (euler, 1), "rf_solver": (rf_solver, 2), "fireflow": (fireflow, 1)}  # and evaluations per step


def errors(velocity: Velocity, method: str, evaluations: int, noise: torch.Tensor, image: torch.Tensor) -> list[float]:
    """Sampling, inversion and round-trip errors of one method that may evaluate the velocity so many times each way.

    Args:
        noise, image: ends of exact solutions, at u = 1 and u = 0.
    """
    if method in PUBLISHED:
        run, cost = PUBLISHED[method]
        nodes = np.linspace(1.0, 0.0, evaluations // cost + 1)
        sampled = run(velocity, noise, nodes)
        inverted, returned = (run(velocity, x, nodes[::-1]) for x in (image, sampled))
    else:
        levels = np.linspace(0.0, 1.0, evaluations + 1)
        grid = vsvf.Grid(levels, np.ones_like(levels))
        eps = Predictor(lambda x, t: velocity(x, float(t[0]) / 1000.0), flow_schedule(), kind="epsilon")
        state = vsvf.sample(eps, noise, grid, method, starter="heun", warn=False)
        sampled = state.x
        inverted = vsvf.invert(eps, image, grid, method, starter="heun", warn=False).x
        returned = vsvf.invert(eps, state, grid, method, warn=False).x
    pairs = ((sampled, image), (inverted, noise), (returned, noise))
    return [float((found - exact).square().mean().sqrt()) for found, exact in pairs]


def measure(evaluations: list[int], images: int = IMAGES, reference_steps: int = REFERENCE_STEPS) -> list[list[object]]:
    """Rows: evaluations, method, and its three errors."""
    velocity, _ = digits_flow()
    noise = torch.randn(images, 1, 28, 28, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    image = rf_solver(velocity, noise, np.linspace(1.0, 0.0, reference_steps + 1))
    return [[count, method, *errors(velocity, method, count, noise, image)] for count in evaluations for method in METHODS]


def main() -> None:
    """Print the table, and write it as comma-separated values where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--evaluations", type=int, nargs="+", default=[16, 32, 64], help="each way; even")
    parser.add_argument("--out", type=Path, help="write a table of comma-separated values here too")
    args = parser.parse_args()
    rows = measure(args.evaluations)
    header = ["evaluations", "method", "sampling", "inversion", "round trip"]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for count, method, *found in rows:
        print(f"| {count} | {method} | " + " | ".join(f"{error:.2g}" for error in found) + " |")
    if args.out is not None:
        with args.out.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    sys.exit(main())
