"""A guard for bit-exact inversion: the predictor must give the same bits for the same input."""

from __future__ import annotations

import torch

from vsvf.engine.march import Evaluator
from vsvf.errors import DeterminismError


class Verified:
    """Evaluates eps twice at every state and compares the bits.

    Args:
        evaluate: the evaluator of the run; both evaluations are counted.
        where: what the states belong to, for the message.
    """

    def __init__(self, evaluate: Evaluator, where: str = "the march") -> None:
        self.evaluate = evaluate
        self.where = where

    @property
    def nfe(self) -> int:
        """Evaluations so far, the repeated ones included."""
        return self.evaluate.nfe

    def __call__(self, x: torch.Tensor, s: int) -> torch.Tensor:
        """eps at state s.

        Raises:
            DeterminismError: the two evaluations differ, naming the state and how much.
        """
        first = self.evaluate(x, s).clone()
        second = self.evaluate(x, s)
        if not torch.equal(first, second):
            differing = int((first != second).sum())
            raise DeterminismError(
                f"the predictor is not deterministic: at state {s} of {self.where} (sigma_bar = {self.evaluate.nodes[s]:.6g}) two "
                f"evaluations of the same input differ in {differing} of {first.numel()} entries, by up to "
                f"{float((first.double() - second.double()).abs().max()):.3g}; put the network in eval mode, and set "
                "torch.use_deterministic_algorithms(True) and torch.backends.cudnn.benchmark = False"
            )
        return second
