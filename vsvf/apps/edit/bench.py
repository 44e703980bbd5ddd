"""The benchmark of editing: cases times methods, samplers, guidance and strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from vsvf.apps.edit.cases import Case
from vsvf.apps.edit.editing import edit
from vsvf.apps.edit.methods import Settings
from vsvf.apps.edit.pie import measures
from vsvf.apps.edit.scores import scores
from vsvf.apps.models import Model
from vsvf.errors import FixedPointOverflowError, NonFiniteError
from vsvf.grid import Grid
from vsvf.scenes.judge import Judge


@dataclass(frozen=True)
class Configuration:
    """One row of the table.

    Attributes:
        method, formula, guidance, strength: as in `Settings`. blend: whether a local blend follows the changed words.
    """

    method: str
    formula: str
    guidance: float
    strength: float
    blend: bool = False

    @property
    def label(self) -> str:
        """For file names."""
        return f"{self.method}-{self.formula}-{self.guidance:g}-{self.strength:g}{'-blend' if self.blend else ''}"


def configurations(
    methods: Sequence[str], formulas: Sequence[str], guidances: Sequence[float], strengths: Sequence[float], blends: Sequence[bool]
) -> list[Configuration]:
    """All that go together: null-text inversion is DDIM's alone."""
    return [
        Configuration(method, formula, guidance, strength, blend)
        for method in methods
        for formula in formulas
        for guidance in guidances
        for strength in strengths
        for blend in blends
        if method != "null_text" or formula == "ddim"
    ]


def encoded(model: Model, case: Case) -> torch.Tensor:
    """x_0 (1, …) of a case's picture, float64."""
    return model.codec.encode(case.picture[None].double()).double()


def attempt(model: Model, case: Case, grid: Grid, settings: Settings, judge: Judge | None) -> tuple[dict[str, Any], torch.Tensor]:
    """An edit's calls of the network, its largest latent over the picture's and its `scores`; and the picture (C, H, W). A march
    that overflows gives a grey picture, and says so in the row."""
    x = encoded(model, case)
    row: dict[str, Any] = {"case": case.name, "kind": case.kind}
    try:
        edited = edit(model, x, [case.source], [case.target], grid, settings)
        picture = model.codec.decode(edited.x)[0].double().cpu()
        row |= {"nfe_up": edited.nfe_up, "nfe_down": edited.nfe_down, "extra": edited.extra, "overflow": False}
        row |= {"source_error": edited.source_error, "largest": float(edited.x.abs().max() / x.abs().max())}
    except (NonFiniteError, FixedPointOverflowError):
        picture = torch.zeros_like(case.picture.double())
        row |= {"nfe_up": 0, "nfe_down": 0, "extra": 0, "overflow": True, "source_error": None, "largest": None}
    return row | scores(picture, case, judge), picture


def one_edit(
    model: Model, case: Case, configuration: Configuration, grid: Grid, base: Settings, judge: Judge | None
) -> tuple[dict[str, Any], torch.Tensor]:
    """A row of measures, and the picture, of `attempt`."""
    words = case.words if configuration.blend else ()
    chosen = {key: value for key, value in asdict(configuration).items() if key != "blend"}
    up = 1.0 if configuration.method == "null_text" else base.guidance_up
    row, picture = attempt(model, case, grid, replace(base, **chosen, blend_words=words, guidance_up=up), judge)
    return row | asdict(configuration) | measures(picture, case), picture


def floor(model: Model, case: Case, judge: Judge | None) -> dict[str, Any]:
    """The same measures of the picture itself, after the autoencoder: no edit leaves the background better."""
    picture = model.codec.decode(encoded(model, case))[0].double().cpu()
    row = {"case": case.name, "kind": case.kind, "method": "none", "formula": "-", "guidance": 1.0, "strength": 0.0, "blend": False}
    row |= {"nfe_up": 0, "nfe_down": 0, "extra": 0, "overflow": False, "source_error": None, "largest": 1.0}
    return row | scores(picture, case, judge) | measures(picture, case)
