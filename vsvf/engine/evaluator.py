"""The driver that asks a predictor: eps at a state, counted, and guarded against predictors that do what they must not."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from vsvf.engine.march import Question
from vsvf.errors import DeterminismError
from vsvf.plan import Plan
from vsvf.predictors.base import Predictor

Array = np.ndarray


class Evaluator:
    """eps at the states of some plans.

    Args:
        predictor: the predictor.
        plans: whose states will be asked for, starters first: the model's times there are computed, and refused, at once.
        verify: evaluate eps twice at every state and compare the bits; both evaluations are counted.

    Raises:
        ValueError: a level that the predictor has no time for.
    """

    def __init__(self, predictor: Predictor, plans: Sequence[Plan], verify: bool = False) -> None:
        self.predictor, self.plans, self.verify = predictor, plans, verify
        self.nfe = 0
        own = getattr(predictor.epsilon, "__func__", None)
        self.plain = own is Predictor.epsilon  # one that overrides it gets the state itself, and is watched
        nodes = np.concatenate([plan.node for plan in plans])
        self.times: dict[float, float] = dict(zip(nodes.tolist(), predictor.time(nodes).tolist()))
        self.ready: dict[float, torch.Tensor] | None = None  # as tensors, each for one evaluation: the network may change it

    def uncounted(self) -> Evaluator:
        """Another that evaluates at the same levels, once each, and counts for itself."""
        other = copy.copy(self)
        other.nfe, other.verify, other.ready = 0, False, {}
        return other

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
        x, level, predictor = question.x, question.sigma_bar, self.predictor
        if self.plain:
            copy = None
            if question.copied is not None and predictor.dtype in (None, x.dtype) and not x.requires_grad:  # x may be a leaf
                copy = question.copied(question.s)
            if self.ready is None:
                self.ready = dict(zip(self.times, predictor.times(list(self.times.values()), x)))
            time = self.ready.pop(level, None)
            slope = predictor.epsilon(x, level, self.times[level] if time is None else time, copy)
            self.nfe += 1
            return slope
        version = x._version
        slope = predictor.epsilon(x, level, self.times[level])
        self.nfe += 1
        if x._version != version:
            raise ValueError("the predictor changed its input x in place; it must leave x as it is (clone it first)")
        return slope


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
