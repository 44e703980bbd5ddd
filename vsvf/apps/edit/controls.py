"""What is replaced where in the attention layers: prompt-to-prompt and mutual self-attention, each a small object.

Prompt-to-prompt: Hertz et al. 2022, on the maps after the softmax. Mutual self-attention: Cao et al. 2023 (MasaCtrl).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vsvf.integrations.diffusers.attention import Control, Heads, Moment, Site


def _needs(sites: Sequence[Site], cross: bool) -> None:
    if not any(site.cross == cross for site in sites):
        raise ValueError(f"the model has no {'cross' if cross else 'self'}-attention layers, which this control acts on")


class _Cross(Control):
    """A control of all cross-attention layers, as long as the progress is below `until`."""

    until = 0.4

    def wants(self, site: Site, moment: Moment) -> bool:
        return site.cross and moment.progress < self.until

    def check(self, sites: Sequence[Site]) -> None:
        _needs(sites, cross=True)


@dataclass(eq=False)
class Inject(_Cross):
    """A_target <- A_source M + A_target diag(own), sample by sample.

    Attributes:
        matrix: M (B or 1, L, L), of `alignment.replacement` or `refinement`. own: (B or 1, L); zeros replace all.
        until: share of the nodes during which it acts.
    """

    matrix: np.ndarray
    own: np.ndarray
    until: float = 0.4

    def maps(self, site: Site, moment: Moment, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        taken = source @ torch.as_tensor(self.matrix)[:, None].to(source)
        return taken + target * torch.as_tensor(self.own)[:, None, None].to(target)


@dataclass(eq=False)
class Reweight(_Cross):
    """A_target[n] w_n, after the others; not normalised again.

    Attributes:
        weights: (B or 1, L), of `alignment.equaliser`. until: share of the nodes during which it acts.
    """

    weights: np.ndarray
    until: float = 1.0

    def maps(self, site: Site, moment: Moment, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return target * torch.as_tensor(self.weights)[:, None, None].to(target)


@dataclass(eq=False)
class SelfCopy(Control):
    """The source's self-attention maps in the target, in layers of few pixels.

    Attributes:
        until: share of the nodes during which it acts.
        halvings: n: layers with more than (h / 2^n)(w / 2^n) pixels are left alone. None takes the coarsest resolution outside the
            middle block from the model: 2 for Stable Diffusion, 16 x 16 of 64 x 64.
    """

    until: float = 0.6
    halvings: int | None = None

    def wants(self, site: Site, moment: Moment) -> bool:
        return not site.cross and moment.progress < self.until

    def check(self, sites: Sequence[Site]) -> None:
        _needs(sites, cross=False)
        if self.halvings is None:
            self.halvings = max((int(site.name.split(".")[1]) for site in sites if site.place == "down"), default=0)

    def maps(self, site: Site, moment: Moment, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        assert self.halvings is not None
        h, w = moment.shape
        return source if target.shape[-2] <= (h >> self.halvings) * (w >> self.halvings) else target


@dataclass(eq=False)
class Mutual(Control):
    """The target's queries look at the source's keys and values, in self-attention, with a prompt and without.

    Attributes:
        after: share of the nodes before it acts. layer: number of the first self-attention layer in which it acts.
    """

    after: float = 0.08
    layer: int = 0
    null = True

    def wants(self, site: Site, moment: Moment) -> bool:
        return not site.cross and site.number >= self.layer and moment.progress >= self.after

    def check(self, sites: Sequence[Site]) -> None:
        _needs(sites, cross=False)
        if all(site.number < self.layer for site in sites if not site.cross):
            raise ValueError(f"layer must be below the number of self-attention layers, got {self.layer}")

    def context(self, site: Site, source: Heads, target: Heads) -> Heads:
        return target.with_context(source)


@dataclass(eq=False)
class Watch(Control):
    """Keeps the cross-attention maps of both branches, summed over nodes, layers and heads, by resolution; changes nothing.

    Attributes:
        found: (h, w) -> [source, target], each (B, h, w, L) float32, of the layers outside the middle block.
    """

    found: dict[tuple[int, int], list[torch.Tensor]] = field(default_factory=dict)

    def wants(self, site: Site, moment: Moment) -> bool:
        return site.cross

    def check(self, sites: Sequence[Site]) -> None:
        _needs(sites, cross=True)

    def maps(self, site: Site, moment: Moment, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        grid = moment.grid(target.shape[-2])
        if site.place != "mid":
            both = [maps.float().mean(1).unflatten(1, grid) for maps in (source, target)]
            before = self.found.get(grid)
            self.found[grid] = both if before is None else [old + new for old, new in zip(before, both)]
        return target

    def coarsest(self) -> list[torch.Tensor]:
        """The sums at the coarsest resolution outside the middle block (16 x 16 for Stable Diffusion), [source, target].

        Raises:
            ValueError: nothing was seen yet.
        """
        if not self.found:
            raise ValueError("no cross-attention maps were seen yet")
        return self.found[min(self.found)]
