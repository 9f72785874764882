"""From the bytes of an image file to three channels of 8 bits: the image that a viewer shows.

16 bits a channel keep the upper eight. Of an animation or a file of several pages, the first is taken. Two things
differ from a viewer, as with the loader of torchvision.ImageFolder: transparency is dropped, so that the colours below
it show, and photographs are not turned by their EXIF orientation.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

# Tags of TIFF, and the value of the second that says that 0 is white.
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


def rgb(data: bytes) -> "Image":
    """Decode the bytes of an image file; ValueError that completes the sentence "<file> ...", whatever is wrong."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode[0] in "IF":
                return _from_grey(image)
            image.info.pop("transparency", None)
            pixels = image if image.mode == "RGB" else image.convert("RGB")
            pixels.load()
            return pixels
    except UnidentifiedImageError:
        what = "no image file of a known format" if data else "empty"
        raise ValueError(f"cannot be decoded ({what})") from None
    # The decoders of Pillow raise what they like at damaged bytes.
    except Exception as error:
        raise ValueError(f"cannot be decoded ({error})") from None


def _from_grey(image: "Image") -> "Image":
    """Return three channels of a grey image of more than 8 bits; ValueError if no 8 bits are meant by its values."""
    from PIL import Image

    tags = getattr(image, "tag_v2", {})
    # Netpbm, and PNG before Pillow 11, hold 16 bits in 32.
    if not image.mode.startswith("I;16") and (image.mode, image.format) not in (("I", "PPM"), ("I", "PNG")):
        raise ValueError(f"{image.format} of mode {image.mode}, whose values have no range; save it with 8 or 16 bits")
    levels = np.asarray(image) >> (tags.get(BITS, (16,))[0] - 8)
    grey = levels.astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey).convert("RGB")


def square(image: "Image", size: int) -> "Image":
    """Resize the short side to `size`, bilinearly, and cut out the middle: torchvision's Resize and CenterCrop."""
    from PIL import Image

    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def exact(image: "Image", size: int) -> "Image":
    """Return the image; ValueError, as of `rgb`, if it has another size."""
    if image.size != (size, size):
        raise ValueError(f"is {image.width}x{image.height} pixels, not {size}x{size}")
    return image
