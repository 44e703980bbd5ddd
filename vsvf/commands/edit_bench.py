"""`vsvf edit-bench`: edits of many pictures whose right result is known, as tables with error bars."""

from __future__ import annotations

import argparse
import csv
import io
from functools import partial
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer
from vsvf.commands.applications import (
    add_model_arguments,
    add_run_arguments,
    grid_of,
    make_model,
    model_settings,
    repeatable,
    say_resumed,
)
from vsvf.commands.common import FORMULAS, UsageError, finite, positive
from vsvf.commands.edit import SHARED, add_method_arguments, settings_of
from vsvf.commands.progress import Progress

if TYPE_CHECKING:
    from vsvf.apps.edit.bench import Configuration
    from vsvf.apps.edit.cases import Case
    from vsvf.apps.edit.learned import Learned
    from vsvf.apps.models import Model
    from vsvf.apps.run_folder import RunFolder

DESCRIPTION = """\
Edit many pictures with many methods, and score each edit: whether the judge reads what was asked for, what happened to the pixels
that should have stayed, how near the edit comes to the true result. Pictures are rendered scenes, or PIE-Bench from a folder."""

EXAMPLES = f"""\
examples:
  vsvf edit-bench --count 8 --steps 20                                      one scene of each kind of edit
  vsvf edit-bench --method p2p direct --formula ddim 'belm(2)' 'stable_belm(3)' --guidance 2 5 --blend off on
  vsvf edit-bench --pie PIE-Bench_v1 --model my-stable-diffusion --formula ddim --guidance 7.5 --spacing leading \
                  --clip clip-vit-large-patch14 --dino dino-vitb8 --lpips   all of PIE-Bench's measures

what it writes into its folder:
  tables.md       mean ± standard error for each method, and for each kind of edit
  cases.csv       every edit
  sheet.png       the first pictures: source, true result, then one edit per configuration
  run.json        versions, options, the model's fingerprint

kinds of edits of scenes: digit, colour, background, texture, add, delete, style, several (digit, its colour and its style).
The row "none" is the picture after the autoencoder: no edit leaves the background better. Killed at any moment, the same command
goes on where it stopped.

{FORMULAS}"""

KEYS = (
    "count", "batch", "steps", "method", "formula", "guidance", "strength", "blend", "pie", "clip", "dino", "lpips", "sheet",
    *SHARED,
)  # fmt: skip
BLENDS = {"off": False, "on": True}
CONFIGURATION = ("method", "formula", "guidance", "strength", "blend")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf edit-bench`."""
    parser.add_argument("--pie", metavar="FOLDER", help="PIE-Bench in its published format, instead of scenes")
    parser.add_argument("--clip", metavar="FOLDER", help="a CLIP model, as transformers writes it: likeness to the prompt")
    parser.add_argument("--dino", metavar="FOLDER", help="a DINO ViT likewise: structure distance")
    parser.add_argument("--lpips", action="store_true", help="LPIPS of the background (needs torchvision and its weights)")
    parser.add_argument("--count", type=positive, metavar="N", help="so many pictures (default 304 scenes, or all of a folder)")
    parser.add_argument("--method", nargs="+", default=["p2p", "direct"], metavar="NAME", help="(default p2p direct)")
    parser.add_argument(
        "--formula", nargs="+", default=["ddim", "belm(2)", "stable_belm(3)"], metavar="NAME", help="as in vsvf edit"
    )
    parser.add_argument("--guidance", nargs="+", type=finite, default=[3.0], metavar="W", help="(default 3)")
    parser.add_argument("--strength", nargs="+", type=finite, default=[1.0], metavar="S", help="(default 1)")
    parser.add_argument("--blend", nargs="+", choices=tuple(BLENDS), default=["off"], help="local blend on the changed words")
    parser.add_argument("--steps", type=positive, default=50, metavar="N", help="(default 50)")
    parser.add_argument("--batch", type=positive, metavar="B", help="pictures at once (default 8, of more than 64 x 64 one)")
    parser.add_argument("--sheet", type=positive, default=8, metavar="N", help="how many pictures the sheet shows (default 8)")
    add_method_arguments(parser)
    add_model_arguments(parser, "", model="scenes", conditions=False, spacing="log_snr")
    add_run_arguments(parser, "editing")


def run(args: argparse.Namespace) -> Answer:
    """Measure and write."""
    from vsvf.apps.edit.bench import configurations
    from vsvf.apps.edit.methods import EDIT_METHODS
    from vsvf.apps.edit.pie import BACKGROUND
    from vsvf.apps.edit.scores import NAMES, markdown, table
    from vsvf.apps.run_folder import RunFolder

    unknown = [name for name in args.method if name not in EDIT_METHODS]
    if unknown:
        raise UsageError(f"--method {unknown[0]!r} is not known; choose from {', '.join(EDIT_METHODS)}")
    chosen = configurations(args.method, args.formula, args.guidance, args.strength, [BLENDS[name] for name in args.blend])
    if not chosen:
        raise UsageError("no method goes with any formula: null_text needs --formula ddim")
    for configuration in chosen:  # refused before the work
        plain = {key: getattr(configuration, key) for key in ("method", "formula", "guidance", "strength")}
        up = {"guidance_up": 1.0} if configuration.method == "null_text" else {}
        settings_of(argparse.Namespace(**{**vars(args), **up}), **plain)
    model = make_model(args)
    if model.condition != "prompt":
        raise UsageError(f"--model must take prompts, {model.name} takes {'none' if model.condition == 'none' else 'labels'}")
    args.batch = args.batch or (8 if max(model.pictures[1:]) <= 64 else 1)
    cases, learned = _cases(args, model), _learned(args)
    settings = {**model_settings(args, model), **{key: getattr(args, key) for key in KEYS}, "cases": [case.name for case in cases]}
    with RunFolder(args.out, "edit-bench", repeatable(args), settings, args.force) as folder:
        say_resumed(folder)
        rows = _measure(args, model, folder, cases, chosen, learned)
        measures = (*NAMES, *(BACKGROUND if args.pie else ()), *([] if learned is None else learned.names))
        whole, parts = table(rows, CONFIGURATION, measures), table(rows, ("kind", *CONFIGURATION), measures)
        text = markdown(whole, CONFIGURATION, measures)
        folder.write("tables.md", (text + "\n" + markdown(parts, ("kind", *CONFIGURATION), measures)).encode())
        folder.write("cases.csv", _csv(rows))
        _sheet(folder, cases[: args.sheet], chosen)
        folder.finish()
        files = [folder / name for name in ("tables.md", "cases.csv", "sheet.png")]
        document = {"command": "edit-bench", "folder": folder.path, **settings, "table": whole, "files": files}
        return Answer(document, f"{text}\nwrote {folder.path}: {', '.join(path.name for path in files)}", args.json)


def _cases(args: argparse.Namespace, model: Model) -> list[Case]:
    if args.pie is not None:
        from vsvf.apps.edit.pie import read_pie

        return read_pie(args.pie, (model.pictures[1], model.pictures[2]))[: args.count]
    from vsvf.apps.edit.cases import STANDARD, scene_cases
    from vsvf.scenes import load_glyphs

    if model.pictures != (3, 64, 64):
        raise UsageError(f"scenes are pictures of 64 x 64, those of {model.name} are {model.pictures}: give --pie")
    return scene_cases(range(args.count or STANDARD), load_glyphs())


def _learned(args: argparse.Namespace) -> Learned | None:
    if args.clip is None and args.dino is None and not args.lpips:
        return None
    from vsvf.apps.edit.learned import Learned

    try:
        return Learned(args.clip, args.dino, args.lpips, args.device)
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(str(error)) from error


def _measure(
    args: argparse.Namespace,
    model: Model,
    folder: RunFolder,
    cases: list[Case],
    chosen: list[Configuration],
    learned: Learned | None,
) -> list[dict[str, Any]]:
    """All rows; what an earlier run found is read."""
    import torch

    from vsvf.apps.edit.bench import edits_of, floor
    from vsvf.apps.images import save_image
    from vsvf.apps.run_folder import file_name
    from vsvf.scenes.judge import load_judge

    judge, base, grid = (None if args.pie else load_judge()), settings_of(args), grid_of(args, model, args.steps)
    rows = [folder.unit(f"units/{case.name}-none.json", partial(floor, model, case, judge, learned)) for case in cases]
    jobs = [(first, configuration) for first in range(0, len(cases), args.batch) for configuration in chosen]
    names = [f"units/{cases[first].name}-{file_name(configuration.label)}.json" for first, configuration in jobs]
    sizes = [len(cases[first : first + args.batch]) for first, _ in jobs]
    done = sum(size for size, name in zip(sizes, names) if (folder / name).exists())
    with Progress(len(cases) * len(chosen), "edit-bench", "edits", done) as progress:
        for (first, configuration), name, size in zip(jobs, names, sizes):
            missing = not (folder / name).exists()

            def compute(first: int = first, configuration: Configuration = configuration) -> list[dict[str, Any]]:
                found = edits_of(model, cases[first : first + args.batch], configuration, grid, base, judge, learned)
                for n, (_, picture) in enumerate(found, first):
                    if n < args.sheet:
                        (folder / "pictures").mkdir(exist_ok=True)
                        save_image(torch.nan_to_num(picture), folder / f"pictures/{n}-{file_name(configuration.label)}.png")
                return [row for row, _ in found]

            rows += folder.unit(name, compute)
            if missing:
                progress.add(size)
    return rows


def _csv(rows: list[dict[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _sheet(folder: RunFolder, cases: list[Case], chosen: list[Configuration]) -> None:
    """A row for every case: the picture, the true result (or the picture again), one edit per configuration."""
    import torch

    from vsvf.apps.images import contact_sheet, load_image, save_image
    from vsvf.apps.run_folder import file_name

    pictures = []
    for n, case in enumerate(cases):
        pictures += [case.picture, case.picture if case.truth is None else case.truth]
        pictures += [load_image(folder / f"pictures/{n}-{file_name(c.label)}.png", mode="RGB")[0] for c in chosen]
    sheet = torch.stack([picture.double() for picture in pictures])
    save_image(contact_sheet(sheet, 2 + len(chosen), scale=max(1, 128 // sheet.shape[-1])), folder / "sheet.png")
