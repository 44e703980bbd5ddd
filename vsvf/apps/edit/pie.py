"""PIE-Bench (Ju et al. 2024) from a user's folder, in its published format and with its measures as defined there.

    mapping_file.json       id -> {"image_path", "original_prompt", "editing_prompt", "blended_word", "mask", "editing_type_id"}
    annotation_images/      the pictures

Brackets in a prompt mark the words that change, and are stripped. A mask is a list [start, length, start, length, …] over the
pixels row by row, 1 where the edit is; a border of one pixel is set to 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vsvf.apps.edit.cases import Case
from vsvf.apps.edit.learned import Learned
from vsvf.apps.images import load_image
from vsvf.apps.metrics import closeness

MAPPING, PICTURES = "mapping_file.json", "annotation_images"
EDGE = 512
KINDS = ("random", "change object", "add object", "delete object", "content", "pose", "colour", "material", "background", "style")
KEYS = ("image_path", "original_prompt", "editing_prompt", "blended_word", "mask", "editing_type_id")
BRACKETS = re.compile(r"[\[\]]")
BACKGROUND = ("pie_mse", "pie_psnr", "pie_ssim")


def decode_mask(runs: Sequence[int], edge: int = EDGE) -> torch.Tensor:
    """(edge, edge) bool of a run-length list, its border True.

    Raises:
        ValueError: an odd number of entries, or a run outside the picture.
    """
    if len(runs) % 2:
        raise ValueError(f"a mask must be pairs of start and length, got {len(runs)} numbers")
    flat = torch.zeros(edge * edge, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2]):
        if not (0 <= start and 0 <= length and start + length <= edge * edge):
            raise ValueError(f"a run of the mask, {start} + {length}, leaves the picture of {edge} x {edge}")
        flat[start : start + length] = True
    mask = flat.view(edge, edge)
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    return mask


def read_pie(folder: str | Path, size: tuple[int, int] | None = None, edge: int = EDGE) -> list[Case]:
    """The cases of a folder, sorted by their id.

    Args:
        folder: with the mapping file and the pictures. size: (H, W) that pictures and masks are brought to; None leaves them.
        edge: of the pictures that the masks belong to.

    Raises:
        FileNotFoundError: no mapping file, or a picture that is missing. ValueError: an entry that lacks something, named.
    """
    root = Path(folder)
    if not (root / MAPPING).is_file():
        raise FileNotFoundError(f"{root} is no PIE-Bench folder: it has no {MAPPING}")
    try:
        entries = json.loads((root / MAPPING).read_text(encoding="utf-8"))
        assert isinstance(entries, dict)
    except (ValueError, AssertionError):
        raise ValueError(f"{root / MAPPING} is not a JSON object of entries") from None
    return [_case(root, name, entries[name], size, edge) for name in sorted(entries)]


def _case(root: Path, name: str, entry: Any, size: tuple[int, int] | None, edge: int) -> Case:
    missing = [key for key in KEYS if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"{root / MAPPING}: entry {name} lacks {missing[0]}")
    path = root / PICTURES / str(entry["image_path"])
    if not path.is_file():
        raise FileNotFoundError(f"{root / MAPPING}: entry {name} names {path}, which is missing")
    number = int(entry["editing_type_id"])
    if not 0 <= number < len(KINDS):
        raise ValueError(f"{root / MAPPING}: entry {name} has editing_type_id {number}, known are 0 … {len(KINDS) - 1}")
    mask = decode_mask(entry["mask"], edge)
    if size is not None and tuple(mask.shape) != tuple(size):
        mask = torch.nn.functional.adaptive_max_pool2d(mask.float()[None, None], size)[0, 0] > 0.5
    words = tuple(dict.fromkeys(str(entry["blended_word"]).split()))
    picture = load_image(path, size, "RGB", fit="stretch" if size is not None else "crop")[0]
    source, target = (BRACKETS.sub("", str(entry[key])).strip() for key in ("original_prompt", "editing_prompt"))
    return Case(name, KINDS[number], picture, source, target, mask, words=words)


def measures(found: torch.Tensor, case: Case, learned: Learned | None = None) -> dict[str, float]:
    """The background measures as PIE-Bench defines them: both pictures, in [0, 1], times (1 - mask), averaged over the whole frame.

    A picture that is masked whole gives NaN, and is left out of means. Structure distance, LPIPS and CLIP scores are those of
    `learned`, where their weights are at hand.
    """
    more = {} if learned is None else learned(found, case)
    outside = ~case.mask
    if not bool(outside.any()):
        return dict.fromkeys(BACKGROUND, math.nan) | more
    one, other = (((torch.nan_to_num(x.double()).clamp(-1.0, 1.0) + 1.0) / 2.0 * outside) for x in (found.cpu(), case.picture))
    near = closeness(2.0 * one[None] - 1.0, 2.0 * other[None] - 1.0)  # PSNR and SSIM are the same on [0, 1] and on [-1, 1]
    return dict(zip(BACKGROUND, (near.mse[0] / 4.0, near.psnr[0], near.ssim[0]))) | more
