"""Images as tensors in [-1, 1]: reading any common file, writing PNG, contact sheets.

Level p of 0 … 255 is the value p / 127.5 - 1. A value x is written as the level floor((x + 1) 127.5 + 1/2) (halves round away
from zero), x clipped to [-1, 1] first, so that a PNG returns every value to within 1/255.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from vsvf.files import write_atomically

Array = np.ndarray

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's mode "L"
MODES = ("L", "RGB")


def load_image(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    mode: str = "RGB",
    *,
    background: float = 0.0,
) -> torch.Tensor:
    """Read an image file as a float32 tensor (1, C, H, W) in [-1, 1], black -1 and white 1.

    The kind of file is read from its content, never from its name. Greyscale of 1, 8 or 16 bits, palettes, RGB, CMYK and
    transparency are understood; the first picture of an animation is taken; the orientation in EXIF is applied.

    Args:
        path: the file.
        size: (H, W), or one number for both. An image of another shape is cropped at its centre to that aspect ratio and then
            resized (bicubic, antialiased). None keeps it.
        mode: "L" for one channel (luma 0.299 R + 0.587 G + 0.114 B), "RGB" for three.
        background: grey level from 0 (black) to 1 (white) that transparent pixels are laid on.

    Raises:
        FileNotFoundError: no such file. ValueError: a file that is not a readable image, or a wrong argument.
    """
    return read_image(path, size, mode, background=background)[0]


def read_image(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    mode: str = "RGB",
    *,
    background: float = 0.0,
) -> tuple[torch.Tensor, list[str]]:
    """As `load_image`, and what had to be changed, one phrase each ("cropped from 30x20 to 20x20 pixels")."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known; choose 'L' or 'RGB'")
    if not 0.0 <= background <= 1.0:
        raise ValueError(f"background must lie in [0, 1], got {background}")
    shape = (size, size) if isinstance(size, int) else size
    if shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"size must be one or two positive integers, got {size!r}")
    pixels, notes = _read(Path(path), background)
    if mode == "L" and pixels.shape[-1] == 3:
        notes.append("colour turned to grey")
        pixels = pixels @ LUMA[:, None]
    elif mode == "RGB" and pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    if shape is not None and pixels.shape[:2] != shape:
        pixels = _resize(pixels, shape, notes)
    values = torch.from_numpy(np.ascontiguousarray(2.0 * pixels.transpose(2, 0, 1) - 1.0))
    return values[None].to(torch.float32), notes


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


def _read(path: Path, background: float) -> tuple[Array, list[str]]:
    """Pixels (H, W, 1 or 3) in [0, 1], and notes."""
    from PIL import Image, ImageOps

    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not an image file")
    try:
        with Image.open(path) as opened:
            opened.load()
            return _levels(ImageOps.exif_transpose(opened), background)
    except _Unsupported as error:
        raise ValueError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read (PNG, JPEG, …)") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from None


class _Unsupported(Exception):
    """An image whose pixels have no agreed range."""


def _levels(image: object, background: float) -> tuple[Array, list[str]]:
    from PIL import Image

    assert isinstance(image, Image.Image)
    notes: list[str] = []
    if image.mode.startswith("I"):  # Pillow's own conversion of 16-bit greys to "L" clips them at 255
        levels = np.asarray(image).astype(np.float64)
        if levels.min() < 0.0 or levels.max() > 65535.0:
            raise _Unsupported("32-bit grey levels have no agreed range; save the image with 8 or 16 bits")
        return levels[..., None] / 65535.0, ["16-bit grey levels"]
    if image.mode == "F":
        raise _Unsupported("floating-point pixels have no agreed range; save the image with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        levels = np.asarray(image.convert("RGBA")).astype(np.float64) / 255.0
        opacity = levels[..., 3:]
        if opacity.min() < 1.0:
            notes.append(f"transparency laid on {'black' if background == 0.0 else 'white' if background == 1.0 else 'grey'}")
        colour = opacity * levels[..., :3] + (1.0 - opacity) * background
        return (colour[..., :1] if image.mode == "LA" else colour), notes
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L")).astype(np.float64)[..., None] / 255.0, notes
    return np.asarray(image.convert("RGB")).astype(np.float64) / 255.0, notes


def _resize(pixels: Array, shape: tuple[int, int], notes: list[str]) -> Array:
    """Crop at the centre to the aspect ratio of `shape`, then resize."""
    from PIL import Image

    height, width = pixels.shape[:2]
    ratio = min(height / shape[0], width / shape[1])
    crop = (max(1, round(shape[0] * ratio)), max(1, round(shape[1] * ratio)))
    if crop != (height, width):
        notes.append(f"cropped from {width}x{height} to {crop[1]}x{crop[0]} pixels")
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        pixels = pixels[top : top + crop[0], left : left + crop[1]]
    if crop != shape:
        notes.append(f"resized from {crop[1]}x{crop[0]} to {shape[1]}x{shape[0]} pixels")
        planes = [Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32)) for plane in pixels.transpose(2, 0, 1)]
        resized = [np.asarray(plane.resize(shape[::-1], Image.Resampling.BICUBIC)) for plane in planes]
        pixels = np.stack(resized, axis=-1).astype(np.float64)
    return np.clip(pixels, 0.0, 1.0)
