"""Predictors: anything that gives eps_bar(x_bar, sigma_bar), with the scale and the time it wants x in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vsvf.predictors.prediction import KINDS, to_epsilon
from vsvf.schedule import Schedule

Array = np.ndarray


class Predictor:
    """A network, how to read its output, and the schedule it was trained under.

    The schedule gives alpha and the model time at any sigma_bar, so that any grid works with any network.

    Args:
        network: callable (x, t) -> prediction. x is (B, …) in the scale x = alpha x_bar; t is (B,), the model's time.
        schedule: the schedule of the network's training.
        kind: what it predicts: "epsilon", "sample" (x_0), "v", "score" or "velocity".
        dtype: dtype in which x and t are given to the network; default: that of its parameters, else that of x.
        integer_time: the network has a table of integer timesteps: t is passed as int64, and a grid with a node between
            timesteps is an error.

    Raises:
        TypeError: `network` cannot be called. ValueError: an unknown kind.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        schedule: Schedule,
        kind: str = "epsilon",
        *,
        dtype: torch.dtype | None = None,
        integer_time: bool = False,
    ) -> None:
        if not callable(network):
            raise TypeError(f"network must be callable as network(x, t), got {type(network).__name__}")
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")
        self.network = network
        self.schedule = schedule
        self.kind = kind
        self.integer_time = integer_time
        self.dtype = dtype if dtype is not None else _parameter_dtype(network)

    def alpha(self, sigma_bar: Any) -> Array:
        """alpha at sigma_bar, float64: states are handed over as x = alpha x_bar."""
        return self.schedule.alpha_at(sigma_bar)

    def time(self, sigma_bar: Any) -> Array:
        """The model's time at sigma_bar, float64."""
        t = self.schedule.timestep(sigma_bar)
        if self.integer_time and np.any(t != np.rint(t)):
            odd = float(np.ravel(t[t != np.rint(t)])[0])
            raise ValueError(
                f"the network has a table of integer timesteps, but the grid has a node at t = {odd:.6g}; use spacing "
                "'leading', 'linspace' or 'trailing' (and a starter without intermediate stages)"
            )
        return t

    def epsilon(self, x: torch.Tensor, sigma_bar: Any, t: Any = None) -> torch.Tensor:
        """eps at x.

        Args:
            x: (B, …), in the scale alpha x_bar. It may be a view of a solver's memory: it must not be changed in place.
            sigma_bar: a float, or B floats for a batch at different noise levels.
            t: the model's time there, if known already.

        Returns:
            (B, …) in the network's dtype.
        """
        t = self.time(sigma_bar) if t is None else t
        given = x if self.dtype is None else x.to(self.dtype)
        time_dtype = torch.int64 if self.integer_time else (given.dtype if given.dtype == torch.float64 else torch.float32)
        times = torch.as_tensor(np.asarray(t)).to(time_dtype).to(x.device).expand(x.shape[0])
        prediction = checked(self.network(given, times), x)
        if self.kind == "epsilon":
            return prediction
        alpha, sigma = self._scales(sigma_bar, prediction)
        return to_epsilon(self.kind, prediction, given, alpha, sigma)

    def _scales(self, sigma_bar: Any, like: torch.Tensor) -> tuple[Any, Any]:
        """alpha and sigma as floats, or as tensors that broadcast against `like`."""
        level = np.asarray(sigma_bar, dtype=np.float64)
        alpha = self.alpha(level)
        if level.ndim == 0:
            return float(alpha), float(alpha * level)
        shape = (-1, *[1] * (like.ndim - 1))
        tensors = [torch.as_tensor(v, dtype=like.dtype, device=like.device).reshape(shape) for v in (alpha, alpha * level)]
        return tensors[0], tensors[1]


class ClosedForm(Predictor):
    """A predictor given by a function of (x_bar, sigma_bar) itself: exact denoisers, toy ODEs.

    Args:
        function: (x_bar, sigma_bar) -> eps_bar; sigma_bar is a float or broadcasts against x_bar.
        schedule: only for its alpha, the scale of the states; default alpha = 1 (x = x_bar).
    """

    def __init__(self, function: Callable[[torch.Tensor, Any], torch.Tensor], schedule: Schedule | None = None) -> None:
        super().__init__(function, Schedule.edm() if schedule is None else schedule)
        self.function = function

    def time(self, sigma_bar: Any) -> Array:
        """sigma_bar itself."""
        return np.asarray(sigma_bar, dtype=np.float64)

    def epsilon(self, x: torch.Tensor, sigma_bar: Any, t: Any = None) -> torch.Tensor:
        """eps at x, as in `Predictor.epsilon`."""
        level = np.asarray(sigma_bar, dtype=np.float64)
        alpha = self.alpha(level)
        if level.ndim == 0:
            return checked(self.function(x / float(alpha), float(level)), x)
        shape = (-1, *[1] * (x.ndim - 1))
        s, a = (torch.as_tensor(v, dtype=x.dtype, device=x.device).reshape(shape) for v in (level, alpha))
        return checked(self.function(x / a, s), x)


def checked(prediction: Any, x: torch.Tensor) -> torch.Tensor:
    """The prediction, if it can be one for x.

    Raises:
        TypeError: not a tensor, or not of real floating numbers. ValueError: another shape or device than x.
    """
    if not isinstance(prediction, torch.Tensor):
        raise TypeError(f"the network returned {type(prediction).__name__}, expected a tensor")
    if not prediction.is_floating_point():
        raise TypeError(f"the network returned {prediction.dtype}, expected floating numbers")
    if prediction.shape != x.shape:
        raise ValueError(f"the network returned shape {tuple(prediction.shape)} for x of shape {tuple(x.shape)}")
    if prediction.device != x.device:
        raise ValueError(f"the network returned a tensor on {prediction.device} for x on {x.device}")
    return prediction


def _parameter_dtype(network: Any) -> torch.dtype | None:
    module = network if isinstance(network, torch.nn.Module) else getattr(network, "network", None)
    if isinstance(module, torch.nn.Module):
        for parameter in module.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return None
