"""Tables of reconstruction, laid out as the paper's Tables 2 and 3 with their numbers beside, and what agrees with them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vsvf.apps.published import AUTOENCODER, LATENTS, PIXELS, REPORT, STEPS, column, published
from vsvf.apps.reconstruct import ALL_STATES, MODES, NOISE_ALONE
from vsvf.apps.roundtrip import DDIM_INVERSION
from vsvf.formulas import by_name

FIELDS = ("image", "method", "steps", "mode", "mse_pixels", "mse_latents", "psnr", "ssim", "floor_mse", "nfe_up", "nfe_down")
MEASURES = ("mse_pixels", "mse_latents", "psnr", "ssim", "floor_mse")
ZERO = 0.0005  # what the paper's three decimals show as 0.000


@dataclass(frozen=True)
class Cell:
    """A method at a number of steps, one way back: means over n images, and the standard errors of the means."""

    method: str
    steps: int
    mode: str
    n: int
    mean: dict[str, float]
    error: dict[str, float]
    nfe: tuple[int, int]


def cells(rows: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """Averages of rows (one per image, method, steps and mode, with the `FIELDS`)."""
    groups: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["steps"], row["mode"]), []).append(row)
    found = []
    for (method, steps, mode), group in groups.items():
        values = {name: np.array([row[name] for row in group], dtype=np.float64) for name in MEASURES}
        with np.errstate(invalid="ignore"):
            mean = {name: float(v.mean()) for name, v in values.items()}
            error = {name: float(v.std(ddof=1) / math.sqrt(len(v))) if len(v) > 1 else math.nan for name, v in values.items()}
        nfe = (max(row["nfe_up"] for row in group), max(row["nfe_down"] for row in group))
        found.append(Cell(method, steps, mode, len(group), mean, error, nfe))
    return found


def images_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """One line per image, method, steps and mode."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: row[name] for name in FIELDS} for row in rows)
    return text.getvalue().encode()


def tables(found: Sequence[Cell], latent_model: bool) -> str:
    """Markdown: pixels and latents from all k states and from x_N alone, then PSNR and SSIM; the paper's numbers in brackets."""
    parts = [] if latent_model else ["This model has no autoencoder: its latents are the pixels, and the floor (AE) is 0.\n"]
    for mode in MODES:
        parts.append(_table(found, mode, "mse_pixels", f"MSE on pixels in [-1, 1], from {mode}", PIXELS))
        if latent_model:
            parts.append(_table(found, mode, "mse_latents", f"MSE on latents, from {mode}", LATENTS))
    for mode in MODES:
        parts.append(_table(found, mode, "psnr", f"PSNR in dB, from {mode}", None))
        parts.append(_table(found, mode, "ssim", f"SSIM, from {mode}", None))
    note = (
        "In brackets: the BELM paper's Tables 2 and 3 (Stable Diffusion 1.5, COCO-14), from all k states; AE is what the "
        f"autoencoder loses alone. The reproduction report's own O-BELM: {', '.join(map(str, PIXELS[REPORT]))} on pixels at "
        f"{', '.join(map(str, STEPS))} steps."
    )
    return "\n".join([*parts, note, ""])


def _table(found: Sequence[Cell], mode: str, measure: str, title: str, beside: dict[str, tuple[float, ...]] | None) -> str:
    chosen = [cell for cell in found if cell.mode == mode]
    methods = list(dict.fromkeys(cell.method for cell in chosen))
    at = {(cell.method, cell.steps): cell for cell in chosen}
    floor = measure == "mse_pixels"
    names = [f"{m} ({column(m)})" if column(m) not in (None, m) else m for m in methods]
    head = ["steps", *(["AE"] if floor else []), *names]
    lines = [f"**{title}**" + (f", n = {chosen[0].n}" if chosen else ""), "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for steps in sorted({cell.steps for cell in chosen}):
        row = [str(steps)]
        if floor:
            first = next(cell for cell in chosen if cell.steps == steps)
            row.append(_beside(first.mean["floor_mse"], PIXELS[AUTOENCODER][STEPS.index(steps)] if steps in STEPS else None))
        for method in methods:
            cell = at.get((method, steps))
            value = None if cell is None else cell.mean[measure]
            paper = published(beside, method, steps) if beside is not None and mode == ALL_STATES else None
            row.append(_beside(value, paper))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, ""])


def _beside(value: float | None, paper: float | None) -> str:
    text = "" if value is None else "inf" if math.isinf(value) else "0" if value == 0.0 else f"{value:.3g}"
    return text if paper is None else f"{text} ({paper:.3f})"


def agreement(found: Sequence[Cell]) -> list[str]:
    """Sentences: where the measured table says what the paper's says, and where not."""
    sentences: list[str] = []
    at = {(cell.method, cell.steps, cell.mode): cell for cell in found}
    exact = [m for m in dict.fromkeys(cell.method for cell in found) if m != DDIM_INVERSION and _exact(m)]
    steps = sorted({cell.steps for cell in found})

    def say(holds: bool, text: str) -> None:
        sentences.append(f"{'agrees' if holds else 'DOES NOT AGREE'}: {text}")

    for method in exact:
        worst = max(at[method, n, ALL_STATES].mean["mse_latents"] for n in steps if (method, n, ALL_STATES) in at)
        say(worst < ZERO, f"{method} from all k states: latent MSE at most {worst:.1e} at every number of steps (paper 0.000)")
        apart = max(
            abs(cell.mean["mse_pixels"] - cell.mean["floor_mse"])
            for cell in found
            if cell.method == method and cell.mode == ALL_STATES
        )
        say(apart < ZERO, f"{method} from all k states: pixel MSE within {apart:.1e} of the floor (paper: equal to three decimals)")
    falling = [at[DDIM_INVERSION, n, ALL_STATES].mean["mse_latents"] for n in steps if (DDIM_INVERSION, n, ALL_STATES) in at]
    if len(falling) > 1:
        values = ", ".join(f"{value:.2g}" for value in falling)
        down = all(b < a for a, b in pairwise(falling))
        say(down, f"DDIM's latent MSE falls with the steps: {values} (paper {', '.join(map(str, LATENTS['DDIM']))})")
    for n in steps:
        base = at.get((DDIM_INVERSION, n, NOISE_ALONE))
        if base is None:
            continue
        for method in exact:
            ratio = at[method, n, NOISE_ALONE].mean["mse_latents"] / base.mean["mse_latents"]
            word = f"{1.0 / ratio:.1f} times below" if ratio < 1.0 else f"{ratio:.1f} times above"
            sentences.append(f"not in the paper: from x_N alone, {n} steps, {method} lies {word} DDIM inversion")
    return sentences


def _exact(method: str) -> bool:
    """Whether the method's rows are explicit both ways."""
    from vsvf.grid import Grid

    return bool(by_name(method).plan(Grid.from_sigma_bar(0.1 + np.arange(12.0))).bidirectionally_explicit)
