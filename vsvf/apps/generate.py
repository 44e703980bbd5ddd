"""Many samples, in pieces that any number of processes can share and that no interruption spoils.

Sample i has its own seed, and with it its own noise, whatever the sampler. A network's last bits can depend on the batch a sample
is in, so the batches are fixed too: batch b holds the samples b B … (b + 1) B - 1, and process r of W makes the batches b with
b mod W = r. A picture is a PNG that is there whole or not at all; a batch that is not complete is made again, with the same bits.
The pictures therefore depend on the settings (batch size and threads among them), and not on the number of processes, nor on where
a run was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from vsvf.apps.images import load_image, save_image
from vsvf.apps.models import Model, noise_of_seeds
from vsvf.errors import NonFiniteError
from vsvf.grid import Grid
from vsvf.solve import sample

FAILED = "not-finite"


@dataclass(frozen=True)
class Samples:
    """What is sampled.

    Attributes:
        model, grid, formula, guidance, starter, arithmetic: as in `sample`.
        seeds: one per sample. conditions: one per sample, or None.
        batch: samples per batch. folder: where the pictures go.
    """

    model: Model
    grid: Grid
    formula: str
    seeds: Sequence[int]
    conditions: Sequence[Any] | None
    guidance: float
    batch: int
    folder: Path
    starter: str = "ddim"
    arithmetic: str = "float32"
    device: str | torch.device = "cpu"

    def picture(self, i: int) -> Path:
        """Where sample i is kept."""
        return self.folder / f"{i:06d}.png"

    @property
    def batches(self) -> list[range]:
        """The samples of each batch."""
        return [range(first, min(first + self.batch, len(self.seeds))) for first in range(0, len(self.seeds), self.batch)]

    @property
    def failed(self) -> bool:
        """Whether a march overflowed: there are then no pictures to judge."""
        return (self.folder / FAILED).exists()

    def complete(self, indices: range) -> bool:
        """Whether the pictures of a batch are all there."""
        return all(self.picture(i).exists() for i in indices)

    def make(self, indices: range) -> int:
        """Sample one batch and write its pictures; the number of evaluations."""
        predictor = self.model.predict(None if self.conditions is None else [self.conditions[i] for i in indices], self.guidance)
        noise = noise_of_seeds(self.model, [self.seeds[i] for i in indices], float(self.grid.sigma_bar[-1]), self.device)
        try:
            state = sample(predictor, noise, self.grid, self.formula, starter=self.starter, arithmetic=self.arithmetic, warn=False)
        except NonFiniteError:
            (self.folder / FAILED).touch()
            return 0
        pictures = self.model.codec.decode(state.x)
        for i, picture in zip(indices, pictures):
            save_image(torch.nan_to_num(picture), self.picture(i))
        return state.nfe

    def generate(self, rank: int = 0, world: int = 1, after: Callable[[int], None] | None = None) -> None:
        """Make the batches of process `rank` of `world` that are not complete; `after` is told how many samples are done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for b, indices in enumerate(self.batches):
            if b % world != rank or self.failed or self.complete(indices):
                continue
            self.make(indices)
            if after is not None:
                after(len(indices))

    def pictures(self, size: int = 100) -> Iterator[torch.Tensor]:
        """The pictures (B, C, H, W) in the order of their seeds, as their files hold them."""
        for first in range(0, len(self.seeds), size):
            paths = [self.picture(i) for i in range(first, min(first + size, len(self.seeds)))]
            yield torch.cat([load_image(path, mode=self.model.mode) for path in paths])


@dataclass(frozen=True)
class Processes:
    """This process among those that torchrun started; one of one otherwise."""

    rank: int
    world: int
    local: int

    @classmethod
    def of_environment(cls) -> Processes:
        """From RANK, WORLD_SIZE and LOCAL_RANK; joins the group where there are several."""
        rank, world, local = (int(os.environ.get(name, default)) for name, default in zip(NAMES, ("0", "1", "0")))
        if world > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
        return cls(rank, world, local)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            torch.distributed.barrier()

    def leave(self) -> None:
        """End the group."""
        if self.world > 1:
            torch.distributed.destroy_process_group()


NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
