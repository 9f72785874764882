"""Images for evaluation: what reads them says which they are, and what is too large to hold is made slice by slice."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from bench.data.dataset import Array, LabelledImages

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


def rgb(data: bytes) -> "Image":
    """Decode the bytes of an image file to three channels; ValueError, whatever the decoder raises."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
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
