"""k-diffusion: samplers of its signature, their inverses, and its denoisers as predictors.

    sample_belm_2(model, x, sigmas, extra_args=None, callback=None, disable=None)

`model(x, sigma, **extra_args)` returns the denoised x, `sigmas` decrease and usually end with 0, and `callback` is given a
dictionary per step, as k-diffusion's own samplers do (Katherine Crowson, github.com/crowsonkb/k-diffusion, `sampling.py`); nothing
of that package is imported here. Its states are x_bar: alpha = 1, and sigma is sigma_bar. Every explicit method of
`vsvf.formulas.METHODS` has a function named after it (`names()`): "belm(2)" is `sample_belm_2`, and `invert_belm_2` where its
inverse is explicit too; other formulas are had by `sampler` and `inverter`.

The same equation, dx/dsigma = (x - D(x, sigma)) / sigma, holds for rectified flows in their own x = (1 - sigma) x_0 + sigma eps,
so that these functions sample flow models too where they come as such denoisers, as in ComfyUI.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from vsvf import formulas
from vsvf.fixed import Fixed
from vsvf.formula import Formula, LinearMultistep
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor, checked
from vsvf.schedule import Schedule
from vsvf.solve import invert, sample
from vsvf.starter import LOWER_ORDER, Starter
from vsvf.state import State

Array = np.ndarray


class Denoiser(Predictor):
    """A k-diffusion denoiser D(x, sigma) as a predictor: eps = (x - D) / sigma in the scale alpha = 1.

    Args:
        model: callable (x, sigma, **extra_args) -> denoised x; x is (B, …), sigma (B,) in x's dtype.
        extra_args: further keywords for it, such as conditions.
        told: called with (x, sigma, denoised) after every evaluation.

    Raises:
        TypeError: `model` cannot be called.
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        extra_args: dict[str, Any] | None = None,
        told: Callable[[torch.Tensor, float, torch.Tensor], None] | None = None,
    ) -> None:
        super().__init__(model, Schedule.edm(), kind="sample")
        self.dtype = None  # x is handed over as it is: k-diffusion's wrappers convert by themselves
        self.model = model
        self.extra_args = dict(extra_args or {})
        self.told = told

    def alpha(self, sigma_bar: Any) -> Array:
        """1: states are x_bar itself."""
        return np.ones_like(np.asarray(sigma_bar, dtype=np.float64))

    def time(self, sigma_bar: Any) -> Array:
        """sigma_bar itself."""
        return np.asarray(sigma_bar, dtype=np.float64)

    def epsilon(self, x: torch.Tensor, sigma_bar: Any, t: Any = None, copy: torch.Tensor | None = None) -> torch.Tensor:
        """eps at x, as in `Predictor.epsilon`.

        Raises:
            ValueError: sigma_bar is 0, where a denoiser defines no slope.
        """
        level = np.asarray(sigma_bar, dtype=np.float64)
        if np.any(level == 0.0):
            raise ValueError(
                "a denoiser defines no slope at sigma = 0: invert an image from the smallest positive sigma (leave the last of "
                "sigmas out), or go on from the State that sampling returned (McCallum-Foster needs a positive last sigma)"
            )
        sigma = torch.as_tensor(level, dtype=x.dtype, device=x.device).expand(x.shape[0])
        denoised = checked(self.model(x, sigma, **self.extra_args), x)
        if self.told is not None:
            self.told(x, float(level.flat[0]), denoised)
        return (x - denoised) / sigma.reshape(-1, *[1] * (x.ndim - 1))


def grid_of(sigmas: Any) -> Grid:
    """The grid of k-diffusion's sigmas: (N+1,) strictly decreasing, the last one 0 or positive.

    alpha is 1/sqrt(1 + sigma^2) on it, that of the variance preserving networks which k-diffusion wraps; only BDIA's coefficients
    look at it.

    Raises:
        ValueError: they are not such a sequence.
    """
    values = sigmas.detach().cpu().double().numpy() if isinstance(sigmas, torch.Tensor) else np.asarray(sigmas, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.all(np.diff(values) < 0.0) or values[-1] < 0.0:
        raise ValueError(
            f"sigmas must be at least 2 values, strictly decreasing to 0 or above, got {np.array2string(values, threshold=8)}"
        )
    return Grid.from_sigma_bar(values[::-1])


def sampler(
    formula: str | Formula, starter: str | Starter | None = None, arithmetic: str | Fixed | None = None
) -> Callable[..., Any]:
    """A function of k-diffusion's signature that samples with a formula.

        sample(model, x, sigmas, extra_args=None, callback=None, disable=None, *, return_state=False)

    x: (B, …) noise at sigmas[0], or a `State` to go on from. It returns x at sigmas[-1], (B, …) in the dtype of x, or with
    `return_state` the `State`, whose k-tuple the inverse needs. `callback` gets the dictionary
    {"x", "i", "sigma", "sigma_hat", "denoised"} when the model has been evaluated at sigmas[i] for the first time.

    Args:
        formula: a formula or its name. arithmetic: as in `vsvf.sample`; default that of x.
        starter: as in `vsvf.sample`; default "lower_order" where the family has formulas with fewer steps (as k-diffusion's own
            multistep samplers start), else "ddim".
    """
    found, start = _resolved(formula, starter)

    def run(
        model: Callable[..., torch.Tensor],
        x: torch.Tensor | State,
        sigmas: Any,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
        *,
        return_state: bool = False,
    ) -> Any:
        grid = grid_of(sigmas)
        predictor = Denoiser(model, extra_args, _telling(callback, sigmas, grid.sigma_bar[::-1]))
        state = sample(predictor, x, grid, found, starter=start, arithmetic=arithmetic, progress=_shown(disable), warn=False)
        return state if return_state else _plain(state, x)

    return _named(run, f"sample_{_identifier(found.name)}", f"{found.name}, sampling with k-diffusion's signature; see `sampler`.")


def inverter(formula: str | Formula, starter: str | Starter = "ddim", arithmetic: str | Fixed | None = None) -> Callable[..., Any]:
    """A function of k-diffusion's signature that inverts: from the image at sigmas[-1] back to the noise at sigmas[0].

        invert(model, x, sigmas, extra_args=None, callback=None, disable=None, *, return_state=False)

    `sigmas` are those of sampling, decreasing. x: an image, whose missing k-1 states the starter makes (then sigmas[-1] must be
    positive), or the `State` that sampling returned with `return_state`: its steps are retraced. `callback` gets i = 0, 1, …
    counted from the image.

    Args:
        formula, arithmetic: as in `sampler`. starter: as in `vsvf.invert`.
    """
    found, _ = _resolved(formula, starter)

    def run(
        model: Callable[..., torch.Tensor],
        x: torch.Tensor | State,
        sigmas: Any,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
        *,
        return_state: bool = False,
    ) -> Any:
        grid = grid_of(sigmas)
        upwards = torch.as_tensor(sigmas).flip(0)
        predictor = Denoiser(model, extra_args, _telling(callback, upwards, grid.sigma_bar))
        state = invert(predictor, x, grid, found, starter=starter, arithmetic=arithmetic, progress=_shown(disable), warn=False)
        return state if return_state else _plain(state, x)

    return _named(
        run, f"invert_{_identifier(found.name)}", f"{found.name}, inverting with k-diffusion's signature; see `inverter`."
    )


@lru_cache
def names() -> dict[str, str]:
    """The functions of this module that `vsvf.formulas.METHODS` gives rise to: their names, and the formula of each."""
    grid = Grid.from_sigma_bar(np.geomspace(0.1, 10.0, 12))
    found = {}
    for method in formulas.METHODS:
        plan = formulas.by_name(method).plan(grid)
        if plan.explicit:
            found[f"sample_{_identifier(method)}"] = method
            if plan.backward_explicit:
                found[f"invert_{_identifier(method)}"] = method
    return found


def __getattr__(name: str) -> Any:
    if name.startswith(("sample_", "invert_")) and name in names():
        make = sampler if name.startswith("sample_") else inverter
        globals()[name] = function = make(names()[name])
        function.__name__ = function.__qualname__ = name
        return function
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *names()})


def _resolved(formula: str | Formula, starter: str | Starter | None) -> tuple[Formula, str | Starter]:
    found = formulas.by_name(formula) if isinstance(formula, str) else formula
    if starter is not None:
        return found, starter
    has_lower = isinstance(found, LinearMultistep) and found.steps > 1 and found.lower_order is not None
    return found, LOWER_ORDER if has_lower else "ddim"


def _telling(
    callback: Callable[[dict[str, Any]], None] | None, sigmas: Any, levels: Array
) -> Callable[[torch.Tensor, float, torch.Tensor], None] | None:
    """Calls `callback` as k-diffusion does, once for every node of `levels` at which the model is evaluated."""
    if callback is None:
        return None
    waiting = {float(level): i for i, level in enumerate(levels)}

    def told(x: torch.Tensor, sigma: float, denoised: torch.Tensor) -> None:
        i = waiting.pop(sigma, None)
        if i is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})

    return told


def _plain(state: State, given: torch.Tensor | State) -> torch.Tensor:
    return state.x.to(given.dtype) if isinstance(given, torch.Tensor) else state.x


def _shown(disable: bool | None) -> bool:
    """Whether tqdm would show a bar: with None only on a terminal."""
    return sys.stderr.isatty() if disable is None else not disable


def _identifier(name: str) -> str:
    """ "dpm_solver_pp(3, True)" -> "dpm_solver_pp_3_true"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _named(function: Callable[..., Any], name: str, text: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return function
