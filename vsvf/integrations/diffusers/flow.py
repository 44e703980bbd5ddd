"""Flow matching as diffusers does it (SD3, FLUX): sigma from 1 to 0, x = (1 - sigma) x_0 + sigma eps, dx/dsigma = v(x, sigma).

In sigma_bar = sigma / (1 - sigma) such a march would begin at infinity. In sigma itself the equation has the one form of all
others, dx_bar/dsigma_bar = eps_bar, with x in the place of x_bar (alpha = 1), sigma in that of sigma_bar and the velocity in
that of eps: every formula applies, "ddim" is diffusers' Euler step, and an exact inverse reaches sigma = 1, the noise itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

from vsvf.grid import Grid
from vsvf.schedule import Schedule

# entries of FlowMatchEulerDiscreteScheduler's config that say which sigmas it draws
KEYS = (
    "shift",
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "shift_terminal",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "time_shift_type",
)
REFUSED = ("invert_sigmas", "stochastic_sampling")


def flow_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those entries of a flow-matching config that are `KEYS`.

    Raises:
        ValueError: the config asks for what cannot be inverted or is no march from noise to data.
    """
    asked = [key for key in REFUSED if config.get(key)]
    if asked:
        raise ValueError(f"{asked[0]}=True is not implemented: VSVFScheduler marches deterministically from noise to data and back")
    return {key: config[key] for key in KEYS if key in config}


def flow_schedule(num_train_timesteps: int = 1000) -> Schedule:
    """sigma in the place of sigma_bar and alpha = 1; the model's time is num_train_timesteps * sigma.

    A network that predicts the velocity is then `Predictor(network, flow_schedule(), kind="epsilon")`.
    """
    count = float(num_train_timesteps)
    return Schedule("flow", lambda t: t / count, lambda s: s * count, np.ones_like, 1.0 / count, 1.0)


def flow_grid(
    settings: Mapping[str, Any],
    num_train_timesteps: int,
    num_inference_steps: int | None,
    sigmas: Sequence[float] | None,
    timesteps: Sequence[float] | None,
    mu: float | None,
) -> Grid:
    """The grid of FlowMatchEulerDiscreteScheduler's own sigmas, as it draws them from these arguments of `set_timesteps`.

    Raises:
        ValueError: what that scheduler refuses, such as dynamic shifting without mu.
    """
    euler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=num_train_timesteps, **settings)
    euler.set_timesteps(num_inference_steps, sigmas=sigmas, timesteps=timesteps, mu=mu)
    nodes = euler.sigmas.double().numpy()[::-1]
    return Grid(nodes, np.ones_like(nodes), None, "flow matching")
