"""`vsvf coefficients`: the numbers a_{i,j} and b_{i,j} of a formula on a grid."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer, note
from vsvf.commands.common import (
    FORMULAS,
    GRID_KEYS,
    UsageError,
    add_grid_arguments,
    check_output,
    describe_grid,
    given_settings,
    grid_settings,
    make_grid,
)

if TYPE_CHECKING:
    from vsvf.formula import Formula
    from vsvf.grid import Grid

DESCRIPTION = """\
Print the coefficients of

  x_bar_{i-1} = sum_{j=1..k} a_{i,j} x_bar_{i-1+j} + sum_{j=0..k} b_{i,j} h_{i-1+j} eps_bar_{i-1+j},

one row for each i = 1 … N-k+1, with x_bar = x/alpha, nodes sigma_bar_i and steps h_i = sigma_bar_i - sigma_bar_{i-1}.
(b_{i,0}, the weight of the slope at the new state itself, multiplies h_i; it is 0 for explicit formulas.)
b_{i,k} = 0 and a_{i,k} != 0 for all i: the formula can be inverted exactly.

Coupled methods (edict, mccallum_foster) carry two states, interleaved: for these the rows of the plan are printed,
z_{m+2} = a_1 z_{m+1} + a_2 z_m + c_0 eps(z_{m+2}) + c_1 eps(z_{m+1}) + c_2 eps(z_m), steps multiplied in, in the order of
sampling, with the sigma_bar where the new state stands."""

EXAMPLES = f"""\
examples:
  vsvf coefficients 'belm(3)' --nodes 0,1,2,3
      a = -9, 9, 1 and b = -6, -6: 3-step BELM on uniform steps
  vsvf coefficients 'belm(2)' --schedule linear --steps 10
  vsvf coefficients edict --steps 5 --format csv --output edict.csv

{FORMULAS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf coefficients`."""
    parser.add_argument("formula", metavar="FORMULA", help="for instance 'belm(2)'; the list is below")
    add_grid_arguments(parser)
    parser.add_argument("--format", choices=("table", "json", "csv"), help="default: table; csv and json give all digits")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of the screen")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def run(args: argparse.Namespace) -> Answer | None:
    """The coefficients, or nothing where they went to a file."""
    style = args.format or ("json" if args.json else "table")
    if args.json and style != "json":
        raise UsageError(f"--json contradicts --format {style}")
    given = given_settings(args, GRID_KEYS)
    if not given:
        raise UsageError("coefficients need a grid: give --nodes 0,1,2,3, or --steps N and perhaps --schedule")
    from vsvf import formulas

    formula = formulas.by_name(args.formula)
    grid = make_grid(grid_settings(given))
    if args.output is not None:
        check_output(args.output, args.force, "--output names another")
    columns, rows = table(formula, grid)
    text = _csv(columns, rows) if style == "csv" else _table(formula, grid, columns, rows)
    answer = Answer(_document(formula, grid, columns, rows), text, style == "json")
    if args.output is None:
        return answer
    from vsvf.files import write_atomically

    write_atomically(Path(args.output), f"{answer}\n".encode())
    note(f"wrote {args.output}")
    return None


def table(formula: Formula, grid: Grid) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows: (i, sigma_bar_{i-1}, a_1 …, b_0 …), or a plan's rows for coupled methods."""
    import numpy as np

    from vsvf.formula import LinearMultistep

    plan = formula.plan(grid)  # refuses grids that are too short
    k = plan.steps
    if not isinstance(formula, LinearMultistep):
        columns = ["row", "sigma_bar", *(f"a_{j}" for j in range(1, k + 1)), *(f"c_{j}" for j in range(k + 1))]
        return columns, [
            [m, *np.concatenate([plan.position[m + k : m + k + 1], plan.a[m], plan.c[m]]).tolist()] for m in range(plan.rows)
        ]
    nodes, alpha = (np.lib.stride_tricks.sliding_window_view(values, k + 1) for values in (grid.sigma_bar, grid.alpha))
    a, b = formula.coefficients(nodes, alpha)
    columns = ["i", "sigma_bar_{i-1}", *(f"a_{j}" for j in range(1, k + 1)), *(f"b_{j}" for j in range(k + 1))]
    return columns, [[n + 1, *(np.concatenate([nodes[n, :1], a[n], b[n]]) + 0.0).tolist()] for n in range(len(nodes))]


def _table(formula: Formula, grid: Grid, columns: list[str], rows: list[list[Any]]) -> str:
    cells = [columns] + [[f"{value:.10g}" for value in row] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells]
    return "\n".join([f"{formula.name} on {describe_grid(grid)}", "", *lines])


def _csv(columns: list[str], rows: list[list[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[repr(value) for value in row] for row in rows])
    return buffer.getvalue().rstrip("\n")


def _document(formula: Formula, grid: Grid, columns: list[str], rows: list[list[Any]]) -> dict[str, Any]:
    letters = sorted({name[0] for name in columns[2:]})
    return {
        "formula": formula.name,
        "order": formula.order,
        "grid": {"name": grid.name, "steps": grid.steps, "sigma_bar": grid.sigma_bar, "alpha": grid.alpha},
        "rows": [
            {columns[0]: row[0], columns[1]: row[1]}
            | {letter: [v for v, name in zip(row, columns) if name.startswith(f"{letter}_")] for letter in letters}
            for row in rows
        ],
    }
