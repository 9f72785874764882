"""Every kind of image that Pillow opens becomes what a viewer shows, in 8 bits, or is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from bench.data.lazy import rgb

LEVELS = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
GREY = Image.fromarray(LEVELS)
COLOUR = Image.merge("RGB", [GREY, GREY.transpose(Image.Transpose.FLIP_LEFT_RIGHT), GREY])


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def of_16_bits(kind: str, order: str = "<") -> bytes:
    return encoded(Image.fromarray((LEVELS.astype(np.uint16) * 257).astype(f"{order}u2")), kind)


SHOWN_AS = {
    "grey": encoded(GREY, "PNG"),
    "16 bits, PNG": of_16_bits("PNG"),
    "16 bits, TIFF": of_16_bits("TIFF"),
    "16 bits, big end first": of_16_bits("TIFF", ">"),
    "grey and opaque": encoded(GREY.convert("LA"), "PNG"),
    "palette": encoded(GREY.convert("P"), "PNG"),
}


@pytest.mark.parametrize("kind", SHOWN_AS)
def test_grey_of_any_depth_is_shown_as_it_is(kind: str) -> None:
    np.testing.assert_array_equal(np.asarray(rgb(SHOWN_AS[kind])), np.stack([LEVELS] * 3, axis=-1))


def test_levels_between_are_rounded() -> None:
    image = encoded(Image.fromarray(np.array([[0, 128, 129, 32_767, 65_406, 65_407]], np.uint16)), "PNG")
    assert np.asarray(rgb(image))[0, :, 0].tolist() == [0, 0, 1, 127, 254, 255]


def test_transparent_parts_keep_their_colour() -> None:
    clear = COLOUR.convert("RGBA")
    clear.putalpha(0)
    np.testing.assert_array_equal(np.asarray(rgb(encoded(clear, "PNG"))), np.asarray(COLOUR))


def test_the_first_frame_is_taken() -> None:
    frames = encoded(COLOUR, "PNG", save_all=True, append_images=[Image.new("RGB", COLOUR.size)])
    np.testing.assert_array_equal(np.asarray(rgb(frames)), np.asarray(COLOUR))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused_by_name(mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode {mode}: 32 bits a channel; save it with 8 or 16"):
        rgb(encoded(GREY.convert(mode), "TIFF"))


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ValueError, match=r"cannot be decoded .*decompression bomb"):
        rgb(encoded(COLOUR, "PNG"))
