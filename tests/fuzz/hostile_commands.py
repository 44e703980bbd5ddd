"""Hostile command lines: seeded, run in this process, judged by what a command may do when it is given nonsense.

    python tests/fuzz/hostile_commands.py --count 1000 --seed 0

A line passes when it ends within the time limit (of the processor, not the clock) with exit code 0, 1 or 2; when nothing on stderr
is a traceback or an "internal error"; when a failure is one line that says "error", prints nothing on stdout and changes no file;
and when no temporary file is left, whatever the code. The first words of a failing line are printed so that it can be run by hand.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from vsvf.cli import main

SECONDS = 120

NUMBERS = [
    "0", "1", "2", "3", "-1", "0.5", "1e-300", "1e300", "1e400", "-1e400", "nan", "inf", "-inf", "9" * 400, "0" * 5000, "1_0", "０",
    "", " ", "x", "1,2", "0x10", "1e", "+3", "--", "\n", "½", "1j", "2**63", "-0", "0.0000001", "18446744073709551616",
]  # fmt: skip
WORDS = [
    "", " ", "-", "--", "a" * 300, "\u202e", "é", "\udc80", "None", "True", "linear", "nonsense", "../..", "/", "*", "$HOME", "%s",
    "{}", "\\", "'", '"', "0", "-1", "\t", "karras", "float32", "fixed", "ddim",
]  # fmt: skip
FORMULAS = [
    "ddim", "belm(2)", "belm(3)", "belm(12)", "belm(0)", "belm(-1)", "belm(2.0)", "belm(True)", "belm(x)", "belm('2')",
    "belm(2", "belm(2))",
    "belm()", "belm(1e400)", "belm(" + "9" * 400 + ")", "belm((2,))", "belm(None)", "stable_belm(4)", "stable_belm(7)",
    "edict", "edict(2)",
    "edict(nan)", "edict(1j)", "mccallum_foster(0)", "bdia(0)", "bdia(0.5)", "adams_bashforth(2)", "adams_moulton(1)",
    "bdf(2)", "bdf(40)",
    "deis(3)", "deis(99)", "dpm_solver_pp(2)", "dpm_solver_pp(x)", "dpm_solver_pp(3,True)", "dpm_solver_pp(3,7)", "ddim(1)",
    "root_placed_belm((-1,),0)", "root_placed_belm((-1,),1e308)", "root_placed_belm((-1,),-1e308)",
    "root_placed_belm((" + "9" * 400 + ",),0)",
    "root_placed_belm((0,),0)", "root_placed_belm((),0)", "root_placed_belm((1j,-1j),0)", "root_placed_belm((2,),0)",
    "root_placed_belm((-1,),0,1e300,12)", "root_placed_belm(" + "(" * 200 + ")" * 200 + ")", "__import__('os').getcwd()",
    "ddim_inversion",
    "belm(" + "-" * 900 + "2)", "belm(" + "1+" * 400 + "1)", "",
]  # fmt: skip
EXPRESSIONS = [
    "1/2", "gamma*alpha2/alpha0", "((((9**99)**99)**99)**99)**99", "x**99", "(((x**99)**99)**99)", "exp(exp(exp(9)))", "1/0",
    "0**-1",
    "9" * 500, "10**400", "(" * 300 + "1" + ")" * 300, "-" * 500 + "1", "x" * 2000, "__import__('os')", "1;2", "h0/h1",
    "sqrt(-1)", "log(0)",
    "", "lambda: 0", "a1", "1e400", "sin(10**9)", "(-1)**0.5", "h0**h1", "sigma_bar", "1 if 1 else 2", "True", "'x'",
]  # fmt: skip
NODES = [
    "0,1,2",
    "0 1 2 4",
    "2,1,0",
    "0,0,1",
    "1",
    "",
    "nan,1",
    "0,inf",
    "-1,0,1",
    "0,1e-320,1",
    "0,1e308",
    "1e-308,1e308",
    "x,y",
    "0,1,1e300,1e301",
]
FILES = [
    "digits.safetensors", "cut.safetensors", "text.safetensors", "other.safetensors", "one.png", "text.png", "empty.png",
    "missing.png",
    "missing.safetensors", "folder", "dangling.safetensors", "", ".", "/dev/null", "a" * 300 + ".png", "no\0name.png",
]  # fmt: skip
OUTPUTS = [
    "new",
    "folder",
    "folder/",
    "made/deep/",
    "precious.csv",
    "device",
    "dangling",
    "pipe",
    "missing/x",
    "",
    "/dev/null",
    "/proc/x",
    "a" * 300,
    ".",
]

GRID = {
    "--nodes": NODES,
    "--schedule": ["linear", "scaled_linear", "cosine", "edm", "rectified_flow", *WORDS],
    "--steps": ["3", "4", "5", "0", "1001", "100000", "1000000000000", *NUMBERS],
    "--spacing": ["leading", "linspace", "trailing", "karras", "log_snr", "sigma_bar", *WORDS[:6]],
    "--final": ["zero", "smallest", "none"],
    "--steps-offset": ["0", "1", "-1", "999", *NUMBERS],
    "--rho": ["7", "1e-300", "1e300", "1e-3", *NUMBERS],
    "--sigma-bar-max": ["80", "1e-300", "1e300", *NUMBERS],
}
NETWORK = {
    "--formula": FORMULAS,
    "--starter": ["ddim", "heun", "rk4:2", "rk4:0", "rk4:" + "9" * 30, "lower_order", "euler", ""],
    "--arithmetic": ["float64", "float32", "float16", "bfloat16", "fixed", "int8", "", "FIXED"],
    "--tolerance": ["1e-3", "0", "-1", *NUMBERS],
    "--max-iterations": ["2", "0", *NUMBERS[:12]],
    "--label": ["3", "none", "0,1", "10", "-1", "3 4", "x", "", "³"],
    "--guidance": ["1", "2", "-3", "1e300", *NUMBERS],
    "--dtype": ["float32", "float16", "float8", ""],
    "--device": [
        "cpu",
        "cuda",
        "cuda:9",
        "meta",
        "privateuseone",
        "mps",
        "xla",
        "hpu",
        "nonsense",
        "cpu:1",
        "",
        "cuda:x",
        "vulkan",
        "maia",
        "ipu",
    ],
}
OUT = {"--out": OUTPUTS, "--force": None, "--json": None}
RUN: dict[str, list[str] | None] = {
    "--out": ["new", "folder", "torn", "made/deep", "precious.csv", "device", "dangling", "", "/proc/x"],
    "--force": None,
    "--json": None,
}
APPLICATION: dict[str, list[str] | None] = {
    "--formula": FORMULAS,
    "--steps": ["2", "3", "0", "1001", *NUMBERS[:10]],
    "--starter": NETWORK["--starter"],
    "--arithmetic": NETWORK["--arithmetic"],
    "--model": ["digits", "folder", "missing", "torn", "one.png", "text.safetensors", *WORDS[:8]],
    "--label": ["3", "10", "-1", *NUMBERS],
    "--prompt": WORDS,
    "--captions": FILES,
    "--guidance": NETWORK["--guidance"],
    "--batch": ["1", "0", *NUMBERS[:8]],
    "--count": ["1", "0", "-1", *NUMBERS[:4]],
    "--spacing": GRID["--spacing"],
    "--final": GRID["--final"],
    "--steps-offset": GRID["--steps-offset"],
    "--dtype": NETWORK["--dtype"],
    "--device": NETWORK["--device"],
    "--threads": ["1", "0", "-1", "x"],
    **RUN,
}
OPTIONS: dict[str, dict[str, list[str] | None]] = {
    "derive": {
        "--steps": ["2", "3", "0", "13", *NUMBERS],
        "--pattern": ["belm", "gaussian", "table1", "bdia(gamma)", "bdia(((9**99)**99)**99)", *FORMULAS],
        "--unknown": ["a1,a2,b1", "a1,b1", "b1", "a9", "a1,a1", "", ",", *WORDS],
        "--fixed": [*(f"a2={text}" for text in EXPRESSIONS), "a2", "=1", "a2=", "b1==1"],
        "--conditions": ["1", "2", "3", "99", *NUMBERS],
        "--basis": ["1, sigma_bar", "1, sigma_bar, sqrt(sigma_bar**2+c**2)", "1, 1", *EXPRESSIONS],
        "--format": ["text", "latex", "python", "json", "xml"],
        "--json": None,
    },
    "coefficients": {**GRID, "--format": ["table", "csv", "json", "xml"], "--json": None, "--output": OUTPUTS, "--force": None},
    "check": {**GRID, "--json": None, "--no-order": None},
    "sample": {**GRID, **NETWORK, **OUT, "--seed": NUMBERS, "--count": ["1", "0", "-1", "9" * 30], "--from": FILES,
    "--separate": None,
               "--columns": ["1", "0", "9" * 18, *NUMBERS[:8]]},
    "invert": {**GRID, **NETWORK, **OUT, "--invert-colours": None, "--noise-alone": None},
    "reconstruct": {**APPLICATION, "--fit": ["crop", "stretch", "exact", ""], "--background": ["0", "1", "2", *NUMBERS],
                    "--sheet": ["1", "0", *NUMBERS[:8]]},
    "fid": {**APPLICATION, "--seed": NUMBERS, "--features": ["digits", "scenes", "inception:missing", "inception:text.png", *WORDS],
            "--reference": FILES, "--beside": ["CIFAR-10", "SD-1.5", *WORDS]},
    "interpolate": {**APPLICATION, "--frames": ["2", "1", "0", *NUMBERS[:8]], "--to-label": ["4", "10", *NUMBERS],
                    "--to-prompt": WORDS},
    "rerun": {**RUN},
    "budget": {**GRID, **NETWORK, "--json": None, "--eight-bit": None, "--reference-steps": ["2", "3", "0", *NUMBERS[:8]]},
}  # fmt: skip
ENDS = ["seed:0", "own:0", "seed:x", "seed:-1", "own:99999999999", "seed:", ":", *FILES]
POSITIONAL = {"coefficients": FORMULAS, "check": FORMULAS, "invert": FILES, "budget": FILES, "reconstruct": FILES,
              "interpolate": ENDS, "rerun": ["torn", "folder", "missing", "one.png", "", *WORDS]}  # fmt: skip
SMALL = {
    "sample": ["--steps", "3", "--count", "1"],
    "invert": ["--steps", "3"],
    "budget": ["--steps", "3", "--reference-steps", "2"],
    "check": ["--steps", "5"],
    "coefficients": ["--steps", "3"],
    "reconstruct": ["--steps", "3", "--formula", "belm(2)", "--count", "1"],
    "fid": ["--steps", "3", "--formula", "belm(2)", "--count", "20"],
    "interpolate": ["--steps", "3", "--frames", "2"],
}
WEIGHTS = {"derive": 5, "coefficients": 5, "check": 3, "sample": 3, "invert": 3, "reconstruct": 2, "fid": 1, "interpolate": 2,
           "rerun": 2, "budget": 1}  # fmt: skip


def command_line(rng: random.Random) -> list[str]:
    """One line: a command, what it needs, and from none to four options with values that may be anything."""
    if rng.random() < 0.05:
        return [rng.choice([*WORDS, *OPTIONS, "--version", "--help", "--debug"]) for _ in range(rng.randrange(4))]
    command = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    line = [command]
    if command in POSITIONAL and rng.random() < 0.97:
        usual = POSITIONAL[command][0] if rng.random() < 0.4 else rng.choice(POSITIONAL[command])
        line += [usual] if command != "interpolate" else [usual, rng.choice(ENDS)]
    options = OPTIONS[command]
    chosen = rng.sample(list(options), k=min(len(options), rng.randrange(5)))
    small = SMALL.get(command, [])
    for name, value in zip(small[::2], small[1::2]):
        if name not in chosen and "--nodes" not in chosen and "--from" not in chosen:
            line += [name, value]
    if command == "check" and "--no-order" not in chosen:
        line.append("--no-order")
    for name in chosen:
        values = options[name]
        line.append(name)
        if values is not None and rng.random() < 0.98:
            line.append(rng.choice(values))
    return line


def furnish(folder: Path) -> None:
    """The files that lines speak of: good and damaged inputs, and outputs that must not be replaced."""
    import numpy as np
    import torch
    from PIL import Image

    import vsvf
    from vsvf import predictors

    grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 3)
    noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    vsvf.sample(predictors.digits(3), noise, grid, "belm(2)", arithmetic="float32", warn=False).save(folder / "digits.safetensors")
    flat = predictors.ideal_denoiser(torch.zeros(1, 2), std=1.0)
    vsvf.sample(flat, torch.ones(1, 2), grid, "belm(2)", warn=False).save(folder / "other.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "digits.safetensors").read_bytes()[:-100])
    Image.fromarray(np.full((28, 28), 7, dtype=np.uint8)).save(folder / "one.png")
    for name in ("text.safetensors", "text.png", "precious.csv"):
        (folder / name).write_text("precious")
    (folder / "empty.png").touch()
    (folder / "folder").mkdir()
    (folder / "torn").mkdir()
    (folder / "torn" / "run.json").write_text('{"command": "fid"')
    (folder / "device").symlink_to("/dev/null")
    for name in ("dangling", "dangling.safetensors", "dangling.png"):
        (folder / name).symlink_to("nowhere")
    os.mkfifo(folder / "pipe")


def contents(folder: Path) -> dict[str, bytes | str]:
    """What is in a folder: bytes of files, targets of links, and the names of the rest."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "other"
    return found


class TooLongError(BaseException):
    """A line took more of the processor's time than the limit."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise in the main thread when so much of the processor's time is used up, which other processes do not shorten."""

    def stop(number: int, frame: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def judge(line: list[str], folder: Path, seconds: float = SECONDS) -> str | None:
    """Run one line in a furnished folder, the working directory. None, or what is wrong."""
    before = contents(folder)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    try:
        with limited(seconds), redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            code = main(line)
    except TooLongError:
        return f"ran longer than {seconds:g} s"
    except BaseException as error:
        return f"raised {type(error).__name__}: {error}"
    if code > 128:  # this process itself was asked to stop
        raise KeyboardInterrupt
    printed, said = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err))
    after = contents(folder)
    faults = [] if code in (0, 1, 2) else [f"exit code {code}"]
    if "--debug" not in line:
        faults += [f"{word!r} on stderr" for word in ("Traceback", "internal error") if word in said]
    if any(name.rsplit("/", 1)[-1].startswith(".") and not name.endswith("/.lock") for name in after):  # a run keeps its lock
        faults.append("a temporary file is left")
    done = "everything else is done" in said  # of several things, some were skipped: what was done is there, and said
    if code != 0 and "--debug" not in line and not done:
        errors = [text for text in said.splitlines() if "error" in text]
        faults += [] if len(errors) == 1 and said.splitlines()[-1] == errors[0] else ["not one line of error"]
        faults += ["output besides an error"] if printed else []
        faults += ["files changed by a failure"] if after != before else []
    if after != before:
        faults += (
            ["a file was replaced without --force"]
            if "--force" not in line and any(after.get(n) != v for n, v in before.items())
            else []
        )
        for name in sorted(set(after) - set(before), reverse=True):  # what is in a folder before the folder
            path = folder / name
            path.rmdir() if path.is_dir() and not any(path.iterdir()) else path.unlink() if path.is_file() else None
        for name, value in before.items():
            if isinstance(value, bytes) and after.get(name) != value:
                (folder / name).write_bytes(value)
    last = said.strip().splitlines()[-1][:200] if said.strip() else ""
    return f"{'; '.join(faults)} | {last}" if faults else None


def run(count: int, seed: int, seconds: float = SECONDS) -> list[tuple[list[str], str]]:
    """`count` lines of a seed, and those of them that misbehave."""
    rng = random.Random(seed)
    here = os.getcwd()
    failures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder)
        os.chdir(folder)
        try:
            for n in range(count):
                line = command_line(rng)
                if fault := judge(line, folder, seconds):
                    failures.append((line, fault))
                    print(f"line {n + 1}: {fault!a}", file=sys.stderr, flush=True)
                if n % 100 == 99:
                    print(f"{n + 1} lines, {len(failures)} misbehave", file=sys.stderr, flush=True)
        finally:
            os.chdir(here)
    return failures


def _main() -> int:
    parser = argparse.ArgumentParser(description="hostile command lines")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failures = run(args.count, args.seed)
    for line, fault in failures:
        print(
            f"vsvf {' '.join(shlex.quote(word if len(word) < 80 else word[:77] + '...') for word in line)}\n    {fault}".encode(
                "ascii", "backslashreplace"
            ).decode()
        )
    print(f"{args.count} command lines, seed {args.seed}: {len(failures)} misbehave")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(_main())
