"""What does the miniature Stable Diffusion draw, and does a picture that it has never seen come back from its noise?

Pictures from prompts (DDIM, 50 steps, guidance 5), with what the judge reads in them. Then scenes rendered from digits of MNIST's
test split, so that what is in them is known: their autoencoder's picture, the noise that each method finds (50 steps to the
smallest sigma_bar, guidance 1), what it samples back from all its states, and what from the noise alone. The error on pixels is
split: the autoencoder's part is there before anything is marched.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis import progress
from analysis.common import generator, save_answer, save_figure, save_number, save_table
from vsvf import predictors
from vsvf.apps.roundtrip import DDIM_INVERSION, Trip, from_image
from vsvf.apps.scenes import scenes_codec
from vsvf.predictors.scenes import LATENTS
from vsvf.scenes import caption, load_glyphs, random_scene, render_batch
from vsvf.scenes.judge import agreement, load_judge

STEPS, GUIDANCE = 50, 5.0
PROMPTS, SHOWN, SCENES = 32, 16, 6
METHODS = (DDIM_INVERSION, "belm(2)", "stable_belm(2)", "stable_belm(3)")
ATTRIBUTES = ("count", "value", "colour", "style", "background", "texture")


def main(out: Path) -> None:
    """Write scenes_*.png and scenes_*.csv into `out`."""
    right = samples(out)
    autoencoder, errors = inversions(out)
    best = errors["belm(2)"]
    save_answer(
        out, "scenes",
        f"Of {PROMPTS} pictures of one digit the judge reads the digit asked for in {right['value']}, its colour in "
        f"{right['colour']}, the background in {right['background']}. A rendered scene comes back to an MSE of {best[1]:.1e} on "
        f"latents from all of O-BELM's states; on pixels {autoencoder:.1e} remain, which the autoencoder alone loses.",
    )  # fmt: skip
    save_number(
        out, "scenes_read", f"{right['value']} of {PROMPTS}",
        f"pictures of the embedded text-to-image model show the digit that the prompt asks for ({STEPS} DDIM steps, guidance "
        f"{GUIDANCE:g}, read by a network that was trained on rendered scenes alone).",
        "scenes_samples",
    )  # fmt: skip


def samples(out: Path) -> dict[str, int]:
    """Pictures of prompts with one digit and with two; in how many of the former the judge reads each attribute."""
    glyphs, chance, judge, codec = load_glyphs(), generator(1), load_judge(), scenes_codec()
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), STEPS, "trailing", "zero")
    rows, shown = [], []
    first: dict[str, int] = {}
    for digits, count in ((1, PROMPTS), (2, SHOWN)):
        scenes = [random_scene(glyphs, chance, count=digits) for _ in range(count)]
        prompts = [caption(scene, chance) for scene in scenes]
        found = []
        for part in progress.steps(torch.arange(count).split(8), f"prompts, {digits} digit(s)"):
            eps = predictors.scenes([prompts[i] for i in part], GUIDANCE)
            noise = predictors.noise((len(part), *LATENTS), eps, grid, generator=chance)
            found.append(codec.decode(vsvf.sample(eps, noise, grid, "ddim", arithmetic="float32").x))
        pictures = torch.cat(found)
        read = [agreement(a, scene.attributes) for a, scene in zip(judge.read(pictures), scenes, strict=True)]
        right = {name: sum(each[name] for each in read) for name in ATTRIBUTES}
        everything = sum(all(each.values()) for each in read)
        rows.append([digits, count, *right.values(), everything])
        first = first or right
        shown += list(zip(pictures, prompts, strict=True))[:SHOWN]
    save_table(
        out, "scenes_judged", "In how many pictures the judge reads what the prompt says.",
        ["digits", "pictures", *ATTRIBUTES, "all"], rows,
    )  # fmt: skip
    figure, axes = plt.subplots(4, SHOWN // 2, figsize=(1.6 * SHOWN / 2, 9.0))
    for axis, (picture, prompt) in zip(axes.flat, shown):
        axis.imshow(_colours(picture))
        axis.set_title(_wrapped(prompt), fontsize=6)
        axis.set(xticks=[], yticks=[])
    figure.subplots_adjust(wspace=0.1, hspace=0.5)
    save_figure(out, "scenes_samples", f"Prompts and pictures: {STEPS} DDIM steps, guidance {GUIDANCE:g}.", figure)
    return first


def inversions(out: Path) -> tuple[float, dict[str, tuple[float, float, float]]]:
    """The autoencoder's MSE on rendered scenes, and of each method the MSE on pixels and latents, and from x_N alone on latents."""
    glyphs, chance, codec = load_glyphs(), generator(2), scenes_codec()
    scenes = [random_scene(glyphs, chance) for _ in range(SCENES)]
    picture = render_batch(scenes, glyphs)[0].double()
    eps = predictors.scenes([caption(scene) for scene in scenes], 1.0)
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), STEPS, "leading", "smallest", steps_offset=1)
    latents = codec.encode(picture)
    once = codec.decode(latents)
    lines, table, errors = [("rendered", picture), ("encoded,\ndecoded", once)], [], {}
    for method in progress.steps(METHODS, "inversions"):
        trip: Trip = from_image(eps, latents, grid, method)
        alone = trip.end if method == DDIM_INVERSION else vsvf.sample(eps, trip.turn.clone(), grid, method, starter="ddim").x
        back = codec.decode(trip.end)
        errors[method] = (_mse(back, picture), _mse(trip.end, latents), _mse(alone, latents))
        table.append([method, *errors[method], _mse(codec.decode(alone), picture), float(trip.turn.std()), sum(trip.nfe)])
        if method in (DDIM_INVERSION, "belm(2)", "stable_belm(2)"):
            lines.append((f"{method},\nfrom x_N alone", codec.decode(alone)))
        if method == "belm(2)":
            lines.append((f"{method},\nall states", back))
    save_table(
        out, "scenes_inversions",
        f"{SCENES} rendered scenes, {STEPS} leading steps to the smallest sigma_bar, guidance 1, float64: MSE. The autoencoder "
        f"alone: {_mse(once, picture):.3g} on pixels.",
        ["method", "all states | pixels", "all states | latents", "x_N alone | latents", "x_N alone | pixels",
         "deviation of the noise", "NFE"],
        table,
    )  # fmt: skip
    figure, axes = plt.subplots(len(lines), SCENES, figsize=(1.15 * SCENES + 1.2, 1.15 * len(lines)))
    for row, (title, tensor) in zip(axes, lines):
        for axis, some in zip(row, tensor):
            axis.imshow(_colours(some))
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=7)
    figure.subplots_adjust(wspace=0.05, hspace=0.05)
    save_figure(out, "scenes_reconstruction", "Rendered scenes and what comes back of them.", figure)
    return _mse(once, picture), errors


def _mse(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).square().mean())


def _colours(picture: torch.Tensor) -> torch.Tensor:
    return (picture.float().clamp(-1.0, 1.0).permute(1, 2, 0) + 1.0) / 2.0


def _wrapped(text: str, width: int = 24) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(line.strip() for line in lines)
