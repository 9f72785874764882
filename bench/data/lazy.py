"""Images for evaluation: what reads them says which they are, and what is too large to hold is made slice by slice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from bench.data.dataset import Array, LabelledImages

OFFICIAL = "official, MD5 verified"


@dataclass(frozen=True, eq=False)
class EvaluationImages(LabelledImages):
    """Labelled images that may be a np.memmap or LazyImages: to be read in slices, never whole.

    `source` says which images they are, in a few words to be recorded with results: OFFICIAL, how they were generated,
    or a fingerprint of files that have no official checksum.
    """

    source: str


class LazyImages:
    """What an evaluation needs of an array uint8 [N, size, size, 3]; `make(start, stop)` returns a slice of it.

    `names` are file names, bytes [N], of images that have some.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, size: int, make: Callable[[int, int], Array], names: Array | None = None) -> None:
        self.shape = (count, size, size, 3)
        self._make = make
        self.names = names

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> Array:
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"lazy images are read in slices of step 1, not {step}")
        return self._make(start, max(start, stop))

    def first(self, count: int | None) -> Array:
        """Return the first images, all if None; none is made."""
        count = len(self) if count is None else min(count, len(self))
        names = None if self.names is None else self.names[:count]
        return LazyImages(count, self.shape[1], self._make, names).as_array()

    def as_array(self) -> Array:
        """Return self, typed as the array it stands for."""
        return cast(Array, self)
