"""The loop of every edit: source and target marched side by side, with one batched call of the network per node.

    rows of a call: [source without prompt, target without prompt, source, target], those without a prompt only where guidance is
    not 1:      eps = eps_null + w (eps_prompt - eps_null)

An inversion is the same loop with one branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vsvf.apps.edit.marches import March, Path
from vsvf.apps.models import Model
from vsvf.grid import Grid
from vsvf.predictors.base import Predictor

Rows = torch.Tensor  # (B,): which condition each sample has


class Conditions:
    """A conditional network with its conditions as rows of a table.

    Args:
        model: gives the network. sources, targets: conditions of B samples each.

    Attributes:
        source, target, null: rows (B,) of the two prompts and of no prompt.

    Raises:
        ValueError: a model without conditions, or numbers of conditions that differ.
    """

    def __init__(self, model: Model, sources: Sequence[Any], targets: Sequence[Any]) -> None:
        if model.condition == "none":
            raise ValueError(f"{model.name} is unconditional: it knows no prompts to edit between, and no guidance")
        if len(sources) != len(targets) or not sources:
            raise ValueError(f"source and target must be as many prompts, at least 1, got {len(sources)} and {len(targets)}")
        predictor = model.predict([*sources, *targets], 2.0)
        guided: Any = predictor.network
        self.network, count = guided.network, len(sources)
        self.source, self.target = guided.condition[:count], guided.condition[count:]
        self.null = guided.null[:1].expand(count)
        self._rows = self.source
        self.scale = Predictor(
            lambda x, t: self.network(x, t, self._rows.to(x.device)),
            predictor.schedule,
            predictor.kind,
            dtype=predictor.precision,
            integer_time=predictor.integer_time,
        )

    def epsilon(self, x: torch.Tensor, rows: Rows, sigma_bar: float) -> torch.Tensor:
        """eps of samples (R, …) under the conditions of these rows (R,)."""
        self._rows = rows
        return self.scale.epsilon(x, sigma_bar)


@dataclass
class Branch:
    """One of the marches of an edit.

    Attributes:
        march: where it stands. prompt: rows (B,) of its condition. guidance: w.
        null: rows (B,) of no condition, or a function that gives them at sigma_bar.
        path: stored states that the march is pinned to; None lets it find its own.
    """

    march: March
    prompt: Rows
    guidance: float
    null: Rows | Callable[[float], Rows]
    path: Path | None = None

    def parts(self, sigma_bar: float) -> list[Rows]:
        """The rows that a call needs: without a prompt, if at all, and with it."""
        if self.guidance == 1.0 or self.path is not None:
            return [self.prompt]
        return [self.null(sigma_bar) if callable(self.null) else self.null, self.prompt]

    def guided(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """eps of the answers to `parts`."""
        return parts[0] if len(parts) == 1 else parts[0] + self.guidance * (parts[1] - parts[0])


class Blend(Protocol):
    """What is done to the target's states after every node."""

    def __call__(self, source: March, target: March, progress: float) -> None:
        """Change the states that the target holds, given those of the source."""


@dataclass
class Progress:
    """Share of an edit's nodes that lie behind, by sigma_bar: nodes are counted, whatever a method evaluates between them.

    Attributes:
        grid: the nodes. node: m, where the edit begins.
    """

    grid: Grid
    node: int

    def __call__(self, sigma_bar: float) -> float:
        return int((self.grid.sigma_bar[: self.node + 1] > sigma_bar).sum()) / self.node


@dataclass
class Loop:
    """Drives branches until they are done.

    Attributes:
        conditions: the network. progress: of the edit.
        hook: of `attention_control`, told before each call what it is about; None without control.
        blend: what is done to the target's states after every node.
        apart: evaluate the source's rows by themselves: their bits then do not depend on the batch, at one call more per node.
        calls: of the network, so far.
    """

    conditions: Conditions
    progress: Progress
    hook: Any = None
    blend: Blend | None = None
    apart: bool = False
    calls: int = 0

    @torch.no_grad()
    def __call__(
        self,
        source: Branch | None,
        target: Branch | None,
        seen: Callable[[str, float, torch.Tensor], None] | None = None,
    ) -> None:
        """March both (or the one that there is) to their ends.

        Args:
            source, target: the branches; None for an edit that needs no source, or an inversion, which is a source alone.
            seen: told of every state that is asked about: "source" or "target", sigma_bar, x.
        """
        branches = {name: branch for name, branch in (("source", source), ("target", target)) if branch is not None}
        pinned = [branch for branch in branches.values() if branch.path is not None]
        for branch in pinned:
            branch.path.pin(branch.march)  # type: ignore[union-attr]
        try:
            while any(not branch.march.done for branch in branches.values()):
                level = max(branch.march.sigma_bar for branch in branches.values() if not branch.march.done)
                asked = {n: b for n, b in branches.items() if not b.march.done and b.march.sigma_bar == level}
                if seen is not None:
                    for name, branch in asked.items():
                        seen(name, level, branch.march.x)
                slopes = self._answers(asked, level)
                for name, branch in asked.items():
                    branch.march.give(slopes[name])
                    if branch.path is not None:
                        branch.path.pin(branch.march)
                if self.blend is not None and source is not None and target is not None and len(asked) == len(branches):
                    self.blend(source.march, target.march, self.progress(level))
        finally:
            if self.hook is not None:
                self.hook.moment = None

    def _answers(self, asked: dict[str, Branch], level: float) -> dict[str, torch.Tensor]:
        if not self.apart or len(asked) == 1:
            return self._call(asked, level)
        return {name: slope for one in asked for name, slope in self._call({one: asked[one]}, level).items()}

    def _call(self, asked: dict[str, Branch], level: float) -> dict[str, torch.Tensor]:
        """One batched call: the rows without a prompt first, then those with one."""
        states = {name: branch.march.x for name, branch in asked.items()}
        parts = {name: branch.parts(level) for name, branch in asked.items()}
        order = [(name, 0) for name in asked if len(parts[name]) == 2] + [(name, len(parts[name]) - 1) for name in asked]
        sizes = [len(states[name]) for name, _ in order]
        ends = torch.tensor(sizes).cumsum(0).tolist()
        places = {place: slice(end - size, end) for place, end, size in zip(order, ends, sizes)}
        if self.hook is not None:
            self.hook.moment = self._moment(places, parts, level, next(iter(states.values())).shape[-2:])
        x = torch.cat([states[name] for name, _ in order])
        eps = self.conditions.epsilon(x, torch.cat([parts[name][n] for name, n in order]), level)
        self.calls += 1
        return {name: branch.guided([eps[places[name, n]] for n in range(len(parts[name]))]) for name, branch in asked.items()}

    def _moment(self, places: dict[tuple[str, int], slice], parts: dict[str, list[Rows]], level: float, shape: Any) -> Any:
        from vsvf.integrations.diffusers.attention import Moment

        rows: dict[str, slice] = {}
        for (name, n), place in places.items():
            rows[name if n == len(parts[name]) - 1 else f"{name}_null"] = place
        return Moment(self.progress(level), (int(shape[0]), int(shape[1])), **rows)
