"""Predictors: what gives eps at a state; and the noise to start from."""

from __future__ import annotations

from vsvf.predictors.base import ClosedForm, Predictor
from vsvf.predictors.digits import digits
from vsvf.predictors.guidance import Guided
from vsvf.predictors.mixture import from_ode, gaussian_mixture, ideal_denoiser
from vsvf.predictors.noise import noise
from vsvf.predictors.scenes import scenes

__all__ = ["ClosedForm", "Guided", "Predictor", "digits", "from_ode", "gaussian_mixture", "ideal_denoiser", "noise", "scenes"]
