"""One progress display for studies that run side by side: each tells how far it is, the parent draws a single line."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from multiprocessing.queues import Queue
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

_channel: Queue[tuple[str, str, int, int]] | None = None
_study = ""


def connect(channel: Queue[Any]) -> None:
    """In a worker process: send what `steps` has to tell through `channel`."""
    global _channel
    _channel = channel


def begin(study: str) -> None:
    """In a worker process: what follows belongs to this study."""
    global _study
    _study = study


def steps(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, one by one, while the display follows; a bar of its own where the study runs alone."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    if _channel is None:
        yield from tqdm(items, desc=what, total=count or None, leave=False)
        return
    for done, item in enumerate(items):
        _channel.put((_study, what, done, count))
        yield item


class Display:
    """The line: how many studies are done, the time, and where each running one is. Without a terminal only finished studies
    are printed, a line each.

    Args:
        channel: where the workers' messages arrive. total: the number of studies. stream: what to write on.
    """

    def __init__(self, channel: Queue[Any], total: int, stream: TextIO = sys.stderr) -> None:
        self.channel, self.total, self.stream = channel, total, stream
        self.began = time.perf_counter()
        self.finished: set[str] = set()
        self.running: dict[str, str] = {}
        self.live = stream.isatty()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.live:
            self.stream.write("\r\x1b[K")

    def done(self, study: str, seconds: float, used: float) -> None:
        """A study has finished: a line of its own, above the live one, with its seconds by the clock and of a core."""
        with self._lock:
            self.finished.add(study)
            self.running.pop(study, None)
            erase = "\r\x1b[K" if self.live else ""
            self.stream.write(f"{erase}[{len(self.finished)}/{self.total}] {study}: {seconds:.0f} s ({used:.0f} s of a core)\n")
            self.stream.flush()

    def _follow(self) -> None:
        while not self._stop.wait(0.2):
            self.draw()

    def draw(self) -> None:
        """Read the messages and write the line."""
        with self._lock:
            while not self.channel.empty():
                study, what, done, count = self.channel.get()
                if study not in self.finished:
                    self.running[study] = f"{study}: {what} {done}/{count}" if count else f"{study}: {what}"
            if self.live:
                seconds = int(time.perf_counter() - self.began)
                head = f"{len(self.finished)}/{self.total} done, {seconds // 60}:{seconds % 60:02d}"
                text = " · ".join([head, *self.running.values()])
                width = shutil.get_terminal_size().columns - 1
                self.stream.write(f"\r{text[:width]}\x1b[K")
                self.stream.flush()
