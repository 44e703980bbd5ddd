"""Attention of a diffusers UNet from one part of a batch to another: what the layers see can be read, and replaced.

    with attention_control(unet, controls) as hook:
        hook.moment = Moment(progress, (h, w), source=slice(0, 1), target=slice(1, 2))
        unet(x, t, encoder_hidden_states=...)

A layer computes softmax(q k^T / sqrt(d)) v. Every control may change the keys and values of the target's rows, and their maps
after the softmax. All other rows keep what the layer's own processor computes, to the bit, and so do the target's where no control
changes anything. The processors are put back when the block ends, however it ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from diffusers.models import attention_processor as known

PROCESSORS = (known.AttnProcessor, known.AttnProcessor2_0)
PLACES = {"down_blocks": "down", "mid_block": "mid", "up_blocks": "up"}


@dataclass(frozen=True)
class Site:
    """One attention layer.

    Attributes:
        name: of its processor in the model. place: "down", "mid" or "up". cross: whether it looks at the text.
        number: its place among the layers of its kind (self or cross), in the order in which the model runs them.
    """

    name: str
    place: str
    cross: bool
    number: int


@dataclass(frozen=True)
class Moment:
    """What the call of the network that is about to come is about.

    Attributes:
        progress: share of the march's nodes that lie behind, 0 at its beginning. Nodes are counted, never calls.
        shape: (h, w) of the latents.
        source, target: rows of the batch under the two prompts; None where they are not in this call. A source that is called by
            itself is remembered for the target's call after it.
        source_null, target_null: the rows without a prompt, where there are any.
    """

    progress: float
    shape: tuple[int, int]
    source: slice | None = None
    target: slice | None = None
    source_null: slice | None = None
    target_null: slice | None = None

    def grid(self, queries: int) -> tuple[int, int]:
        """Height and width of the maps of a layer with so many queries: the latents', halved as often as it takes.

        Raises:
            ValueError: no halving of the latents has so many pixels.
        """
        h, w = self.shape
        while h * w > queries and max(h, w) > 1:
            h, w = math.ceil(h / 2), math.ceil(w / 2)
        if h * w != queries:
            raise ValueError(f"an attention layer has {queries} queries, which no halving of latents {self.shape} has")
        return h, w


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of some rows in one layer, (rows, heads, tokens, width), and the layer."""

    layer: Any
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @cached_property
    def maps(self) -> torch.Tensor:
        """The attention maps (rows, heads, queries, keys), each query's summing to 1."""
        flat = self.layer.get_attention_scores(self.query.flatten(0, 1), self.key.flatten(0, 1))
        return flat.unflatten(0, self.query.shape[:2])

    def with_context(self, other: Heads) -> Heads:
        """The same queries, looking at another's keys and values."""
        return replace(self, key=other.key, value=other.value)


class Control:
    """What is replaced where. This one replaces nothing.

    Attributes:
        null: whether the rows without a prompt are controlled too.
    """

    null = False

    def wants(self, site: Site, moment: Moment) -> bool:
        """Whether this layer is of interest now."""
        return False

    def check(self, sites: Sequence[Site]) -> None:
        """Raises:
        ValueError: the model has no layer that this control could act on.
        """

    def context(self, site: Site, source: Heads, target: Heads) -> Heads:
        """The target's heads with other keys and values."""
        return target

    def maps(self, site: Site, moment: Moment, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What stands in the place of the target's maps; both (rows, heads, queries, keys), not to be changed in place."""
        return target


class Hook:
    """The controls at work, and the moment that the next call of the network is about (None: nothing is controlled)."""

    def __init__(self, controls: Sequence[Control], sites: Sequence[Site]) -> None:
        self.controls, self.sites = tuple(controls), tuple(sites)
        self.moment: Moment | None = None
        self.kept: dict[tuple[str, bool], Heads] = {}

    def wanted(self, site: Site) -> list[Control]:
        """The controls that act on a layer now."""
        moment = self.moment
        return [] if moment is None else [control for control in self.controls if control.wants(site, moment)]

    def source(self, site: Site, null: bool, own: Heads | None) -> Heads:
        """The source's heads: of this call, or of the call before."""
        if own is not None:
            return own
        if (site.name, null) not in self.kept:
            raise ValueError(f"{site.name}: the target is called without its source; give both, or the source first")
        return self.kept.pop((site.name, null))


class _Processor:
    """A layer's own processor, whose output for the target's rows is replaced where a control changes it."""

    def __init__(self, hook: Hook, site: Site, own: Any) -> None:
        self.hook, self.site, self.own = hook, site, own

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        out = self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        controls, moment = self.hook.wanted(self.site), self.hook.moment
        if not controls or moment is None:
            return out
        if attention_mask is not None:
            raise ValueError(f"{self.site.name} was given an attention mask, which controlled attention does not take")

        def heads(rows: slice | None) -> Heads | None:
            if rows is None:
                return None
            x = hidden_states[rows]
            seen = x if encoder_hidden_states is None else encoder_hidden_states[rows]
            parts = (attn.to_q(x), attn.to_k(seen), attn.to_v(seen))
            return Heads(attn, *(part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in parts))

        for null, source_rows, target_rows in (
            (False, moment.source, moment.target),
            (True, moment.source_null, moment.target_null),
        ):
            acting = [control for control in controls if control.null or not null]
            if not acting:
                continue
            if target_rows is None:
                found = heads(source_rows)
                if found is not None:
                    self.hook.kept[self.site.name, null] = found
                continue
            if null and source_rows is None and (self.site.name, True) not in self.hook.kept:
                continue  # the source is not guided: the target's rows without a prompt stay as they are
            source, target = self.hook.source(self.site, null, heads(source_rows)), heads(target_rows)
            assert target is not None
            changed = target
            for control in acting:
                changed = control.context(self.site, source, changed)
            maps = changed.maps
            for control in acting:
                maps = control.maps(self.site, moment, source.maps, maps)
            if changed is not target or maps is not target.maps:
                mixed = (maps.to(changed.value.dtype) @ changed.value).transpose(1, 2).flatten(2)
                out[target_rows] = attn.to_out[1](attn.to_out[0](mixed)) / attn.rescale_output_factor
        return out


def sites_of(unet: Any) -> list[Site]:
    """The attention layers of a UNet, in the order in which it runs them.

    Raises:
        ValueError: a model without attention layers. TypeError: a layer or a processor that the hook does not know.
    """
    processors = dict(getattr(unet, "attn_processors", {}) or {})
    modules = dict(unet.named_modules())
    if not processors:
        raise ValueError(f"{type(unet).__name__} has no attention layers in transformer blocks: there is nothing to control")
    order = {place: number for number, place in enumerate(PLACES)}

    def rank(name: str) -> tuple[int, list[str]]:
        return order.get(name.split(".")[0], -1), [part.zfill(4) for part in name.split(".")]

    sites: list[Site] = []
    counts = {True: 0, False: 0}
    for name in sorted(processors, key=rank):
        layer, own = modules.get(name.removesuffix(".processor")), processors[name]
        kind = name.removesuffix(".processor").split(".")[-1]
        if type(layer) is not known.Attention or type(own) not in PROCESSORS:
            raise TypeError(
                f"{name}: {type(layer).__name__} with {type(own).__name__} is not known to the hook; it knows diffusers' Attention "
                f"with {' or '.join(p.__name__ for p in PROCESSORS)} (call unet.set_default_attn_processor() first)"
            )
        odd = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "added_kv_proj_dim", "residual_connection")
        used = [key for key in odd if getattr(layer, key, None)]
        if kind not in ("attn1", "attn2") or name.split(".")[0] not in PLACES or used:
            why = f"it uses {used[0]}" if used else "it is no layer of a transformer block"
            raise TypeError(f"{name} is an attention layer that the hook does not know: {why}")
        cross = kind == "attn2" and bool(getattr(layer, "is_cross_attention", True))
        sites.append(Site(name, PLACES[name.split(".")[0]], cross, counts[cross]))
        counts[cross] += 1
    return sites


@contextmanager
def attention_control(unet: Any, controls: Sequence[Control]) -> Iterator[Hook]:
    """Put controls into a UNet's attention layers for as long as the block lasts.

    Args:
        unet: a diffusers model with attention in transformer blocks (`UNet2DConditionModel`).
        controls: the objects that say what is replaced where; each is asked in this order.

    Yields:
        a `Hook`, whose `moment` is to be set before every call of the model.

    Raises:
        ValueError: no attention layers, or none that a control could act on. TypeError: a layer that the hook does not know.
    """
    sites = sites_of(unet)
    for control in controls:
        control.check(sites)
    before = dict(unet.attn_processors)
    hook = Hook(controls, sites)
    try:
        unet.set_attn_processor({site.name: _Processor(hook, site, before[site.name]) for site in sites})
        yield hook
    finally:
        unet.set_attn_processor(dict(before))
        hook.kept.clear()
