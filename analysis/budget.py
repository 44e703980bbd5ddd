"""Why is a reconstruction not exact, and the noise found not the right one?

Two MNIST test images are inverted and reconstructed with the digits network at guidance 2, 20 steps, DDIM starter, float32.
Each part is the difference of two runs that differ in one thing (docs: vsvf.apps.budget), and the parts add up to the whole
difference. The bars show the root mean square of each part; on the left as a fraction of their sum, with the observed
difference above, since these span nine decades from one method to the next.

DDIM inversion loses the image by truncation. An exactly invertible method loses it by rounding alone, and in fixed point not
at all. The noise, in contrast, is off for every method, and what dominates there is guidance, then the starter or truncation.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vsvf
from analysis import progress, style
from analysis.common import remembering, save_answer, save_figure, save_number, save_table, test_images
from vsvf import predictors
from vsvf.apps.budget import KEYS, Budget, budget, unrounded

METHODS = (
    ("DDIM inversion", "ddim_inversion", "float32"),
    ("EDICT", "edict(0.93)", "float32"),
    ("BDIA", "bdia(1)", "float32"),
    ("O-BELM", "belm(2)", "float32"),
    ("stable 3-step", "stable_belm(3)", "float32"),
    ("stable 4-step", "stable_belm(4)", "float32"),
    ("O-BELM, fixed", "belm(2)", "fixed"),
)
STEPS, GUIDANCE = 20, 2.0
CHOSEN = (25, 81)
HATCHES = ("", "///", "...", "xxx", "++")


def main(out: Path) -> None:
    """Write budget_*.csv and budget_bars.svg into `out`."""
    images, labels = test_images()
    chosen = torch.tensor(CHOSEN)
    u = unrounded(images[chosen])
    # the fine reference runs are the same for every method
    guided, plain = (remembering(predictors.digits(labels[chosen], guidance)) for guidance in (GUIDANCE, 1.0))
    grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), STEPS, "trailing", "smallest")
    found: dict[str, Budget] = {}
    for title, method, arithmetic in progress.steps(METHODS, "budgets"):
        found[title] = budget(guided, u, grid, method, unguided=plain, arithmetic=arithmetic, reference_steps=32)
    for which, caption in (("image", "reconstruction, pixels in [-1, 1]"), ("noise", "inverted noise")):
        rows = []
        for title, b in found.items():
            parts = b.image_parts if which == "image" else b.noise_parts
            whole = b.image if which == "image" else b.noise
            rows.append([title, b.arithmetic, whole, *(part.size for part in parts), *(part.share for part in parts)])
        header = ["method", "arithmetic", "observed", *(f"RMS of | {key}" for key in KEYS), *(f"share of | {key}" for key in KEYS)]
        name = f"budget_{which}"
        save_table(out, name, f"Parts of the difference of the {caption} (RMS, N = {STEPS}, guidance {GUIDANCE:g}).", header, rows)
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), constrained_layout=True)
    for axis, which in zip(axes, ("image", "noise")):
        _bars(axis, found, which)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=len(KEYS))
    save_figure(
        out, "budget_bars",
        f"Stacked error budgets, N = {STEPS}, guidance {GUIDANCE:g}. Left: reconstruction, parts relative to their sum, the "
        "observed RMS difference above. Right: noise, RMS of each part.", figure,
    )  # fmt: skip
    conclude(out, found["O-BELM"], found["DDIM inversion"])


def conclude(out: Path, exact: Budget, ddim: Budget) -> None:
    """The largest parts, in words."""
    lost, noise = (max(parts, key=lambda part: part.size) for parts in (ddim.image_parts, exact.noise_parts))
    rounding = next(part for part in exact.image_parts if part.key == "rounding")
    save_answer(
        out, "budget",
        f"DDIM inversion loses the image by {lost.key} ({lost.size:.2g} RMS); O-BELM by rounding alone ({rounding.size:.0e}). The "
        f"noise that O-BELM finds is off by {exact.noise:.2g} RMS, most of it by {noise.key} ({noise.size:.2g}).",
    )  # fmt: skip
    meaning = (
        f"RMS is how far the noise found for an image is off with O-BELM, {STEPS} steps, guidance {GUIDANCE:g}; the largest part "
        f"comes from {noise.key}. Exact inversion is not the right noise."
    )
    save_number(out, "budget_off", f"{exact.noise:.2g}", meaning, "budget_noise")


def _bars(axis: plt.Axes, found: dict[str, Budget], which: str) -> None:
    bottom = [0.0] * len(found)
    for n, key in enumerate(KEYS):
        heights = []
        for b in found.values():
            parts = {part.key: part.size for part in (b.image_parts if which == "image" else b.noise_parts)}
            total = sum(parts.values())
            heights.append(parts[key] / total if which == "image" and total > 0.0 else parts[key])
        look = {"color": style.COLOURS[n], "hatch": HATCHES[n], "edgecolor": "white"}
        axis.bar(list(found), heights, bottom=bottom, label=key, width=0.7, **look)
        bottom = [low + height for low, height in zip(bottom, heights)]
    for x, (b, top) in enumerate(zip(found.values(), bottom)):
        axis.text(x, top, f"{b.image if which == 'image' else b.noise:.1g}", ha="center", va="bottom", fontsize=8)
    axis.set_title("reconstruction: parts of the difference" if which == "image" else "inverted noise: RMS of the parts")
    axis.tick_params(axis="x", rotation=25, labelsize=8)
    if which == "noise":
        axis.set_ylim(0.0, min(1.3 * max(bottom), 3.0))
    else:
        axis.set_ylim(0.0, 1.1)
