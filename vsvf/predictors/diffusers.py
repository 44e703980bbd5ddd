"""Forwards to `vsvf.integrations.diffusers`, where these names live."""

from vsvf.integrations.diffusers import *  # noqa: F403
from vsvf.integrations.diffusers import __all__ as __all__
