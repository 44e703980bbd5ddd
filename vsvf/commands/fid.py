"""`vsvf fid`: many samples with many samplers, and how far their distribution is from a reference."""

from __future__ import annotations

import argparse
import errno
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.commands.answer import Answer
from vsvf.commands.applications import (
    add_model_arguments,
    add_run_arguments,
    check_march,
    condition_of,
    grid_of,
    make_model,
    model_settings,
    repeatable,
    say_resumed,
)
from vsvf.commands.common import FORMULAS, UsageError, positive
from vsvf.commands.common import seed as whole_seed
from vsvf.commands.progress import Progress

if TYPE_CHECKING:
    from vsvf.apps.features import Features
    from vsvf.apps.frechet import Moments
    from vsvf.apps.generate import Processes, Samples
    from vsvf.apps.models import Model
    from vsvf.apps.quality import Quality
    from vsvf.apps.run_folder import RunFolder

DESCRIPTION = """\
Sample many pictures with each sampler and number of steps, from the same seeds, and measure the Fréchet distance of their
features from a reference: the BELM paper's Tables 4 and 5. It is called FID only with the Inception network's features."""

EXAMPLES = f"""\
examples:
  vsvf fid --formula ddim 'belm(2)' --steps 10 20 --count 500              digits, with the classifier's features
  torchrun --nproc-per-node 2 -m vsvf fid --count 5000 --out run           two processes, the same pictures
  vsvf fid --features inception:weights-inception-2015-12-05-6726825d.pth --reference cifar10/      FID, from local files

what it writes into its folder:
  FORMULA-STEPS/000000.png …   one picture per seed, rounded to 8 bits
  table.md, results.json       distances, standard errors over blocks of seeds, evaluations, the published table beside
  reference.safetensors        mean and covariance of the reference
  run.json                     versions, options, the model's fingerprint

Every sample's noise comes from its own seed (--seed, --seed + 1, …), the same for all samplers. Batches are fixed, so the
pictures do not depend on the number of processes; they can depend on --batch and --threads, which belong to the run. Killed at
any moment, the same command goes on: nothing is lost or made twice. Distances of different n cannot be compared.

{FORMULAS}"""

COMPARED = ("ddim", "edict(0.93)", "bdia(1)", "belm(2)", "stable_belm(2)", "dpm_solver_pp(2)", "deis(3)")
STEPS = (10, 20, 50, 100)
GROUPS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf fid`."""
    parser.add_argument("--formula", nargs="+", default=list(COMPARED), metavar="NAME", help=f"(default {' '.join(COMPARED)})")
    parser.add_argument("--steps", nargs="+", type=positive, default=list(STEPS), metavar="N", help="(default 10 20 50 100)")
    parser.add_argument("--count", type=positive, default=1000, metavar="N", help="pictures per sampler (default 1000)")
    parser.add_argument("--seed", type=whole_seed, default=0, metavar="S", help="of the first picture (default 0)")
    parser.add_argument("--batch", type=positive, default=50, metavar="B", help="pictures at once (default 50)")
    parser.add_argument("--starter", default="ddim", metavar="NAME", help="ddim, heun, rk4 (default ddim)")
    parser.add_argument("--arithmetic", default="float32", metavar="NAME", help="the solver's numbers (default float32)")
    parser.add_argument("--features", metavar="NAME", help="digits, scenes, or inception:FILE (default: those of the model)")
    parser.add_argument(
        "--reference",
        metavar="FOLDER|FILE",
        help="pictures, or .safetensors / .npz with their mean and covariance (default: the model's own, MNIST's test split)",
    )
    parser.add_argument("--beside", default="CIFAR-10", metavar="DATA", help="the published table: CIFAR-10, CelebA-HQ, SD-1.5, …")
    add_model_arguments(parser, "classifier-free guidance (default 1 = none)")
    add_run_arguments(parser, "quality")


def run(args: argparse.Namespace) -> Answer | None:
    """Sample and measure; the answer is that of the first process."""
    from vsvf.apps.features import features_by_name
    from vsvf.apps.generate import Processes
    from vsvf.apps.published import FID
    from vsvf.apps.run_folder import RunFolder
    from vsvf.formulas import by_name

    if args.beside not in FID:
        raise UsageError(f"--beside {args.beside} is not known; choose one of {', '.join(FID)}")
    if args.count < 2 * GROUPS:
        raise UsageError(f"--count {args.count} is too few: error bars need at least {2 * GROUPS} pictures")
    methods = list(dict.fromkeys(by_name(name).name for name in args.formula))
    steps = sorted(dict.fromkeys(args.steps))
    processes = Processes.of_environment()
    if args.device == "cuda" and processes.world > 1:
        args.device = f"cuda:{processes.local}"
    model = make_model(args)
    features = features_by_name(args.features or model.features, args.device)
    conditions = _conditions(args, model)
    check_march(args, model, methods, steps, None if conditions is None else conditions[:1])
    keys = ("count", "seed", "batch", "starter", "arithmetic", "reference", "captions")
    settings = {**model_settings(args, model), **{key: getattr(args, key) for key in keys}}
    settings |= {"formula": methods, "steps": steps, "features": features.name}
    given = _given_reference(args, model, features)
    folder = RunFolder(args.out, "fid", repeatable(args), settings, args.force) if processes.rank == 0 else None
    processes.wait()  # the folder is checked and free of what a killed process left
    try:
        jobs = [_samples(args, model, conditions, method, count) for count in steps for method in methods]
        if folder is not None:
            say_resumed(folder)
        _generate(jobs, processes)
        processes.wait()
        return None if folder is None else _judge(args, folder, jobs, model, features, settings, given)
    finally:
        if folder is not None:
            folder.close()
        if sys.exc_info()[0] is None:
            processes.leave()


def _conditions(args: argparse.Namespace, model: Model) -> list[Any] | None:
    """One condition for each picture."""
    if args.captions is None:
        given = condition_of(args)
        return model.usual(args.count) if given is None else [given] * args.count
    from vsvf.apps.captions import read_captions

    texts = read_captions(args.captions).texts
    if len(texts) < args.count:
        raise ValueError(f"{args.captions} holds {len(texts)} captions for --count {args.count} pictures")
    return list(texts[: args.count])


def _samples(args: argparse.Namespace, model: Model, conditions: list[Any] | None, method: str, steps: int) -> Samples:
    from vsvf.apps.generate import Samples
    from vsvf.apps.run_folder import file_name

    return Samples(
        model,
        grid_of(args, model, steps),
        method,
        range(args.seed, args.seed + args.count),
        conditions,
        args.guidance,
        args.batch,
        Path(args.out) / f"{file_name(method)}-{steps}",
        args.starter,
        args.arithmetic,
        args.device,
    )


def _generate(jobs: list[Samples], processes: Processes) -> None:
    """This process's share of all pictures."""
    from vsvf.apps.quality import evaluations

    cost = {id(job): evaluations(job.model.schedule, job.grid, job.formula, job.starter) for job in jobs}
    share = {id(job): [indices for b, indices in enumerate(job.batches) if b % processes.world == processes.rank] for job in jobs}
    total = sum(len(indices) * cost[id(job)] for job in jobs for indices in share[id(job)])
    done = sum(len(indices) * cost[id(job)] for job in jobs for indices in share[id(job)] if job.complete(indices))
    label = "sampling" if processes.world == 1 else f"sampling, process {processes.rank + 1} of {processes.world}"
    with Progress(total, label, "evaluations", done) as progress:
        for job in jobs:
            try:
                job.generate(processes.rank, processes.world, partial(_count, progress, cost[id(job)]))
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                reason = "the disk is full; every picture so far is whole, and the same command goes on from there"
                raise OSError(f"could not write into {job.folder}: {reason}") from error


def _count(progress: Progress, cost: int, count: int) -> None:
    progress.add(count * cost)


def _judge(
    args: argparse.Namespace,
    folder: RunFolder,
    jobs: list[Samples],
    model: Model,
    features: Features,
    settings: dict[str, Any],
    given: Moments | None,
) -> Answer:
    """Distances of all samplers, tables, files."""
    from vsvf.apps.frechet import frechet
    from vsvf.apps.quality import order, table

    reference = _reference(args, folder, model, features, given)
    itself = frechet(reference, reference)
    scale = max(1.0, float(reference.covariance.trace()))
    if itself > 1e-6 * scale:
        raise RuntimeError(f"self-check failed: the reference is {itself:.2g} away from itself")
    found = [_quality(job, folder, reference, features) for job in jobs]
    sentences = order(found, args.beside)
    text = table(found, features.title, args.beside) + "\n" + "\n".join(f"- {line}" for line in sentences) + "\n"
    about = {"title": features.title, "reference_n": reference.n, "reference_to_itself": itself, "grid": jobs[-1].grid.name}
    folder.write("table.md", text.encode())
    folder.write_json("results.json", {**about, "results": [asdict(quality) for quality in found], "order": sentences})
    folder.finish()
    document = {"command": "fid", "folder": folder.path, **settings, **about, "results": [asdict(q) for q in found]}
    document |= {"order": sentences, "files": [folder / "table.md", folder / "results.json"]}
    text += f"\nwrote {folder.path}: table.md, results.json, {len(jobs)} folders of {args.count} pictures"
    return Answer(document, text, args.json)


def _quality(job: Samples, folder: RunFolder, reference: Moments, features: Features) -> Quality:
    from vsvf.apps.frechet import distance
    from vsvf.apps.quality import Quality, evaluations

    steps, nfe, n = job.grid.steps, evaluations(job.model.schedule, job.grid, job.formula, job.starter), len(job.seeds)
    if job.failed:  # other batches may have been made before one failed: which, depends on the processes
        for i in range(n):
            job.picture(i).unlink(missing_ok=True)
        return Quality(job.formula, steps, float("inf"), 0.0, [], float("inf"), nfe, n)

    def compute() -> dict[str, Any]:
        found = distance(features.of(job.pictures()), reference, GROUPS)
        return {"value": found.value, "error": found.error, "without": found.without, "halves": found.halves}

    kept = folder.unit(f"units/{job.folder.name}.json", compute)
    return Quality(job.formula, steps, kept["value"], kept["error"], kept["without"], kept["halves"], nfe, n)


def _given_reference(args: argparse.Namespace, model: Model, features: Features) -> Moments | None:
    """The moments in the file that --reference names, read before anything is made; None where they come from pictures.

    Raises:
        UsageError: no reference at all. ValueError: of other features. OSError: no such file.
    """
    from vsvf.apps.frechet import Moments

    source = args.reference or model.reference
    if source is None:
        raise UsageError(f"{model.name} has no reference of its own: give --reference")
    if callable(source) or Path(source).is_dir():
        return None
    found = Moments.load(source)
    if found.features and found.features != features.name:
        whose, advice = ("the", "") if args.reference else (f"{model.name}' own", ": give --reference")
        raise ValueError(f"{whose} reference has the features {found.features}, the pictures are given {features.name}{advice}")
    return found


def _reference(args: argparse.Namespace, folder: RunFolder, model: Model, features: Features, given: Moments | None) -> Moments:
    """Mean and covariance of the reference, kept in the run's folder."""
    from vsvf.apps.frechet import Moments
    from vsvf.apps.images import image_files, load_image

    kept = folder / "reference.safetensors"
    if kept.exists():
        return Moments.load(kept)
    if given is not None:
        found = given
    elif args.reference is None and callable(model.reference):
        found = model.reference(features)
    else:
        files = image_files(args.reference)
        pictures = (load_image(path, model.pictures[1:], model.mode) for path in files)
        with Progress(len(files), "reference", "pictures") as progress:
            vectors = features.of(_counted(pictures, progress))
        found = Moments.of(vectors, features.name)
    found.save(kept)
    return found


def _counted(pictures: Any, progress: Progress) -> Any:
    for picture in pictures:
        yield picture
        progress.add(1)
