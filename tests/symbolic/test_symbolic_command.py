"""`vsvf derive`: its arguments, its errors, its speed, and that nothing heavy is loaded before it is needed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from vsvf.commands.answer import show
from vsvf.symbolic import command


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    show(command.run(parser.parse_args(words)))
    return 0


def test_text_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--steps", "3") == 0
    out = capsys.readouterr().out
    assert out.startswith("belm(3): 3-step formula") and "Order 4" in out


@pytest.mark.parametrize("words", [("--json",), ("--format", "json"), ("--json", "--format", "json")])
def test_json(words: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--steps", "2", "--pattern", "bdf", *words) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "bdf(2)"


def test_python_and_latex(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pattern", "ddim", "--format", "python") == 0
    namespace: dict = {}
    exec(capsys.readouterr().out, namespace)
    a, b = namespace["ddim"]([1.0, 3.0])
    assert a.tolist() == [1.0] and b.tolist() == [0.0, -1.0]
    assert run("--steps", "2", "--format", "latex") == 0
    assert capsys.readouterr().out.startswith(r"\begin{align*}")


def test_own_pattern_and_basis(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--steps", "2", "--unknown", "a1,b1", "--fixed", "a2=1/2", "--conditions", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["a"] == ["1/2", "1/2"]
    assert run("--steps", "2", "--unknown", "a1,a2,b1", "--basis", "1, s, sqrt(s**2 + c**2)", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parameters"] == ["c"] and set(data["residual_operator"]) == {"2", "3"}


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pattern", "table1") == 0
    assert "edict, state X" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "1"), "^steps must be"),
        (("--json", "--format", "latex"), "^--json contradicts --format latex"),
        (("--unknown", "a1"), "^--steps must be given"),
        (("--steps", "2", "--pattern", "belm", "--unknown", "a1"), "^--pattern names a ready-made pattern"),
        (("--steps", "2", "--unknown", "a1", "--fixed", "a2"), "^--fixed must read as in a2=1/2"),
        (("--steps", "2", "--fixed", "a2=1"), "^unknown: the pattern has no unknowns"),
        (("--pattern", "table1", "--json"), "^--format json is not offered"),
        (("--pattern", "edict"), "couples two states"),
    ],
)
def test_errors(words: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        run(*words)
    assert "\n" not in str(error.value)


def test_a_four_step_derivation_costs_less_than_a_second_beyond_its_imports() -> None:
    code = (
        "import sys, time, argparse, vsvf\n"
        "from vsvf.symbolic import command\n"
        "p = argparse.ArgumentParser(); command.add_arguments(p)\n"
        "start = time.process_time()\n"
        "print(command.run(p.parse_args(['--steps', '4'])))\n"
        "print(time.process_time() - start, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Order 6" in done.stdout
    assert float(done.stderr.split()[-1]) < 1.0


def test_sympy_is_not_loaded_by_the_package() -> None:
    code = "import sys, vsvf, vsvf.formulas; sys.exit('sympy' in sys.modules or 'vsvf.symbolic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
