"""Pixels are Pillow's to the bit, whatever the file is; resizing is Pillow's to one level."""

import io

import numpy as np
import pytest
from PIL import Image

from bench.data.streamed.decode import decode, evaluated, resized
from bench.data.streamed.windows import Window
from tests.data.streamed.photographs import encoded, photograph

PART = photograph(1, (40, 60, 371, 291))
FILES = {
    **{f"JPEG {subsampling}": encoded(PART, subsampling=subsampling) for subsampling in ("4:4:4", "4:2:2", "4:2:0")},
    "JPEG of odd sides": encoded(photograph(0, (0, 0, 33, 57)), quality=80),
    "grey JPEG": encoded(PART.convert("L")),
    "progressive JPEG": encoded(PART, progressive=True),
    "CMYK JPEG": encoded(PART.convert("CMYK")),
    "JPEG with something behind it": encoded(PART) + b"behind",
    "JPEG with an orientation": encoded(PART, exif=Image.Exif()),
    "PNG": encoded(PART, "PNG"),
    "GIF": encoded(PART, "GIF"),
    "WebP": encoded(PART, "WEBP"),
    "BMP": encoded(PART, "BMP"),
}
WHOLE = encoded(PART)
DAMAGED = {
    "nothing": b"",
    "a page": b"<html><body>403 Forbidden</body></html>",
    "a header": WHOLE[:200],
    "half": WHOLE[: len(WHOLE) // 2],
    "all but two bytes": WHOLE[:-2],
}


@pytest.mark.parametrize("kind", FILES)
def test_pixels_are_pillows(kind: str) -> None:
    with Image.open(io.BytesIO(FILES[kind])) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(FILES[kind]), expected)


def test_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(PART, exif=exif)).shape == (PART.height, PART.width, 3)


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_whole_image_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(DAMAGED[kind])


@pytest.mark.parametrize("window", [Window(0, 0, 231, 331), Window(17, 40, 100, 75), Window(3, 5, 20, 31)])
def test_resizing_is_pillows_to_one_level(window: Window) -> None:
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    expected = PART.crop(box).resize((64, 48), Image.Resampling.BILINEAR)
    actual = resized(np.array(PART), window, (48, 64)).numpy()
    assert np.abs(actual.astype(int) - np.asarray(expected)).max() <= 1


def test_evaluation_shows_the_middle() -> None:
    shown = evaluated(WHOLE, 64).numpy()
    with Image.open(io.BytesIO(WHOLE)) as image:
        small = image.resize((73 * PART.width // PART.height, 73), Image.Resampling.BILINEAR)
    left = round((small.width - 64) / 2)
    expected = np.asarray(small.crop((left, 4, left + 64, 68)))
    assert np.abs(shown.astype(int) - expected).max() <= 1
