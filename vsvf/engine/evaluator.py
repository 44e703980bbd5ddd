"""The driver that asks a predictor: eps at a state, counted, and guarded against predictors that do what they must not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vsvf.engine.march import Question
from vsvf.engine.watch import Watch
from vsvf.errors import DeterminismError
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor

Array = np.ndarray

PROBE = 1024  # entries of a state that are compared before and after an evaluation, in case its version says nothing


class Evaluator:
    """eps at the states of some plans.

    Args:
        predictor: the predictor.
        plans: whose states will be asked for, starters first: the model's times there are computed, and refused, at once.
        watch: of the march.
        verify: evaluate eps twice at every state and compare the bits; both evaluations are counted.

    Raises:
        ValueError: a level that the predictor has no time for.
    """

    def __init__(self, predictor: Predictor, plans: Sequence[Plan], watch: Watch, verify: bool = False) -> None:
        self.predictor, self.plans, self.watch, self.verify = predictor, plans, watch, verify
        self.nfe = 0
        self.times: dict[float, float] = {}
        for plan in plans:
            self.times.update(zip(plan.node.tolist(), predictor.time(plan.node).tolist()))
        self._weights: torch.Tensor | None = None

    def __call__(self, question: Question) -> torch.Tensor:
        """eps at the question's state.

        Raises:
            ValueError: the predictor changed its input. DeterminismError: two evaluations differ.
        """
        slope = self._guarded(question)
        if self.verify:
            first = slope.clone()
            slope = self._guarded(question)
            march = "the march" if question.rows is self.plans[-1] else f"the starter {question.rows.name}"
            compare(first, slope, f"state {question.s} of {march} (sigma_bar = {question.sigma_bar:.6g})")
        return slope

    def _guarded(self, question: Question) -> torch.Tensor:
        x, level = question.x, question.sigma_bar
        version, before = x._version, self._probe(x)
        slope = self.predictor.epsilon(x, level, self.times[level])
        self.nfe += 1
        if x._version != version:
            raise _changed()
        self.watch.same(before, self._probe(x), _changed)
        return slope

    def _probe(self, x: torch.Tensor) -> torch.Tensor:
        """A number that changes when entries of x do: a weighted sum of up to `PROBE` of them."""
        flat = x.view(-1)
        flat = flat[:: max(1, len(flat) // PROBE)].to(torch.float64 if x.dtype == torch.float64 else torch.float32)
        if self._weights is None or self._weights.shape != flat.shape:
            self._weights = torch.linspace(1.0, 2.0, len(flat), dtype=flat.dtype, device=flat.device)
        return torch.dot(flat, self._weights)


def compare(first: torch.Tensor, second: torch.Tensor, where: str) -> None:
    """Two evaluations of one input must have the same bits.

    Raises:
        DeterminismError: they differ, naming where and how much.
    """
    if not torch.equal(first, second):
        raise DeterminismError(
            f"the predictor is not deterministic: at {where} two evaluations of the same input differ in "
            f"{int((first != second).sum())} of {first.numel()} entries, by up to "
            f"{float((first.double() - second.double()).abs().max()):.3g}; put the network in eval mode, and set "
            "torch.use_deterministic_algorithms(True) and torch.backends.cudnn.benchmark = False"
        )


def _changed() -> Exception:
    return ValueError("the predictor changed its input x in place; it must leave x as it is (clone it first)")
