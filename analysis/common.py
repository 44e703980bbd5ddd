"""What the studies share: saving tables, figures, formulas, views, answers and key numbers; the test images; a
seeded generator; a predictor that remembers.

Everything saved under a name that starts with the study's own ("order_toy") is listed in the study's manifest, `order.json`, from
which `analysis.report` writes the pages.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from safetensors.torch import load

from analysis import style
from vsvf.predictors import Predictor

style.apply()


class Mark(NamedTuple):
    """A table cell that is a verdict: a symbol or a few letters, and what it means in words: a note below the table."""

    symbol: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.symbol} ({self.note})" if self.note else self.symbol


def save_table(out: Path, name: str, caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write `out/name.csv` and list the table.

    Args:
        header: column titles. Neighbouring titles "group | column" with the same group share a line above on the page.
        rows: cells; floats are printed with three digits, a `Mark` as its symbol with a note.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    with open(out / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([title.replace(" | ", ", ") for title in header])
        writer.writerows([[str(cell) for cell in row] for row in cells])
    _list(out, {"name": name, "kind": "table", "caption": caption, "header": list(header), "rows": cells})


def save_figure(out: Path, name: str, caption: str, figure: Figure) -> None:
    """Write the figure and list it: `out/name.png` where it shows pictures, `out/name.svg` where it is lines."""
    pictures = any(axis.images for axis in figure.axes)
    file = f"{name}.{'png' if pictures else 'svg'}"
    figure.savefig(out / file, dpi=110, bbox_inches="tight", metadata=None if pictures else {"Date": None})
    plt.close(figure)
    _list(out, {"name": name, "kind": "figure", "caption": caption, "file": file})


def save_formula(out: Path, name: str, caption: str, equations: Sequence[str]) -> None:
    """List equations, each a MathML element (see `analysis.mathml`)."""
    _list(out, {"name": name, "kind": "formula", "caption": caption, "equations": list(equations)})


def save_answer(out: Path, study: str, sentence: str) -> None:
    """What the study found, in a sentence or two with its numbers in them: it stands at the top of the study's page."""
    _list(out, {"name": f"{study}_answer", "kind": "answer", "caption": sentence})


def save_number(out: Path, name: str, value: str, meaning: str, see: str) -> None:
    """One of the numbers of the summary.

    Args:
        name: starts with the study's name. value: as printed. meaning: what it says, to someone who has read nothing yet.
        see: the name of the table or figure that it comes from.
    """
    _list(out, {"name": name, "kind": "number", "caption": meaning, "value": value, "see": see})


def save_view(out: Path, name: str, caption: str, form: str, data: Any, scripts: Sequence[str]) -> None:
    """List something to try out in the page itself.

    Args:
        form: HTML of the controls and of what they change. data: what JSON can hold. scripts: JavaScript; the last one defines
            `view(data)`, which the page calls.
    """
    _list(out, {"name": name, "kind": "view", "caption": caption, "form": form, "data": data, "scripts": list(scripts)})


def _list(out: Path, entry: dict[str, Any]) -> None:
    manifest = out / f"{entry['name'].split('_')[0]}.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else []
    entries = [old for old in entries if old["name"] != entry["name"]]
    manifest.write_text(json.dumps([*entries, entry], indent=1, ensure_ascii=False), encoding="utf-8")


def _cell(cell: Any) -> Any:
    if isinstance(cell, float):
        return f"{cell:.3g}" if cell == cell else "-"
    return cell if isinstance(cell, Mark) else str(cell)


def test_images() -> tuple[torch.Tensor, torch.Tensor]:
    """The shipped MNIST test images: (100, 1, 28, 28) float32 in [-1, 1], and their labels (100,) int64."""
    data = load((resources.files("vsvf") / "assets" / "digits_test.safetensors").read_bytes())
    return data["images"].float()[:, None] / 127.5 - 1.0, data["labels"].long()


def remembering(predictor: Predictor) -> Predictor:
    """The same predictor; what it has said of an x at a time before, bit for bit, it says again from memory."""
    said: dict[tuple[bytes, bytes], torch.Tensor] = {}

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked = (x.numpy().tobytes(), t.numpy().tobytes())
        if asked not in said:
            said[asked] = predictor.network(x, t)
        return said[asked].clone()

    return Predictor(network, predictor.schedule, predictor.kind, dtype=predictor.dtype)


def generator(seed: int) -> torch.Generator:
    """A CPU generator with its seed."""
    return torch.Generator().manual_seed(seed)
