"""How good an edit is: whether it did what was asked, what it left alone, and how near it came to the true result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from vsvf.apps.edit.cases import Case
from vsvf.apps.metrics import closeness
from vsvf.scenes.judge import Judge, agreement

NAMES = (
    "success", "kept", "background_mse", "background_psnr", "background_ssim", "structure", "target_mse", "target_psnr",
    "target_ssim",
)  # fmt: skip


def scores(found: torch.Tensor, case: Case, judge: Judge | None = None) -> dict[str, float]:
    """The measures of one edit; NaN where a measure is not defined (no background, no true result).

        success             1 if the judge reads every attribute that the edit changes as the target has it
        kept                1 if it reads every other attribute so
        read_*              the same attribute by attribute
        background_mse      over the pixels outside the mask; background_psnr of it; background_ssim of both pictures with 0 (grey)
                            inside the mask
        structure           1 - correlation of the sizes of the pictures' gradients: how much of the drawing changed
        target_*            mse, psnr, ssim against the true result

    Args:
        found: (C, H, W), the edit. case: what was asked. judge: for scenes; None for pictures that it does not know.
    """
    values = dict.fromkeys(NAMES, math.nan)
    found = torch.nan_to_num(found.detach().double()).clamp(-1.0, 1.0).cpu()
    original, outside = case.picture.double(), ~case.mask
    if judge is not None and case.attributes is not None:
        right = agreement(judge.read(found[None].float())[0], case.attributes)
        values["success"] = float(all(right[name] for name in case.changed))
        values["kept"] = float(all(same for name, same in right.items() if name not in case.changed))
        values |= {f"read_{name}": float(same) for name, same in right.items()}
    if bool(outside.any()):
        values["background_mse"] = float((found - original).square().mean(0)[outside].mean())
        values["background_psnr"] = psnr(values["background_mse"], 2.0)
        values["background_ssim"] = closeness((found * outside)[None], (original * outside)[None]).ssim[0]
    values["structure"] = 1.0 - correlation(gradient(found), gradient(original))
    if case.truth is not None:
        near = closeness(found[None], case.truth.double()[None])
        values |= {"target_mse": near.mse[0], "target_psnr": near.psnr[0], "target_ssim": near.ssim[0]}
    return values


def psnr(mse: float, width: float) -> float:
    """10 log10(width^2 / mse), infinite for equal pictures."""
    return 10.0 * math.log10(width**2 / mse) if mse > 0.0 else math.inf


def gradient(picture: torch.Tensor) -> torch.Tensor:
    """(H - 1, W - 1): the size of the grey level's gradient of a picture (C, H, W)."""
    grey = picture.mean(0)
    return ((grey[1:, :-1] - grey[:-1, :-1]).square() + (grey[:-1, 1:] - grey[:-1, :-1]).square()).sqrt()


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Pearson's; 1 where both are constant."""
    a, b = one - one.mean(), other - other.mean()
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size > 0.0 else float(float(a.norm()) == float(b.norm()))


def mean_and_error(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, its standard error, and how many values there are; NaN are dropped, infinite ones too."""
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return math.nan, math.nan, 0
    mean = sum(kept) / len(kept)
    spread = sum((value - mean) ** 2 for value in kept) / max(1, len(kept) - 1)
    return mean, math.sqrt(spread / len(kept)), len(kept)


def table(rows: Sequence[dict[str, Any]], keys: Sequence[str], measures: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    """Rows of one edit each, brought together by `keys`: measure -> (mean, standard error, n)."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        {**dict(zip(keys, group)), "n": len(some), **{m: mean_and_error([row.get(m, math.nan) for row in some]) for m in measures}}
        for group, some in groups.items()
    ]


def markdown(groups: Sequence[dict[str, Any]], keys: Sequence[str], measures: Sequence[str] = NAMES) -> str:
    """A table with mean ± standard error in every cell."""

    def cell(value: tuple[float, float, int]) -> str:
        mean, error, n = value
        return "–" if n == 0 else f"{mean:.4g} ± {error:.2g}"

    measures = [m for m in measures if any(group[m][2] for group in groups)]
    lines = [f"| {' | '.join([*keys, 'n', *measures])} |", f"|{'---|' * (len(keys) + 1 + len(measures))}"]
    lines += [f"| {' | '.join([*(str(g[k]) for k in keys), str(g['n']), *(cell(g[m]) for m in measures)])} |" for g in groups]
    return "\n".join(lines) + "\n"
