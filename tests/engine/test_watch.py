"""What a march notices: a bad entry in any evaluation, named; large finite ones, whose sum overflows, pass."""

from __future__ import annotations

import pytest
import strategies as own
import torch

import vsvf
from vsvf.predictors import Predictor

SCHEDULE = vsvf.Schedule.linear()
GRID = vsvf.Grid.from_schedule(SCHEDULE, 8, "trailing", "smallest")
X = torch.ones(2, 3)
SOUND = tuple(name for name in own.BIDIRECTIONAL if name != "belm(3)")  # which overflows float16 by itself
CASES = [(name, "float32") for name in own.METHODS] + [(name, other) for name in SOUND for other in ("float16", "fixed")]
WAYS = {"sample": vsvf.sample, "invert": vsvf.invert}


def spoilt(bad: float, at: int) -> tuple[Predictor, list[int]]:
    """A network whose evaluation number `at` has one bad entry, and the count of its evaluations."""
    count = [0]

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        count[0] += 1
        eps = torch.full_like(x, 0.1)
        if count[0] == at:
            eps[0, 1] = bad
        return eps

    return Predictor(network, SCHEDULE, dtype=torch.float32), count


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "arithmetic"), CASES)
def test_a_bad_entry_is_noticed_and_named(name: str, arithmetic: str, way: str) -> None:
    def march(predictor: Predictor) -> None:
        WAYS[way](predictor, X, GRID, name, starter="heun", arithmetic=arithmetic, warn=False)

    predictor, count = spoilt(0.1, 0)
    march(predictor)
    for at in sorted({1, 2, count[0] // 2, count[0]}):
        for bad in (float("nan"), -float("inf")):
            with pytest.raises(vsvf.NonFiniteError) as error:
                march(spoilt(bad, at)[0])
            said = str(error.value)
            assert "evaluation" not in said or f"evaluation {at})" in said  # inverses by iteration say sigma_bar alone


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["ddim", "belm(2)", "stable_belm(3)", "edict(0.93)", "adams_bashforth(3)"])
def test_large_finite_entries_pass_though_their_sum_overflows(name: str, way: str) -> None:
    x = torch.ones(1, 3, 64, 64)
    large = Predictor(lambda given, t: torch.full_like(given, 1e35), SCHEDULE)
    assert large.network(x, x).sum().isinf()
    assert WAYS[way](large, x, GRID, name, warn=False).x.isfinite().all()


def test_looks_that_are_read_at_once_stop_the_march_where_it_happened() -> None:
    predictor, count = spoilt(float("inf"), 4)
    with pytest.raises(vsvf.NonFiniteError, match="evaluation 4"):
        vsvf.sample(predictor, X, GRID, "belm(2)", check_every=1)
    assert count == [4]
