"""What every training run here shares: a clock, a rate that falls, an average of the weights, checkpoints, a log."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WARMUP_STEPS = 200


class Run:
    """Networks under one name each, moving averages, optimiser, random state and clock; resumable at any moment.

    Args:
        networks: modules by name, trained together.
        rate: AdamW's learning rate at its highest; it warms up over 200 steps and falls to 0 as a half cosine over `minutes`.
        minutes: of training time, all restarts together.
        folder: for ``checkpoint.pt`` and ``log.csv``; resumes from them when they are there.
        decay: of the moving average of the weights.
        save_minutes: between two checkpoints.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        rate: float,
        minutes: float,
        folder: Path,
        seed: int,
        decay: float = 0.999,
        save_minutes: float = 3.0,
    ) -> None:
        self.networks = dict(networks)
        self.average = {name: _copy(net) for name, net in self.networks.items()}
        weights = [w for net in self.networks.values() for w in net.parameters() if w.requires_grad]
        self.optimiser = torch.optim.AdamW(weights, rate, (0.9, 0.99), weight_decay=0.01)
        self.generator = torch.Generator().manual_seed(seed)
        self.rate, self.minutes, self.folder, self.decay, self.save_minutes = rate, minutes, folder, decay, save_minutes
        self.step, self.seconds, self.saved, self.recent = 0, 0.0, 0.0, math.nan
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.is_file():
            self._restore()
        self._clock = time.monotonic()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def progress(self) -> float:
        """From 0 to 1 over the minutes."""
        return self.seconds / 60 / self.minutes

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser from a loss, the average and the clock moved on; a checkpoint when it is time."""
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * (0.5 + 0.5 * math.cos(math.pi * min(self.progress, 1.0)))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([w for group in self.optimiser.param_groups for w in group["params"]], 1.0)
        self.optimiser.step()
        self.step += 1
        value = float(loss.detach())
        self.recent = value if math.isnan(self.recent) else self.recent + 0.02 * (value - self.recent)
        decay = min(self.decay, self.step / (self.step + 10))
        for name, net in self.networks.items():
            for key, weight in net.state_dict().items():
                kept = self.average[name][key]
                if weight.is_floating_point():
                    kept.lerp_(weight, 1 - decay)
                else:
                    kept.copy_(weight)
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        if self.seconds - self.saved > 60 * self.save_minutes:
            self.save()

    def pause(self) -> None:
        """Leaves the time since the last step, spent on measuring, off the clock."""
        self._clock = time.monotonic()

    def log(self, **values: float) -> None:
        """One line of ``log.csv`` and of the output: minutes, step, the smoothed loss and these values."""
        row = {"minutes": self.seconds / 60, "step": self.step, "loss": self.recent, **values}
        path = self.folder / "log.csv"
        line = ",".join(f"{name}={value:.5g}" for name, value in row.items())
        with path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def save(self) -> None:
        """Everything needed to go on, as tensors and plain numbers; the file is never seen half written."""
        self.saved = self.seconds
        state = {
            "networks": {name: net.state_dict() for name, net in self.networks.items()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "clock": [self.step, self.seconds, self.recent],
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _restore(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        for name, net in self.networks.items():
            net.load_state_dict(state["networks"][name])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.recent = state["clock"]
        self.saved = self.seconds

    def averaged(self, name: str, like: nn.Module) -> nn.Module:
        """`like`, a network of the same kind, with the averaged weights, in eval mode."""
        like.load_state_dict(self.average[name])
        return like.eval().requires_grad_(False)


def _copy(network: nn.Module) -> dict[str, Any]:
    return {name: w.detach().clone() for name, w in network.state_dict().items()}
