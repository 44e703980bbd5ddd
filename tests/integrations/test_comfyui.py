"""The ComfyUI nodes against the documented interface of ComfyUI, which does not install as a package.

The doubles below do what ComfyUI documents of the parts that the nodes call: `KSAMPLER` scales noise and hands a function of
k-diffusion's signature the model, the sigmas and a callback; `sample_custom` runs a sampler under guidance; the schema classes keep
what they are given.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"


class Sampling:
    """Noise is added to the latent times sigma, and nothing is done at the end, as for models that predict noise."""

    def noise_scaling(self, sigma: Any, noise: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        return noise * sigma + latent


class KSampler:
    def __init__(self, sampler_function: Any, extra_options: dict | None = None, inpaint_options: dict | None = None) -> None:
        self.sampler_function, self.extra_options = sampler_function, extra_options or {}

    def sample(self, model: Any, sigmas: Any, extra_args: dict, callback: Any, noise: torch.Tensor, latent: torch.Tensor) -> Any:
        x = model.model_sampling.noise_scaling(sigmas[0], noise, latent)
        total = len(sigmas) - 1
        told = lambda entry: callback(entry["i"], entry["denoised"], entry["x"], total)  # noqa: E731
        return self.sampler_function(model, x, sigmas, extra_args=extra_args, callback=told, disable=True, **self.extra_options)


class Model:
    """The denoiser of Gaussian data around a condition; latents are stored times 2."""

    model_sampling = Sampling()

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.model = SimpleNamespace(process_latent_out=lambda x: 2.0 * x)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, model_options: dict, seed: int, condition: float) -> torch.Tensor:
        weight = 0.25 / (0.25 + sigma.reshape(-1, 1, 1, 1) ** 2)
        return condition + weight * (x - condition)


def sample_custom(
    model: Model, noise: Any, cfg: float, sampler: KSampler, sigmas: Any, positive: float, negative: float, latent_image: Any, *,
    noise_mask: Any = None, callback: Any = None, disable_pbar: bool = False, seed: int | None = None,
) -> Any:  # fmt: skip
    extra = {"model_options": {}, "seed": seed, "condition": negative + cfg * (positive - negative)}
    latent = latent_image / 2.0 if torch.count_nonzero(latent_image) > 0 else latent_image
    return 2.0 * sampler.sample(model, sigmas, extra, callback, noise, latent)


class Node:
    """Any input, output, schema or result: keeps what it is given."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.args = args
        self.__dict__.update(keywords)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    kinds = "Combo Sampler Model Float Conditioning Sigmas Latent Int".split()
    pair = {name: SimpleNamespace(Input=Node, Output=Node) for name in kinds}
    custom = lambda name: SimpleNamespace(Input=Node, Output=Node, io_type=name)  # noqa: E731
    io = SimpleNamespace(**pair, Custom=custom, Schema=Node, NodeOutput=Node, ComfyNode=object)
    doubles = {
        "comfy": {},
        "comfy.samplers": {"KSAMPLER": KSampler},
        "comfy.sample": {
            "sample_custom": sample_custom,
            "prepare_noise": lambda x, seed, _=None: torch.randn(
                x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype
            ),
        },
        "comfy.utils": {"PROGRESS_BAR_ENABLED": False},
        "latent_preview": {"prepare_callback": lambda model, steps: lambda i, *_: model.steps.append(i)},
        "comfy_api": {},
        "comfy_api.latest": {"io": io, "ComfyExtension": object},
    }
    for name, members in doubles.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name:
            monkeypatch.setattr(sys.modules[name.split(".")[0]], name.split(".")[1], module, raising=False)
    spec = importlib.util.spec_from_file_location("comfyui_vsvf", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "comfyui_vsvf", package)
    spec.loader.exec_module(package)
    yield sys.modules["comfyui_vsvf.nodes"]
    sys.modules.pop("comfyui_vsvf.nodes", None)


@pytest.fixture
def given() -> dict[str, Any]:
    sigmas = torch.cat([torch.linspace(8.0, 0.1, 12), torch.zeros(1)])
    latent = {"samples": torch.zeros(2, 4, 6, 6), "batch_index": [0, 1]}
    return {"model": Model(), "cfg": 2.0, "positive": 0.3, "negative": 0.1, "sigmas": sigmas, "latent": latent}


HOW = {"formula": "belm(2)", "starter": "ddim", "arithmetic": "that of the latent"}


def test_every_node_says_its_inputs_and_they_are_those_it_executes_with(nodes: ModuleType) -> None:
    found = asyncio.run(asyncio.run(nodes.comfy_entrypoint()).get_node_list())
    schemas = [node.define_schema() for node in found]
    assert [schema.node_id for schema in schemas] == ["VSVFSampler", "VSVFInverseSampler", "VSVFSample", "VSVFInvert"]
    for node, schema in zip(found, schemas):
        names = {entry.args[0] for entry in schema.inputs}
        assert names == set(node.execute.__func__.__code__.co_varnames[1 : node.execute.__func__.__code__.co_argcount])
        formula = next(entry for entry in schema.inputs if entry.args[0] == "formula")
        assert formula.default in formula.options


def test_sampling_is_that_of_the_engine_and_previews_every_step(nodes: ModuleType, given: dict[str, Any]) -> None:
    """Against Euler's updates, written out."""
    latent, _ = nodes.VSVFSample.execute(**given, seed=3, **{**HOW, "formula": "ddim"}).args
    x = given["sigmas"][0] * torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(3))
    for high, low in pairwise(given["sigmas"]):
        denoised = given["model"](x, high.expand(2), {}, 3, 0.5)
        x = x + (low - high) * (x - denoised) / high
    torch.testing.assert_close(latent["samples"], 2.0 * x, rtol=1e-5, atol=1e-5)
    assert latent["batch_index"] == [0, 1]
    assert given["model"].steps == list(range(12))


@pytest.mark.parametrize("arithmetic", ["float64", "fixed"])
def test_sample_invert_sample_returns_the_image(nodes: ModuleType, given: dict[str, Any], arithmetic: str) -> None:
    image, state = nodes.VSVFSample.execute(**given, seed=1, **{**HOW, "arithmetic": arithmetic}).args
    noise, back = nodes.VSVFInvert.execute(**{**given, "latent": image}, **HOW, state=state).args
    again, same = nodes.VSVFSample.execute(**{**given, "latent": noise}, seed=5, **HOW, state=back).args
    torch.testing.assert_close(again["samples"], image["samples"], rtol=1e-5, atol=1e-5)
    drawn = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(noise["samples"] / 2.0, given["sigmas"][0] * drawn, rtol=1e-4, atol=1e-4)
    if arithmetic == "fixed":
        assert torch.equal(same.values, state.values)


def test_an_image_alone_is_inverted_and_comes_back(nodes: ModuleType, given: dict[str, Any]) -> None:
    picture = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(9))
    exact = {**HOW, "arithmetic": "float64"}
    noise, state = nodes.VSVFInvert.execute(**{**given, "latent": {"samples": picture}}, **exact).args
    again, _ = nodes.VSVFSample.execute(**{**given, "latent": noise}, seed=0, **exact, state=state).args
    torch.testing.assert_close(again["samples"], picture, rtol=1e-5, atol=1e-5)


def test_the_samplers_fit_the_sampler_interface(nodes: ModuleType, given: dict[str, Any]) -> None:
    """Down with VSVF sampler, up with VSVF inverse sampler on flipped sigmas whose 0 has become 0.0001: nearly the noise."""
    model, steps = given["model"], []
    extra = {"model_options": {}, "seed": 0, "condition": 0.5}
    noise = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sigmas = torch.logspace(math.log10(8.0), -4.0, 201, dtype=torch.float64)
    callback = lambda i, *_: steps.append(i)  # noqa: E731
    down = nodes.VSVFSampler.execute("stable_belm(3)", "automatic", "that of the latent").args[0]
    image = down.sample(model, sigmas, extra, callback, noise, torch.zeros_like(noise))
    up = nodes.VSVFInverseSampler.execute("stable_belm(3)", "rk4", "that of the latent").args[0]
    found = up.sample(model, sigmas.flip(0), extra, callback, torch.zeros_like(noise), image)
    assert (found - 8.0 * noise).abs().max() < 0.02 * 8.0
    assert sorted(steps) == sorted([*range(200), *range(200)])
