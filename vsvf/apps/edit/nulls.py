"""Null-text inversion (Mokady et al. 2023): an embedding of "no prompt" for every node, found so that guided DDIM meets the path.

For the nodes i = N … 1, with z* the states of DDIM inversion at guidance 1 and eps_null taken at the embedding that is sought,

    minimise mean |step(eps_null + w (eps_c - eps_null)) - z*_{i-1}|^2

by Adam, from the last node's embedding on. Rates and thresholds are those published for 50 nodes, spread over as many as there are.
(`vsvf.apps.optimise` fits null conditions through the whole sampling instead.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vsvf.apps.edit.loop import Conditions, Rows
from vsvf.grid import Grid

PUBLISHED = 50  # nodes
TABLE = "encoder_hidden_states"


@dataclass(frozen=True)
class NullTexts:
    """What null-text inversion found.

    Attributes:
        rows: sigma_bar -> rows (B,) of the embeddings in the conditions' table, which has them at its end.
        evaluations: of the network, those of backward passes not counted. losses: the last of every node, from the first on.
    """

    rows: Callable[[float], Rows]
    evaluations: int
    losses: list[float]


def rate_and_threshold(n: int, nodes: int) -> tuple[float, float]:
    """Adam's rate at the n-th node, 1e-2 (1 - i/100), and the loss at which it may stop, 1e-5 + 2e-5 i, with i = 50 n / nodes."""
    i = PUBLISHED * n / nodes
    return 1e-2 * (1.0 - i / 100.0), 1e-5 + 2e-5 * i


def learn_null_texts(
    conditions: Conditions, states: list[torch.Tensor], grid: Grid, node: int, guidance: float, inner: int = 10
) -> NullTexts:
    """Learn them, and put them into the conditions' table.

    Args:
        conditions: of a diffusers model with a text encoder; its table grows by node * B rows.
        states: z*_0 … z*_m of DDIM inversion, (B, …) each. grid: the nodes. node: m. guidance: w. inner: Adam's steps per node.

    Raises:
        ValueError: a model whose conditions are no embeddings.
    """
    table = getattr(conditions.network, "table", None)
    if not isinstance(table, dict) or TABLE not in table or conditions.scale.kind != "epsilon":
        raise ValueError("null-text inversion needs a network that predicts eps and is conditioned by embeddings of a prompt")
    scale, count = conditions.scale, len(conditions.source)
    alpha = scale.alpha(grid.sigma_bar)
    embedding = table[TABLE][conditions.null].clone()
    prompt = table[TABLE][conditions.source]
    z, spent = states[node], 0
    kept: list[torch.Tensor] = []
    losses: list[float] = []
    for n, i in enumerate(range(node, 0, -1)):
        level, wanted = float(grid.sigma_bar[i]), states[i - 1]
        shift = float(grid.sigma_bar[i - 1]) - level

        def eps(x: torch.Tensor, given: torch.Tensor, level: float = level) -> torch.Tensor:
            t = torch.full(x.shape[:1], float(scale.time(level)), dtype=torch.float32, device=x.device)
            return _network(conditions.network, x.to(scale.precision or x.dtype), t, given).to(x.dtype)

        def moved(null: torch.Tensor, z: torch.Tensor, prompted: torch.Tensor, i: int = i, shift: float = shift) -> torch.Tensor:
            return float(alpha[i - 1]) * (z / float(alpha[i]) + shift * (null + guidance * (prompted - null)))

        with torch.no_grad():
            prompted = eps(z, prompt)
        embedding = embedding.detach().clone().requires_grad_()
        rate, threshold = rate_and_threshold(n, node)
        adam = torch.optim.Adam([embedding], lr=rate)
        loss = float("inf")
        with torch.enable_grad():
            for _ in range(inner):
                error = (moved(eps(z, embedding), z, prompted) - wanted).square().mean()
                adam.zero_grad()
                error.backward()
                adam.step()
                spent, loss = spent + 1, error.item()
                if loss < threshold:
                    break
        embedding = embedding.detach()
        with torch.no_grad():
            z = moved(eps(z, embedding), z, prompted)
        kept.append(embedding)
        losses.append(loss)
        spent += 2
    first = len(table[TABLE])
    table[TABLE] = torch.cat([table[TABLE], *kept])
    places = {float(grid.sigma_bar[node - n]): first + n * count + torch.arange(count) for n in range(node)}
    return NullTexts(lambda sigma_bar: places[sigma_bar], spent, losses)


def _network(network: Any, x: torch.Tensor, t: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    return network.model(x, timestep=t, encoder_hidden_states=embeddings, return_dict=False)[0]
