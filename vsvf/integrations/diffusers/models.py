"""diffusers networks, pipelines and autoencoders as predictors.

Nothing here holds a state of the march: a network gets x and t, and gives a prediction.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from vsvf.integrations.diffusers.config import Reading, read
from vsvf.predictors.base import Predictor
from vsvf.predictors.guidance import Guided

Inputs = Mapping[str, Any]  # name -> tensor with one row per sample, or a mapping of such


class Network:
    """A diffusers model as a callable (x, t) or (x, t, rows) -> prediction.

    Args:
        model: called as model(x, timestep=t, **inputs, return_dict=False)[0].
        table: further inputs, one row per condition; `rows` (B,) picks those of each sample.

    A model with twice as many outputs as inputs has learned its variance as well: the first half is the prediction.
    """

    def __init__(self, model: Any, table: Inputs) -> None:
        self.model = model
        self.table = table
        config = model.config
        self.channels = config.get("in_channels")

    def __call__(self, x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        if self.channels is not None and x.shape[1] != self.channels:
            raise ValueError(
                f"{type(self.model).__name__} takes {self.channels} channels, x of shape {tuple(x.shape)} has {x.shape[1]}"
            )
        inputs = {} if rows is None else {name: _pick(values, rows) for name, values in self.table.items()}
        prediction = self.model(x, timestep=t, **inputs, return_dict=False)[0]
        return prediction[:, : x.shape[1]] if prediction.shape[1] == 2 * x.shape[1] else prediction


def conditioned(
    model: Any,
    scheduler: Reading,
    inputs: Inputs | None = None,
    null: Inputs | None = None,
    guidance: float | torch.Tensor = 1.0,
    *,
    kind: str | None = None,
) -> Predictor:
    """Any diffusers model with the conditions it takes, the general form of `unet`, `conditional_unet` and `transformer`.

    Args:
        model: a diffusers model; put into evaluation mode.
        scheduler: the scheduler that it was trained with, its config, or a `vsvf.Schedule`: gives alpha(t) and the kind of
            prediction ("epsilon", "sample", "v_prediction"; velocity for flow matching).
        inputs: what model.forward takes besides x and timestep, by name: tensors with B rows, or one row for all.
        null: the same names for "no condition", B rows or one; only needed for guidance.
        guidance: w in p_null + w (p_condition - p_null), both from one call on 2B samples; a float or (B,).
        kind: what the network predicts, where the scheduler does not say.

    Raises:
        TypeError, ValueError: a scheduler that cannot be read, or conditions that do not fit together.
    """
    schedule, kind = read(scheduler, kind)
    model.eval()
    integer_time = model.config.get("time_embedding_type") == "learned"
    network: Any = Network(model, {})
    if inputs:
        count = _count(inputs)
        rows = torch.arange(count)
        plain = not isinstance(guidance, torch.Tensor) and float(guidance) == 1.0
        if plain or null is None:
            network = Guided(Network(model, _table(inputs, count)), rows, None, guidance)
        else:
            others = count + torch.arange(_count(null))
            network = Guided(Network(model, _join(inputs, null)), rows, others, guidance)
    elif isinstance(guidance, torch.Tensor) or float(guidance) != 1.0:
        raise ValueError("guidance with a scale other than 1 needs a condition")
    return Predictor(network, schedule, kind, dtype=model.dtype, integer_time=integer_time)


def unet(
    model: Any,
    scheduler: Reading,
    *,
    label: int | torch.Tensor | None = None,
    null_label: int | None = None,
    guidance: float | torch.Tensor = 1.0,
    kind: str | None = None,
) -> Predictor:
    """A `UNet2DModel` (google/ddpm-cifar10-32, google/ddpm-ema-celebahq-256, …), x of shape (B, C, H, W).

    Args:
        label, null_label: of a class-conditional one: an int or (B,) integers, and the class that stands for "none".
        model, scheduler, guidance, kind: as in `conditioned`. A model with a table of timesteps (time_embedding_type "learned")
            takes integer t only; a grid with fractional ones is then an error.

    Raises:
        ValueError: labels for a model without classes, none for one with, or a label out of range.
    """
    classes = model.config.get("num_class_embeds")
    has_classes = classes is not None or model.config.get("class_embed_type") is not None
    if has_classes != (label is not None):
        wants = "takes a class label: give label=…" if has_classes else "has no classes, leave label out"
        raise ValueError(f"this {type(model).__name__} {wants}")
    if label is None:
        return conditioned(model, scheduler, guidance=guidance, kind=kind)
    null = None if null_label is None else {"class_labels": _labels(null_label, classes, model.device)}
    return conditioned(model, scheduler, {"class_labels": _labels(label, classes, model.device)}, null, guidance, kind=kind)


def conditional_unet(
    model: Any,
    scheduler: Reading,
    embeddings: torch.Tensor,
    null_embeddings: torch.Tensor | None = None,
    guidance: float | torch.Tensor = 1.0,
    *,
    label: int | torch.Tensor | None = None,
    added: Mapping[str, torch.Tensor] | None = None,
    null_added: Mapping[str, torch.Tensor] | None = None,
    kind: str | None = None,
) -> Predictor:
    """A `UNet2DConditionModel` (Stable Diffusion 1.5, 2, XL), x the latents (B, 4, h, w).

    Args:
        embeddings: (B, L, D) of the prompts, or one row for all; null_embeddings: of the empty (or negative) prompt.
        label: class labels, where the model takes them.
        added, null_added: Stable Diffusion XL's added_cond_kwargs, {"text_embeds": (B, E), "time_ids": (B, 6)}.
        model, scheduler, guidance, kind: as in `conditioned`.

    Raises:
        ValueError: embeddings of another width than the model's, or an input that the model needs and did not get.
    """
    config = model.config
    for name, given in (("embeddings", embeddings), ("null_embeddings", null_embeddings)):
        width = config.get("cross_attention_dim")
        if given is not None and (given.ndim != 3 or (isinstance(width, int) and given.shape[-1] != width)):
            raise ValueError(f"{name} must be (B, L, {width}) for this model, got {tuple(given.shape)}")
    wants_class = config.get("num_class_embeds") is not None or config.get("class_embed_type") is not None
    for name, wanted, got in (
        ("added", config.get("addition_embed_type") == "text_time", added is not None),
        ("label", wants_class, label is not None),
    ):
        if wanted and not got:
            raise ValueError(f"this model needs {name}, see help(conditional_unet)")
    inputs: dict[str, Any] = {"encoder_hidden_states": embeddings}
    null: dict[str, Any] | None = None if null_embeddings is None else {"encoder_hidden_states": null_embeddings}
    if added is not None:
        inputs["added_cond_kwargs"] = dict(added)
        if null is not None:
            null["added_cond_kwargs"] = dict(added if null_added is None else null_added)
    if label is not None:
        inputs["class_labels"] = _labels(label, config.get("num_class_embeds"), model.device)
        if null is not None:
            null["class_labels"] = inputs["class_labels"]
    return conditioned(model, scheduler, inputs, null, guidance, kind=kind)


def transformer(
    model: Any,
    scheduler: Reading,
    embeddings: torch.Tensor,
    pooled: torch.Tensor,
    null_embeddings: torch.Tensor | None = None,
    null_pooled: torch.Tensor | None = None,
    guidance: float | torch.Tensor = 1.0,
) -> Predictor:
    """A flow-matching transformer called as Stable Diffusion 3's (`SD3Transformer2DModel`), x the latents (B, 16, h, w).

    It predicts the velocity eps - x_0 under alpha = 1 - t, sigma = t, and is given 1000 t. sigma_bar is infinite at t = 1: a
    grid starts below it. With a flow-matching scheduler's own sigmas s < 1 (decreasing, 0 last) the nodes are

        Grid.from_sigma_bar((s / (1 - s))[::-1], alpha=(1 - s)[::-1]).

    Args:
        embeddings, pooled: (B, L, D) and (B, P), of the prompts; null_embeddings, null_pooled: of the empty prompt.
        model, scheduler, guidance: as in `conditioned`.

    Raises:
        ValueError: a model that is not called this way, or widths that do not fit it.
    """
    if "pooled_projections" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"{type(model).__name__} is not called as Stable Diffusion 3's transformer: use `conditioned`")
    for name, given, key in (("embeddings", embeddings, "joint_attention_dim"), ("pooled", pooled, "pooled_projection_dim")):
        width = model.config.get(key)
        if width is not None and given.shape[-1] != width:
            raise ValueError(f"{name} must have width {width} for this model, got {tuple(given.shape)}")
    null = None
    if null_embeddings is not None and null_pooled is not None:
        null = {"encoder_hidden_states": null_embeddings, "pooled_projections": null_pooled}
    inputs = {"encoder_hidden_states": embeddings, "pooled_projections": pooled}
    return conditioned(model, scheduler, inputs, null, guidance)


@torch.no_grad()
def from_pipeline(
    pipe: Any,
    prompt: str | list[str] | None = None,
    negative_prompt: str | list[str] | None = None,
    guidance: float | torch.Tensor = 7.5,
) -> Predictor:
    """The predictor that a pipeline uses: its UNet, its text encoder's embeddings, its scheduler's schedule.

    Args:
        pipe: a DDPMPipeline, a DDIMPipeline (x are images), or a StableDiffusionPipeline (x are latents, see `Autoencoder`).
        prompt, negative_prompt: for Stable Diffusion, one for all samples or B.
        guidance: for Stable Diffusion, a float or (B,).

    Raises:
        ValueError: a pipeline of another make, or a missing prompt.
    """
    if getattr(pipe, "unet", None) is None:
        raise ValueError(f"{type(pipe).__name__} has no UNet: use `transformer` or `conditioned`")
    if getattr(pipe, "text_encoder", None) is None:
        if prompt is not None:
            raise ValueError(f"{type(pipe).__name__} has no text encoder, leave prompt out")
        return unet(pipe.unet, pipe.scheduler)
    if prompt is None:
        raise ValueError(f"{type(pipe).__name__} needs a prompt ('' for none)")
    if isinstance(prompt, list) and isinstance(negative_prompt, str):
        negative_prompt = [negative_prompt] * len(prompt)
    plain = not isinstance(guidance, torch.Tensor) and float(guidance) == 1.0
    encoded = pipe.encode_prompt(prompt, pipe.device, 1, not plain, negative_prompt)
    if len(encoded) != 2:
        raise ValueError(f"{type(pipe).__name__} encodes prompts in its own way: use `conditional_unet` with its embeddings")
    return conditional_unet(pipe.unet, pipe.scheduler, encoded[0], encoded[1], guidance)


class Autoencoder:
    """Images to latents and back, in the scale that the diffusion model was trained in: (z - shift) * scaling.

    Args:
        model: an `AutoencoderKL` or `AutoencoderTiny`; put into evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self.scaling = float(model.config.get("scaling_factor") or 1.0)
        self.shift = float(model.config.get("shift_factor") or 0.0)
        self.channels = int(model.config.get("in_channels", 3))

    @torch.no_grad()
    def encode(self, images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Latents (B, c, h, w) of images (B, 3, H, W) in [-1, 1], in the images' dtype.

        Args:
            generator: draws from the encoder's distribution; None takes its mode (for exact reconstruction).

        Raises:
            ValueError: not a batch of images, or a generator for an autoencoder without a distribution.
        """
        if images.ndim != 4 or images.shape[1] != self.channels or not images.is_floating_point():
            got = f"{images.dtype} of shape {tuple(images.shape)}"
            raise ValueError(f"images must be a floating (B, {self.channels}, H, W) in [-1, 1], got {got}")
        encoded = self.model.encode(images.to(self.model.dtype))
        if hasattr(encoded, "latent_dist"):
            distribution = encoded.latent_dist
            z = distribution.mode() if generator is None else distribution.sample(generator)
        else:
            if generator is not None:
                raise ValueError(f"{type(self.model).__name__} has no distribution to draw from, leave generator out")
            z = encoded.latents
        # contiguous, as marches keep their states: networks give other bits for equal numbers in another memory layout
        return ((z - self.shift) * self.scaling).to(images.dtype).contiguous()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W), about [-1, 1], of latents (B, c, h, w), in the latents' dtype."""
        z = latents.to(self.model.dtype) / self.scaling + self.shift
        return self.model.decode(z, return_dict=False)[0].to(latents.dtype).contiguous()


# ---- conditions, by rows ---------------------------------------------------------------------------------------


def _labels(label: int | torch.Tensor, classes: int | None, device: torch.device) -> torch.Tensor:
    labels = torch.as_tensor(label, device=device).reshape(-1)
    if classes is not None and (labels.is_floating_point() or not bool(((labels >= 0) & (labels < classes)).all())):
        raise ValueError(f"label must be integers from 0 to {classes - 1}, got {label}")
    return labels


def _pick(values: Any, rows: torch.Tensor) -> Any:
    if isinstance(values, Mapping):
        return {name: _pick(v, rows) for name, v in values.items()}
    return values[rows.to(values.device)]


def _count(inputs: Inputs) -> int:
    """How many conditions there are: every tensor has as many rows (one row stands for all)."""
    tensors = [v for values in inputs.values() for v in (values.values() if isinstance(values, Mapping) else [values])]
    counts = {int(v.shape[0]) for v in tensors}
    if len(counts - {1}) > 1:
        raise ValueError(f"the conditions have different numbers of rows: {sorted(counts)}")
    return max(counts)


def _table(inputs: Inputs, count: int) -> dict[str, Any]:
    """Every input with `count` rows."""
    table: dict[str, Any] = {}
    for name, values in inputs.items():
        table[name] = _table(values, count) if isinstance(values, Mapping) else values.expand(count, *values.shape[1:])
    return table


def _join(inputs: Inputs, null: Inputs) -> dict[str, Any]:
    """The rows of the conditions, then those of the null conditions."""
    if inputs.keys() != null.keys():
        raise ValueError(f"the null condition must have the same inputs: {sorted(inputs)}, got {sorted(null)}")
    above, below = _table(inputs, _count(inputs)), _table(null, _count(null))

    def stack(name: str, first: Any, second: Any) -> Any:
        if isinstance(first, Mapping):
            return {key: stack(key, first[key], second[key]) for key in first}
        if first.shape[1:] != second.shape[1:]:
            shapes = f"{tuple(second.shape[1:])}, the condition's {tuple(first.shape[1:])}"
            raise ValueError(f"{name}: the null condition's rows have shape {shapes}")
        return torch.cat([first, second.to(first)])

    return {name: stack(name, above[name], below[name]) for name in above}
