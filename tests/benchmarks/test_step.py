"""The benchmark runs, and what it claims besides speed holds: memory does not grow with the number of steps."""

from __future__ import annotations

import gc
import json

import pytest
import torch

import vsvf
from benchmarks import step
from vsvf.engine.floating import FloatRegister
from vsvf.engine.march import Step
from vsvf.predictors import Predictor

SHAPE = (2, 3, 64, 64)


def live_bytes() -> int:
    """Bytes of all tensor storages that are alive."""
    storages = {}
    for thing in gc.get_objects():
        if type(thing) is torch.Tensor:
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def most_bytes(formula: str, steps: int) -> int:
    """The most bytes that a run holds beyond those before it."""
    schedule = vsvf.Schedule.linear()
    grid = vsvf.Grid.from_schedule(schedule, steps, spacing="trailing", final="smallest")
    eps = torch.ones(SHAPE)
    x = torch.ones(SHAPE)
    before, seen = live_bytes(), []

    def watch(now: Step) -> None:
        if now.row in (1, now.rows // 2, now.rows):
            seen.append(live_bytes() - before)

    vsvf.sample(Predictor(lambda given, t: eps, schedule), x, grid, formula, callback=watch)
    return max(seen)


@pytest.mark.parametrize("formula", ["ddim", "belm(2)", "stable_belm(3)", "adams_bashforth(4)", "edict(0.93)"])
def test_memory_does_not_grow_with_the_number_of_steps(formula: str) -> None:
    few, many = most_bytes(formula, 10), most_bytes(formula, 160)
    one_state = torch.empty(SHAPE).nbytes
    assert many - few < one_state // 4, "weights of the rows only"


def test_a_register_holds_k_states_and_the_slopes_that_rows_look_back_at() -> None:
    schedule = vsvf.Schedule.linear()
    grid = vsvf.Grid.from_schedule(schedule, 20, spacing="trailing", final="smallest")
    for k in (2, 3, 4):
        rows = vsvf.formulas.by_name(f"stable_belm({k})").plan(grid)
        register = FloatRegister(rows, torch.zeros(k, *SHAPE), torch.float32)
        assert register.buffer.shape[0] == 2 * k - 1


@pytest.mark.parametrize("formula", ["belm(2)", "stable_belm(3)", "adams_moulton(1)", "adams_moulton(2)", "edict(0.93)"])
def test_a_predictor_may_reuse_its_output_or_return_its_input(formula: str) -> None:
    schedule = vsvf.Schedule.linear()
    grid = vsvf.Grid.from_schedule(schedule, 12, spacing="trailing", final="smallest")
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    buffer = torch.empty(SHAPE)
    fresh = vsvf.sample(Predictor(lambda given, t: given.clone(), schedule), x, grid, formula)
    reused = vsvf.sample(Predictor(lambda given, t: buffer.copy_(given), schedule), x, grid, formula)
    same = vsvf.sample(Predictor(lambda given, t: given, schedule), x, grid, formula)
    clobbered = vsvf.sample(
        Predictor(lambda given, t: buffer.copy_(given), schedule), x, grid, formula, callback=lambda now: buffer.fill_(9.0)
    )
    for other in (reused, same, clobbered):
        torch.testing.assert_close(other.values, fresh.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_entry_is_named_with_its_state_and_large_finite_ones_pass(bad: float) -> None:
    schedule = vsvf.Schedule.linear()
    grid = vsvf.Grid.from_schedule(schedule, 12, spacing="trailing", final="smallest")
    calls = 0

    def network(given: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        eps = torch.ones_like(given)
        if calls == 6:
            eps[1, 2, 3, 4] = bad
        return eps

    with pytest.raises(vsvf.NonFiniteError, match="evaluation 6"):
        vsvf.sample(Predictor(network, schedule), torch.ones(SHAPE), grid, "belm(2)")
    large = Predictor(lambda given, t: torch.full_like(given, 1e35), schedule)  # its sum overflows
    assert vsvf.sample(large, torch.ones(SHAPE), grid, "belm(2)").x.isfinite().all()


@pytest.mark.parametrize("formula", ["belm(2)", "stable_belm(4)", "adams_moulton(2)"])
@pytest.mark.parametrize("arithmetic", ["float16", "float32"])
def test_pieces_do_not_change_the_result(formula: str, arithmetic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = vsvf.Schedule.linear()
    grid = vsvf.Grid.from_schedule(schedule, 12, spacing="trailing", final="smallest")
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    predictor = Predictor(lambda given, t: torch.sin(given), schedule, dtype=torch.float32)
    options = {"arithmetic": arithmetic, "tolerance": 1e-2}
    whole = vsvf.sample(predictor, x, grid, formula, **options)
    monkeypatch.setattr("vsvf.engine.floating.PIECE", 4096)
    pieces = vsvf.sample(predictor, x, grid, formula, **options)
    bound = 1e-2 if arithmetic == "float16" else 1e-5
    torch.testing.assert_close(pieces.values, whole.values, rtol=bound, atol=bound)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_the_benchmark_prints_and_saves_its_table(suffix: str, tmp_path, capsys) -> None:
    pytest.importorskip("diffusers")
    out = tmp_path / f"step.{suffix}"
    results = step.main(["--shape", "1,4,8,8", "--steps", "20", "--repeats", "1", "--out", str(out)])
    assert {r.what for r in results} == {"copy", "sample", "sample, warn=False", "march", "scheduler.step"}
    assert "belm(2)" in capsys.readouterr().out
    assert len(json.loads(out.read_text())) == len(results) if suffix == "json" else "stable_belm(4)" in out.read_text()
