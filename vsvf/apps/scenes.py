"""The autoencoder of the embedded text-to-image model, as the codec of a latent model."""

from __future__ import annotations

import torch

from vsvf.apps.budget import Codec
from vsvf.predictors.scenes import load_scenes


def scenes_codec(*, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Codec:
    """Pictures (B, 3, 64, 64) in [-1, 1] to latents (B, 4, 16, 16) and back, in the dtype of what is given.

    encode: the mean of the encoder's distribution times the scaling factor. decode: the decoder's picture, about in [-1, 1].

    Args:
        dtype: of the autoencoder's own numbers. device: where it is put.

    Raises:
        ImportError: diffusers is not installed.
    """
    pipeline = load_scenes(dtype=dtype, device=device)
    from vsvf.integrations.diffusers import Autoencoder

    autoencoder = Autoencoder(pipeline.vae)
    return Codec("autoencoder of the scenes model", autoencoder.encode, autoencoder.decode)
