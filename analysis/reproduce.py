"""`make reproduce`: the BELM paper's experiments (reconstruction, quality, interpolation) on the embedded models.

    python -m analysis.reproduce --out results/reproduce            quick: minutes
    python -m analysis.reproduce --out results/reproduce --full     hours; leave it in the background

Each experiment is a `vsvf` command in a run folder of its own: stopped at any moment, the same line goes on. reproduce.md puts
every table beside the published one, with a line for each thing that agrees and each that does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from vsvf.apps.model_names import embedded
from vsvf.cli import main as command
from vsvf.files import write_atomically


@dataclass(frozen=True)
class Size:
    """How much is measured: pictures and steps of each experiment."""

    pictures: int
    reconstruction_steps: tuple[int, ...]
    samples: int
    quality_steps: tuple[int, ...]
    interpolation_steps: int
    frames: int


QUICK = Size(10, (10, 20, 50), 200, (10, 20), 20, 9)
FULL = Size(100, (10, 20, 50, 100), 5000, (10, 20, 50, 100), 100, 17)


def experiments(model: str, size: Size, out: Path) -> dict[str, list[str]]:
    """The command of each run folder."""
    where = {name: str(out / f"{model}-{name}") for name in ("reconstruct", "fid", "interpolate")}
    common = ["--model", model]
    reconstruction = ["--count", str(size.pictures), "--steps", *map(str, size.reconstruction_steps)]
    quality = ["--count", str(size.samples), "--steps", *map(str, size.quality_steps)]
    strip = ["own:30", "own:80", "--steps", str(size.interpolation_steps), "--frames", str(size.frames)]
    return {
        "reconstruct": ["reconstruct", *reconstruction, *common, "--out", where["reconstruct"]],
        "fid": ["fid", *quality, *common, "--out", where["fid"]],
        "interpolate": ["interpolate", *strip, *common, "--out", where["interpolate"]],
    }


def page(model: str, out: Path) -> str:
    """The tables of a model's runs as one text."""
    parts = [f"# {model}", "", "## Reconstruction (Tables 2 and 3)", ""]
    parts.append((out / f"{model}-reconstruct" / "tables.md").read_text(encoding="utf-8"))
    parts += ["## Quality (Tables 4 and 5)", "", (out / f"{model}-fid" / "table.md").read_text(encoding="utf-8")]
    strip = json.loads((out / f"{model}-interpolate" / "results.json").read_text(encoding="utf-8"))
    parts += ["## Interpolation between two inverted pictures", ""]
    parts.append(
        f"{strip['frames']} pictures, `{model}-interpolate/strip.png`: unevenness {strip['unevenness']:.2f} (1 = even), detour "
        f"{strip['detour']:.2f} (1 = a crossfade); the pictures at the ends return with MSE "
        f"{' and '.join(f'{error:.1g}' for error in strip['end_mse'])}."
    )
    return "\n".join([*parts, ""])


def main(argv: list[str] | None = None) -> int:
    """Run what is not done yet, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m analysis.reproduce", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/reproduce"), help="folder of the runs and of reproduce.md")
    parser.add_argument("--full", action="store_true", help="all pictures and steps: hours")
    parser.add_argument("--models", nargs="+", choices=embedded(), default=embedded())
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    size = FULL if args.full else QUICK
    out = args.out / ("full" if args.full else "quick")
    out.mkdir(exist_ok=True)
    for model in args.models:
        for name, arguments in experiments(model, size, out).items():
            print(f"{model}: {name}", file=sys.stderr, flush=True)
            code = command(arguments)
            if code:
                return code
    text = "\n".join(page(model, out) for model in args.models)
    write_atomically(out / "reproduce.md", text.encode())
    print(f"{out / 'reproduce.md'} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
