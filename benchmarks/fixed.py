"""What bit-exactness costs: the fixed-point step beside the floating one on the same tensor, and its share of a run.

First table: the inner loop (`march`, with the check that predictions are finite) with a predictor that returns a tensor computed
before. The same tensor is marched with float32, float64 and fixed-point states; a fixed-point state is an int64 and a float64
of each entry, so float64 is its like. Second table: `vsvf.sample` and `vsvf.invert` of the embedded digits network; the share is
(time with the solver alone) / (time with the network), both in fixed point, in one run. The candidates take turns and each
one's shortest time counts, since a machine with other work on it only ever adds time.

    python -m benchmarks.fixed [--threads 1] [--clock cpu] [--repeats 7] [--out fixed.csv]
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import vsvf
from benchmarks.step import Timer, machine, shortest
from vsvf import formulas, predictors
from vsvf.engine.evaluator import Evaluator
from vsvf.engine.floating import FLOATS, FloatRegister
from vsvf.engine.integers import FixedRegister
from vsvf.engine.iteration import Iteration
from vsvf.engine.march import march, questions
from vsvf.engine.register import Register
from vsvf.engine.watch import Watch
from vsvf.fixed import Fixed, plan_bits
from vsvf.predictors import Predictor

SHAPES = ((1, 4, 64, 64), (16, 4, 64, 64), (4, 3, 256, 256))
FORMULAS = ("belm(2)", "stable_belm(3)", "stable_belm(4)", "edict(0.93)")
DIGITS = ((1, "belm(2)"), (1, "stable_belm(4)"), (10, "belm(2)"), (10, "stable_belm(4)"))


@dataclass(frozen=True)
class StepCost:
    """Microseconds of one row. direction: "sampling" or "inversion" (of the fixed-point march)."""

    shape: tuple[int, ...]
    formula: str
    direction: str
    float32: float
    float64: float
    fixed: float

    @property
    def to_float64(self) -> float:
        """Fixed / float64."""
        return self.fixed / self.float64

    @property
    def to_float32(self) -> float:
        """Fixed / float32."""
        return self.fixed / self.float32


@dataclass(frozen=True)
class RunCost:
    """Milliseconds of a whole fixed-point run, network included, and what of it the solver takes."""

    batch: int
    formula: str
    direction: str
    run: float
    solver: float

    @property
    def share(self) -> float:
        """Solver / run."""
        return self.solver / self.run


@torch.no_grad()
def step_costs(shape: tuple[int, ...], name: str, steps: int, repeats: int, timed: Timer) -> list[StepCost]:
    """Both directions of one formula on one shape."""
    generator = torch.Generator().manual_seed(0)
    x, eps = (0.1 * torch.randn(shape, generator=generator) for _ in range(2))
    schedule = vsvf.Schedule.linear()
    predictor = Predictor(lambda given, t: eps, schedule)
    plan = formulas.by_name(name).plan(vsvf.Grid.from_schedule(schedule, steps, "trailing", "smallest"))
    alpha = predictor.alpha(plan.node)
    whole = plan.rescaled(alpha)
    bits = plan_bits(whole, alpha, Fixed(data_range=1e3))  # slopes of no denoiser
    first = x.expand(plan.steps, *shape)
    results = []
    for direction in ("sampling", "inversion"):
        sampling = direction == "sampling"
        rows = whole if sampling else plan.inverse().rescaled(alpha[::-1])
        registers: dict[str, Callable[[], Register]] = {
            "float32": lambda rows=rows: FloatRegister(rows, first, FLOATS["float32"]),
            "float64": lambda rows=rows: FloatRegister(rows, first, FLOATS["float64"]),
            "fixed": lambda sampling=sampling: FixedRegister(whole, bits, 0, whole.rows, first.double(), sampling, Watch()),
        }

        def candidate(make: Callable[[], Register], rows: vsvf.Plan = rows) -> Callable[[], float]:
            def run() -> float:
                register, watch = make(), Watch()
                evaluate = Evaluator(predictor, [rows])
                asked = questions(rows, register, Iteration(1.0, 1), watch)
                return timed(lambda: march(asked, evaluate), rows.rows)

            return run

        best = shortest({key: candidate(make) for key, make in registers.items()}, repeats)
        results.append(StepCost(shape, name, direction, *(best[key] * 1e6 for key in ("float32", "float64", "fixed"))))
    return results


def run_costs(batch: int, name: str, steps: int, repeats: int, timed: Timer) -> list[RunCost]:
    """`sample` and `invert` with the digits network, and with a tensor in its place."""
    network = predictors.digits(3)
    grid = vsvf.Grid.from_schedule(network.schedule, steps, "trailing", "smallest")
    x = torch.randn((batch, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    states = {"sampling": x, "inversion": vsvf.sample(network, x, grid, name, arithmetic="fixed", warn=False)}
    eps = 0.1 * x
    stub = Predictor(lambda given, t: eps, network.schedule)
    idle = vsvf.sample(stub, eps, grid, name, arithmetic=Fixed(data_range=1e3), warn=False)
    candidates = {
        "sampling run": lambda: timed(lambda: vsvf.sample(network, x, grid, name, arithmetic="fixed", warn=False), 1),
        "inversion run": lambda: timed(lambda: vsvf.invert(network, states["inversion"], grid, name, warn=False), 1),
        "sampling solver": lambda: timed(
            lambda: vsvf.sample(stub, eps, grid, name, arithmetic=Fixed(data_range=1e3), warn=False), 1
        ),
        "inversion solver": lambda: timed(lambda: vsvf.invert(stub, idle, grid, name, warn=False), 1),
    }
    best = shortest(candidates, repeats)
    return [
        RunCost(batch, name, direction, best[f"{direction} run"] * 1e3, best[f"{direction} solver"] * 1e3)
        for direction in ("sampling", "inversion")
    ]


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def main(arguments: list[str] | None = None) -> tuple[list[StepCost], list[RunCost]]:
    """Measure, print both tables, save the results on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="torch's threads; default its own choice")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: the processor's, for one thread only")
    parser.add_argument("--steps", type=int, default=20, help="steps per run")
    parser.add_argument("--repeats", type=int, default=7, help="runs of every candidate, of which the fastest counts")
    parser.add_argument("--shape", action="append", help="as in 16,3,256,256; may be given several times")
    parser.add_argument("--out", type=Path, help="file for the results, .csv")
    given = parser.parse_args(arguments)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    timed = Timer(torch.device("cpu"), time.process_time if given.clock == "cpu" else time.perf_counter)
    shapes = SHAPES if given.shape is None else [tuple(int(n) for n in shape.split(",")) for shape in given.shape]
    print(f"{machine(torch.device('cpu'))}, {given.clock} clock\n\nµs per row, the predictor's work left out:\n")
    costs = [cost for shape in shapes for name in FORMULAS for cost in step_costs(shape, name, given.steps, given.repeats, timed)]
    cells = [
        [" × ".join(map(str, c.shape)), c.formula, c.direction, f"{c.float32:.0f}", f"{c.float64:.0f}", f"{c.fixed:.0f}"]
        + [f"{c.to_float64:.2f}", f"{c.to_float32:.2f}"]
        for c in costs
    ]
    header = ["shape", "formula", "direction", "float32", "float64", "fixed", "× float64", "× float32"]
    print(table(header, cells))
    print(f"\nms per run of {given.steps} steps, digits network in float32:\n")
    runs = [cost for batch, name in DIGITS for cost in run_costs(batch, name, given.steps, max(2, given.repeats // 2), timed)]
    cells = [[str(r.batch), r.formula, r.direction, f"{r.run:.0f}", f"{r.solver:.2f}", f"{100.0 * r.share:.1f} %"] for r in runs]
    print(table(["images", "formula", "direction", "run", "solver alone", "share"], cells))
    if given.out is not None:
        with given.out.open("w", newline="") as file:
            writer = csv.writer(file)
            for results in (costs, runs):
                writer.writerow(asdict(results[0]))
                writer.writerows(asdict(r).values() for r in results)
    return costs, runs


if __name__ == "__main__":
    main()
