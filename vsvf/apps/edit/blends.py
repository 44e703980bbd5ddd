"""Keeping what is outside a mask: the target's states, and their slopes, become the source's there.

A method goes on from k states, and every state that the march holds is blended, with the slopes that it remembers. The rows are
linear and act pixel by pixel: outside a constant mask the target then is the source, to the bit. For one state per node it makes no
difference to blend the newest alone after every row; a coupled method (EDICT) takes two rows between two questions, and its other
state then carries what was to be kept out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vsvf.apps.edit.marches import March

if TYPE_CHECKING:
    from vsvf.apps.edit.controls import Watch

SCOPES = ("all", "newest")


def latent_mask(mask: torch.Tensor, pictures: tuple[int, int], latents: tuple[int, int], count: int) -> torch.Tensor:
    """(B, 1, h, w) bool on latents: True where any pixel that it stands for may change.

    Args:
        mask: (H, W) or (B, H, W), bool or numbers of which those above 0.5 mean "may change".
        pictures, latents: heights and widths. count: B.

    Raises:
        ValueError: a mask of another size than the pictures.
    """
    values = mask if mask.ndim == 3 else mask[None]
    if values.ndim != 3 or tuple(values.shape[1:]) != tuple(pictures) or len(values) not in (1, count):
        raise ValueError(f"mask must be {pictures[0]} x {pictures[1]} as the pictures are, got shape {tuple(mask.shape)}")
    edited = (values.float() > 0.5).float()[:, None]
    return (F.adaptive_max_pool2d(edited, latents) > 0.5).expand(count, -1, -1, -1)


class MaskBlend:
    """z = z_source + mask (z - z_source), for a mask that is given.

    Args:
        mask: (B, 1, h, w) bool, of `latent_mask`. scope: "all" states that the march holds, or the "newest" alone.
    """

    def __init__(self, mask: torch.Tensor, scope: str = "all") -> None:
        if scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")
        self.given, self.scope = mask, scope

    def mask(self, progress: float, like: torch.Tensor) -> torch.Tensor | None:
        """(B, 1, h, w) bool; None where nothing is blended yet."""
        return self.given.to(like.device)

    def __call__(self, source: March, target: March, progress: float) -> None:
        """Blend what the target holds. Its states without a counterpart at the same sigma_bar in the source stay as they are."""
        theirs = {(state.s, state.sigma_bar): state for state in source.held()}
        by_level = {level: state for (_, level), state in theirs.items()}
        own = target.held()
        mask = self.mask(progress, own[-1].x)
        if mask is None:
            return
        changed = []
        for state in own if self.scope == "all" else own[-1:]:
            other = theirs.get((state.s, state.sigma_bar), by_level.get(state.sigma_bar))
            if other is None:
                continue
            slope = state.slope
            if slope is not None and other.slope is not None and self.scope == "all":
                slope = torch.where(mask, slope, other.slope.to(slope))
            changed.append(state._replace(x=torch.where(mask, state.x, other.x.to(state.x)), slope=slope))
        target.put(changed)


@dataclass(eq=False)
class LocalBlend(MaskBlend):
    """The mask of the words that change, found in the cross-attention maps (Hertz et al. 2022).

    The maps at the coarsest resolution outside the middle block, summed over a branch's words and over the nodes so far, largest of
    3 x 3 neighbours, brought to the latents' size, divided by their maximum; the mask is where either branch's exceed `threshold`.

    Attributes:
        watch: keeps the maps.
        words: (B or 1, L) each, 1 at the words' tokens in the source's prompt and in the target's; one without any has no mask.
        threshold: share of the maximum. after: share of the nodes before anything is blended. scope: as in `MaskBlend`.

    Raises:
        ValueError: no words in either prompt.
    """

    watch: Watch
    words: tuple[np.ndarray, np.ndarray]
    threshold: float = 0.3
    after: float = 0.2
    scope: str = "all"

    def __post_init__(self) -> None:
        if not bool((self.words[0].any(-1) | self.words[1].any(-1)).all()):
            raise ValueError("a local blend needs a word of one of the prompts")
        if self.scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {self.scope!r}")

    def mask(self, progress: float, like: torch.Tensor) -> torch.Tensor | None:
        if progress < self.after:
            return None
        parts = []
        for maps, words in zip(self.watch.coarsest(), self.words):
            chosen = torch.as_tensor(words)[:, None, None].to(maps)
            heat = F.max_pool2d((maps * chosen).sum(-1)[:, None], 3, stride=1, padding=1)
            heat = F.interpolate(heat, like.shape[-2:], mode="nearest")
            parts.append(heat > self.threshold * heat.amax((2, 3), keepdim=True))
        return torch.stack(parts).any(0)
