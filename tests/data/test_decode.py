"""Image files become the 8-bit image that a viewer shows, or are refused with their format and mode."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from bench.data.decode import exact, rgb, square

GREY = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
DEEP = GREY.astype(np.uint16) * 257  # the same levels with 16 bits
PLAIN = Image.fromarray(GREY)
PALE = PLAIN.point(lambda level: 64 + level // 2)
PURPLE = Image.merge("RGB", (PALE, PALE.rotate(90), PALE.rotate(180)))


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def tiff(bits: int, data: bytes, *, photometric: int = 1, sample_format: int = 1, order: str = "<") -> bytes:
    """Write a grey TIFF of 32x32 pixels, of the kinds that Pillow reads and does not write."""
    tags = [(256, 32), (257, 32), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 32)]
    tags += [(279, len(data)), (339, sample_format)]
    entries = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = struct.pack(f"{order}HI", 42, 8 + len(data))
    return (b"II" if order == "<" else b"MM") + head + data + struct.pack(f"{order}H", 10) + entries + bytes(4)


def packed_12_bits() -> bytes:
    bits = "".join(f"{level:08b}{level >> 4:04b}" for level in GREY.ravel().tolist())
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def lab(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert converted is not None
    return converted


@pytest.mark.parametrize(
    "data",
    [
        saved(PLAIN),
        saved(PLAIN.convert("LA")),
        saved(PLAIN.convert("P")),
        saved(PLAIN.convert("PA"), "TIFF"),
        saved(PLAIN.convert("RGBA")),
        saved(PLAIN, "GIF", save_all=True, append_images=[PLAIN.rotate(90)]),
        saved(PLAIN, save_all=True, append_images=[PLAIN.rotate(90)]),
        saved(PLAIN, "TIFF", save_all=True, append_images=[PLAIN.rotate(90)]),
        saved(PLAIN.convert("RGB"), "WEBP", lossless=True, save_all=True, append_images=[PURPLE]),
        saved(Image.fromarray(DEEP)),
        saved(Image.fromarray(DEEP), "TIFF"),
        saved(Image.fromarray(DEEP), "JPEG2000"),
        tiff(16, DEEP.astype(">u2").tobytes(), order=">"),
        tiff(16, (65535 - DEEP).tobytes(), photometric=0),
        tiff(12, packed_12_bits()),
        b"P5 32 32 65535\n" + DEEP.astype(">u2").tobytes(),
        b"P5 32 32 1020\n" + (GREY * np.uint16(4)).astype(">u2").tobytes(),
    ],
)
def test_grey_of_every_depth_keeps_its_levels(data: bytes) -> None:
    assert np.array_equal(np.asarray(rgb(data)), np.repeat(GREY[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (saved(PURPLE), 0),
        (saved(PURPLE.convert("CMYK"), "TIFF"), 0),
        (saved(PURPLE.convert("YCbCr"), "TIFF"), 3),
        (saved(lab(PURPLE), "TIFF"), 12),
        (b"P6 32 32 65535\n" + (np.asarray(PURPLE).astype(">u2") * 257).tobytes(), 0),
    ],
)
def test_colours_of_every_space_stay(data: bytes, tolerance: int) -> None:
    assert np.abs(np.asarray(rgb(data)).astype(int) - np.asarray(PURPLE)).max() <= tolerance


def test_black_and_white_are_0_and_255() -> None:
    image = Image.fromarray(GREY > 100)
    assert image.mode == "1"
    assert np.array_equal(np.asarray(rgb(saved(image)))[..., 0], np.where(GREY > 100, 255, 0))


@pytest.mark.filterwarnings("error")
def test_transparency_is_dropped_as_by_the_loader_of_torchvision() -> None:
    hidden = PURPLE.copy()
    hidden.putalpha(0)
    assert np.array_equal(np.asarray(rgb(saved(hidden))), np.asarray(PURPLE))
    for transparency in (3, bytes(range(256))):
        assert np.array_equal(np.asarray(rgb(saved(PLAIN.convert("P"), transparency=transparency)))[..., 0], GREY)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_photographs_are_not_turned(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(PURPLE.transpose(Image.Transpose.ROTATE_90), format, exif=exif, **options)
    assert rgb(data).size == (PURPLE.height, PURPLE.width)


def test_damaged_exif_turns_nothing() -> None:
    data = saved(PURPLE, exif=b"Exif\0\0no tags at all")
    assert np.array_equal(np.asarray(rgb(data)), np.asarray(PURPLE))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"cannot be decoded \(empty\)"),
        (b"no image", "no image file of a known format"),
        (saved(PURPLE)[:-30], "truncated"),
        (saved(PURPLE, "JPEG")[:-30], "truncated"),
        (saved(Image.fromarray(DEEP), "TIFF")[:-300], r"cannot be decoded \("),
        (saved(PURPLE, "GIF")[:900], "truncated"),
        (saved(PURPLE, "WEBP")[:60], r"cannot be decoded \("),
        (saved(PURPLE, "BMP")[:900], "truncated"),
        (saved(PURPLE).replace(struct.pack(">II", 32, 32), struct.pack(">II", 60_000, 60_000)), "cannot be decoded"),
        (b"P6 60000 60000 255\n" + bytes(100), "decompression bomb"),
        (saved(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), "TIFF of mode I, whose values have no range"),
        (tiff(16, DEEP.astype("<i2").tobytes(), sample_format=2), "TIFF of mode I, "),
        (saved(Image.fromarray(GREY / np.float32(255)), "TIFF"), "TIFF of mode F, "),
    ],
)
def test_what_cannot_be_shown_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rgb(data)


def test_sizes_are_made_or_required() -> None:
    assert square(Image.new("RGB", (40, 60)), 16).size == (16, 16)
    assert exact(PURPLE, 32) is PURPLE
    with pytest.raises(ValueError, match="is 32x32 pixels, not 16x16"):
        exact(PURPLE, 16)
