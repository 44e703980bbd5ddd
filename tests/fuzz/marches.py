"""A fuzzer of marches: whatever is asked for, the same bits come back, or an error that has a name.

    python tests/fuzz/marches.py --minutes 10 --seed 1

Each case draws a formula, a grid, a predictor, a number format and a walk over the grid: marches in both directions with stops,
files between them, a march stepped by hand. In fixed-point arithmetic every window of states that is visited twice must have the
same bits the second time. A damaged state must be refused. It ends after `--minutes`, or when `--elements` have been compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vsvf
from vsvf import Fixed, Grid, Schedule, State, VsvfError, formulas
from vsvf.predictors import ClosedForm, Predictor

NAMED = (VsvfError, ValueError, TypeError)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SCHEDULES: tuple[Callable[[], Schedule], ...] = (
    Schedule.linear,
    Schedule.scaled_linear,
    Schedule.cosine,
    Schedule.edm,
    Schedule.rectified_flow,
)


@dataclass
class Case:
    """What one seed drew.

    Attributes:
        sensitive: whether the predictor computes in float64 and turns a last bit into another number (sin(1e6 x)).
        elements: compared so far. errors: named errors that were met, by class.
    """

    rng: np.random.Generator
    formula: vsvf.Formula
    grid: Grid
    predictor: Predictor
    x: torch.Tensor
    arithmetic: Any
    sensitive: bool
    elements: int = 0
    errors: Counter[str] | None = None

    def __repr__(self) -> str:
        return f"{self.formula.name} on {self.grid!r}, {self.arithmetic}, x {tuple(self.x.shape)}"


def draw_formula(rng: np.random.Generator) -> vsvf.Formula:
    """A published formula, or one with drawn parameters; mostly such as invert exactly."""
    kind = rng.integers(7)
    if kind == 0:
        return formulas.by_name(str(rng.choice(formulas.METHODS)))
    if kind == 1:
        return formulas.bdia(float(rng.choice([1.0, 0.96, 0.5, rng.uniform(0.1, 1.0)])))
    if kind == 2:
        return formulas.edict(float(rng.choice([0.93, 1.0, rng.uniform(0.3, 1.0)])))
    if kind == 3:
        return formulas.mccallum_foster(float(rng.choice([1.0, 0.999, rng.uniform(0.5, 1.0)])))
    if kind == 4:
        angle = rng.uniform(0.4, 3.0)
        pair = [complex(np.cos(angle), np.sin(angle)), complex(np.cos(angle), -np.sin(angle))]
        roots = [[-1.0], pair, [-1.0, *pair]][rng.integers(3)]
        return formulas.root_placed_belm(roots, float(rng.choice([0.0, 0.5, 1.0, 2.0])))
    if kind == 5:
        first, second = np.sort(rng.uniform(0.05, 0.95, 2))
        angles: tuple[Any, Any] = [(1.0, first), (second, (first, 1.0)), ((first, 1.0), (0.5 * first, second))][rng.integers(3)]
        return formulas.pec_belm(float(rng.choice([1.0, rng.uniform(0.0, 1.0)])), *angles, *rng.uniform(0.0, 2.0, 2))
    return formulas.by_name(str(rng.choice(["belm(2)", "stable_belm(2)", "stable_belm(3)", "stable_belm(4)", "stable_belm(5)"])))


def draw_grid(rng: np.random.Generator, schedule: Schedule, least: int) -> Grid:
    steps = int(rng.integers(least, least + 30))
    if rng.random() < 0.4:
        nodes = np.sort(np.exp(rng.uniform(np.log(0.01), np.log(float(rng.choice([5.0, 100.0]))), steps + 1)))
        nodes = nodes * (1.0 + 1e-9 * np.arange(steps + 1))  # never twice the same
        return Grid(nodes, schedule.alpha_at(nodes))
    spacing = str(rng.choice(["leading", "linspace", "trailing", "karras", "log_snr", "sigma_bar"]))
    return Grid.from_schedule(schedule, steps, spacing, str(rng.choice(["zero", "smallest"])))


def draw_predictor(rng: np.random.Generator, schedule: Schedule) -> tuple[Predictor, bool]:
    """Smooth ones, ones that are sensitive to the last bit, of every kind and dtype; deterministic all of them.

    Returns:
        the predictor, and whether it is a float64 one that a last bit changes.
    """
    dtype = DTYPES[rng.integers(len(DTYPES))]
    rate = float(rng.choice([0.3, 1.0, 57.0, 1e6]))
    functions: list[Callable[[torch.Tensor, Any], torch.Tensor]] = [
        lambda x, t: torch.sin(rate * x),
        lambda x, t: torch.tanh(x) + 0.01 * torch.sin(rate * x),
        lambda x, t: x,
        lambda x, t: torch.roll(x, 1, -1).sin() * 0.5,
        lambda x, t: torch.cos(rate * x).round(decimals=1),
    ]
    chosen = int(rng.integers(len(functions)))
    function, sensitive = functions[chosen], rate == 1e6 and chosen in (0, 1)
    if rng.random() < 0.2:
        return ClosedForm(lambda x, s: function(x, s), schedule), sensitive
    kind = str(rng.choice(["epsilon", "epsilon", "sample", "v", "score", "velocity"]))
    predictor = Predictor(lambda x, t: function(x.to(dtype), t), schedule, kind, dtype=None if rng.random() < 0.5 else dtype)
    return predictor, sensitive and dtype == torch.float64


def draw(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    schedule = SCHEDULES[rng.integers(len(SCHEDULES))]()
    formula = draw_formula(rng)
    grid = draw_grid(rng, schedule, formula.steps)
    predictor, sensitive = draw_predictor(rng, schedule)
    shape = [(1, 1), (2, 3), (1, 1, 28, 28), (3, 4, 64, 64), (1, 200_003)][rng.integers(5)]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * float(rng.choice([0.1, 1.0, 30.0]))
    if rng.random() < 0.75:
        bits = None if rng.random() < 0.4 else int(rng.integers(8, 48))
        arithmetic: Any = Fixed(bits, float(rng.choice([1.0, 8.0, 255.0, 2000.0, 1e5])))
    else:
        arithmetic = str(rng.choice(["float16", "bfloat16", "float32", "float64"]))
    return Case(rng, formula, grid, predictor, x, arithmetic, sensitive, errors=Counter())


def fingerprint(state: State) -> dict[str, torch.Tensor]:
    """All that must come back: the integers and the tape."""
    return {"values": state.values, **{f"tape {row}": cell for row, cell in state.tape.items()}}


def compare(case: Case, seen: dict[int, State], state: State) -> None:
    """A window that was visited before must have the same bits."""
    known = seen.setdefault(state.record.window, state)
    if known is state:
        return
    first, second = fingerprint(known), fingerprint(state)
    for key in first.keys() | second.keys():
        one, other = (side.get(key, torch.zeros(())) for side in (first, second))  # a cell that was never filled holds zeros
        differing = int((one != other).sum())
        assert differing == 0, f"{case}: {differing} entries of {key} differ at window {state.record.window}"
        case.elements += max(one.numel(), other.numel())


def by_hand(case: Case, start: torch.Tensor | State, direction: str, stop: int) -> State:
    """The same march, stepped."""
    march = vsvf.steps(case.predictor, start, case.grid, case.formula, direction=direction, arithmetic=None, stop=stop)
    while not march.done:
        march.give(case.predictor.epsilon(march.x, march.sigma_bar, march.t))
    return march.state()


def walk(case: Case, folder: Path) -> None:
    """March up and down, and compare."""
    rng, steps = case.rng, case.grid.steps
    exact = isinstance(case.arithmetic, Fixed)
    down = bool(rng.random() < 0.5)
    options: dict[str, Any] = {"arithmetic": case.arithmetic, "warn": False, "max_iterations": 20}
    options["starter"] = str(rng.choice(["ddim", "heun", "rk4"]))
    first = vsvf.sample if down else vsvf.invert
    state = first(case.predictor, case.x, case.grid, case.formula, stop=int(rng.integers(0, steps + 1)), **options)
    assert bool(torch.isfinite(state.x).all()), f"{case}: a state that is not finite was returned"
    seen: dict[int, State] = {}
    compare(case, seen, state)
    for _ in range(int(rng.integers(2, 7))):
        if rng.random() < 0.3:
            state.save(folder / "state")
            state = State.load(folder / "state")
        node, down = state.record.node, bool(rng.random() < 0.5)
        width = case.formula.steps if case.grid.steps > case.formula.steps else 1  # what a turn of direction skips
        stop = int(rng.integers(0, max(node - width, 0) + 1)) if down else int(rng.integers(min(node + width, steps), steps + 1))
        if rng.random() < 0.2:
            state = by_hand(case, state, "sampling" if down else "inversion", stop)
        else:
            march = vsvf.sample if down else vsvf.invert
            state = march(case.predictor, state, case.grid, case.formula, stop=stop, warn=False, max_iterations=20)
        assert bool(torch.isfinite(state.x).all()), f"{case}: a state that is not finite was returned"
        if exact:
            compare(case, seen, state)
    damage(case, state, folder)


def damage(case: Case, state: State, folder: Path) -> None:
    """A state that is not what it was must be refused, by name."""
    rng = case.rng
    kind = rng.integers(4)
    if kind == 0:
        path = folder / "damaged"
        state.save(path)
        content = bytearray(path.read_bytes())
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        attempt: Callable[[], Any] = lambda: State.load(path)  # noqa: E731
    elif kind == 1:
        path = folder / "cut"
        state.save(path)
        path.write_bytes(path.read_bytes()[: int(rng.integers(1, path.stat().st_size))])
        attempt = lambda: State.load(path)  # noqa: E731
    elif kind == 2:
        other = Grid.from_sigma_bar(case.grid.sigma_bar * 1.5 + 0.01)
        attempt = lambda: vsvf.sample(case.predictor, state, other, case.formula, warn=False)  # noqa: E731
    else:
        wrong = replace(state, values=state.values.to(torch.int32) if state.record.scales else state.values.long())
        attempt = lambda: vsvf.sample(case.predictor, wrong, case.grid, case.formula, warn=False)  # noqa: E731
    try:
        attempt()
    except NAMED:
        return
    raise AssertionError(f"{case}: damage of kind {kind} went unnoticed")


def run(seed: int) -> Case:
    """One case. Raises AssertionError for other bits, and whatever has no name."""
    case = draw_or_refuse(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            walk(case, Path(folder))
        except NAMED as error:
            assert case.errors is not None
            case.errors[type(error).__name__] += 1
            assert str(error).strip(), f"{case}: {type(error).__name__} without a message"
    return case


def draw_or_refuse(seed: int) -> Case:
    """The first drawable case from this seed on (some formulas, grids and schedules refuse each other)."""
    while True:
        try:
            return draw(seed)
        except ValueError:
            seed += 1_000_003


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--elements", type=float, default=float("inf"), help="stop when so many have been compared")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    end, cases, elements, sensitive, errors = time.monotonic() + 60.0 * args.minutes, 0, 0, 0, Counter[str]()
    while time.monotonic() < end and elements < args.elements:
        try:
            case = run(args.seed + cases)
        except Exception as error:
            print(f"seed {args.seed + cases}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        cases, elements, errors = cases + 1, elements + case.elements, errors + (case.errors or Counter())
        sensitive += case.elements if case.sensitive else 0
    print(
        f"{cases} cases, {elements:,} elements compared ({sensitive:,} with float64 predictors that a last bit changes), 0 differ; "
        f"named errors: {dict(errors)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
