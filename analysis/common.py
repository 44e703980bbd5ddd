"""What the studies share: saving tables and figures with captions, the test images, a seeded generator."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from safetensors.torch import load


def save_table(out: Path, name: str, caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write `out/name.csv` and list it, with its caption, in the manifest of its study."""
    with open(out / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([[_text(cell) for cell in row] for row in rows])
    _list(out, name, "table", caption)


def save_figure(out: Path, name: str, caption: str, figure: Figure) -> None:
    """Write `out/name.png` and list it, with its caption, in the manifest of its study."""
    figure.savefig(out / f"{name}.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    _list(out, name, "figure", caption)


def _list(out: Path, name: str, kind: str, caption: str) -> None:
    manifest = out / f"{name.split('_')[0]}.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else []
    entries = [entry for entry in entries if entry["name"] != name]
    entries.append({"name": name, "kind": kind, "caption": caption})
    manifest.write_text(json.dumps(entries, indent=1))


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.3g}" if cell == cell else "-"
    return str(cell)


def test_images() -> tuple[torch.Tensor, torch.Tensor]:
    """The shipped MNIST test images: (100, 1, 28, 28) float32 in [-1, 1], and their labels (100,) int64."""
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())
    return data["images"].float()[:, None] / 127.5 - 1.0, data["labels"].long()


def generator(seed: int) -> torch.Generator:
    """A CPU generator with its seed."""
    return torch.Generator().manual_seed(seed)
