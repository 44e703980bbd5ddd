"""What a network gets is its own: it may change what it is given."""

from __future__ import annotations

import pytest
import strategies as own
import torch

import vsvf
from vsvf.predictors import Predictor

SCHEDULE = vsvf.Schedule.linear()
GRID = vsvf.Grid.from_schedule(SCHEDULE, 10, "trailing", "smallest")
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) * (1.0 + 1e-3 * t[:, None])


def rude(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The same, and afterwards nothing is left of what it was given."""
    eps = network(x, t)
    x.zero_()
    t.fill_(-1)
    return eps


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("name", [name for name in own.METHODS if name in own.BIDIRECTIONAL])
def test_a_network_may_overwrite_its_state_and_its_times(name: str, integer: bool) -> None:
    kind, polite = (Predictor(function, SCHEDULE, integer_time=integer) for function in (rude, network))
    options = {"starter": "ddim", "verify": True, "warn": False}  # verify: every state is asked for twice
    there, expected = (vsvf.sample(predictor, X, GRID, name, **options) for predictor in (kind, polite))
    assert torch.equal(there.values, expected.values)
    back, expected = (vsvf.invert(predictor, there, GRID, name, verify=True, warn=False) for predictor in (kind, polite))
    assert torch.equal(back.values, expected.values)
