"""Writes the pipeline's folder from the checkpoint of `training.train_scenes`, whatever state its training has reached.

    python -m training.export_scenes --vae FOLDER --work FOLDER --out vsvf/assets/scenes

The UNet's averaged weights are smoothed (`smooth`), which changes no picture that one could tell, and stored in float16, which
halves the folder; they are loaded, and computed with, in float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from training.scenes_model import make_pipeline, make_text_encoder, make_unet, read_autoencoder, write_pipeline

FASTEST = 0.06  # radians per timestep: what is kept of the embedding of time has periods from 100 timesteps on
SOFTER = 0.03  # factor of the logits in the middle block's attention


def smooth(unet: UNet2DConditionModel) -> None:
    """Make eps a smooth function of time, in place, without training.

    The embedding of time is cos(f t), sin(f t) with f = 10000^(-i/16): training at whole timesteps leaves the fast ones, periods of
    6.3, 11, 20 … timesteps, as a ripple of the slopes, and they carry nothing that the slow ones do not. Their columns become 0.
    And the middle block's attention is saturated: its logits, up to 250 where other layers' are 15, turn from one key to another
    within a tenth of a timestep, which to an ODE solver is a jump. Its queries are made smaller.
    """
    half = unet.config.block_out_channels[0] // 2
    slow = (10000.0 ** (-torch.arange(half) / half) < FASTEST).float()
    with torch.no_grad():
        unet.time_embedding.linear_1.weight.mul_(torch.cat([slow, slow]))
        for name, layer in unet.mid_block.named_modules():
            if name.endswith("to_q"):
                layer.weight.mul_(SOFTER)


def halve(file: Path) -> None:
    """Rewrites a safetensors file with float16 numbers."""
    weights = {name: weight.half() for name, weight in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    file.chmod(0o644)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Writes the scenes pipeline from a checkpoint.")
    parser.add_argument("--vae", type=Path, required=True, help="folder of the trained autoencoder")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pipeline")
    args = parser.parse_args()
    state = torch.load(args.work / "checkpoint.pt", weights_only=True, map_location="cpu")
    text_encoder, unet = make_text_encoder(), make_unet()
    text_encoder.load_state_dict(state["average"]["text_encoder"])
    unet.load_state_dict(state["average"]["unet"])
    smooth(unet)
    write_pipeline(make_pipeline(read_autoencoder(args.vae), text_encoder.eval(), unet.eval()), args.out)
    halve(args.out / "unet" / "diffusion_pytorch_model.safetensors")
    step, seconds, loss = state["clock"]
    print(f"step {step}, {seconds / 60:.1f} minutes, loss {loss:.4f}")


if __name__ == "__main__":
    main()
