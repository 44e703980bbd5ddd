"""Pictures to work on: a model's own, single files, or a folder, in fixed batches; what cannot be read is reported and left out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vsvf.apps.budget import unrounded
from vsvf.apps.captions import read_captions
from vsvf.apps.images import image_files, read_image
from vsvf.apps.models import Model


@dataclass(frozen=True)
class Batch:
    """Pictures (B, C, H, W) float64 in [-1, 1], their names, conditions (None for none), what was changed (name to phrases)."""

    pictures: torch.Tensor
    names: list[str]
    conditions: list[Any] | None
    changes: dict[str, list[str]]
    problems: list[str]


class Inputs:
    """The pictures of a run, in a fixed order.

    Args:
        model: gives the pictures' shape, and its own pictures if `paths` is empty.
        paths: image files and folders (searched through).
        condition: for every picture; None takes the model's own labels, or no condition.
        captions: a file of captions (see `read_captions`) instead.
        count: the first so many only.
        fit, background: as in `load_image`.

    Attributes:
        names: of all pictures. problems: one sentence for everything that could not be used, so far.
        digest: SHA-256 of the pictures' names and contents and of their conditions.

    Raises:
        ValueError, OSError: no pictures, captions that do not fit, a folder without images.
    """

    def __init__(
        self,
        model: Model,
        paths: Sequence[str | Path] = (),
        *,
        condition: Any | None = None,
        captions: str | Path | None = None,
        count: int | None = None,
        fit: str = "crop",
        background: float = 0.0,
    ) -> None:
        self.model, self.fit, self.background = model, fit, background
        self.problems: list[str] = []
        self.conditions: list[Any] | None
        self.files: list[Path] | None = None
        digest = hashlib.sha256()
        if captions is not None and not paths:
            raise ValueError("captions belong to image files: give a folder or files")
        if paths:
            files = [found for path in map(Path, paths) for found in (image_files(path) if path.is_dir() else [path])]
            missing = next((path for path in files if not path.exists()), None)
            if missing is not None:
                raise FileNotFoundError(f"no such file: {missing}")
            self.conditions = None if condition is None else [condition] * len(files)
            if captions is not None:
                pairs, self.problems = read_captions(captions).of(files)
                if not pairs:
                    raise ValueError(f"no caption of {captions} belongs to any of the {len(files)} images")
                files, self.conditions = [path for path, _ in pairs], [text for _, text in pairs]
            self.files = files[:count]
            self.names = [str(path) for path in self.files]
            for path in self.files:
                digest.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        else:
            if model.own is None:
                raise ValueError(f"{model.name} has no pictures of its own: give image files or a folder")
            pictures, own = model.own()
            spread = (
                range(len(pictures)) if count is None else [n * len(pictures) // count for n in range(min(count, len(pictures)))]
            )
            self.pictures = pictures[list(spread)]
            self.conditions = [own[n] for n in spread] if condition is None else [condition] * len(spread)
            self.names = [f"{model.name}-{n:04d}" for n in spread]
            digest.update(self.pictures.numpy().tobytes())
        if self.conditions is not None:
            self.conditions = self.conditions[: len(self.names)]
        digest.update(repr(self.conditions).encode())
        self.digest = digest.hexdigest()[:16]

    def batches(self, size: int) -> list[range]:
        """The indices of the pictures, in batches."""
        return [range(first, min(first + size, len(self.names))) for first in range(0, len(self.names), size)]

    def load(self, indices: range) -> Batch | None:
        """The pictures of a batch that can be read; None if there is none."""
        conditions = None if self.conditions is None else [self.conditions[n] for n in indices]
        if self.files is None:
            return Batch(self.pictures[indices.start : indices.stop], [self.names[n] for n in indices], conditions, {}, [])
        height, width = self.model.pictures[1:]
        read: list[torch.Tensor] = []
        kept: list[int] = []
        changes: dict[str, list[str]] = {}
        problems: list[str] = []
        for n in indices:
            try:
                image, notes = read_image(self.files[n], (height, width), self.model.mode, background=self.background, fit=self.fit)
            except (ValueError, OSError) as error:
                problems.append(str(error))
                continue
            read.append(unrounded(image))
            kept.append(n)
            if notes:
                changes[self.names[n]] = notes
        if not read:
            self.problems += problems
            return None
        chosen = None if self.conditions is None else [self.conditions[n] for n in kept]
        self.problems += problems
        return Batch(torch.cat(read), [self.names[n] for n in kept], chosen, changes, problems)
