"""Small networks of digits that differ from the embedded one in width, schedule and what they predict.

They are there to choose formulas on: a formula that is good on one network may be bad on another. `training.train_variants` made
their weights, kept in `analysis/variants` in half precision. "x_0-network" had 900 steps of 48 of MNIST's training digits, seed 0,
the rate falling as for 1600 steps up to step 800 and as for 900 after: a rough network. "v-network" had 1000 steps of 48, seed 0
(`python -m training.train_variants v-network --steps 1000 --batch 48`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vsvf import Schedule
from vsvf.predictors import Predictor
from vsvf.predictors.digits_network import NULL_LABEL, DigitsUNet, alpha_sigma
from vsvf.predictors.guidance import Guided

FOLDER = Path(__file__).with_name("variants")


@dataclass(frozen=True)
class Variant:
    """A network's shape and training target.

    Attributes:
        kind: what its last layer gives, "sample" (x_0), "epsilon" or "v". schedule: "linear", "scaled_linear" or "cosine".
        wide, deep, condition: as in `DigitsUNet`.
    """

    kind: str
    schedule: str
    wide: int
    deep: int
    condition: int

    def noise_schedule(self) -> Schedule:
        schedule: Schedule = getattr(Schedule, self.schedule)()
        return schedule


VARIANTS = {
    "x_0-network": Variant("sample", "linear", 16, 32, 64),
    "v-network": Variant("v", "linear", 24, 48, 64),
}


class VariantUNet(nn.Module):
    """(x, t, label) -> prediction: the body of `DigitsUNet` with its last layer read as the target itself."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.body = DigitsUNet(variant.wide, variant.deep, variant.condition, tokens=2)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """x (B, 1, 28, 28), t (B,) in [0, 999], label (B,) int64, 10 for none."""
        z, time = x.double(), t.double()  # so that what the last layer gives comes back to the last digit of its precision
        alpha, sigma = (s.reshape(-1, 1, 1, 1) for s in alpha_sigma(time))
        last: Tensor = (self.body(z, time, label) - sigma * z) / alpha
        return last.to(x.dtype)


def load(name: str, label: Tensor, guidance: float = 1.0, dtype: torch.dtype = torch.float32) -> Predictor:
    """A trained variant as a predictor.

    Raises:
        ValueError: an unknown name.
    """
    if name not in VARIANTS:
        raise ValueError(f"variant {name!r} is not known; choose one of {', '.join(VARIANTS)}")
    network = VariantUNet(VARIANTS[name])
    weights = load_file(FOLDER / f"{name}.safetensors")
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    network.eval().requires_grad_(False).to(dtype)
    guided = Guided(network, label, torch.tensor([NULL_LABEL]), guidance)
    return Predictor(guided, VARIANTS[name].noise_schedule(), VARIANTS[name].kind, dtype=dtype)
