"""The parts of the scenes model, untrained: tokenizer, text encoder, UNet, schedule; and the folder that holds them all.

Every size here is what a few hours on one core allow. All activations are smooth, so that the orders of ODE solvers show.
"""

from __future__ import annotations

import json
import shutil
import string
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vsvf.scenes import WORDS

LENGTH = 24  # tokens of a prompt, start and end among them; the longest caption has 23
WIDTH = 96  # of a token's embedding
START, END = "<|startoftext|>", "<|endoftext|>"


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens with their numbers, and the merges that make one token of each word in `WORDS`.

    A byte-pair tokenizer starts from letters (the last one marked ``</w>``) and always does the earliest merge of its list
    that it can. Each word in turn is merged as far as the list goes, and what is left is merged by new entries: these come
    after all others, so they change nothing for the words before.
    """
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = _merged(word, merges)
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = _merged(word, merges)
    letters = [*string.ascii_lowercase, ","]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def _merged(word: str, merges: list[tuple[str, str]]) -> list[str]:
    parts = [*word[:-1], word[-1] + "</w>"]
    rank = {pair: i for i, pair in enumerate(merges)}
    while pairs := [pair for pair in pairwise(parts) if pair in rank]:
        first, second = min(pairs, key=rank.__getitem__)
        i = next(i for i in range(len(parts)) if parts[i : i + 2] == [first, second])
        parts[i : i + 2] = [first + second]
    return parts


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer over the vocabulary of the captions."""
    with tempfile.TemporaryDirectory() as folder:
        write_vocabulary(Path(folder))
        return CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH, unk_token=END)


def write_vocabulary(folder: Path) -> None:
    """vocab.json and merges.txt."""
    tokens, merges = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")


def make_text_encoder() -> CLIPTextModel:
    """Two layers of width 96, four heads, GELU."""
    tokens, _ = vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        hidden_act="gelu",
        bos_token_id=tokens[START],
        eos_token_id=tokens[END],
        pad_token_id=tokens[END],
    )
    return CLIPTextModel(config)


def make_unet() -> UNet2DConditionModel:
    """Levels of 32, 64, 96 channels at 16, 8, 4 latents along the edge; text attention on the upper two and in the middle.

    What the prompt says as a whole is also added to the embedding of time, as in Stable Diffusion XL and DeepFloyd IF: a
    network of this size learns in a few thousand steps what it is to draw, and leaves the attention to say where.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        norm_num_groups=16,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule, prediction and spacing."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def make_pipeline(vae: nn.Module, text_encoder: nn.Module, unet: nn.Module) -> StableDiffusionPipeline:
    """The pipeline of these three, without safety checker."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=make_tokenizer(),
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def read_autoencoder(folder: Path) -> AutoencoderKL:
    """The trained autoencoder."""
    return AutoencoderKL.from_pretrained(folder).eval().requires_grad_(False)


def write_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Saves the pipeline beside `folder` and then puts it in its place."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline.save_pretrained(part, safe_serialization=True)
    write_vocabulary(part / "tokenizer")  # the two files that CLIP's tokenizer has always been read from, beside the one of today
    for path in part.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:  # where a part was trained
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for path in part.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def parameters(network: nn.Module) -> int:
    """How many numbers are trained in it."""
    return sum(weight.numel() for weight in network.parameters())


def alphas_sigmas() -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and sigma at the 1000 timesteps."""
    bar = make_scheduler().alphas_cumprod
    return bar.sqrt(), (1 - bar).sqrt()
