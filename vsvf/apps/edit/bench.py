"""The benchmark of editing: cases times methods, samplers, guidance and strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from vsvf.apps.edit.cases import Case
from vsvf.apps.edit.editing import edit
from vsvf.apps.edit.learned import Learned
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


def attempt(
    model: Model, cases: Sequence[Case], grid: Grid, settings: Settings, judge: Judge | None
) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """For every case: calls of the network, the largest latent over the picture's, `scores`; and the edited picture (C, H, W).

    All cases go through the network together; one by one where the method learns from the picture (null-text), or where one of them
    overflows: that one gives a grey picture, and says so in its row.
    """
    if settings.method == "null_text" and len(cases) > 1:
        return [found for case in cases for found in attempt(model, [case], grid, settings, judge)]
    x = torch.cat([encoded(model, case) for case in cases])
    try:
        edited = edit(model, x, [case.source for case in cases], [case.target for case in cases], grid, settings)
    except (NonFiniteError, FixedPointOverflowError):
        if len(cases) > 1:
            return [found for case in cases for found in attempt(model, [case], grid, settings, judge)]
        grey = torch.zeros_like(cases[0].picture.double())
        row: dict[str, Any] = {"case": cases[0].name, "kind": cases[0].kind, "nfe_up": 0, "nfe_down": 0, "extra": 0}
        row |= {"overflow": True, "source_error": None, "largest": None}
        return [(row | scores(grey, cases[0], judge), grey)]
    rows = []
    for n, (case, picture) in enumerate(zip(cases, model.codec.decode(edited.x).double().cpu())):
        back = None if edited.source is None else float((edited.source[n].double() - x[n]).abs().max())
        row = {"case": case.name, "kind": case.kind, "nfe_up": edited.nfe_up, "nfe_down": edited.nfe_down, "extra": edited.extra}
        row |= {"overflow": False, "source_error": back, "largest": float(edited.x[n].abs().max() / x[n].abs().max())}
        rows.append((row | scores(picture, case, judge), picture))
    return rows


def edits_of(
    model: Model,
    cases: Sequence[Case],
    configuration: Configuration,
    grid: Grid,
    base: Settings,
    judge: Judge | None,
    learned: Learned | None = None,
) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """A row of measures, and the picture, of `attempt` for every case; those with the same blend words go together."""
    chosen = {key: value for key, value in asdict(configuration).items() if key != "blend"}
    up = 1.0 if configuration.method == "null_text" else base.guidance_up
    found: dict[str, tuple[dict[str, Any], torch.Tensor]] = {}
    for words in dict.fromkeys(case.words if configuration.blend else () for case in cases):
        some = [case for case in cases if not configuration.blend or case.words == words]
        settings = replace(base, **chosen, blend_words=words, guidance_up=up)
        for case, (row, picture) in zip(some, attempt(model, some, grid, settings, judge)):
            found[case.name] = (row | asdict(configuration) | measures(picture, case, learned), picture)
    return [found[case.name] for case in cases]


def floor(model: Model, case: Case, judge: Judge | None, learned: Learned | None = None) -> dict[str, Any]:
    """The same measures of the picture itself, after the autoencoder: no edit leaves the background better."""
    picture = model.codec.decode(encoded(model, case))[0].double().cpu()
    row = {"case": case.name, "kind": case.kind, "method": "none", "formula": "-", "guidance": 1.0, "strength": 0.0, "blend": False}
    row |= {"nfe_up": 0, "nfe_down": 0, "extra": 0, "overflow": False, "source_error": None, "largest": 1.0}
    return row | scores(picture, case, judge) | measures(picture, case, learned)
