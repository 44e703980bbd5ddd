import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vsvf.apps.images import contact_sheet, image_files, load_image, read_image, save_image, to_levels

RAMP = np.arange(28 * 28, dtype=np.float64).reshape(28, 28) / (28 * 28 - 1)  # 0 … 1


def write_16_bit_png(path, levels):
    """A 16-bit greyscale PNG by hand, so that the reader is not tested against the library's own writer."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


# ---- writing -------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=40))
def test_a_png_returns_values_to_within_half_a_level(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("png") / "x.png"
    image = torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1)
    save_image(image, path)
    back = load_image(path, mode="L")
    assert back.shape == (1, *image.shape) and back.dtype == torch.float32
    assert float((back[0].double() - image).abs().max()) <= 1 / 255 + 1e-6


def test_every_level_survives(tmp_path):
    levels = torch.arange(256, dtype=torch.float64).reshape(1, 16, 16)
    save_image(levels / 127.5 - 1.0, tmp_path / "x.png")
    assert torch.equal(torch.from_numpy(np.array(Image.open(tmp_path / "x.png"))).double(), levels[0])
    assert np.array_equal(to_levels(load_image(tmp_path / "x.png", mode="L"))[0], levels.numpy())


def test_halves_round_away_from_zero_and_values_outside_are_clipped():
    assert to_levels(torch.tensor([0.0, -1e-12, 1e-12], dtype=torch.float64)).tolist() == [128, 127, 128]  # 127.5 is the one half
    assert to_levels(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


@pytest.mark.parametrize("shape", [(5, 6), (1, 5, 6), (3, 5, 6), (1, 3, 5, 6)])
def test_shapes_that_can_be_written(tmp_path, shape):
    save_image(torch.zeros(shape), tmp_path / "x.PNG")
    assert Image.open(tmp_path / "x.PNG").size == (6, 5)


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 1, 5, 6), (5,), (1, 0, 6)])
def test_shapes_that_cannot_be_written(tmp_path, shape):
    with pytest.raises(ValueError, match="an image must be"):
        save_image(torch.zeros(shape), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_nan_and_lossy_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        save_image(torch.full((4, 4), float("nan")), tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"\.png"):
        save_image(torch.zeros(4, 4), tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError):
        save_image(torch.zeros(4, 4), tmp_path / "missing" / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_a_contact_sheet_holds_every_image():
    images = torch.linspace(-1, 1, 5 * 6).reshape(5, 1, 2, 3)
    sheet = contact_sheet(images, 2, scale=3, gap=1)
    assert sheet.shape == (1, 3 * (3 * 3 - 1), 3 * (2 * 4 - 1))
    small = sheet[:, ::3, ::3]
    for n, image in enumerate(images):
        top, left = (n // 2) * 3, (n % 2) * 4
        assert torch.equal(small[:, top : top + 2, left : left + 3], image)
    assert contact_sheet(images[:1]).shape == (1, 2, 3)
    with pytest.raises(ValueError, match="columns"):
        contact_sheet(images, 0)
    with pytest.raises(ValueError, match="B, C, H, W"):
        contact_sheet(images[0])


# ---- reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.PNG", "x.Jpg", "x.JPEG", "x.bmp", "x.TIFF", "x.gif", "x.webp", "anything"])
def test_the_content_decides_not_the_name(tmp_path, name):
    suffix = name.partition(".")[2].lower() or "png"
    kind = {"jpg": "jpeg"}.get(suffix, suffix)
    Image.fromarray(np.rint(255 * RAMP).astype(np.uint8)).save(tmp_path / name, format=kind)
    image = load_image(tmp_path / name, 28, "L")
    assert image.shape == (1, 1, 28, 28)
    assert float((image[0, 0].double() - torch.from_numpy(2 * RAMP - 1)).abs().max()) < (0.1 if kind in ("jpeg", "webp") else 0.01)


def test_sixteen_bit_levels_keep_their_precision(tmp_path):
    levels = np.rint(65535 * RAMP)
    write_16_bit_png(tmp_path / "x.png", levels)
    image, notes = read_image(tmp_path / "x.png", 28, "L")
    assert np.allclose(image[0, 0].numpy(), 2 * levels / 65535 - 1, atol=2e-7)
    assert notes == ["16-bit grey levels"]


def test_colour_becomes_luma(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "x.png")
    image, notes = read_image(tmp_path / "x.png", None, "L")
    assert np.allclose(image[0, 0, 0].numpy(), 2 * np.array([0.299, 0.587, 0.114, 90 / 255]) - 1, atol=1e-6)
    assert notes == ["colour turned to grey"]
    assert load_image(tmp_path / "x.png").shape == (1, 3, 1, 4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(("background", "value"), [(0.0, -1.0), (1.0, 1.0)])
def test_transparency_is_laid_on_the_background(tmp_path, mode, background, value):
    levels = np.zeros((1, 2, 4), dtype=np.uint8)
    levels[0, :, :3] = 100
    levels[0, 0, 3] = 255
    picture = Image.fromarray(levels)
    if mode == "LA":
        picture = picture.convert("LA")
    elif mode == "P":
        picture = Image.fromarray(np.array([[1, 0]], dtype=np.uint8), mode="P")
        picture.putpalette([0, 0, 0, 100, 100, 100])
        picture.info["transparency"] = 0
    picture.save(tmp_path / "x.png")
    image, notes = read_image(tmp_path / "x.png", None, "L", background=background)
    assert image[0, 0, 0].tolist() == pytest.approx([200 / 255 - 1, value], abs=1e-6)
    assert any("transparency laid on" in note for note in notes)


def test_one_bit_and_palette_images(tmp_path):
    grey = Image.fromarray(np.rint(255 * RAMP).astype(np.uint8))
    grey.point(lambda v: 255 * (v > 127)).convert("1").save(tmp_path / "one.png")
    assert set(load_image(tmp_path / "one.png", mode="L").unique().tolist()) == {-1.0, 1.0}
    grey.convert("P").save(tmp_path / "palette.png")
    assert np.allclose(load_image(tmp_path / "palette.png", mode="L")[0, 0], 2 * np.rint(255 * RAMP) / 255 - 1, atol=1e-6)


def test_the_orientation_in_exif_is_applied(tmp_path):
    levels = np.zeros((16, 8), dtype=np.uint8)
    levels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(levels).save(tmp_path / "x.png", exif=exif)
    image = load_image(tmp_path / "x.png", mode="L")
    assert image.shape == (1, 1, 8, 16)
    assert image[0, 0, 0, 15] == 1.0


def test_other_shapes_are_cropped_and_resized(tmp_path):
    levels = np.zeros((56, 100), dtype=np.uint8)
    levels[:, 22:78] = 200  # the centre, 56 wide
    Image.fromarray(levels).save(tmp_path / "x.png")
    image, notes = read_image(tmp_path / "x.png", 28, "L")
    assert image.shape == (1, 1, 28, 28)
    assert torch.allclose(image, torch.tensor(400 / 255 - 1))
    assert notes == ["cropped from 100x56 to 56x56 pixels", "resized from 56x56 to 28x28 pixels"]
    assert load_image(tmp_path / "x.png", (10, 20)).shape == (1, 3, 10, 20)


def test_damaged_files_are_one_clear_error(tmp_path):
    Image.fromarray(np.rint(255 * RAMP).astype(np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, content in {
        "empty.png": b"",
        "text.png": b"not an image",
        "cut.png": whole[: len(whole) // 2],
        "flipped.png": whole[:60] + bytes([whole[60] ^ 0xFF]) + whole[61:],
        "header.png": whole[:20],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError):
        load_image(tmp_path)
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match="no agreed range"):
        load_image(tmp_path / "float.tiff")


def test_wrong_arguments_are_named(tmp_path):
    save_image(torch.zeros(4, 4), tmp_path / "x.png")
    for options, name in [({"mode": "HSV"}, "mode"), ({"size": 0}, "size"), ({"background": 2.0}, "background")]:
        with pytest.raises(ValueError, match=name):
            load_image(tmp_path / "x.png", **options)


# ---- hostile and unusual files --------------------------------------------------------------------------------


def flat_png(path, side, mode="RGB"):
    Image.new(mode, (side, side), 90).save(path, compress_level=9)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    flat_png(tmp_path / "bomb.png", 1200, "L")
    with pytest.raises(ValueError, match=r"1200x1200 pixels are more than the limit of 1,000,000"):
        load_image(tmp_path / "bomb.png", 28, max_pixels=1_000_000)
    assert load_image(tmp_path / "bomb.png", 28, max_pixels=1_440_000).shape == (1, 3, 28, 28)


def test_a_large_picture_takes_a_few_bytes_per_pixel(tmp_path):
    flat_png(tmp_path / "large.png", 2500)
    script = (
        "import resource, sys\nfrom vsvf.apps.images import load_image\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "from PIL import Image\nbefore = peak()\n"
        "load_image(sys.argv[1], 28)\nprint(peak() - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", script, tmp_path / "large.png"], capture_output=True, check=True).stdout)
    assert grown < 24 * 2500**2  # three bytes as read, and one or two planes of float32


def test_a_32_bit_grey_tiff_is_not_taken_for_16_bits(tmp_path):
    levels = np.full((4, 4), 40_000, dtype=np.int32)
    Image.fromarray(levels).save(tmp_path / "x.tiff")
    with pytest.raises(ValueError, match="32-bit grey levels"):
        load_image(tmp_path / "x.tiff")
    Image.fromarray(levels.astype(np.uint16)).save(tmp_path / "y.tiff")
    assert float(load_image(tmp_path / "y.tiff", mode="L")[0, 0, 0, 0]) == pytest.approx(2 * 40_000 / 65535 - 1, abs=1e-6)


def test_transparent_grey_stays_grey(tmp_path):
    Image.fromarray(np.array([[0, 200]], dtype=np.uint8)).save(tmp_path / "x.png", transparency=0)
    image, notes = read_image(tmp_path / "x.png", None, "L", background=1.0)
    assert image[0, 0, 0].tolist() == pytest.approx([1.0, 400 / 255 - 1], abs=1e-6)
    assert notes == ["transparency laid on white"]


def test_cmyk_and_ycbcr_become_rgb(tmp_path):
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    picture.convert("CMYK").save(tmp_path / "cmyk.tiff")
    picture.convert("YCbCr").save(tmp_path / "ycbcr.jpg", quality=100)
    for name in ("cmyk.tiff", "ycbcr.jpg"):
        found = (load_image(tmp_path / name)[0, :, 4, 4] + 1.0) * 127.5
        assert found.tolist() == pytest.approx([200, 100, 50], abs=2)


def test_how_another_shape_is_fitted_is_said(tmp_path):
    levels = np.zeros((20, 40), dtype=np.uint8)
    levels[:, :20] = 255
    Image.fromarray(levels).save(tmp_path / "x.png")
    image, notes = read_image(tmp_path / "x.png", 10, "L", fit="stretch")
    assert notes == ["resized from 40x20 to 10x10 pixels"]
    assert image[0, 0, 5, 1] > 0.9 and image[0, 0, 5, 8] < -0.9
    with pytest.raises(ValueError, match="40x20 pixels, but 10x10 are wanted"):
        read_image(tmp_path / "x.png", 10, fit="exact")
    assert read_image(tmp_path / "x.png", (20, 40), fit="exact")[1] == []
    with pytest.raises(ValueError, match="fit="):
        read_image(tmp_path / "x.png", 10, fit="pad")


# ---- folders ---------------------------------------------------------------------------------------------------


def test_a_folder_is_listed_sorted_and_in_any_case(tmp_path):
    for name in ("b.PNG", "a.JpG", "deep/er/c.webp", "deep/d.TIFF"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("notes.txt", ".hidden.png", ".cache/e.png", "f.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(p.relative_to(tmp_path)) for p in image_files(tmp_path)] == ["a.JpG", "b.PNG", "deep/d.TIFF", "deep/er/c.webp"]
    assert [p.name for p in image_files(tmp_path, recursive=False)] == ["a.JpG", "b.PNG"]


def test_folders_without_images_are_one_clear_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds no image files"):
        image_files(tmp_path)
    with pytest.raises(NotADirectoryError, match="no such folder"):
        image_files(tmp_path / "missing")
