"""What a diffusers scheduler's config says: the noise schedule, what the network predicts, where sampling ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsvf.schedule import Schedule

try:
    import diffusers
except ImportError as error:
    raise ImportError(
        "vsvf.integrations.diffusers needs diffusers, which comes with an extra: pip install 'vsvf[diffusers]'"
    ) from error

KINDS = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v", "flow_prediction": "velocity"}

BETA_KEYS = ("trained_betas", "beta_schedule", "beta_start")

Reading = Schedule | Mapping[str, Any] | diffusers.SchedulerMixin


def config_of(scheduler: Mapping[str, Any] | diffusers.SchedulerMixin) -> Mapping[str, Any]:
    """The config of a scheduler, or the mapping itself.

    Raises:
        TypeError: neither of these.
    """
    config = scheduler if isinstance(scheduler, Mapping) else getattr(scheduler, "config", None)
    if not isinstance(config, Mapping):
        got = type(scheduler).__name__
        raise TypeError(f"scheduler must be a diffusers scheduler, its config or a vsvf.Schedule, got {got}")
    return config


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether the config is that of a flow-matching scheduler (a scheduler built in code has no _class_name in its config), or
    that of a VSVFScheduler made from one."""
    if config.get("flow") is not None:
        return True
    if "FlowMatch" in str(config.get("_class_name", "")) or config.get("prediction_type") == "flow_prediction":
        return True
    return "shift" in config and not has_betas(config)


def has_betas(config: Mapping[str, Any]) -> bool:
    """Whether the config says how noise grows with the timestep."""
    return any(config.get(key) is not None for key in BETA_KEYS)


def read(scheduler: Reading, kind: str | None = None) -> tuple[Schedule, str]:
    """The schedule and the kind of prediction that belong to a network.

    Args:
        scheduler: a diffusers scheduler, its config (`scheduler.config` or the dict of a scheduler_config.json), or a
            `vsvf.Schedule`.
        kind: what the network predicts, for schedules without a `prediction_type`; default "epsilon", "velocity" for
            flow matching.

    Raises:
        TypeError: something else. ValueError: a config without betas (EDM, score SDE, …), which does not say how to read the
            network, or an unknown `prediction_type`.
    """
    if isinstance(scheduler, Schedule):
        return scheduler, kind or "epsilon"
    config = config_of(scheduler)
    if is_flow(config):
        config = {**config, "_class_name": "FlowMatchEulerDiscreteScheduler"}
        return Schedule.from_diffusers(config), kind or "velocity"
    if not has_betas(config):
        raise ValueError(
            f"the config of {config.get('_class_name', 'this scheduler')} has no betas: wrap the network yourself, as "
            "vsvf.predictors.Predictor(network, schedule, kind=…), with vsvf.Schedule.edm(…) for variance-exploding models"
        )
    prediction = str(config.get("prediction_type", "epsilon"))
    if prediction not in KINDS:
        raise ValueError(f"prediction_type={prediction!r} is not known; choose one of {', '.join(KINDS)}")
    return Schedule.from_diffusers(config), kind or KINDS[prediction]
