"""diffusers networks, pipelines and autoencoders as predictors, and VSVFScheduler (extra: vsvf[diffusers]).

    from vsvf.integrations.diffusers import unet, conditional_unet, transformer, from_pipeline, Autoencoder, VSVFScheduler

`import vsvf` does not import this.
"""

from __future__ import annotations

from vsvf.integrations.diffusers.loading import load_model
from vsvf.integrations.diffusers.models import Autoencoder, conditional_unet, conditioned, from_pipeline, transformer, unet
from vsvf.integrations.diffusers.scheduler import VSVFScheduler

__all__ = [
    "Autoencoder",
    "VSVFScheduler",
    "conditional_unet",
    "conditioned",
    "from_pipeline",
    "load_model",
    "transformer",
    "unet",
]
