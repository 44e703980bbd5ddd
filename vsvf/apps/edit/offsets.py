"""Direct Inversion's offset, and its two parts: what guidance makes of it, and what the sampler's own error does.

With the path s_N … s_0 of an inversion at guidance w_up, and a row s_new = sum a_j s_j + sum c_j eps(s_j), the source branch at
guidance w misses the path by

    d = s_new - row_w = [row_up - row_w] + [s_new - row_up] = guidance + discretisation,
    guidance = -sum_j c_j (w - w_up) (eps_c - eps_null)(s_j).

The second part is zero for an exactly invertible sampler, and DDIM's error at a step for DDIM inversion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vsvf import formulas
from vsvf.apps.edit.loop import Conditions
from vsvf.grid import Grid


@dataclass(frozen=True)
class Offsets:
    """Root mean squares over the pixels of a batch, in the scale of the states, for every row along sampling.

    Attributes:
        sigma_bar: (M,) of the new states. guidance, discretisation, total: (M,).
    """

    sigma_bar: np.ndarray
    guidance: np.ndarray
    discretisation: np.ndarray
    total: np.ndarray


@torch.no_grad()
def offsets(
    conditions: Conditions, path: list[torch.Tensor], grid: Grid, formula: str, guidance: float, guidance_up: float = 1.0
) -> Offsets:
    """The offsets along a path.

    Args:
        conditions: the network, with the source's prompts. path: s_N … s_0 (B, …), x_N first. grid: the nodes.
        formula: of the source branch; one with a state per node. guidance: w. guidance_up: w_up.

    Raises:
        ValueError: a path of another length than the grid, or a formula with other states than one per node.
    """
    plan = formulas.by_name(formula).plan(grid)
    if len(path) != grid.steps + 1:
        raise ValueError(f"path must hold the {grid.steps + 1} states of the grid's nodes, got {len(path)}")
    if plan.rows + plan.steps != grid.steps + 1:
        raise ValueError(f"{formula} does not have one state per node")
    rows = plan.rescaled(conditions.scale.alpha(plan.node))
    prompted, plain = (
        [conditions.epsilon(x, which, float(level)) for x, level in zip(path, plan.node)]
        for which in (conditions.source, conditions.null)
    )
    found = []
    for m in range(rows.rows):
        new, change = torch.zeros_like(path[0]), torch.zeros_like(path[0])
        for j in range(1, rows.steps + 1):
            s = rows.steps + m - j
            lead = prompted[s] - plain[s]
            new = new + float(rows.a[m, j - 1]) * path[s] + float(rows.c[m, j]) * (plain[s] + guidance_up * lead)
            change = change - float(rows.c[m, j]) * (guidance - guidance_up) * lead
        rest = path[rows.steps + m] - new
        found.append([float(part.double().square().mean().sqrt()) for part in (change, rest, change + rest)])
    values = np.array(found).T
    return Offsets(plan.position[plan.steps :], values[0], values[1], values[2])
