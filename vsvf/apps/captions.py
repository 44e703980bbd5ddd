"""Captions in: COCO's JSON, CSV, or plain text, and which image each belongs to."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_COLUMNS = ("file_name", "file", "filename", "image", "image_path", "path")
CAPTION_COLUMNS = ("caption", "prompt", "text")


@dataclass(frozen=True)
class Captions:
    """Captions in the order of their file.

    Attributes:
        texts: (n,) captions.
        files: (n,) names of the images they belong to, without folders; None for plain text, whose line n belongs to image n of
            a sorted folder.
    """

    texts: tuple[str, ...]
    files: tuple[str, ...] | None = None

    def of(self, paths: Sequence[Path]) -> tuple[list[tuple[Path, str]], list[str]]:
        """Images with their (first) caption, and one sentence for each image without one and each caption without its image.

        Raises:
            ValueError: plain text of another number of lines than there are images.
        """
        if self.files is None:
            if len(self.texts) != len(paths):
                raise ValueError(
                    f"{len(self.texts)} lines of captions for {len(paths)} images: plain text needs one line per image"
                )
            return list(zip(paths, self.texts)), []
        first: dict[str, str] = {}
        for file, text in zip(self.files, self.texts):
            first.setdefault(file, text)
        pairs = [(path, first[path.name]) for path in paths if path.name in first]
        problems = [f"{path} has no caption" for path in paths if path.name not in first]
        present = {path.name for path in paths}
        problems += [f"no image for the caption of {file}" for file in first if file not in present]
        return pairs, problems


def read_captions(path: str | os.PathLike[str]) -> Captions:
    """Read captions.

    The ending decides: .json is COCO's format ("images" with id and file_name, "annotations" with image_id and caption, as in
    captions_val2014.json; ordered by file name, the annotations of an image by id); .csv and .tsv need a column of file names
    (`FILE_COLUMNS`) and one of captions (`CAPTION_COLUMNS`), or of captions alone; anything else is text, one caption a line.

    Raises:
        FileNotFoundError: no such file. ValueError: a file of another shape, or without captions, named.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"no such file: {source}")
    try:
        content = source.read_text(encoding="utf-8-sig")
        if source.suffix.lower() == ".json":
            found = _coco(json.loads(content))
        elif source.suffix.lower() in (".csv", ".tsv"):
            found = _table(csv.reader(content.splitlines(), delimiter="\t" if source.suffix.lower() == ".tsv" else ","))
        else:
            found = Captions(tuple(line.strip() for line in content.splitlines() if line.strip()))
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"{source} is not a readable file of captions: {error}") from None
    except _Shape as error:
        raise ValueError(f"{source}: {error}") from None
    if not found.texts:
        raise ValueError(f"{source} holds no captions")
    return found


class _Shape(Exception):
    """What a file of captions lacks."""


def _coco(document: Any) -> Captions:
    try:
        names = {image["id"]: Path(str(image["file_name"])).name for image in document["images"]}
        notes = [(names[note["image_id"]], int(note.get("id", n)), note) for n, note in enumerate(document["annotations"])]
        notes.sort(key=lambda item: item[:2])
        return Captions(tuple(" ".join(str(note["caption"]).split()) for _, _, note in notes), tuple(name for name, _, _ in notes))
    except (KeyError, TypeError, ValueError) as error:
        raise _Shape(f"not COCO's captions (images: id, file_name; annotations: image_id, caption): {error!r}") from None


def _table(rows: Iterable[list[str]]) -> Captions:
    lines = [row for row in rows if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    column = next((header.index(name) for name in CAPTION_COLUMNS if name in header), None)
    if column is None:
        raise _Shape(f"the first line names no column of captions ({', '.join(CAPTION_COLUMNS)})")
    file = next((header.index(name) for name in FILE_COLUMNS if name in header), None)
    short = next((n for n, row in enumerate(lines, 1) if len(row) <= max(column, -1 if file is None else file)), None)
    if short is not None:
        raise _Shape(f"row {short} has {len(lines[short - 1])} columns, too few")
    texts = tuple(row[column].strip() for row in lines[1:])
    return Captions(texts, None if file is None else tuple(Path(row[file].strip()).name for row in lines[1:]))
