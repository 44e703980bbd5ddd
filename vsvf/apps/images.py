"""Images as tensors in [-1, 1]: reading any common file, writing PNG, contact sheets.

Level p of 0 … 255 is the value p / 127.5 - 1. A value x is written as the level floor((x + 1) 127.5 + 1/2) (halves round away
from zero), x clipped to [-1, 1] first, so that a PNG returns every value to within 1/255.
"""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsvf.files import write_atomically

Array = np.ndarray

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's mode "L"
MODES = ("L", "RGB")
FITS = ("crop", "stretch", "exact")
MAX_PIXELS = 100_000_000  # a file of a megabyte can unpack to gigabytes
SIXTEEN_BIT = ("PNG", "PPM")  # kinds of files whose mode "I" is 16 bits; elsewhere it is 32


def load_image(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    mode: str = "RGB",
    *,
    background: float = 0.0,
    fit: str = "crop",
    max_pixels: int = MAX_PIXELS,
) -> torch.Tensor:
    """Read an image file as a float32 tensor (1, C, H, W) in [-1, 1], black -1 and white 1.

    The kind of file is read from its content, never from its name. Greyscale of 1, 8 or 16 bits, palettes, RGB, CMYK and
    transparency are understood; the first picture of an animation is taken; the orientation in EXIF is applied.

    Args:
        path: the file.
        size: (H, W), or one number for both. None keeps the picture's own.
        mode: "L" for one channel (luma 0.299 R + 0.587 G + 0.114 B), "RGB" for three.
        background: grey level from 0 (black) to 1 (white) that transparent pixels are laid on.
        fit: how another shape becomes `size`: "crop" cuts it at its centre to that aspect ratio and resizes (bicubic,
            antialiased); "stretch" resizes the whole; "exact" is an error.
        max_pixels: larger pictures are refused before they are unpacked.

    Raises:
        FileNotFoundError: no such file. ValueError: a file that is not a readable image, or a wrong argument.
    """
    return read_image(path, size, mode, background=background, fit=fit, max_pixels=max_pixels)[0]


def read_image(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    mode: str = "RGB",
    *,
    background: float = 0.0,
    fit: str = "crop",
    max_pixels: int = MAX_PIXELS,
) -> tuple[torch.Tensor, list[str]]:
    """As `load_image`, and what had to be changed, one phrase each ("cropped from 30x20 to 20x20 pixels")."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known; choose 'L' or 'RGB'")
    if fit not in FITS:
        raise ValueError(f"fit={fit!r} is not known; choose one of {', '.join(FITS)}")
    if not 0.0 <= background <= 1.0:
        raise ValueError(f"background must lie in [0, 1], got {background}")
    shape = (size, size) if isinstance(size, int) else size
    if shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"size must be one or two positive integers, got {size!r}")
    pixels, notes = _read(Path(path), None if shape is None else (shape[0], shape[1]), fit, mode == "L", background, max_pixels)
    np.multiply(pixels, 2.0, out=pixels)
    np.subtract(pixels, 1.0, out=pixels)
    return torch.from_numpy(pixels)[None], notes


def image_files(folder: str | os.PathLike[str], *, recursive: bool = True) -> list[Path]:
    """The image files of a folder, sorted by path: every ending that Pillow reads, in any case; hidden files are left out.

    Raises:
        NotADirectoryError: no such folder. ValueError: a folder without images.
    """
    from PIL import Image

    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"no such folder: {root}")
    Image.init()
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = [path for path in sorted(root.rglob("*") if recursive else root.iterdir()) if path.suffix.lower() in endings]
    visible = [path for path in found if path.is_file() and not any(p.startswith(".") for p in path.relative_to(root).parts)]
    if not visible:
        raise ValueError(f"{root} holds no image files{'' if recursive else ' itself; its folders were not searched'}")
    return visible


def to_levels(tensor: torch.Tensor) -> Array:
    """The 8-bit levels of an image with values in [-1, 1] (values outside are clipped), uint8 of the same shape.

    Raises:
        ValueError: a value that is not finite.
    """
    values = tensor.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the image has values that are not finite")
    return torch.floor((values.clamp(-1.0, 1.0) + 1.0) * 127.5 + 0.5).to(torch.uint8).numpy()


def save_image(tensor: torch.Tensor, path: str | os.PathLike[str]) -> None:
    """Write an image (H, W), (C, H, W) or (1, C, H, W), C = 1 or 3, as an 8-bit PNG; no partial file is ever seen.

    Raises:
        ValueError: another shape, a value that is not finite, or a name that does not end in .png.
        OSError: the file cannot be written.
    """
    from PIL import Image

    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"images are written as PNG, which loses nothing: name the file .png, not {Path(path).name}")
    levels = to_levels(tensor)
    if levels.ndim == 4 and levels.shape[0] == 1:
        levels = levels[0]
    if levels.ndim == 2:
        levels = levels[None]
    if levels.ndim != 3 or levels.shape[0] not in (1, 3) or levels.size == 0:
        raise ValueError(f"an image must be (H, W), (C, H, W) or (1, C, H, W) with C = 1 or 3, got shape {tuple(tensor.shape)}")
    picture = Image.fromarray(levels[0] if levels.shape[0] == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def contact_sheet(tensor: torch.Tensor, columns: int | None = None, *, scale: int = 1, gap: int = 1) -> torch.Tensor:
    """Many images on one: (B, C, H, W) to (C, H', W'), row by row.

    Args:
        tensor: the images, values in [-1, 1].
        columns: images per row; default: 10, or fewer if there are fewer images.
        scale: whole number by which the pixels are enlarged.
        gap: width of the dark grey lines (value -0.5) between images, in pixels before enlargement.
    """
    if tensor.ndim != 4 or tensor.numel() == 0:
        raise ValueError(f"a contact sheet needs images (B, C, H, W), got shape {tuple(tensor.shape)}")
    count, channels, height, width = tensor.shape
    columns = min(10, count) if columns is None else columns
    if columns < 1 or scale < 1 or gap < 0:
        raise ValueError(f"need columns >= 1, scale >= 1 and gap >= 0, got {columns}, {scale} and {gap}")
    rows = math.ceil(count / columns)
    sheet = tensor.new_full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), -0.5)
    for n, image in enumerate(tensor):
        top, left = (n // columns) * (height + gap), (n % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


# ---- reading -------------------------------------------------------------------------------------------------


class _Unsupported(Exception):
    """An image that is not read, with the reason."""


def _read(
    path: Path, shape: tuple[int, int] | None, fit: str, grey: bool, background: float, limit: int
) -> tuple[Array, list[str]]:
    """Pixels (C, H, W) float32 in [0, 1], and notes. Plane after plane: never the whole picture in floating numbers twice."""
    from PIL import Image, ImageOps

    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not an image file")
    notes: list[str] = []
    moves: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is `limit`
            with Image.open(path) as opened:
                width, height = opened.size
                if width * height > limit:
                    raise _Unsupported(f"{width}x{height} pixels are more than the limit of {limit:,} (max_pixels)")
                kind = opened.format or ""
                opened.load()
                image = ImageOps.exif_transpose(opened)
        image = _cropped(image, shape, fit, moves)
        planes = [_resized(plane, shape) for plane in _planes(image, kind, background, notes)]
    except _Unsupported as error:
        raise ValueError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read (PNG, JPEG, …)") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from None
    if grey and len(planes) == 3:
        notes.append("colour turned to grey")
        planes = [sum(weight * plane for weight, plane in zip(LUMA, planes))]
    elif not grey and len(planes) == 1:
        planes = planes * 3
    return np.clip(np.stack(planes), 0.0, 1.0, dtype=np.float32), notes + moves


def _cropped(image: Any, shape: tuple[int, int] | None, fit: str, notes: list[str]) -> Any:
    """The centre of the aspect ratio of `shape`; notes what it and the resizing that follows change."""
    width, height = image.size
    if shape is None or (height, width) == shape:
        return image
    if fit == "exact":
        raise _Unsupported(f"{width}x{height} pixels, but {shape[1]}x{shape[0]} are wanted (fit='exact')")
    crop = (height, width)
    if fit == "crop":
        ratio = min(height / shape[0], width / shape[1])
        crop = (max(1, round(shape[0] * ratio)), max(1, round(shape[1] * ratio)))
    if crop != (height, width):
        notes.append(f"cropped from {width}x{height} to {crop[1]}x{crop[0]} pixels")
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        image = image.crop((left, top, left + crop[1], top + crop[0]))
    if crop != shape:
        notes.append(f"resized from {crop[1]}x{crop[0]} to {shape[1]}x{shape[0]} pixels")
    return image


def _planes(image: Any, kind: str, background: float, notes: list[str]) -> Iterator[Array]:
    """One or three planes (H, W) of float32 in [0, 1], transparency composited."""
    if image.mode.startswith("I"):  # Pillow's own conversion of 16-bit greys to "L" clips them at 255
        levels = np.asarray(image)
        if (image.mode == "I" and kind not in SIXTEEN_BIT) or levels.min() < 0 or levels.max() > 65535:
            raise _Unsupported("32-bit grey levels have no agreed range; save the image with 8 or 16 bits")
        notes.append("16-bit grey levels")
        yield (levels / 65535.0).astype(np.float32)
        return
    if image.mode == "F":
        raise _Unsupported("floating-point pixels have no agreed range; save the image with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        grey = image.mode in ("L", "LA", "La")
        *colours, opacity = image.convert("LA" if grey else "RGBA").split()
        solid = opacity.getextrema()[0] == 255
        if not solid:
            notes.append(f"transparency laid on {'black' if background == 0.0 else 'white' if background == 1.0 else 'grey'}")
        share = np.asarray(opacity, dtype=np.float32) / np.float32(255.0)
        for colour in colours:
            plane = np.asarray(colour, dtype=np.float32) / np.float32(255.0)
            yield plane if solid else share * plane + (np.float32(1.0) - share) * np.float32(background)
        return
    for colour in image.convert("L" if image.mode in ("1", "L") else "RGB").split():
        yield np.asarray(colour, dtype=np.float32) / np.float32(255.0)


def _resized(plane: Array, shape: tuple[int, int] | None) -> Array:
    from PIL import Image

    if shape is None or plane.shape == shape:
        return plane
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(shape[::-1], Image.Resampling.BICUBIC))
