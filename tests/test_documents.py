"""Every code block of README, docs and notebooks runs as it is printed, and everything that a page names is there."""

import importlib
import re
import runpy
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers_models import small_stable_diffusion, small_unet
from PIL import Image

import vsvf
from vsvf import cli, formulas, predictors
from vsvf.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(path):
    """(language, text) of the fenced blocks of a page."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, t):
        return torch.tanh(self.layer(x)) * (t / 1000).cos()[:, None, None, None]


def denoise(x, sigma):
    return x / (1 + sigma[:, None, None, None] ** 2)


def nothing(folder):
    return {}


def a_pipeline(folder):
    return {"pipe": small_stable_diffusion(folder)}


def a_run(folder):
    """The names that the page on exactness takes for granted: a predictor, a grid and noise."""
    eps = predictors.digits(3)
    grid = vsvf.Grid.from_schedule(eps.schedule, 10, final="smallest")
    generator = torch.Generator().manual_seed(0)
    return {"vsvf": vsvf, "eps": eps, "grid": grid, "x_T": predictors.noise((1, 1, 28, 28), eps, grid, generator=generator)}


def own_models(folder):
    """Small random models in the places of those that a reader would have."""
    torch.manual_seed(0)
    small_unet().save_pretrained(folder / "unet")
    network = Network().requires_grad_(False)
    return {"network": network, "denoise": denoise, "folder": folder, "pipe": small_stable_diffusion(folder)}


GIVEN = {
    "README.md": a_pipeline,
    "exact.md": a_run,
    "own_model.md": own_models,
    "stability.md": lambda folder: {"np": np, "formulas": formulas},
}


@pytest.mark.filterwarnings("ignore:clip_sample")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_blocks_of_a_page_run_in_order(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks(path)
    assert path.read_text(encoding="utf-8").count("\n```") + path.read_text(encoding="utf-8").startswith("```") == 2 * len(found)
    names = GIVEN.get(path.name, nothing)(tmp_path)
    Image.fromarray(np.full((28, 28), 90, dtype=np.uint8)).save(tmp_path / "three.png")
    for number, (language, block) in enumerate(found, start=1):
        if language == "python":
            exec(compile(block, f"{path.name}, block {number}", "exec"), names)
            continue
        assert language in ("", "sh"), f"{path.name}, block {number}: a language that no test runs"
        for line in block.splitlines():
            run_in_shell(line, f"{path.name}, block {number}")
    capsys.readouterr()


LONG = ("reconstruct", "fid", "interpolate", "rerun", "edit", "edit-bench")  # minutes each; their own tests run them small


def parses(words):
    """Whether the command line is understood."""
    parser, commands = cli._parser()
    module = importlib.import_module(cli.COMMANDS[words[0]][0])
    module.add_arguments(commands.add_parser(words[0]))
    return parser.parse_args(words).command == words[0]


def run_in_shell(line, where):
    """A command of the package is run, or read where it takes minutes; a target of make, or a module, must exist."""
    words = shlex.split(line, comments=True)
    if not words:
        return
    if words[:1] == ["vsvf"] and words[1] in LONG:
        assert parses(words[1:]), f"{where}: {line}"
    elif words[0] == "vsvf":
        assert main(words[1:]) == 0, f"{where}: {line}"
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{where}: {line}"
    elif words[:2] == ["python", "-m"]:
        path = ROOT.joinpath(*words[2].split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{where}: {line}"
    else:
        raise AssertionError(f"{where}: nothing here runs {line!r}")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs(path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert runpy.run_path(str(path), run_name="__main__")
    if path.stem == "own_model":
        assert "every bit of it" in capsys.readouterr().out


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_files_that_a_page_names_are_there(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    files = re.findall(r"`((?:vsvf|tests|docs|analysis|benchmarks|notebooks|training)/[\w/]+\.(?:py|md))`", text)
    missing = [link for link in links if not (path.parent / link).exists()] + [name for name in files if not (ROOT / name).exists()]
    assert missing == []
