"""`vsvf rerun`: repeat the run of a folder, and say whether the files are the same."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from vsvf.commands.answer import Answer

DESCRIPTION = """\
Repeat the run that a folder holds, with the same options, into another folder, and compare every file."""

EXAMPLES = """\
examples:
  vsvf rerun reconstruction                      into reconstruction.rerun
  vsvf rerun reconstruction --out again --json

exit code 0 if every file has the same bytes, 1 if not (another version of PyTorch, another processor)."""

COMMANDS = {
    "edit": "vsvf.commands.edit",
    "edit-bench": "vsvf.commands.edit_bench",
    "fid": "vsvf.commands.fid",
    "interpolate": "vsvf.commands.interpolate",
    "reconstruct": "vsvf.commands.reconstruct",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vsvf rerun`."""
    parser.add_argument("folder", metavar="FOLDER", help="a run's folder")
    parser.add_argument("--out", metavar="FOLDER", help="where to (default FOLDER.rerun)")
    parser.add_argument("--force", action="store_true", help="replace the run that the folder holds")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> Answer:
    """Repeat and compare."""
    from vsvf.apps.run_folder import read_head, result_files

    source = Path(args.folder)
    head = read_head(source)
    if head is None or head["command"] not in COMMANDS:
        raise ValueError(f"{source} holds no run that can be repeated")
    target = Path(args.out or f"{source}.rerun")
    if target.resolve() == source.resolve():
        raise ValueError("--out must be another folder than the run's own")
    options = argparse.Namespace(**head["arguments"], out=str(target), force=args.force, json=False)
    importlib.import_module(COMMANDS[head["command"]]).run(options)
    old, new = result_files(source), result_files(target)
    differing = [name for name in old if name in new and old[name].read_bytes() != new[name].read_bytes()]
    missing = sorted(old.keys() ^ new.keys())
    then, now = head["versions"], (read_head(target) or head)["versions"]
    versions = [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]
    document = {"command": "rerun", "folder": source, "out": target, "files": len(old), "differing": differing}
    document |= {"in_one_only": missing, "versions": versions}
    lines = [f"{head['command']} repeated in {target}: {len(old)} files, {len(differing)} differ, {len(missing)} in one only"]
    lines += [f"  {line}" for line in (*differing[:10], *missing[:10], *versions)]
    return Answer(document, "\n".join(lines), args.json, 1 if differing or missing else 0)
