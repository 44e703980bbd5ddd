"""Predictors: anything that gives eps_bar(x_bar, sigma_bar), with the scale and the time it wants x in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from vsvf.errors import TrainingModeWarning
from vsvf.predictors.modules import first_dtype, is_about_dtypes, modules_of, parameter_dtype, training_layers
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
        dtype: dtype in which x and t are given to the network. Default: that of a module's parameters. A closure gets x as the
            solver holds it; where torch refuses that dtype, that of the parameters found inside the closure, from then on.
        integer_time: the network has a table of integer timesteps: t is passed as int64, and a grid with a node between
            timesteps is an error.

    The network gets a copy of x, aligned alike at every call: it may change it, and its bits do not depend on where x lay.

    Raises:
        TypeError: `network` cannot be called, `schedule` is none, or `dtype` is no floating dtype. ValueError: an unknown kind.
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
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a vsvf.Schedule, such as vsvf.Schedule.linear(), got {type(schedule).__name__}")
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"dtype must be a floating dtype of torch, such as torch.float32, got {dtype!r}")
        if not isinstance(integer_time, (bool, np.bool_)):
            raise TypeError(f"integer_time must be True or False, got {integer_time!r}")
        self.network = network
        self.schedule = schedule
        self.kind = kind
        self.integer_time = bool(integer_time)
        self.dtype = dtype if dtype is not None else _parameter_dtype(network)

    @property
    def precision(self) -> torch.dtype | None:
        """The dtype that the network computes in, as far as that can be seen: `dtype`, or of the parameters in a closure."""
        return self.dtype if self.dtype is not None else parameter_dtype(modules_of(self.network))

    def warn_if_training(self) -> None:
        """Warn of layers that are random, or learn, because the network was left in training mode."""
        if layers := training_layers(modules_of(self.network)):
            more = "" if len(layers) == 1 else f" and {len(layers) - 1} more"
            warnings.warn(
                f"the network is in training mode: {layers[0]}{more} makes its predictions random, or changes what it has learned; "
                "call network.eval()",
                TrainingModeWarning,
                stacklevel=3,
            )

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

    def epsilon(self, x: torch.Tensor, sigma_bar: Any, t: Any = None, copy: torch.Tensor | None = None) -> torch.Tensor:
        """eps at x.

        Args:
            x: (B, …), in the scale alpha x_bar; left as it is.
            sigma_bar: a float, or B floats for a batch at different noise levels.
            t: the model's time there, if known already: a float, or a tensor (B,) for the network to keep (`times`).
            copy: x once more, contiguous and in the dtype that the network takes, for the network to keep: spares a copy here.

        Returns:
            (B, …) in the network's dtype for kind="epsilon"; other predictions are turned into eps with the x given here, not
            with the network's rounding of it, and in the wider of the two precisions (`to_epsilon`).

        Raises:
            TypeError, ValueError: a prediction that cannot be one for x, or a network that takes another dtype than x's.
        """
        t = self.time(sigma_bar) if t is None else t
        prediction = checked(self._ask(x, t, copy), x)
        if self.kind == "epsilon":
            return prediction
        return to_epsilon(self.kind, prediction, x, *self._scales(sigma_bar, x.ndim))

    def _ask(self, x: torch.Tensor, t: Any, copy: torch.Tensor | None = None) -> Any:
        """What the network says of x in its own dtype."""
        given = copy
        if given is None:
            given = x.to(x.dtype if self.dtype is None else self.dtype, copy=True)  # and aligned alike at every call
        dtype = self._time_dtype(given.dtype)
        if isinstance(t, torch.Tensor):
            times = t if t.dtype is dtype else t.to(dtype)
        elif isinstance(t, float) or np.ndim(t) == 0:
            times = torch.full((len(x),), float(t), dtype=dtype, device=x.device)
        else:
            times = torch.as_tensor(t).to(x.device, dtype).expand(x.shape[0])
        try:
            return self.network(given, times)
        except RuntimeError as error:
            if self.dtype is not None or not is_about_dtypes(error):
                raise
            wanted, refusal = self.precision, error
        if wanted is None:
            raise TypeError(
                f"the network does not take x in {x.dtype} ({str(refusal).splitlines()[0]}); say in which dtype it wants x, as in "
                "Predictor(network, schedule, dtype=torch.float32)"
            ) from refusal
        if wanted == x.dtype:  # something else does not fit
            raise refusal
        self.dtype = wanted
        return self._ask(x, t)

    def times(self, t: Sequence[float], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The model's times t as the network takes them beside x (B, …): for each a tensor (B,), made all at once."""
        dtype = self._time_dtype(x.dtype if self.dtype is None else self.dtype)
        return torch.tensor(t, dtype=dtype, device=x.device)[:, None].repeat(1, len(x)).unbind()

    def _time_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Of times beside states of this dtype."""
        return torch.int64 if self.integer_time else dtype if dtype == torch.float64 else torch.float32

    def _scales(self, sigma_bar: Any, axes: int) -> tuple[Any, Any]:
        """alpha and sigma as floats, or as float64 tensors that broadcast against x of so many axes."""
        level = np.asarray(sigma_bar, dtype=np.float64)
        alpha = self.alpha(level)
        if level.ndim == 0:
            return float(alpha), float(alpha * level)
        shape = (-1, *[1] * (axes - 1))
        return torch.from_numpy(alpha).reshape(shape), torch.from_numpy(alpha * level).reshape(shape)


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

    def epsilon(self, x: torch.Tensor, sigma_bar: Any, t: Any = None, copy: torch.Tensor | None = None) -> torch.Tensor:
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
    """Of a module, or of the one inside a wrapper such as `Guided`."""
    module = network if isinstance(network, torch.nn.Module) else getattr(network, "network", None)
    return first_dtype(module) if isinstance(module, torch.nn.Module) else None
