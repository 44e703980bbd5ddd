"""`python -m analysis --out results`: run every study and write the report, results/index.html and a page per study."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType

from analysis import progress

# as run: long ones first
STUDIES = (
    "pareto",
    "scenes",
    "roundtrip",
    "exactness",
    "order",
    "gradients",
    "stability",
    "quality",
    "budget",
    "pictures",
    "blowup",
    "formulas",
    "explore",
)
# as read
PAGE = (
    "pictures",
    "scenes",
    "formulas",
    "order",
    "blowup",
    "stability",
    "explore",
    "pareto",
    "roundtrip",
    "exactness",
    "gradients",
    "budget",
    "quality",
)


def run(name: str, out: Path) -> tuple[float, float]:
    """Run one study on one thread (the studies share the cores); returns the seconds it took, by the clock and of a core."""
    import torch

    torch.set_num_threads(1)
    progress.begin(name)
    began, used = time.perf_counter(), time.process_time()
    _module(name).main(out)
    return time.perf_counter() - began, time.process_time() - used


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"analysis.{name}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for tables, figures and index.html")
    parser.add_argument("--only", nargs="+", choices=STUDIES, help="run these studies only")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="studies side by side")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = args.only or STUDIES
    began = time.perf_counter()
    for name in chosen:
        for old in (*args.out.glob(f"{name}.*"), *args.out.glob(f"{name}_*")):
            old.unlink()
    channel = multiprocessing.Queue()
    pool = ProcessPoolExecutor(max_workers=max(1, args.jobs), initializer=progress.connect, initargs=(channel,))
    with progress.Display(channel, len(chosen)) as display, pool:
        running = {pool.submit(run, name, args.out): name for name in chosen}
        for finished in as_completed(running):
            display.done(running[finished], *finished.result())
    from analysis.report import write_report

    page = write_report(args.out, [_module(name) for name in PAGE])
    print(f"{page} written in {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
