"""The nodes, in ComfyUI's schema interface (`comfy_api.latest`).

    VSVF sampler, VSVF inverse sampler    SAMPLER, for SamplerCustom and its kin
    VSVF sample                           LATENT and VSVF_STATE: sampling that keeps the k states that exact inversion needs
    VSVF invert                           LATENT and VSVF_STATE: exact from a VSVF_STATE, or from an image's latent and a starter

A SAMPLER hands on one latent only. Where the round trip is to be exact, the two last nodes pass the k states on, as a VSVF_STATE.
ComfyUI's sampling runs functions of k-diffusion's signature, in sigma and the model's own x (`vsvf.integrations.kdiffusion`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import ComfyExtension, io

from vsvf import State, formulas
from vsvf.integrations import kdiffusion

CATEGORY = "sampling/vsvf"
AS_GIVEN = "that of the latent"
ARITHMETICS = [AS_GIVEN, "float32", "float64", "fixed"]
STARTERS = ["ddim", "heun", "rk4"]
AUTOMATIC = "automatic"
SAMPLING = [method for name, method in kdiffusion.names().items() if name.startswith("sample_")]
INVERTIBLE = [method for name, method in kdiffusion.names().items() if name.startswith("invert_")]
DEFAULT = "stable_belm(3)"

StateType = io.Custom("VSVF_STATE")


def choices(options: list[str], starters: list[str]) -> list[Any]:
    """The inputs that say how to solve."""
    return [
        io.Combo.Input("formula", options=options, default=DEFAULT, tooltip="stable_belm(k) can be run both ways safely"),
        io.Combo.Input("starter", options=starters, default=starters[0], tooltip="makes the other k - 1 first states from one"),
        io.Combo.Input("arithmetic", options=ARITHMETICS, default=AS_GIVEN, tooltip="fixed: every bit comes back"),
    ]


def sampling(formula: str, starter: str, arithmetic: str) -> Callable[..., Any]:
    """A sampling function of k-diffusion's signature by the choices of a node.

    A state that was inverted from a latent ends at the smallest positive sigma, and so does the sampling that goes on from it.
    """
    forward = kdiffusion.sampler(formula, None if starter == AUTOMATIC else starter, _arithmetic(arithmetic))

    def run(model: Any, x: Any, sigmas: torch.Tensor, *args: Any, **options: Any) -> Any:
        if isinstance(x, State) and sigmas[-1] == 0.0:
            plan = formulas.by_name(formula).plan(kdiffusion.grid_of(sigmas))
            sigmas = sigmas if plan.fingerprint == x.record.fingerprint else sigmas[:-1]
        return forward(model, x, sigmas, *args, **options)

    return run


def inverting(formula: str, starter: str, arithmetic: str) -> Callable[..., Any]:
    """The inverse, which is given increasing sigmas, the way ComfyUI's Flip Sigmas node hands them over.

    That node turns a first sigma of 0 into 0.0001; without it, 0 is left out: a denoiser defines no slope there.
    """
    inverse = kdiffusion.inverter(formula, starter, _arithmetic(arithmetic))

    def run(model: Any, x: Any, sigmas: torch.Tensor, *args: Any, **options: Any) -> Any:
        upwards = sigmas if sigmas[0] > 0.0 or isinstance(x, State) else sigmas[1:]
        return inverse(model, x, upwards.flip(0), *args, **options)

    return run


def keeping(function: Callable[..., Any], given: State | None, kept: list[State]) -> Callable[..., Any]:
    """The function, going on from a given state instead of x, and leaving the state it returns in `kept`."""

    def run(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
        start = x if given is None else moved(given, x.device)
        state = function(model, start, sigmas, return_state=True, **options)
        kept.append(moved(state, torch.device("cpu")))
        return state.x.to(x.dtype)

    return run


def moved(state: State, device: torch.device) -> State:
    """The state on another device."""
    return replace(state, values=state.values.to(device), tape={row: cell.to(device) for row, cell in state.tape.items()})


def run_model(
    function: Callable[..., Any], model: Any, noise: torch.Tensor, sigmas: torch.Tensor, cfg: float, positive: Any, negative: Any,
    latent: dict[str, Any], seed: int, given: State | None,
) -> tuple[dict[str, Any], State]:  # fmt: skip
    """Run a function through ComfyUI's own sampling (conditions, guidance, devices); the latent and the state it ends with."""
    kept: list[State] = []
    sampler = comfy.samplers.KSAMPLER(keeping(function, given, kept))
    comfy.sample.sample_custom(
        model, noise, cfg, sampler, sigmas, positive, negative, latent["samples"],
        callback=latent_preview.prepare_callback(model, len(sigmas) - 1), disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )  # fmt: skip
    state = kept[-1]
    # read from the state: for flow models ComfyUI divides what a sampler returns by 1 - sigma, which is 0 at the noise end
    samples = model.model.process_latent_out(state.x.to(latent["samples"].dtype))
    return {**latent, "samples": samples}, state


def _arithmetic(choice: str) -> str | None:
    return None if choice == AS_GIVEN else choice


class VSVFSampler(io.ComfyNode):
    """A SAMPLER by a formula."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSVFSampler",
            display_name="VSVF sampler",
            category=CATEGORY,
            inputs=choices(SAMPLING, [AUTOMATIC, *STARTERS]),
            outputs=[io.Sampler.Output()],
        )

    @classmethod
    def execute(cls, formula: str, starter: str, arithmetic: str) -> io.NodeOutput:
        return io.NodeOutput(comfy.samplers.KSAMPLER(sampling(formula, starter, arithmetic)))


class VSVFInverseSampler(io.ComfyNode):
    """A SAMPLER from image to noise: give it flipped sigmas, no noise, and the image's latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSVFInverseSampler",
            display_name="VSVF inverse sampler",
            category=CATEGORY,
            description="From image to noise: use with Flip Sigmas and add_noise off, for models whose noise is added (not flows).",
            inputs=choices(INVERTIBLE, STARTERS),
            outputs=[io.Sampler.Output()],
        )

    @classmethod
    def execute(cls, formula: str, starter: str, arithmetic: str) -> io.NodeOutput:
        return io.NodeOutput(comfy.samplers.KSAMPLER(inverting(formula, starter, arithmetic)))


def conditions() -> list[Any]:
    """The inputs of a node that runs a model."""
    return [
        io.Model.Input("model"),
        io.Float.Input("cfg", default=1.0, min=0.0, max=100.0, step=0.1),
        io.Conditioning.Input("positive"),
        io.Conditioning.Input("negative"),
        io.Sigmas.Input("sigmas", tooltip="decreasing, for both directions"),
        io.Latent.Input("latent"),
    ]


class VSVFSample(io.ComfyNode):
    """Sample and keep the k states; or go on from those of VSVF invert, which leads back to its image exactly."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSVFSample",
            display_name="VSVF sample",
            category=CATEGORY,
            inputs=[
                *conditions(),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True),
                *choices(SAMPLING, [AUTOMATIC, *STARTERS]),
                StateType.Input("state", optional=True, tooltip="of VSVF invert: sampled from, instead of noise"),
            ],
            outputs=[io.Latent.Output(), StateType.Output()],
        )

    @classmethod
    def execute(
        cls, model: Any, cfg: float, positive: Any, negative: Any, sigmas: torch.Tensor, latent: dict[str, Any], seed: int,
        formula: str, starter: str, arithmetic: str, state: State | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        image = latent["samples"]
        noise = comfy.sample.prepare_noise(image, seed, latent.get("batch_index")) if state is None else torch.zeros_like(image)
        function = sampling(formula, starter, AS_GIVEN if state is not None else arithmetic)
        return io.NodeOutput(*run_model(function, model, noise, sigmas, cfg, positive, negative, latent, seed, state))


class VSVFInvert(io.ComfyNode):
    """Invert: the steps of VSVF sample retraced from its state, or an image's latent taken to noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSVFInvert",
            display_name="VSVF invert",
            category=CATEGORY,
            inputs=[
                *conditions(),
                *choices(INVERTIBLE, STARTERS),
                StateType.Input("state", optional=True, tooltip="of VSVF sample: retraced exactly, instead of the latent"),
            ],
            outputs=[io.Latent.Output(), StateType.Output()],
        )

    @classmethod
    def execute(
        cls, model: Any, cfg: float, positive: Any, negative: Any, sigmas: torch.Tensor, latent: dict[str, Any], formula: str,
        starter: str, arithmetic: str, state: State | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        function = inverting(formula, starter, AS_GIVEN if state is not None else arithmetic)
        noise = torch.zeros_like(latent["samples"])
        return io.NodeOutput(*run_model(function, model, noise, sigmas.flip(0), cfg, positive, negative, latent, 0, state))


class VSVFExtension(ComfyExtension):
    """The package's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [VSVFSampler, VSVFInverseSampler, VSVFSample, VSVFInvert]


async def comfy_entrypoint() -> VSVFExtension:
    """What ComfyUI calls when it loads the folder."""
    return VSVFExtension()
