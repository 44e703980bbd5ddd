"""The edits of the study of editing: each made and scored once, and the tables that compare them.

An edit is its nodes, their number and `Settings`. Its scores for a case are a line of OUT/editing.jsonl; a later run of the same
weights goes on from there, and so may a second process that takes other edits (`part`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

import vsvf
from analysis import progress
from analysis.common import save_figure, save_table
from analysis.guided import NODES as guided_nodes
from vsvf.apps.edit import Settings
from vsvf.apps.edit.bench import attempt, floor
from vsvf.apps.edit.cases import KINDS, Case
from vsvf.apps.edit.scores import mean_and_error
from vsvf.apps.models import Model
from vsvf.scenes.judge import Judge

NODES = {name: guided_nodes[name] for name in ("leading", "log-SNR")}
STEPS, GUIDANCE, STRONG, STRONGER = 50, 3.0, 5.0, 7.5
SAMPLERS = ("ddim", "edict(0.93)", "bdia(1)", "belm(2)", "stable_belm(3)")
MORE = ("mccallum_foster(0.999)", "ees25")
STEADY = vsvf.formulas.pec_belm().name  # under strong guidance
METHODS = ("resample", "p2p", "direct", "negative_prompt", "masactrl")
PUBLISHED = ("p2p", "negative_prompt", "null_text")  # with DDIM on leading timesteps, as their papers have them
LARGE = KINDS.index("several")
BATCH = 8  # pictures at once


@dataclass(frozen=True)
class Edit:
    """How a picture is edited.

    Attributes:
        nodes: a name in `NODES`. settings: of `vsvf.apps.edit.edit`. steps: of both ways.
    """

    nodes: str
    settings: Settings
    steps: int = STEPS

    @property
    def key(self) -> str:
        """Nodes, steps and what differs from the default settings: for the file."""
        plain = Settings()
        told = [f"{f.name}={getattr(self.settings, f.name)!r}" for f in fields(Settings)]
        usual = [f"{f.name}={getattr(plain, f.name)!r}" for f in fields(Settings)]
        return ", ".join([self.nodes, f"N={self.steps}", *(now for now, then in zip(told, usual) if now != then)])

    def grid(self, model: Model) -> vsvf.Grid:
        """Its nodes."""
        return vsvf.Grid.from_schedule(model.schedule, self.steps, **NODES[self.nodes])


BASELINE = Edit("leading", Settings("direct", "ddim", guidance=GUIDANCE))


def by(nodes: str, method: str, formula: str, guidance: float = GUIDANCE, **more: Any) -> Edit:
    """An edit in fewer words; "recommended" is what `vsvf.formulas.recommended` says of the nodes."""
    steps = more.pop("steps", STEPS)
    if formula == "recommended":
        formula = vsvf.formulas.recommended(vsvf.Grid.from_schedule(vsvf.Schedule.scaled_linear(), steps, **NODES[nodes])).name
    return Edit(nodes, Settings(method, formula, guidance=guidance, **more), steps)


def methods() -> list[Edit]:
    """Methods times samplers at the usual guidance, on log-SNR nodes; and on leading timesteps what there is to compare."""
    found = [by("log-SNR", method, name) for method in METHODS for name in SAMPLERS]
    found += [by("log-SNR", "direct", name, blend_words=("auto",)) for name in SAMPLERS]
    found += [by("log-SNR", "direct", name) for name in (*MORE, "recommended")]
    found += [by("leading", method, name) for method in ("resample", "direct") for name in SAMPLERS]
    found += [by("leading", "direct", name) for name in (*MORE, "recommended")]
    return found + [by("leading", method, "ddim") for method in PUBLISHED]


def label(one: Edit) -> str:
    """The method of an edit of `methods`, which a local blend makes another."""
    return f"{one.settings.method}, local blend" if one.settings.blend_words else one.settings.method


def guided() -> list[Edit]:
    """Direct Inversion under stronger guidance."""
    names = ("ddim", "belm(2)", "stable_belm(3)", "recommended", STEADY)
    return [by(nodes, "direct", name, w) for w in (GUIDANCE, STRONG, STRONGER) for nodes in NODES for name in names]


def varied() -> list[Edit]:
    """Fewer steps and more, later beginnings, more or less attention taken over, local blends."""
    names, chosen = ("ddim", "belm(2)", "stable_belm(3)"), ("log-SNR", "direct", "stable_belm(3)")
    found = [by(nodes, "direct", name, steps=n) for n in (10, 20) for nodes in NODES for name in names]
    found += [by("leading", "direct", "ddim", steps=200), by(*chosen, steps=200)]
    found += [by(*chosen, guidance_up=up) for up in (2.0, 3.0)]
    found += [by(*chosen, strength=strength) for strength in (0.9, 0.8, 0.7)]
    found += [by(*chosen, cross_until=cross, self_until=own) for cross, own in ((0.2, 0.4), (0.6, 0.6), (0.8, 0.8))]
    guided, blend, longer = ("log-SNR", "p2p", "stable_belm(3)"), {"blend_words": ("auto",)}, {"cross_until": 0.6}
    found += [by(*guided, **longer), by(*guided, **blend), by(*guided, **longer, **blend), by(*chosen, **longer, **blend)]
    return found + [by("leading", method, "ddim", **longer, **blend) for method in ("p2p", "direct")]


def confirmed() -> list[Edit]:
    """What was said of the scenes that settings were chosen on, for scenes that had no part in it."""
    found = [BASELINE, by("leading", "resample", "belm(2)"), by("leading", "direct", "belm(2)")]
    found += [by("log-SNR", "direct", name) for name in ("ddim", "belm(2)", "stable_belm(3)")]
    found += [by("log-SNR", "p2p", "stable_belm(3)", blend_words=("auto",))]
    found += [by("leading", "p2p", "ddim", cross_until=0.6, blend_words=("auto",))]
    found += [by(nodes, "direct", name, STRONG) for nodes in NODES for name in ("ddim", "belm(2)", "stable_belm(3)")]
    return found + [by("leading", "direct", name, w) for w, name in ((STRONG, STEADY), (STRONGER, "ddim"), (STRONGER, STEADY))]


def large() -> list[Edit]:
    """Direct Inversion for edits that change several things at once, under strong guidance."""
    return [by(nodes, "direct", name, STRONG) for nodes in NODES for name in (*SAMPLERS, *MORE, "recommended", STEADY)]


def remedies() -> list[tuple[str, Edit]]:
    """One change at a time under strong guidance, from the report's edit to the recommended one."""
    blend = {"blend_words": ("auto",)}
    return [
        ("O-BELM alone, DDIM starter", by("leading", "resample", "belm(2)", STRONG, starter="ddim")),
        ("O-BELM alone, Heun starter", by("leading", "resample", "belm(2)", STRONG)),
        ("O-BELM alone, x_N alone kept", by("leading", "resample", "belm(2)", STRONG, start="starter")),
        ("O-BELM, Direct Inversion", by("leading", "direct", "belm(2)", STRONG)),
        ("… the target's states shifted", by("leading", "direct", "belm(2)", STRONG, start="shifted")),
        ("… the source pinned to its stored way", by("leading", "direct", "belm(2)", STRONG, source="pinned")),
        ("… local blend on the newest state", by("leading", "direct", "belm(2)", STRONG, scope="newest", **blend)),
        ("… local blend on all states", by("leading", "direct", "belm(2)", STRONG, **blend)),
        ("stable_belm(2), Direct Inversion", by("leading", "direct", "stable_belm(2)", STRONG)),
        ("stable_belm(3), Direct Inversion", by("leading", "direct", "stable_belm(3)", STRONG)),
        ("recommended there, Direct Inversion", by("leading", "direct", "recommended", STRONG)),
        ("pec_belm, Direct Inversion", by("leading", "direct", STEADY, STRONG)),
        ("EES(2,5), Direct Inversion, pinned", by("leading", "direct", "ees25", STRONG)),
        ("DDIM, Direct Inversion, pinned", by("leading", "direct", "ddim", STRONG)),
        ("log-SNR nodes: O-BELM alone", by("log-SNR", "resample", "belm(2)", STRONG)),
        ("log-SNR nodes: O-BELM, Direct Inversion", by("log-SNR", "direct", "belm(2)", STRONG)),
        ("log-SNR nodes: stable_belm(3), Direct Inversion", by("log-SNR", "direct", "stable_belm(3)", STRONG)),
        ("… local blend on all states", by("log-SNR", "direct", "stable_belm(3)", STRONG, **blend)),
        ("log-SNR nodes: DDIM, Direct Inversion, pinned", by("log-SNR", "direct", "ddim", STRONG)),
    ]


def unique(edits: Iterable[Edit]) -> list[Edit]:
    """Each once, in order."""
    return list({one.key: one for one in edits}.values())


class Scored:
    """Scores of edits, each found once.

    Args:
        out: the folder of editing.jsonl. model, judge: what edits and what reads.
    """

    def __init__(self, out: Path, model: Model, judge: Judge) -> None:
        self.file, self.model, self.judge = out / "editing.jsonl", model, judge
        self.known: dict[tuple[str, str], dict[str, Any]] = {}
        if self.file.exists():
            for row in map(json.loads, self.file.read_text().splitlines()):
                if row.get("model") == model.fingerprint:
                    self.known[row["edit"], row["case"]] = row

    def __call__(self, one: Edit, case: Case) -> dict[str, Any]:
        """The scores of `vsvf.apps.edit.scores`, the calls of the network, and the largest latent against the picture's."""
        if (one.key, case.name) not in self.known:
            self.made(one, [case])
        return self.known[one.key, case.name]

    def made(self, one: Edit, cases: Sequence[Case]) -> list[torch.Tensor]:
        """Make the edit of all cases in one batch, and keep the scores; the pictures, grey ones where a march overflowed."""
        found = attempt(self.model, cases, one.grid(self.model), one.settings, self.judge)
        for row, _ in found:
            row |= {"edit": one.key, "model": self.model.fingerprint, "nfe": row["nfe_up"] + row["nfe_down"] + row["extra"]}
            self.known[one.key, row["case"]] = row
        with self.file.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row, _ in found)
        return [picture for _, picture in found]

    def all(self, edits: Iterable[Edit], cases: Sequence[Case], what: str) -> None:
        """Find what is missing, with a progress display."""
        parts = [(one, cases[i : i + BATCH]) for one in unique(edits) for i in range(0, len(cases), BATCH)]
        jobs = [(one, part) for one, part in parts if any((one.key, case.name) not in self.known for case in part)]
        for one, part in progress.steps(jobs, what):
            self.made(one, part)


HEADER = ["n", "NFE", "success", "kept", "background MSE", "against", "structure", "target MSE", "largest latent"]


def cells(scored: Scored, one: Edit, cases: Sequence[Case]) -> list[Any]:
    """What `HEADER` names: means and their standard errors; the background also case by case against `BASELINE`'s."""
    rows, usual = [scored(one, case) for case in cases], [scored(BASELINE, case) for case in cases]
    apart = [row["background_mse"] - other["background_mse"] for row, other in zip(rows, usual)]
    measures = {key: [row[key] for row in rows] for key in ("success", "kept", "background_mse", "structure", "target_mse")}
    told = {key: "{:.3g} ± {:.1g}".format(*mean_and_error(values)) for key, values in measures.items()}
    difference = "" if one == BASELINE else "{:+.3f} ± {:.3f}".format(*mean_and_error(apart))
    largest = max(math.inf if row["largest"] is None else row["largest"] for row in rows)
    return [
        len(rows), max(row["nfe"] for row in rows), told["success"], told["kept"], told["background_mse"], difference,
        told["structure"], told["target_mse"], f"{largest:.2g}",
    ]  # fmt: skip


def told_name(one: Edit) -> list[Any]:
    """Nodes, method, sampler."""
    return [one.nodes, one.settings.method, one.settings.formula]


def tables(out: Path, scored: Scored, cases: Sequence[Case], more: Sequence[Case]) -> None:
    """Write all comparisons; what they need is found first.

    Args:
        cases: of every kind in turn. more: of the large kind, those of `cases` among them.
    """
    n = f"{len(cases)} scenes, {STEPS} steps"
    alone = "{:.2g} ± {:.1g}".format(*mean_and_error([floor(scored.model, case, None)["background_mse"] for case in cases]))
    save_table(
        out, "editing_methods",
        f"Methods and samplers, {n}, guidance {GUIDANCE:g}; mean ± standard error. Against: the background's difference to that of "
        f"DDIM with Direct Inversion on leading timesteps at guidance 3, case by case. The autoencoder alone: {alone}.",
        ["nodes", "method", "sampler", *HEADER],
        [[one.nodes, label(one), one.settings.formula, *cells(scored, one, cases)] for one in methods()],
    )  # fmt: skip
    save_table(
        out, "editing_guidance", f"Direct Inversion under stronger guidance, {n}.",
        ["guidance", "nodes", "method", "sampler", *HEADER],
        [[one.settings.guidance, *told_name(one), *cells(scored, one, cases)] for one in guided()],
    )  # fmt: skip
    save_table(
        out, "editing_varied", f"Other numbers of steps, later beginnings, more or less attention taken over; {len(cases)} scenes.",
        ["N", "guidance up", "strength", "cross until", "self until", "blend", "nodes", "method", "sampler", *HEADER],
        [
            [one.steps, one.settings.guidance_up, one.settings.strength, one.settings.cross_until, one.settings.self_until,
             "yes" if one.settings.blend_words else "", *told_name(one), *cells(scored, one, cases)] for one in varied()
        ],
    )  # fmt: skip
    save_table(
        out, "editing_large",
        f"Digit, colour and style at once, Direct Inversion at guidance {STRONG:g}, {len(more)} scenes, {STEPS} steps.",
        ["nodes", "method", "sampler", *HEADER], [[*told_name(one), *cells(scored, one, more)] for one in large()],
    )  # fmt: skip
    save_table(
        out, "editing_remedies", f"From the report's edit to others, {n}, guidance {STRONG:g}.", ["edit", *HEADER],
        [[name, *cells(scored, one, cases)] for name, one in remedies()],
    )  # fmt: skip
    front(out, scored, cases)
    pictures(out, scored, cases[:6])


def confirmation(out: Path, scored: Scored, cases: Sequence[Case]) -> None:
    """Write the edits of `confirmed` for these cases."""
    save_table(
        out, "editing_confirmed", f"{len(cases)} scenes that no setting was chosen on, {STEPS} steps.",
        ["guidance", "nodes", "method", "sampler", *HEADER],
        [[one.settings.guidance, *told_name(one), *cells(scored, one, cases)] for one in confirmed()],
    )  # fmt: skip


def front(out: Path, scored: Scored, cases: Sequence[Case]) -> None:
    """Success against the background."""
    figure, axis = plt.subplots(figsize=(6.5, 4.2), constrained_layout=True)
    for n, nodes in enumerate(NODES):
        for marker, method in zip("o^sDvXP", dict.fromkeys(map(label, methods()))):
            some = [one for one in methods() if one.nodes == nodes and label(one) == method]
            if some:
                rows = [[scored(one, case) for case in cases] for one in some]
                x = [mean_and_error([row["background_mse"] for row in of])[0] for of in rows]
                y = [mean_and_error([row["success"] * row["kept"] for row in of])[0] for of in rows]
                axis.plot(x, y, marker, color=f"C{n}", label=f"{method}, {nodes}", alpha=0.8)
    axis.set(xlabel="background MSE", ylabel="edited as asked, all else kept (judge)", xscale="log")
    axis.legend(fontsize=7)
    save_figure(out, "editing_front", f"A point for each sampler, {len(cases)} scenes, guidance {GUIDANCE:g}.", figure)


OVERVIEW = (
    "picture", "O-BELM alone, Heun starter", "O-BELM, Direct Inversion", "stable_belm(3), Direct Inversion",
    "pec_belm, Direct Inversion", "DDIM, Direct Inversion, pinned", "log-SNR nodes: O-BELM, Direct Inversion",
    "log-SNR nodes: stable_belm(3), Direct Inversion", "what was asked for",
)  # fmt: skip


def pictures(out: Path, scored: Scored, cases: Sequence[Case]) -> None:
    """The edits of `remedies`, row by row; and some of these rows."""
    rows = {"picture": [case.picture.double() for case in cases]}
    for name, one in progress.steps(remedies(), "pictures"):
        rows[name if name not in rows else f"{name} "] = scored.made(one, cases)
    rows["what was asked for"] = [case.truth.double() for case in cases if case.truth is not None]
    caption = f"The first scenes under guidance {STRONG:g}"
    save_figure(out, "editing_pictures", f"{caption}: the edits of the table, row by row.", _sheet(rows, cases))
    some = {name: rows[name] for name in OVERVIEW}
    save_figure(out, "editing_overview", f"{caption}; on leading timesteps where nothing is said.", _sheet(some, cases))


def _sheet(rows: dict[str, list[torch.Tensor]], cases: Sequence[Case]) -> Figure:
    figure, axes = plt.subplots(len(rows), len(cases), figsize=(len(cases) + 2.6, len(rows)), squeeze=False)
    figure.subplots_adjust(hspace=0.05, wspace=0.05)
    for line, (name, images) in zip(axes, rows.items()):
        for axis, image in zip(line, images):
            axis.imshow(((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        label = name.strip().replace(", ", ",\n").replace(": ", ":\n")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
    for axis, case in zip(axes[0], cases):
        axis.set_title(case.kind, fontsize=8)
    return figure
