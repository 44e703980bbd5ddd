"""How guided slopes feed spurious modes: roots of one step on nodes in geometric progression.

    python -m analysis.feedback --out OUT

Guidance makes the slope eps_bar = kappa x_bar / sigma_bar answer a perturbation more, and where kappa > 1 solutions contract
faster than sigma_bar falls. On nodes s, s e^D, s e^{2D}, … every row is the same but for scale, so a march is stable there when the
roots of a step other than the solution's own, e^{-kappa D}, stay below 1. feedback.csv has the largest of their moduli.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.common import save_table
from vsvf import formulas
from vsvf.formula import Formula
from vsvf.grid import Grid
from vsvf.stability.growth import homogeneous_rows

METHODS = (
    "belm(2)", "stable_belm(3)", "edict(0.93)", "power_fitted_belm(0.7, (0.29, 0.86), 1.43, 1.06)", "pec_belm",
    "pec_belm(0.82, 0.56, (0.32, 1), 0.38, 0.87)",
)  # fmt: skip
LENGTHS, SLOPES = (0.2, 0.45, 0.8), (1.0, 2.0, 3.0, 5.0)
NODES = 12


def spurious(formula: Formula, slope: float, length: float) -> float:
    """The largest modulus of a root of one step besides the one nearest to e^{-kappa D}, for kappa = slope, D = length."""
    plan = formula.plan(Grid.from_sigma_bar(np.geomspace(1.0, np.exp(length * NODES), NODES + 1)))
    rows, k = homogeneous_rows(plan, slope / plan.node), plan.steps
    first = plan.rows // plan.rows_per_step // 2 * plan.rows_per_step  # a step in the middle
    step = np.eye(k)
    for row in rows[first : first + plan.rows_per_step]:
        step = np.concatenate([row[None], np.eye(k)[:-1]]) @ step
    roots = np.linalg.eigvals(step)
    return float(np.abs(np.delete(roots, np.abs(roots - np.exp(-slope * length)).argmin())).max())


def main(out: Path, methods: Sequence[str] = METHODS) -> list[list[object]]:
    """Write feedback.csv into `out`."""
    cases = [(length, slope) for length in LENGTHS for slope in SLOPES]
    rows: list[list[object]] = [
        [name, *(spurious(formulas.by_name(name), slope, length) for length, slope in cases)] for name in methods
    ]
    titles = [f"D = {length:g} | kappa = {slope:g}" for length, slope in cases]
    save_table(out, "feedback", "Largest modulus of the spurious roots of a step.", ["formula", *titles], rows)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How guided slopes feed spurious modes.")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    main(args.out)
