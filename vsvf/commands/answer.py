"""What a command found: one record, printed by one function."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASCII = {
    "σ": "sigma", "α": "alpha", "ε": "eps", "γ": "gamma", "κ": "kappa", "λ": "lambda", "τ": "tau", "\u0304": "_bar", "√": "sqrt",
    "…": "...", "→": "->", "×": "x", "–": "-", "·": "*", "±": "+-", "≤": "<=", "≥": ">=", "°": " degrees",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A command's result.

    Attributes:
        document: what --json prints; numbers that are not finite become null, paths text.
        text: what is printed otherwise, lines without the last newline.
        as_json: which of the two was asked for.
        code: the exit code; 1 where a part of the work could not be done.
    """

    document: Mapping[str, Any]
    text: str
    as_json: bool = False
    code: int = 0

    def __str__(self) -> str:
        return json_text(self.document) if self.as_json else self.text


def show(answer: Answer) -> None:
    """Print an answer on stdout; JSON is escaped where the terminal cannot show its letters."""
    text = str(answer)
    if answer.as_json and not _can_encode(text):
        text = json_text(answer.document, ascii_only=True)
    print(text)


def note(text: str) -> None:
    """A remark on stderr."""
    print(f"vsvf: note: {text}", file=sys.stderr)


def json_text(document: Any, ascii_only: bool = False) -> str:
    """Strict JSON, indented by two."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=ascii_only, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def _can_encode(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def transliterate(error: UnicodeError) -> tuple[str, int]:
    """An error handler of encodings: sigma_bar for σ̄ and the like on a terminal that knows only ASCII, an escape for others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(ASCII.get(letter, letter.encode("ascii", "backslashreplace").decode()) for letter in letters), error.end
