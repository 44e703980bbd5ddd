"""An edit: pictures up to their latents under the source's prompt, and down under the target's beside the source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from vsvf.apps.edit.alignment import Tokens, changed_words, equaliser, refinement, replacement, tokenise
from vsvf.apps.edit.blends import LocalBlend, MaskBlend, latent_mask
from vsvf.apps.edit.loop import Blend, Branch, Conditions, Loop, Progress
from vsvf.apps.edit.marches import Latent, Path, Sampler
from vsvf.apps.edit.methods import GUIDED_SOURCE, Settings
from vsvf.apps.models import Model
from vsvf.engine.stepping import Steps
from vsvf.grid import Grid
from vsvf.state import State


@dataclass(frozen=True)
class Edited:
    """What an edit made.

    Attributes:
        x: x_0 of the edit (B, …). source: x_0 of the source branch; None where the method has none.
        latent: where both began, at node `node`.
        nfe_up, nfe_down: calls of the network; each serves all rows of its node. extra: further evaluations (null-text).
        source_error: largest |x_0 of the source branch - x_0 of the picture|; None without a source branch.
        maps: (h, w) -> cross-attention maps of source and target (B, h, w, L), summed over nodes; None if not asked for.
        tokens: of the samples' source and target prompts, where attention was controlled.
        losses: of null-text inversion, one per node.
    """

    x: torch.Tensor
    source: torch.Tensor | None
    latent: Latent
    node: int
    nfe_up: int
    nfe_down: int
    extra: int
    source_error: float | None
    maps: dict[tuple[int, int], list[torch.Tensor]] | None
    tokens: list[tuple[Tokens, Tokens]] | None
    losses: list[float]


def edit(
    model: Model,
    x: torch.Tensor,
    source: Sequence[Any],
    target: Sequence[Any],
    grid: Grid,
    settings: Settings | None = None,
    mask: torch.Tensor | None = None,
    seen: Any = None,
) -> Edited:
    """Edit pictures, given as x_0.

    Args:
        model: with prompts (or labels, for methods without attention control).
        x: x_0 (B, …) of the pictures, as `model.codec.encode` gives it.
        source, target: what they show and what they are to show, B each.
        grid: the nodes.
        settings: how; the default is Direct Inversion with prompt-to-prompt.
        mask: (H, W) or (B, H, W), True (or above 0.5) where pixels may change; the latents outside stay the source's.
        seen: called with "up", "source" or "target", sigma_bar and the state, for every state that is asked about.

    Raises:
        ValueError: settings that do not go together, a mask of another size, a word that is not in a prompt, a model without what
            the method needs. TypeError: an attention layer that the control does not know.
    """
    settings = settings or Settings()
    if len(x) != len(source):
        raise ValueError(f"x holds {len(x)} samples for {len(source)} prompts")
    conditions, sampler, plan = prepare(model, source, target, grid, settings, mask)
    node, blend = sampler.node, plan.blend
    if mask is not None:
        blend = MaskBlend(latent_mask(mask, model.pictures[1:], (x.shape[-2], x.shape[-1]), len(x)), settings.scope)
    progress = Progress(grid, node)
    keep = settings.method == "null_text" or (settings.pinned(sampler.exact) and (bool(plan.controls) or blend is not None))
    latent, path, states, nfe_up = _climb(conditions, sampler, settings, x, progress, keep, seen)
    null: Any = conditions.null
    guidance = settings.guidance if settings.method in GUIDED_SOURCE else settings.guidance_up
    extra, losses = 0, []
    if settings.method == "null_text":
        from vsvf.apps.edit.nulls import learn_null_texts

        found = learn_null_texts(conditions, states, grid, node, settings.guidance)
        null, extra, losses = found.rows, found.evaluations, found.losses
    elif settings.method == "negative_prompt":
        null = conditions.source
    needed = bool(plan.controls) or blend is not None
    with ExitStack() as stack:
        hook = None
        if plan.controls:
            from vsvf.integrations.diffusers.attention import attention_control

            hook = stack.enter_context(attention_control(model.pipeline.unet, plan.controls))
        loop = Loop(conditions, progress, hook, blend, settings.apart)
        first = sampler.floated(latent)
        if settings.start != "source" and isinstance(latent, State) and isinstance(first, State):
            first = _started(loop, sampler, settings, latent, first, guidance, null)
        pinned = path if settings.pinned(sampler.exact) else None
        one = Branch(sampler.down(conditions.scale, latent), conditions.source, guidance, null, pinned) if needed else None
        two = Branch(sampler.down(conditions.scale, first), conditions.target, settings.guidance, null)
        loop(one, two, seen)
    back = None if one is None else _image(one)
    return Edited(
        _image(two).to(x.dtype),
        None if back is None else back.to(x.dtype),
        latent,
        node,
        nfe_up,
        loop.calls,
        extra,
        None if back is None else float((back.double() - x.double()).abs().max()),
        plan.watch.found if plan.watch is not None and settings.maps else None,
        plan.tokens,
        losses,
    )


def prepare(
    model: Model, source: Sequence[Any], target: Sequence[Any], grid: Grid, settings: Settings, mask: torch.Tensor | None = None
) -> tuple[Conditions, Sampler, Plan]:
    """What an edit needs before its first evaluation; all that can be refused is refused here.

    Args, Raises: as in `edit`.
    """
    conditions = Conditions(model, source, target)
    sampler = Sampler(settings.formula, grid, max(1, round(settings.strength * grid.steps)), settings.starter, settings.arithmetic)
    sampler.up(conditions.scale, torch.zeros((1, *model.latents)))  # which refuses formulas that are not explicit both ways
    if mask is not None:
        if settings.blend_words:
            raise ValueError("mask and blend_words are two ways to say what may change: give one")
        latent_mask(mask, model.pictures[1:], model.latents[1:], len(source))
    if settings.controls_attention:
        require_attention(model)
    plan = _plan(model, settings, source, target)
    if plan.controls:
        from vsvf.integrations.diffusers.attention import attention_control

        with attention_control(model.pipeline.unet, plan.controls):
            pass
    return conditions, sampler, plan


def require_attention(model: Model) -> None:
    """Raises:
    ValueError: a model whose attention cannot be controlled.
    """
    unet = getattr(model.pipeline, "unet", None)
    if unet is None or getattr(model.pipeline, "tokenizer", None) is None:
        raise ValueError(
            f"{model.name} has no cross-attention to a prompt that could be controlled: method must be 'resample', without "
            "blend words and maps"
        )


def _climb(
    conditions: Conditions, sampler: Sampler, settings: Settings, x: torch.Tensor, progress: Progress, keep: bool, seen: Any
) -> tuple[Latent, Path | None, list[torch.Tensor], int]:
    """The way up: the latent, the path and its states (if they are to be kept), and the calls."""
    path, states = Path(x), []

    def listen(name: str, level: float, state: torch.Tensor) -> None:
        if keep:
            path.add(level, state)
            states.append(state)
        if seen is not None:
            seen("up", level, state)

    loop = Loop(conditions, progress)
    march = sampler.up(conditions.scale, x)
    loop(Branch(march, conditions.source, settings.guidance_up, conditions.null), None, listen if keep or seen else None)
    if keep:
        states.append(march.x)
    return sampler.latent(march), path if keep else None, states, loop.calls


def _started(loop: Loop, sampler: Sampler, settings: Settings, latent: State, first: State, guidance: float, null: Any) -> State:
    """The target's k states, made by the starter under its own prompt."""
    conditions, blend = loop.conditions, loop.blend
    one, two = sampler.started(conditions.scale, latent), sampler.started(conditions.scale, latent)
    loop.blend = None
    needed = loop.hook is not None or settings.start == "shifted"
    source = Branch(one, conditions.source, guidance, null) if needed else None
    loop(source, Branch(two, conditions.target, settings.guidance, null))
    loop.blend = blend
    made = two.state().values
    if settings.start == "shifted":
        made = first.values + (made - one.state().values)
    return replace(first, values=made.to(first.values))


def _image(branch: Branch) -> torch.Tensor:
    march = branch.march
    if branch.path is not None:
        return branch.path.image
    return march.state().x if isinstance(march, Steps) else march.x


# ---- what a method controls ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Controls in order, the blend that follows attention, what watches the maps, and the tokens of every sample's prompts."""

    controls: list[Any]
    blend: Blend | None
    watch: Any
    tokens: list[tuple[Tokens, Tokens]] | None


def _plan(model: Model, settings: Settings, source: Sequence[Any], target: Sequence[Any]) -> Plan:
    if not settings.controls_attention:
        return Plan([], None, None, None)
    from vsvf.apps.edit.controls import Inject, Mutual, Reweight, SelfCopy, Watch

    controls: list[Any] = []
    if settings.method == "masactrl":
        controls.append(Mutual(settings.mutual_after, settings.mutual_layer))
    read = partial(tokenise, model.pipeline.tokenizer)
    pairs = [(read(str(one)), read(str(two))) for one, two in zip(source, target)]
    if settings.method not in ("resample", "masactrl"):
        if settings.attention != "none":
            matrices, own = zip(*(_taken(settings.attention, one, two) for one, two in pairs))
            controls.append(Inject(np.stack(matrices), np.stack(own), settings.cross_until))
            controls.append(SelfCopy(settings.self_until, settings.self_halvings))
        if settings.reweight:
            controls.append(Reweight(np.stack([equaliser(two, dict(settings.reweight)) for _, two in pairs])))
    elif settings.reweight:
        raise ValueError(f"reweight goes with prompt-to-prompt, not with method {settings.method!r}")
    watch = Watch() if settings.blend_words or settings.maps else None
    if watch is not None:
        controls.append(watch)
    blend = None
    if settings.blend_words:
        assert watch is not None
        words = [blend_places(one, two, settings.blend_words) for one, two in pairs]
        old, new = (np.stack([_marked(places[n], pairs[0][n].length) for places in words]) for n in range(2))
        blend = LocalBlend(watch, (old, new), settings.threshold, settings.blend_after, settings.scope)
    return Plan(controls, blend, watch, pairs)


def _taken(kind: str, one: Tokens, two: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """M (L, L) and own (L,) of `Inject`."""
    if kind == "refine" or (kind == "auto" and len(one.words) != len(two.words)):
        return refinement(one, two)
    return replacement(one, two), np.zeros(two.length)


def _marked(places: Sequence[int], length: int) -> np.ndarray:
    marks = np.zeros(length)
    marks[list(places)] = 1.0
    return marks


def blend_places(source: Tokens, target: Tokens, words: Sequence[str]) -> tuple[list[int], list[int]]:
    """The places of words in the prompts that have them; ("auto",) takes the words in which the prompts differ.

    Raises:
        ValueError: a word that neither prompt has, or prompts that do not differ.
    """
    if tuple(words) == ("auto",):
        olds, news = changed_words(source, target)
        if not olds and not news:
            raise ValueError("the prompts do not differ: name the words that the blend is to follow")
    else:
        olds = news = list(words)
        for word in words:
            if all(word.lower() not in changed for changed in _names(source, target)):
                raise ValueError(f"the blend word {word!r} is in neither prompt: {source.prompt!r}, {target.prompt!r}")
    names = _names(source, target)
    places = [[p for w in ws if w.lower() in own for p in t.of(w)] for ws, own, t in zip((olds, news), names, (source, target))]
    return places[0], places[1]


def _names(*prompts: Tokens) -> list[set[str]]:
    from vsvf.apps.edit.alignment import MARKS

    return [{word.strip(MARKS) for word in tokens.words} for tokens in prompts]
