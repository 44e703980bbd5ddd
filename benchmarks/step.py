"""Time per step beyond the predictor's: vsvf beside the schedulers of diffusers and the memory-bandwidth limit.

The predictor returns a tensor that was computed before, so what is left is the solver. For a formula of k steps the limit is
the time to read 2k - 1 tensors (k states, k - 1 slopes) and to write one, from the time of a torch copy (one read, one write)
in the same run. vsvf is timed as a user calls it (`vsvf.sample`, plan, starter and checks of the arguments included,
divided by the steps), the same without what leads to warnings, and in its inner loop alone (`march`, with the check that
predictions are finite). The candidates take turns, and each one's shortest time counts, since a machine with other work on it
only ever adds time. On a busy machine measure with one thread and the processor's clock: --threads 1 --clock cpu.

    python -m benchmarks.step [--dtype float32] [--device cpu] [--steps 200] [--repeats 7] [--out step.csv]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import vsvf
from vsvf import formulas
from vsvf.engine.evaluator import Evaluator
from vsvf.engine.floating import FLOATS, FloatRegister
from vsvf.engine.iteration import Iteration
from vsvf.engine.march import march, questions
from vsvf.engine.watch import Watch
from vsvf.predictors import Predictor

SHAPES = ((1, 4, 64, 64), (16, 4, 64, 64), (16, 3, 256, 256))
FEWEST = 50  # steps of a run on a large shape: the default of diffusers' pipelines
FORMULAS = ("belm(2)", "stable_belm(3)", "stable_belm(4)")
SCHEDULERS: dict[str, dict[str, object]] = {
    "DDIMScheduler": {"clip_sample": False},
    "DDIMInverseScheduler": {"clip_sample": False},
    "EulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
    "DEISMultistepScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
}


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        shape: of the state. name: formula or scheduler. what: "sample", "sample, warn=False", "march" or "scheduler.step".
        microseconds: per step. limit: the memory-bandwidth limit per step, None for schedulers. ratio: to the limit.
        peer: ratio to the fastest scheduler on this shape.
    """

    shape: tuple[int, ...]
    name: str
    what: str
    microseconds: float
    limit: float | None
    ratio: float | None
    peer: float | None


def shortest(candidates: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The shortest of `repeats` times of each candidate, taken in turns; a candidate returns its own seconds per step."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(repeats):
        for name, candidate in candidates.items():
            candidate()  # what ran before has left its own code and data in the caches
            best[name] = min(best[name], candidate())
    return best


class Timer:
    """Seconds of work() divided by its steps, a GPU's queue drained.

    Args:
        clock: time.perf_counter, or time.process_time, which leaves out what other processes take of a busy machine (and adds
            up threads: use one).
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.clock = device, clock

    def __call__(self, work: Callable[[], object], steps: int) -> float:
        drain(self.device)
        start = self.clock()
        work()
        drain(self.device)
        return (self.clock() - start) / steps


def drain(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_time(like: torch.Tensor, steps: int, timed: Timer) -> Callable[[], float]:
    """Seconds of one copy: read one tensor, write one."""
    target = torch.empty_like(like)

    def work() -> None:
        for _ in range(steps):
            target.copy_(like)

    return lambda: timed(work, steps)


def engine_times(name: str, x: torch.Tensor, eps: torch.Tensor, steps: int, timed: Timer) -> dict[str, Callable[[], float]]:
    """Candidates "sample", "sample, warn=False" and "march" of one formula."""
    schedule = vsvf.Schedule.linear()
    predictor = Predictor(lambda given, t: eps, schedule)
    grid = vsvf.Grid.from_schedule(schedule, steps, spacing="trailing", final="smallest")
    formula = formulas.by_name(name)
    rows = formula.plan(grid)
    rows = rows.rescaled(predictor.alpha(rows.node))
    first = x.expand(rows.steps, *x.shape)

    def inner() -> float:
        watch = Watch()
        register, evaluate = FloatRegister(rows, first, x.dtype), Evaluator(predictor, [rows])
        asked = questions(rows, register, Iteration(1.0, 1), watch)
        return timed(lambda: march(asked, evaluate), rows.rows)

    return {
        f"{name}|sample": lambda: timed(lambda: vsvf.sample(predictor, x, grid, formula), steps),
        f"{name}|sample, warn=False": lambda: timed(lambda: vsvf.sample(predictor, x, grid, formula, warn=False), steps),
        f"{name}|march": inner,
    }


def scheduler_times(x: torch.Tensor, eps: torch.Tensor, steps: int, timed: Timer) -> dict[str, Callable[[], float]]:
    """Candidates of diffusers, over a whole run of `scheduler.step` (set_timesteps is not counted)."""
    import diffusers

    diffusers.logging.set_verbosity_error()

    def candidate(name: str, options: dict[str, object]) -> Callable[[], float]:
        scheduler = getattr(diffusers, name)(**options)

        def run() -> float:
            scheduler.set_timesteps(steps, device=timed.device)
            timesteps = list(scheduler.timesteps)

            def work() -> None:
                state = x
                for t in timesteps:
                    state = scheduler.step(eps, t, state, return_dict=False)[0]

            return timed(work, len(timesteps))

        return run

    return {f"{name}|scheduler.step": candidate(name, options) for name, options in SCHEDULERS.items()}


@torch.no_grad()
def measure(
    shape: tuple[int, ...], dtype: torch.dtype, timed: Timer, steps: int, repeats: int, with_diffusers: bool = True
) -> list[Result]:
    """All lines of one shape."""
    generator = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(shape, generator=generator).to(timed.device, dtype) for _ in range(2))
    candidates = {"copy|": copy_time(x, steps, timed)}
    for name in FORMULAS:
        candidates |= engine_times(name, x, eps, steps, timed)
    if with_diffusers:
        candidates |= scheduler_times(x, eps, steps, timed)
    best = shortest(candidates, repeats)
    copy = best.pop("copy|")
    peers = [seconds for key, seconds in best.items() if key.endswith("|scheduler.step")]
    results = [Result(shape, "torch copy (read 1, write 1)", "copy", copy * 1e6, None, None, None)]
    for key, seconds in best.items():
        name, what = key.split("|")
        limit = copy * formulas.by_name(name).steps if name in FORMULAS else None  # (2k - 1 reads + 1 write) / 2 copies
        results.append(
            Result(
                shape,
                name,
                what,
                seconds * 1e6,
                None if limit is None else limit * 1e6,
                None if limit is None else seconds / limit,
                seconds / min(peers) if peers else None,
            )
        )
    return results


def machine(device: torch.device) -> str:
    """The machine in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores{load}, torch {torch.__version__}"


def table(results: list[Result]) -> str:
    """The results as Markdown."""
    lines = ["| shape | name | timed | µs per step | limit | × limit | × fastest scheduler |", "|---|---|---|---:|---:|---:|---:|"]
    for r in results:
        cells = [" × ".join(map(str, r.shape)), r.name, r.what, f"{r.microseconds:.1f}"]
        for value, digits in ((r.limit, 1), (r.ratio, 2), (r.peer, 2)):
            cells.append("" if value is None else f"{value:.{digits}f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def save(results: list[Result], path: Path) -> None:
    """As CSV, or as JSON where the name ends so."""
    records = [asdict(r) for r in results]
    if path.suffix == ".json":
        path.write_text(json.dumps(records, indent=1))
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def main(arguments: list[str] | None = None) -> list[Result]:
    """Measure, print the table, save it on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=sorted(FLOATS), default="float32", help="of the states")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, …")
    parser.add_argument("--threads", type=int, help="torch's threads; default its own choice")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: the processor's, for one thread only")
    parser.add_argument("--steps", type=int, default=200, help="per run on the smallest shape; fewer on large ones, but 50")
    parser.add_argument("--repeats", type=int, default=7, help="runs of every candidate, of which the fastest counts")
    parser.add_argument("--shape", action="append", help="as in 16,3,256,256; may be given several times; default: three shapes")
    parser.add_argument("--without-diffusers", action="store_true", help="leave the schedulers out")
    parser.add_argument("--out", type=Path, help="file for the results, .csv or .json")
    given = parser.parse_args(arguments)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    shapes = SHAPES if given.shape is None else [tuple(int(n) for n in shape.split(",")) for shape in given.shape]
    device = torch.device(given.device)
    timed = Timer(device, time.process_time if given.clock == "cpu" else time.perf_counter)
    print(f"{machine(device)}, {given.dtype}, {given.clock} clock\n")
    results: list[Result] = []
    for shape in shapes:
        steps = max(min(given.steps, FEWEST), given.steps * 2**18 // max(2**18, torch.Size(shape).numel()))
        results += measure(shape, FLOATS[given.dtype], timed, steps, given.repeats, not given.without_diffusers)
    print(table(results))
    if given.out is not None:
        save(results, given.out)
    return results


if __name__ == "__main__":
    main()
