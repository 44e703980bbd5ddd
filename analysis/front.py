"""The front: what a method loses sampling against what it loses inverting, at equal evaluations, over the zoo of predictors.

Exactly invertible methods (O-BELM, BDIA, EDICT, McCallum-Foster, its coupling with Heun's method and RK4, which is Rex's, the
families of this package with and without a corrector row), the near-reversible EES(2, 5), DDIM with DDIM inversion, and plain
samplers, which have a sampling error only. Errors as in `analysis.zoo`, from exact starters, over O-BELM's on the same nodes:
geometric means over both parts of the zoo and both schedules.

    python -m analysis.front --out OUT

goes on from the rows that OUT/zoo_errors.csv has already. Minutes of a core on the problems in closed form.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from analysis import style, zoo
from analysis.common import save_figure, save_table

CLOSED = (
    "digits, exact",
    "digits, floor 0.2",
    "digits, blurred, floor 0.1",
    "mixture",
    "guided mixture",
    "another mixture",
    "another mixture, floor 0.3",
)
PLAIN = ("adams_bashforth(2)", "adams_bashforth(3)", "deis(2)", "dpm_solver_pp(3)")
BOTH_WAYS = (
    "ddim",
    "ees25",
    "edict(0.93)",
    "bdia(1)",
    "mccallum_foster(0.999)",
    "rex(heun)",
    "rex(rk4)",
    "stable_belm(2)",
    "corrected(stable_belm(3), 0.7, 4)",
)
METHODS = tuple(dict.fromkeys((*zoo.METHODS, *PLAIN, *BOTH_WAYS)))
INEXACT = ("ddim", "ees25")  # their way back is another relation than their way there
SPACINGS = ("leading", "log_snr")
NFE = (5, 10, 20, 50, 100)
SHOWN = (10, 20, 50)
LARGEST = 1e3  # ratios above are drawn at it
Row = list[Any]  # of `zoo.summary`
SAMPLING, INVERSION = 8, 12  # its columns: mean ratios to O-BELM's errors, each followed by its error and the worst case


def ahead(rows: Sequence[Row]) -> set[str]:
    """The exactly invertible methods that no other beats both ways; rows of one set of nodes and one number of evaluations."""
    points = {r[2]: (r[SAMPLING], r[INVERSION]) for r in rows if r[2] not in INEXACT and math.isfinite(r[SAMPLING] + r[INVERSION])}
    return {
        name
        for name, (down, up) in points.items()
        if not any(d <= down and u <= up and (d, u) != (down, up) for d, u in points.values())
    }


def figure(out: Path, rows: Sequence[Row]) -> None:
    """front.svg: a panel for each set of nodes and number of evaluations."""
    picture, axes = plt.subplots(
        len(SPACINGS), len(SHOWN), figsize=(4.2 * len(SHOWN), 3.6 * len(SPACINGS)), constrained_layout=True, squeeze=False
    )
    names = list(dict.fromkeys(r[2] for r in rows))
    for line, spacing in zip(axes, SPACINGS):
        for axis, n in zip(line, SHOWN):
            for r in (r for r in rows if r[:2] == [spacing, n]):
                look = style.line(names.index(r[2]))
                look.pop("linestyle", None)
                x, y = (min(value, LARGEST) for value in (r[INVERSION], r[SAMPLING]))
                if math.isnan(x):
                    axis.axhline(y, linewidth=0.7, color="0.7", zorder=0)
                else:
                    axis.loglog([x], [y], label=r[2], linestyle="", **look)
            axis.set(title=f"{spacing}, NFE {n}", xlabel="inversion error over O-BELM's", yscale="log", xscale="log")
            axis.grid(alpha=0.3)
        line[0].set_ylabel("sampling error over O-BELM's")
    handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels())}
    picture.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=7)
    save_figure(
        out, "front", "Sampling against inversion at equal evaluations, geometric means over the zoo. Grey lines: samplers without "
        f"an inverse. Ratios above {LARGEST:g} are drawn there.", picture,
    )  # fmt: skip


def main(out: Path, problems: Sequence[str] = CLOSED, nfe: Sequence[int] = NFE, images: int = 60) -> None:
    """Write front.csv and front.svg into `out`."""
    found = zoo.study(out, problems, nfe, METHODS, spacings=SPACINGS, images=images)
    rows = zoo.summary(found, None)
    cells = []
    for spacing in SPACINGS:
        for n in nfe:
            here = [r for r in rows if r[:2] == [spacing, n]]
            first = ahead(here)
            for r in sorted(here, key=lambda r: (math.isnan(r[INVERSION]), r[SAMPLING])):
                both = [*r[SAMPLING : SAMPLING + 3], *r[INVERSION : INVERSION + 3]]
                cells.append([spacing, n, r[2], r[3], *both, "front" if r[2] in first else ""])
    save_table(
        out, "front", f"Errors over O-BELM's at equal evaluations, {images} images of each problem: geometric means, their "
        "standard errors, the worst case; front: no exactly invertible method is better both ways.",
        ["nodes", "NFE", "method", "cases", "sampling | mean", "sampling | ± %", "sampling | worst", "inversion | mean",
         "inversion | ± %", "inversion | worst", "front"],
        cells,
    )  # fmt: skip
    figure(out, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m analysis.front", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--problems", nargs="+", default=list(CLOSED), choices=list(zoo.ZOO))
    parser.add_argument("--nfe", nargs="+", type=int, default=list(NFE))
    parser.add_argument("--images", type=int, default=60, help="per problem and schedule")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    main(args.out, args.problems, args.nfe, args.images)
