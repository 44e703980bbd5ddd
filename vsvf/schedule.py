"""Noise schedules: alpha(t), sigma(t) and sigma_bar(t) = sigma / alpha, in float64.

The forward marginal is x_t = alpha_t x_0 + sigma_t eps. In x_bar = x / alpha and sigma_bar = sigma / alpha the
probability-flow ODE reads d x_bar / d sigma_bar = eps_bar(x_bar, sigma_bar): a schedule is only needed to translate
between the model's time t and sigma_bar, and to scale a state into what the network expects.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray
KNOWN = 32  # arrays of times that a schedule remembers: finding them takes longer than a march of few steps


def _as_array(values: Any) -> Array:
    return np.asarray(values, dtype=np.float64)


class Schedule:
    """A noise schedule as three float64 functions of numpy arrays.

    Args:
        sigma_bar: of the model's time t. timestep: its inverse, t at sigma_bar. alpha: of sigma_bar.

    Attributes:
        name: what it is called in reports.
        table: number of integer timesteps of the model's table (1000 for DDPM), or None when time is continuous.
        sigma_bar_min, sigma_bar_max: the range that the model was trained on (sigma_bar_max may be infinite).
    """

    def __init__(
        self,
        name: str,
        sigma_bar: Callable[[Array], Array],
        timestep: Callable[[Array], Array],
        alpha: Callable[[Array], Array],
        sigma_bar_min: float,
        sigma_bar_max: float,
        table: int | None = None,
    ) -> None:
        self.name = name
        self.table = table
        self.sigma_bar_min = float(sigma_bar_min)
        self.sigma_bar_max = float(sigma_bar_max)
        self._sigma_bar = sigma_bar
        self._timestep = timestep
        self._alpha = alpha
        self._known: dict[bytes, Array] = {}  # times that were asked for, by the levels' bytes: the functions are pure

    def __repr__(self) -> str:
        return f"Schedule({self.name}, sigma_bar {self.sigma_bar_min:.4g} to {self.sigma_bar_max:.4g})"

    # ---- the functions -------------------------------------------------------------------------------------

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of alpha and t at 64 levels, to the seven digits that another machine computes alike."""
        low, high = max(self.sigma_bar_min, 1e-3), min(self.sigma_bar_max, 1e3)
        levels = np.geomspace(low, high, 66)[1:-1]
        numbers = np.concatenate([self.alpha_at(levels), self.timestep(levels)])
        return hashlib.sha256(numbers.astype(np.float32).tobytes()).hexdigest()

    def sigma_bar(self, t: Any) -> Array:
        """sigma_bar(t) = sigma(t) / alpha(t), increasing in t."""
        return self._sigma_bar(_as_array(t))

    def alpha_at(self, sigma_bar: Any) -> Array:
        """alpha as a function of sigma_bar: 1/sqrt(1 + sigma_bar^2) (variance preserving), 1 (variance exploding)
        or 1/(1 + sigma_bar) (rectified flow)."""
        return self._alpha(_as_array(sigma_bar))

    def alpha(self, t: Any) -> Array:
        """alpha(t)."""
        return self.alpha_at(self.sigma_bar(t))

    def sigma(self, t: Any) -> Array:
        """sigma(t) = alpha(t) sigma_bar(t); 1 where alpha is 0."""
        sigma_bar = self.sigma_bar(t)
        alpha = self.alpha_at(sigma_bar)
        pure = alpha == 0.0
        return np.where(pure, 1.0, alpha * np.where(pure, 0.0, sigma_bar))[()]  # a scalar for a scalar

    def log_snr(self, t: Any) -> Array:
        """log(alpha^2 / sigma^2) = -2 log sigma_bar."""
        return -2.0 * np.log(self.sigma_bar(t))

    def timestep(self, sigma_bar: Any) -> Array:
        """The model time at which sigma_bar(t) equals `sigma_bar`, continuous, kept inside the trained range.

        Within 1e-9 of an integer the integer is returned, so that a grid made of a table's timesteps gives these back.
        """
        levels = _as_array(sigma_bar)
        key = levels.tobytes() + str(levels.shape).encode()
        known = self._known.get(key)
        if known is None:
            t = self._timestep(levels)
            nearest = np.rint(t)
            known = np.where(np.abs(t - nearest) < 1e-9 * np.maximum(1.0, np.abs(t)), nearest, t)
            if len(self._known) >= KNOWN:
                self._known = {}  # not emptied, since another thread may look
            self._known[key] = known
        return known.copy()

    # ---- constructors --------------------------------------------------------------------------------------

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Any, name: str = "table") -> Schedule:
        """From the table alphas_cumprod[t] = alpha_t^2, t = 0 … T-1 (variance preserving, any array-like).

        Between the integers, -log alpha^2 = log(1 + sigma_bar^2) is a cubic spline in t through the table and through 0
        at t = -1 (the empty product), so that sigma_bar is smooth, exact at the table and zero at t = -1.

        Raises:
            ValueError: not one-dimensional, outside [0, 1], or not strictly decreasing.
        """
        from scipy.interpolate import CubicSpline, PchipInterpolator  # here, since it takes long to import

        table = _as_array(alphas_cumprod)
        if table.ndim != 1 or len(table) < 2:
            raise ValueError(f"alphas_cumprod must be one-dimensional with at least 2 entries, got shape {table.shape}")
        if not np.all(np.isfinite(table)) or table.max() > 1.0 or table.min() < 0.0 or np.any(np.diff(table) >= 0):
            raise ValueError("alphas_cumprod must lie in [0, 1] and decrease strictly")
        steps = len(table)
        finite = int(np.sum(table > 0.0))  # a zero-SNR table ends at alpha = 0: sigma_bar is infinite there
        knots = np.arange(-1.0, finite)
        values = np.concatenate([[0.0], -np.log(table[:finite])])
        spline: CubicSpline | PchipInterpolator = CubicSpline(knots, values)
        probe = np.linspace(-1.0, finite - 1.0, 8 * finite + 1)
        if np.any(spline(probe, 1) <= 0.0):  # a capped schedule can make a cubic spline overshoot
            spline = PchipInterpolator(knots, values)
        slope = spline.derivative()

        def sigma_bar(t: Array) -> Array:
            if np.any((t < -1.0) | (t > steps - 1.0)):
                raise ValueError(f"t must lie in [-1, {steps - 1}], got {float(np.min(t))} … {float(np.max(t))}")
            inside = np.minimum(t, finite - 1.0)
            return np.where(t > finite - 1.0, np.inf, np.sqrt(np.expm1(spline(inside))))

        def timestep(s: Array) -> Array:
            target = np.clip(np.log1p(s * s), values[1], values[-1])
            left = np.clip(np.searchsorted(values, target, side="right") - 1, 0, finite - 1)
            low, high = knots[left], knots[left + 1]
            t = low + (target - values[left]) / (values[left + 1] - values[left])
            for _ in range(8):  # Newton from a bracketed linear guess: quadratic, each knot interval is almost linear
                t = np.clip(t - (spline(t) - target) / slope(t), low, high)
            return t

        smallest, largest = sigma_bar(np.array([0.0, steps - 1.0]))
        return cls(name, sigma_bar, timestep, _alpha_vp, smallest, largest, table=steps)

    @classmethod
    def from_betas(cls, betas: Any, name: str = "betas") -> Schedule:
        """From the table beta_t: alphas_cumprod[t] = prod_{s <= t} (1 - beta_s), multiplied up in float64."""
        betas = _as_array(betas)
        if betas.ndim != 1 or np.any(betas <= 0.0) or np.any(betas > 1.0):
            raise ValueError("betas must be one-dimensional and lie in (0, 1]")
        return cls.from_alphas_cumprod(np.cumprod(1.0 - betas), name=name)

    @classmethod
    def linear(cls, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
        """DDPM (Ho et al. 2020): beta linear in t."""
        return cls.from_betas(np.linspace(beta_start, beta_end, steps), name="linear")

    @classmethod
    def scaled_linear(cls, steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Schedule:
        """Stable Diffusion: sqrt(beta) linear in t."""
        return cls.from_betas(np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2, name="scaled_linear")

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
        """Nichol & Dhariwal (2021), diffusers' "squaredcos_cap_v2": alpha^2(t) proportional to
        cos^2(pi/2 (t/T + s)/(1 + s)), with beta capped at `max_beta`."""
        return cls.from_betas(_cosine_betas(steps, offset, max_beta), name="cosine")

    @classmethod
    def edm(cls, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Schedule:
        """Variance exploding, Karras et al. (2022): alpha = 1, and the model's time is sigma itself."""
        _check_range(sigma_min, sigma_max)
        return cls("edm", lambda t: t.copy(), lambda s: np.clip(s, sigma_min, sigma_max), np.ones_like, sigma_min, sigma_max)

    @classmethod
    def rectified_flow(cls, t_min: float = 1e-3, t_max: float = 0.999, time_scale: float = 1.0) -> Schedule:
        """Rectified flow: alpha = 1 - t, sigma = t, so sigma_bar = t/(1 - t) and alpha = 1/(1 + sigma_bar).

        sigma_bar is infinite at t = 1: grids start at `t_max` (from x = (1 - t_max) x_0 + t_max eps). The model is given
        `time_scale` * t (1000 for diffusers' flow-matching transformers).
        """
        if not 0.0 < t_min < t_max <= 1.0:
            raise ValueError(f"need 0 < t_min < t_max <= 1, got t_min={t_min}, t_max={t_max}")

        def sigma_bar(t: Array) -> Array:
            u = t / time_scale
            with np.errstate(divide="ignore"):
                return np.where(u >= 1.0, np.inf, u / (1.0 - u))

        return cls(
            "rectified_flow",
            sigma_bar,
            lambda s: time_scale * np.clip(s / (1.0 + s), t_min, t_max),
            lambda s: 1.0 / (1.0 + s),
            t_min / (1.0 - t_min),
            float(sigma_bar(np.asarray(t_max * time_scale))),
        )

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any]) -> Schedule:
        """From a diffusers scheduler's config (`scheduler.config`, or the dict of a scheduler_config.json).

        Reads `trained_betas`, or `beta_schedule` ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid") with
        `beta_start`, `beta_end`, `num_train_timesteps`; `rescale_betas_zero_snr`; flow-matching and EDM schedulers by
        `_class_name`. diffusers itself is not imported; the table is multiplied up in float64 instead of its float32.

        Raises:
            ValueError: a schedule that is not known.
        """
        class_name = str(config.get("_class_name", ""))
        steps = int(config.get("num_train_timesteps", 1000))
        table_keys = {"trained_betas", "beta_schedule", "beta_start", "beta_end"}
        if "FlowMatch" in class_name or (not class_name and "shift" in config and not table_keys & set(config)):
            return cls.rectified_flow(t_min=1.0 / steps, time_scale=float(steps))
        if "EDM" in class_name:
            return cls.edm(float(config.get("sigma_min", 0.002)), float(config.get("sigma_max", 80.0)))
        if not table_keys & set(config) and (class_name or "sigma_max" in config):
            raise ValueError(f"the configuration of {class_name or 'this scheduler'} has no betas: no schedule can be read from it")
        if config.get("trained_betas") is not None:
            betas = _as_array(config["trained_betas"])
        else:
            start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
            kind = config.get("beta_schedule", "linear")
            if kind == "linear":
                betas = np.linspace(start, end, steps)
            elif kind == "scaled_linear":
                betas = np.linspace(start**0.5, end**0.5, steps) ** 2
            elif kind == "squaredcos_cap_v2":
                betas = _cosine_betas(steps)
            elif kind == "sigmoid":
                betas = (end - start) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, steps))) + start
            else:
                raise ValueError(
                    f"beta_schedule={kind!r} is not known; use linear, scaled_linear, squaredcos_cap_v2, sigmoid, "
                    "or pass trained_betas"
                )
        table = np.cumprod(1.0 - betas)
        if config.get("rescale_betas_zero_snr", False):  # Lin et al. (2024), algorithm 1: sqrt(alpha^2) shifted to end at 0
            root = np.sqrt(table)
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            table = root**2
        return cls.from_alphas_cumprod(table, name=str(config.get("beta_schedule", "trained_betas")))


def _cosine_betas(steps: int, offset: float = 0.008, max_beta: float = 0.999) -> Array:
    t = np.arange(steps + 1) / steps
    alpha_squared = np.cos((t + offset) / (1.0 + offset) * np.pi / 2.0) ** 2
    return np.minimum(1.0 - alpha_squared[1:] / alpha_squared[:-1], max_beta)


def _alpha_vp(sigma_bar: Array) -> Array:
    return 1.0 / np.sqrt(1.0 + sigma_bar * sigma_bar)


def _check_range(low: float, high: float) -> None:
    if not 0.0 < low < high < np.inf:
        raise ValueError(f"need 0 < sigma_min < sigma_max < infinity, got {low} and {high}")
