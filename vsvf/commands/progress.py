"""Progress of long commands on stderr: a bar with an estimate on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Counts units of work.

    Args:
        total: units in all; done: units that an earlier run did, not counted into the speed.
        label, unit: in words.
    """

    def __init__(self, total: int, label: str, unit: str, done: int = 0, every: float = 60.0) -> None:
        self.total, self.label, self.unit, self.begun_at, self.done, self.every = total, label, unit, done, done, every
        self.began = self.said = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", leave=False, file=sys.stderr)

    def add(self, count: int) -> None:
        """So many units are done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
            return
        now = time.monotonic()
        if now - self.said >= self.every:
            self.said = now
            speed = (self.done - self.begun_at) / (now - self.began)
            left = duration((self.total - self.done) / speed) if speed > 0.0 else "?"
            print(f"vsvf: {self.label}: {self.done} of {self.total} {self.unit}, {left} left", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
