"""Errors that only show while marching; bad arguments are plain ValueError or TypeError."""

from __future__ import annotations


class VsvfError(RuntimeError):
    """Base class of what can go wrong while a plan is marched."""


class NonFiniteError(VsvfError):
    """A prediction or a state is NaN or infinite."""


class ConvergenceError(VsvfError):
    """A fixed-point iteration did not reach its tolerance within its cap.

    Attributes:
        residual: the last relative change. iterations: how many were made.
    """

    def __init__(self, message: str, residual: float, iterations: int) -> None:
        super().__init__(message)
        self.residual = residual
        self.iterations = iterations


class FixedPointOverflowError(VsvfError):
    """An integer state would leave the range of fixed-point numbers, 53 bits."""


class DeterminismError(VsvfError):
    """The predictor gave different bits for the same input."""


class StateFileError(VsvfError):
    """A state file is damaged, or belongs to another grid, formula or arithmetic."""


class ZeroStabilityWarning(UserWarning):
    """A formula that amplifies perturbations without bound is about to be marched."""


class SpuriousModeWarning(UserWarning):
    """During a march the states moved in a way that their slopes do not explain: a formula's spurious modes have grown."""


class TrainingModeWarning(UserWarning):
    """A network was left in training mode, so that dropout or batch statistics enter its predictions."""


class LowestStepWarning(UserWarning):
    """A grid's lowest interval lies so far below the others that inversion from the data end finds no noise of unit size."""


class OtherAlphaWarning(UserWarning):
    """A formula's coefficients were made of another alpha than the predictor's (BDIA's depend on it)."""


class RetraceWarning(UserWarning):
    """A backward pass retraced its states so far off that the gradient is not that of the march."""
