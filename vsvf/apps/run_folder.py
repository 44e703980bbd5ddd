"""Run folders: what was run, with what, how far it came; resumed after any interruption, never overwritten unasked.

A run folder holds run.json (command, arguments, settings, versions, the model's fingerprint) and what the command writes, every
file whole or absent. The same command on the same folder goes on where it stopped; with other settings it is refused.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vsvf.files import write_atomically

FORMAT = "vsvf-run-1"
HEAD = "run.json"
LOCK = ".lock"
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # how `write_atomically` calls what is not complete
PACKAGES = ("torch", "numpy", "pillow", "torchmetrics", "diffusers", "transformers")


class RunFolder:
    """A folder of one run, held by one process at a time (a lock that ends with the process, however it ends).

    Args:
        path: the folder; made if need be.
        command, arguments: the command and its options by name, which `rerun` repeats.
        settings: what decides the results, as JSON: a resumed run must have the same.
        force: delete another run's folder first (a folder that holds no run is never deleted).

    Raises:
        ValueError: the folder holds something else, or a run with other settings, which are named.
        RuntimeError: another process is at work in it. OSError: it cannot be made or written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        command: str,
        arguments: Mapping[str, Any],
        settings: Mapping[str, Any],
        force: bool = False,
    ) -> None:
        self.path = Path(path)
        self._lock: Any = None
        settings = json.loads(json.dumps(settings))
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is not a folder")
        present = [entry for entry in self.path.iterdir() if not _passing(entry.name)] if self.path.is_dir() else []
        head = read_head(self.path) if present else None
        if present and head is None:
            raise ValueError(f"{self.path} holds files, but no run: choose another folder with --out")
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._open(head, command, arguments, settings, force)
        except BaseException:
            self.close()
            raise

    def _open(
        self, head: dict[str, Any] | None, command: str, arguments: Mapping[str, Any], settings: Mapping[str, Any], force: bool
    ) -> None:
        if head is not None and force:
            for entry in self.path.iterdir():
                if entry.name != LOCK:
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            head = None
        self.resumed = head is not None
        self.head: dict[str, Any] = {
            "format": FORMAT,
            "command": command,
            "arguments": dict(arguments),
            "settings": settings,
            "versions": versions(),
            "machine": platform.machine(),
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
        }
        if head is not None:
            _compare(self.path, head, self.head)
            self.head |= {"begun": head["begun"], "versions": head["versions"], "finished": head["finished"]}
        remove_temporary(self.path)
        if head is None:
            self.write_json(HEAD, self.head)

    @property
    def changed_versions(self) -> list[str]:
        """Packages that have another version than when the run began ("torch 2.12 then, 2.13 now"): bits may differ."""
        now, then = versions(), self.head["versions"]
        return [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def write(self, name: str, content: bytes) -> None:
        """Write one file, whole or not at all; its folder is made if need be."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)

    def write_json(self, name: str, document: Any) -> None:
        """Write one JSON file; infinite numbers stay readable for Python."""
        self.write(name, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any | None:
        """The content of a JSON file, None if there is none."""
        target = self.path / name
        return json.loads(target.read_text(encoding="utf-8")) if target.exists() else None

    def unit(self, name: str, compute: Callable[[], Any]) -> Any:
        """A piece of the run, computed at most once: read if it was done before, else computed and written."""
        found = self.read_json(name)
        if found is None:
            found = json.loads(json.dumps(compute()))
            self.write_json(name, found)
        return found

    def finish(self, **notes: Any) -> None:
        """Note that the run is complete."""
        if self.head["finished"] is None:
            self.head["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.head |= notes
        self.write_json(HEAD, self.head)

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        self._lock = open(self.path / LOCK, "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise RuntimeError(f"another process is at work in {self.path}") from None


def read_head(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """run.json of a folder; None where there is none, or something else of that name."""
    try:
        head = json.loads((Path(folder) / HEAD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return head if isinstance(head, dict) and head.get("format") == FORMAT else None


def remove_temporary(folder: Path) -> None:
    """Remove what a killed process left of `write_atomically`: hidden files that hold a part of another."""
    for path in folder.rglob(".*"):
        if path.is_file() and TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _passing(name: str) -> bool:
    """Whether a file is the lock or what a killed process left: a folder with nothing else is empty."""
    return name == LOCK or TEMPORARY.fullmatch(name) is not None


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that decide results."""
    from vsvf import __version__

    found = {"python": platform.python_version(), "vsvf": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def file_name(text: str) -> str:
    """A formula's name as a part of a file name: "belm(2)" as it is, "/" and blanks replaced."""
    return re.sub(r"[^\w().,=+-]", "_", text)


def result_files(folder: Path) -> dict[str, Path]:
    """Every file of a run but run.json and hidden ones, by its path in the folder."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in files.items() if name != HEAD and not path.name.startswith(".")}


def _compare(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if old["command"] != new["command"]:
        raise ValueError(f"{folder} holds a run of `vsvf {old['command']}`; --force replaces it, --out writes elsewhere")
    differing = [key for key in {**old["settings"], **new["settings"]} if old["settings"].get(key) != new["settings"].get(key)]
    if not differing:
        return
    shown = ", ".join(f"{key} {_short(old['settings'].get(key))} then, {_short(new['settings'].get(key))} now" for key in differing)
    raise ValueError(f"{folder} holds a run with other settings ({shown}); --force replaces it, --out writes elsewhere")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
