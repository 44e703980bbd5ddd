import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import vsvf as package
from vsvf import cli
from vsvf.commands import common
from vsvf.formulas import CONSTRUCTORS, by_name
from vsvf.grid import SPACINGS
from vsvf.schedule import Schedule


def test_alone_it_prints_help(vsvf):
    result = vsvf()
    assert result.code == 0
    for name in cli.COMMANDS:
        assert name in result.out


def test_version(vsvf):
    assert vsvf("--version").out.strip() == f"vsvf {package.__version__}"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_teaches_by_example(vsvf, command):
    result = vsvf(command, "--help")
    assert result.code == 0
    assert f"vsvf {command} " in result.out
    assert "example" in result.out
    assert "--json" in result.out


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--nonsense"], ["check"], ["sample", "--nonsense"], ["check", "ddim", "--steps", "many"]]
)
def test_wrong_usage_is_one_line_and_code_2(fails, arguments):
    fails(2, "--help explains", *arguments)


def test_debug_shows_the_traceback(vsvf):
    for arguments in (["--debug", "check", "nonsense"], ["check", "nonsense", "--debug"]):
        result = vsvf(*arguments)
        assert result.code == 1
        assert "Traceback" in result.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "vsvf: interrupted"),
        (KeyError("x"), 1, "vsvf: internal error: KeyError"),
        (ValueError("two\nlines"), 1, "vsvf: error: two lines"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), 1, "vsvf: error: a.png: No such file or directory"),
        (package.NonFiniteError("overflow"), 1, "vsvf: error: overflow"),
        (MemoryError(), 1, "vsvf: error: out of memory"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_what_goes_wrong_is_one_line(vsvf, monkeypatch, error, code, text):
    def fail(arguments):
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    monkeypatch.setattr(cli, "_forget_stdout", lambda: None)
    result = vsvf("check", "ddim")
    assert result.code == code
    assert result.err.startswith(text)
    assert result.err.count("\n") == (1 if text else 0)


def test_the_help_lists_what_the_library_has():
    for name in CONSTRUCTORS:
        assert name in common.FORMULAS, name
    assert common.SPACINGS == SPACINGS
    for name in common.SCHEDULES:
        assert isinstance(getattr(Schedule, name)(), Schedule)
    by_name("stable_belm(2)")


def test_the_console_script_runs():
    script = Path(sys.executable).with_name("vsvf")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "vsvf.cli"]
    run = subprocess.run([*command, "check"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    scripts = {script.name: script.value for script in entry_points(group="console_scripts")}
    assert scripts["vsvf"] == "vsvf.cli:main"


def test_derive_needs_no_torch():
    script = """
import sys, types
from pathlib import Path
import importlib.util
folder = str(Path(importlib.util.find_spec("vsvf").origin).parent)
package = types.ModuleType("vsvf")
package.__path__, package.__version__ = [folder], "0"
sys.modules["vsvf"] = package
sys.modules["torch"] = None  # importing it now fails
from vsvf.cli import main
sys.exit(main(["derive", "--steps", "3"]))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "a_3" in run.stdout
