"""The page "Use your own model" and its walk-through run as they are printed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_models import small_stable_diffusion, small_unet

ROOT = Path(__file__).resolve().parents[3]


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(x)) * (t / 1000).cos()[:, None, None, None]


def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x / (1 + sigma[:, None, None, None] ** 2)


@pytest.mark.filterwarnings("ignore:clip_sample")
def test_the_page(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small_unet().save_pretrained(tmp_path / "unet")
    names: dict[str, Any] = {
        "network": Network().requires_grad_(False),
        "denoise": denoise,
        "folder": tmp_path,
        "pipe": small_stable_diffusion(tmp_path),
    }
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"docs/own_model.md, block {number}", "exec"), names)


def test_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "notebooks" / "own_model.py"), run_name="__main__")
    assert "every bit of it" in capsys.readouterr().out
