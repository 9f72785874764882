"""Images for evaluation: what reads them says which they are, and what is too large to hold is made slice by slice."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from bench.data.dataset import Array, LabelledImages
from bench.store.files import regular_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

OFFICIAL = "official, MD5 verified"


@dataclass(frozen=True, eq=False)
class EvaluationImages(LabelledImages):
    """Labelled images that may be a np.memmap or LazyImages: to be read in slices, never whole.

    `source` says which images they are, in a few words to be recorded with results: OFFICIAL, how they were generated,
    or a fingerprint of files that have no official checksum.
    """

    source: str


class LazyImages:
    """What an evaluation needs of an array uint8 [N, size, size, 3]; `make(start, stop)` returns a slice of it."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, size: int, make: Callable[[int, int], Array]) -> None:
        self.shape = (count, size, size, 3)
        self._make = make

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> Array:
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"lazy images are read in slices of step 1, not {step}")
        return self._make(start, max(start, stop))

    def as_array(self) -> Array:
        """Return self, typed as the array it stands for."""
        return cast(Array, self)


def file_bytes(path: str | Path) -> bytes:
    """Return what is in a file; ValueError that completes the sentence "<file> ..."."""
    try:
        return regular_bytes(path)
    except OSError as error:
        lost = "; a link to what is not here (DVC, git-annex)?" if Path(path).is_symlink() else ""
        raise ValueError(f"cannot be read ({error.strerror}{lost})") from None


def rgb(data: bytes) -> "Image":
    """Decode the bytes of an image file to three channels of 8 bits, as a viewer shows them but for transparency.

    16 bits are scaled, the first of several frames is taken, and what is transparent keeps its colour. ValueError,
    whatever the decoder raises, and for 32 bits, whose white nothing says.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
                levels = np.asarray(image).astype(np.uint32)
                # 65,535 is white; rounded as libpng does.
                return Image.fromarray(((levels * 255 + 32_895) >> 16).astype(np.uint8)).convert("RGB")
            if image.mode in ("I", "F"):
                raise ValueError(f"mode {image.mode}: 32 bits a channel; save it with 8 or 16")
            return image.convert("RGB")
    # The decoders of Pillow raise what they like at damaged bytes.
    except Exception as error:
        raise ValueError(f"cannot be decoded ({error})") from None


def square(image: "Image", size: int) -> "Image":
    """Resize the short side to `size`, bilinearly, and cut out the middle: torchvision's Resize and CenterCrop."""
    from PIL import Image

    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))
