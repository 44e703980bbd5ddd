"""How the figures look: colours that the colour-blind tell apart, lines that differ without colour, panels that share a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito, Color Universal Design (2008), the yellow left out: it is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))


COLUMNS = 3


def apply() -> None:
    """Set matplotlib's defaults for every figure of the report. SVG files hold outlines of the letters, so they need no font."""
    matplotlib.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.frameon": False,
            "svg.fonttype": "path",
            "svg.hashsalt": "vsvf",
        }
    )


def line(n: int) -> dict[str, Any]:
    """Keywords of the n-th line of a panel: colour, marker and dashes all differ from its neighbours'."""
    return {
        "color": COLOURS[n % len(COLOURS)],
        "marker": MARKERS[n % len(MARKERS)],
        "linestyle": DASHES[n % len(DASHES)],
        "markersize": 4,
        "linewidth": 1.3,
    }


def panels(count: int, columns: int = COLUMNS, width: float = 3.4, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A grid of small panels with one scale, unused ones removed."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), constrained_layout=True, squeeze=False, sharex=True, sharey=True
    )
    flat = list(axes.flat)
    for axis in flat[count:]:
        axis.remove()
    for n in range(count):
        flat[n].tick_params(labelbottom=True)
        flat[n].grid(alpha=0.25)
    return figure, flat[:count]


def error_panels(
    errors: Mapping[tuple[str, str, int], float],
    methods: Sequence[str],
    arithmetics: Sequence[str],
    steps: Sequence[int],
    span: tuple[float, float],
    label: str,
) -> Figure:
    """A panel per method, a line per arithmetic: errors against the number of steps, those beyond `span` drawn at its ends."""
    figure, axes = panels(len(methods))
    for axis, method in zip(axes, methods):
        for n, arithmetic in enumerate(arithmetics):
            shown = [min(max(errors[method, arithmetic, count], span[0]), span[1]) for count in steps]
            axis.loglog(steps, shown, label=arithmetic, **line(n))
        axis.set(title=method, ylim=(span[0] / 10, 10 * span[1]))
        steps_axis(axis, steps)
    for axis in axes[::COLUMNS]:
        axis.set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, handlelength=3.2)
    return figure


def steps_axis(axis: Axes, steps: Sequence[int], label: str = "number of steps N") -> None:
    """A logarithmic axis that is marked at the numbers of steps that were run."""
    shown = steps if len(steps) <= 6 else [*steps[:-1:2], steps[-1]]
    axis.set_xscale("log")
    axis.set_xticks(shown, [str(n) for n in shown])
    axis.minorticks_off()
    axis.set_xlabel(label)


def legend_below(axis: Axes) -> None:
    """The legend under the panel, where it covers nothing: two columns of short names, or one."""
    columns = 2 if max(len(label) for label in axis.get_legend_handles_labels()[1]) <= 15 else 1
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=columns, handlelength=2.8, columnspacing=1.2)


def draw_slope(axis: Axes, steps: Sequence[int], errors: Sequence[float], order: int) -> None:
    """The line N^-order, thin and grey, two and a half times below a curve's finest usable errors, and its slope written on it."""
    n, e = np.asarray(steps, float), np.asarray(errors, float)
    usable = np.flatnonzero(np.isfinite(e) & (e > 1e-13) & (e < 1e3))
    if len(usable) < 2:
        return
    last = usable[-1]
    first = max(usable[0], last - 3)
    x = n[[first, last]]
    y = e[last] / 2.5 * (x / x[-1]) ** -order
    axis.plot(x, y, color="0.45", linewidth=0.9)
    middle = np.sqrt(x[0] * x[1])
    axis.annotate(f"−{order}", (middle, np.sqrt(y[0] * y[1])), xytext=(-3, -3), textcoords="offset points", fontsize=8, color="0.3",
                  ha="right", va="top")  # fmt: skip
