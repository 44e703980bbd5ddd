"""`vsvf reconstruct`: pictures to noise and back, with many samplers and numbers of steps, as tables."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer
from vsvf.commands.applications import (
    add_model_arguments,
    add_run_arguments,
    condition_of,
    grid_of,
    make_model,
    model_settings,
    repeatable,
    report_problems,
    say_resumed,
)
from vsvf.commands.common import FORMULAS, finite, positive
from vsvf.commands.progress import Progress

if TYPE_CHECKING:
    from vsvf.apps.inputs import Batch, Inputs
    from vsvf.apps.models import Model
    from vsvf.apps.reconstruct import Reconstruction
    from vsvf.apps.run_folder import RunFolder

DESCRIPTION = """\
Take pictures to noise and back and tabulate how close they come again: the BELM paper's Tables 2 and 3. Always both ways:
from all k states that the method's latent consists of, and from x_N alone, as pipelines keep it."""

EXAMPLES = f"""\
examples:
  vsvf reconstruct --count 10 --steps 10 20                          ten of the model's own test digits
  vsvf reconstruct photos/ --label 3 --formula ddim_inversion 'belm(2)' --out threes
  vsvf rerun reconstruction                                          the same again, and whether the files are the same

what it writes into its folder:
  tables.md       MSE on pixels in [-1, 1] and on latents, PSNR, SSIM; the paper's numbers in brackets; what agrees
  images.csv      the same for every image
  sheet-*.png     the first pictures, and ten times their difference, for both ways
  run.json        versions, options, the model's fingerprint

ddim_inversion is equation (8) of the paper, the DDIM of its tables: other relations up than down. A picture that cannot be read
is reported and skipped. Killed at any moment, the same command goes on where it stopped.

{FORMULAS}"""

COMPARED = ("ddim_inversion", "edict(0.93)", "bdia(1)", "belm(2)", "stable_belm(2)", "stable_belm(3)")
STEPS = (10, 20, 50, 100)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf reconstruct`."""
    parser.add_argument("inputs", nargs="*", metavar="IMAGE|FOLDER", help="pictures (default: the model's own test pictures)")
    parser.add_argument("--formula", nargs="+", default=list(COMPARED), metavar="NAME", help=f"(default {' '.join(COMPARED)})")
    parser.add_argument("--steps", nargs="+", type=positive, default=list(STEPS), metavar="N", help="(default 10 20 50 100)")
    parser.add_argument("--count", type=positive, metavar="N", help="so many pictures only")
    parser.add_argument("--fit", choices=("crop", "stretch", "exact"), default="crop", help="how other shapes are made to fit")
    parser.add_argument("--background", type=finite, default=0.0, metavar="G", help="0 (black) to 1 (white) behind transparency")
    parser.add_argument("--batch", type=positive, default=10, metavar="B", help="pictures at once (default 10)")
    parser.add_argument("--starter", default="ddim", metavar="NAME", help="ddim, heun, rk4 (default ddim)")
    parser.add_argument("--arithmetic", default="float64", metavar="NAME", help="the solver's numbers (default float64)")
    parser.add_argument("--sheet", type=positive, default=6, metavar="N", help="how many pictures the sheets show (default 6)")
    add_model_arguments(parser, "classifier-free guidance (default 1 = none, as in the paper)")
    add_run_arguments(parser, "reconstruction")


def run(args: argparse.Namespace) -> Answer:
    """Measure and write."""
    from vsvf.apps.inputs import Inputs
    from vsvf.apps.reconstruct_table import agreement, cells, images_csv, tables
    from vsvf.apps.roundtrip import DDIM_INVERSION
    from vsvf.apps.run_folder import RunFolder
    from vsvf.formulas import by_name
    from vsvf.starter import starter_by_name

    methods = [name if name == DDIM_INVERSION else by_name(name).name for name in dict.fromkeys(args.formula)]
    starter_by_name(args.starter)
    model = make_model(args)
    if (given := condition_of(args)) is not None:
        model.predict([given], args.guidance)  # which refuses it before the run's folder is made
    inputs = Inputs(
        model,
        args.inputs,
        condition=condition_of(args),
        captions=args.captions,
        count=args.count,
        fit=args.fit,
        background=args.background,
    )
    steps = sorted(dict.fromkeys(args.steps))
    keys = ("fit", "background", "batch", "starter", "arithmetic", "sheet")
    settings = {
        **model_settings(args, model),
        **{key: getattr(args, key) for key in keys},
        "formula": methods,
        "steps": steps,
        "pictures": len(inputs.names),
        "pictures_sha256": inputs.digest,
    }
    with RunFolder(args.out, "reconstruct", repeatable(args), settings, args.force) as folder:
        say_resumed(folder)
        rows = _measure(args, model, inputs, folder, methods, steps)
        found = cells(rows)
        agreeing = agreement(found)
        text = tables(found, model.has_autoencoder) + "\n" + "\n".join(f"- {line}" for line in agreeing) + "\n"
        folder.write("images.csv", images_csv(rows))
        folder.write("tables.md", text.encode())
        sheets = _sheets(folder, methods, steps)
        code = report_problems(inputs.problems)
        folder.finish(skipped=inputs.problems)
        table = [{"formula": c.method, "steps": c.steps, "from": c.mode, "n": c.n, **c.mean, "nfe": list(c.nfe)} for c in found]
        files = [folder / name for name in ("images.csv", "tables.md", *sheets)]
        document = {"command": "reconstruct", "folder": folder.path, **settings, "table": table, "agreement": agreeing}
        document |= {"skipped": inputs.problems, "files": files}
        text += f"\nwrote {folder.path}: {', '.join(path.name for path in files)}"
        return Answer(document, text, args.json, code)


def _measure(
    args: argparse.Namespace, model: Model, inputs: Inputs, folder: RunFolder, methods: list[str], steps: list[int]
) -> list[dict[str, Any]]:
    """All rows; what an earlier run found is read."""
    from vsvf.apps.reconstruct import reconstruct
    from vsvf.apps.run_folder import file_name

    jobs = [
        (n, indices, method, count) for n, indices in enumerate(inputs.batches(args.batch)) for count in steps for method in methods
    ]
    names = [f"units/{n:05d}-{count}-{file_name(method)}.json" for n, _, method, count in jobs]
    done = sum(len(job[1]) * job[3] for job, name in zip(jobs, names) if (folder / name).exists())
    rows: list[dict[str, Any]] = []
    batch: Batch | None = None
    loaded = -1
    with Progress(sum(len(job[1]) * job[3] for job in jobs), "reconstruct", "image steps", done) as progress:
        for (n, indices, method, count), name in zip(jobs, names):
            if loaded != n:
                batch, loaded = inputs.load(indices), n
            if batch is None:
                progress.add(len(indices) * count)
                continue
            missing = not (folder / name).exists()

            def compute(batch: Batch = batch, method: str = method, count: int = count, n: int = n) -> list[dict[str, Any]]:
                found = reconstruct(
                    model.predict(batch.conditions, args.guidance),
                    batch.pictures.to(args.device),
                    grid_of(args, model, count),
                    method,
                    codec=model.codec,
                    starter=args.starter,
                    arithmetic=args.arithmetic,
                )
                if n == 0 and count == _shown(steps):
                    _keep_pictures(folder, batch, found, method, args.sheet)
                return _rows(batch, found, method, count)

            rows += folder.unit(name, compute)
            if missing:
                progress.add(len(indices) * count)
    return rows


def _shown(steps: list[int]) -> int:
    """The number of steps that the sheets show: 50, or the largest."""
    return 50 if 50 in steps else steps[-1]


def _rows(batch: Batch, found: Reconstruction, method: str, count: int) -> list[dict[str, Any]]:
    rows = []
    for mode, way in found.ways.items():
        for i, name in enumerate(batch.names):
            measures = {"mse_pixels": way.closeness.mse[i], "mse_latents": way.latent_mse[i], "psnr": way.closeness.psnr[i]}
            measures |= {"ssim": way.closeness.ssim[i], "floor_mse": found.floor.mse[i]}
            evaluations = {"nfe_up": way.nfe_up, "nfe_down": way.nfe_down}
            changes = {"changed": batch.changes.get(name, [])}
            rows.append({"image": name, "method": method, "steps": count, "mode": mode, **measures, **evaluations, **changes})
    return rows


def _slug(mode: str) -> str:
    return mode.replace(" ", "-")


def _keep_pictures(folder: RunFolder, batch: Batch, found: Reconstruction, method: str, count: int) -> None:
    """The first pictures as PNG: the sheet is put together from these."""
    import torch

    from vsvf.apps.images import save_image
    from vsvf.apps.run_folder import file_name

    (folder / "pictures").mkdir(exist_ok=True)
    for i, picture in enumerate(batch.pictures[:count]):
        save_image(picture, folder / f"pictures/original-{i}.png")
        for mode, way in found.ways.items():
            back = torch.nan_to_num(way.pictures[i].cpu())
            save_image(back, folder / f"pictures/{file_name(method)}-{_slug(mode)}-{i}.png")


def _sheets(folder: RunFolder, methods: list[str], steps: list[int]) -> list[str]:
    """One sheet for each way: a row of originals, then for each method a row of pictures and one of ten times the difference."""
    import torch

    from vsvf.apps.images import contact_sheet, load_image, save_image
    from vsvf.apps.reconstruct import MODES
    from vsvf.apps.run_folder import file_name

    originals = sorted((folder / "pictures").glob("original-*.png"), key=lambda path: int(path.stem.rpartition("-")[2]))
    written: list[str] = []
    if not originals:
        return written
    top = torch.cat([load_image(path, mode=_mode_of(path)) for path in originals])
    for mode in MODES:
        rows = [top]
        for method in methods:
            paths = [folder / f"pictures/{file_name(method)}-{_slug(mode)}-{i}.png" for i in range(len(originals))]
            back = torch.cat([load_image(path, mode=_mode_of(path)) for path in paths])
            rows += [back, 10.0 * (back - top)]
        name = f"sheet-{_slug(mode)}.png"
        scale = max(1, math.floor(112 / top.shape[-1]))
        save_image(contact_sheet(torch.cat(rows), len(originals), scale=scale), folder / name)
        written.append(name)
    return written


def _mode_of(path: Any) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return "L" if image.mode == "L" else "RGB"
