"""What is released: one version, a wheel and a source archive that hold the package and nothing else, and work on their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import vsvf

ROOT = Path(__file__).parent.parent


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Output of a command that succeeds, run without what this process was told about Python paths."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, built from a copy of the files that belong to them, without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT / "vsvf", source / "vsvf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=source)
    return out


@pytest.fixture(scope="module")
def installed(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into; what it depends on is that of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = next(archives.glob("*.whl"))
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder


def test_the_version_stands_in_one_place_and_the_citation_agrees() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project and "version" in project["dynamic"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r'^version: "(.*)"$', citation, re.MULTILINE)[1] == vsvf.__version__
    assert f"## {vsvf.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_file_is_valid() -> None:
    run(sys.executable, "-c", "from cffconvert.cli.cli import cli; cli()", "--validate", "--infile", "CITATION.cff", cwd=ROOT)


def test_the_archives_carry_the_version_the_types_and_the_weights_and_no_tests(archives: Path) -> None:
    wheel = next(archives.glob("*.whl"))
    assert wheel.name.startswith(f"vsvf-{vsvf.__version__}-py3")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"vsvf/py.typed", "vsvf/assets/digits.safetensors", "vsvf/integrations/kdiffusion.py"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"vsvf", f"vsvf-{vsvf.__version__}.dist-info"}
    source = next(archives.glob("*.tar.gz"))
    with tarfile.open(source) as archive:
        assert f"vsvf-{vsvf.__version__}/LICENSE" in archive.getnames()


def test_the_readme_runs_on_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    """Its ten lines, in an interpreter that sees the installed wheel and not the repository."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"## Ten lines\n\n```python\n(.*?)```", text, re.DOTALL)[1]
    program = f"{lines}\nprint(vsvf.__file__, vsvf.__version__)\n"
    place, version = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert Path(place).is_relative_to(installed) and version == vsvf.__version__


def test_the_command_line_runs_on_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    out = run(sys.executable, installed / "bin" / "vsvf", "coefficients", "belm(2)", "--nodes", "0,1,2", cwd=tmp_path,
              PYTHONPATH=str(installed))  # fmt: skip
    assert "belm(2)" in out


STRANGER = """
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import torch
import vsvf
from vsvf import formulas, predictors, symbolic
from vsvf.formulas.root_placed import roots_at

schedule: vsvf.Schedule = vsvf.Schedule.linear()
grid: vsvf.Grid = vsvf.Grid.from_schedule(schedule, 50, spacing="trailing", final="smallest")
formula: vsvf.LinearMultistep = formulas.belm(2)
named: vsvf.Formula = formulas.by_name("stable_belm(3)")
placed = formulas.root_placed_belm(roots_at((0.75,)), 1.0)
plan: vsvf.Plan = formula.plan(grid)


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return x * t.reshape(-1, 1)


eps: predictors.Predictor = predictors.Predictor(network, schedule, kind="v")
noise: torch.Tensor = predictors.noise((2, 3), eps, grid, generator=torch.Generator())
image: vsvf.State = vsvf.sample(eps, noise, grid, formula, arithmetic=vsvf.Fixed(fraction_bits=40))
back = vsvf.invert(eps, image, grid, "belm(2)", starter="heun")
assert_type(back, vsvf.State)
assert_type(back.x, torch.Tensor)
assert_type(back.nfe, int)
image.save(Path("image.safetensors"))
assert_type(vsvf.State.load(Path("image.safetensors")), vsvf.State)


def watch(step: vsvf.Step) -> None:
    print(step.sigma_bar, step.x.shape)


vsvf.sample(eps, noise, grid, named, callback=watch)
march = vsvf.steps(schedule, noise, grid, placed)
x, evaluations = vsvf.integrate(eps, noise, grid.sigma_bar, "rk4")
assert_type(x, torch.Tensor)
assert_type(vsvf.stability(formula, grid).k_sampling, float)
assert_type(vsvf.order(formula).sampling, float)
assert_type(symbolic.derive(steps=3), symbolic.Derivation)
try:
    vsvf.bits(formula, grid)
except vsvf.VsvfError as error:
    print(error)

vsvf.sample(eps, noise, grid, formula, arithmetic=64)  # type: ignore[arg-type]
vsvf.invert(eps, image)  # type: ignore[call-arg]
vsvf.smaple  # type: ignore[attr-defined]
"""


@pytest.mark.slow
def test_a_stranger_finds_the_types_of_the_public_names(archives: Path, tmp_path: Path) -> None:
    """mypy --strict on a program of somebody else's, with the wheel in an environment of its own; its three mistakes are found,
    or their `ignore` would be one too many."""
    pytest.importorskip("mypy")
    home = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    packages = next((home / "lib").glob("python*/site-packages"))
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", packages,
        next(archives.glob("*.whl")), cwd=tmp_path)  # fmt: skip
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))  # what the package depends on
    (tmp_path / "theirs.py").write_text(STRANGER, encoding="utf-8")
    checked = run(sys.executable, "-m", "mypy", "--strict", "--python-executable", home / "bin" / "python", "theirs.py",
                  cwd=tmp_path)  # fmt: skip
    assert "Success: no issues found in 1 source file" in checked
