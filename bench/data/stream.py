"""Images of an evaluation set, read batch by batch from wherever they are: a memory map, a cache, a folder of files.

Where DeviceImages holds what a run trains on, a set of nearly a million images is passed over once and never held.
"""

from typing import Protocol

import torch
from torch import Tensor

from bench.data.augment import Normalise
from bench.data.dataset import LabelledImages


class Batches(Protocol):
    """Images in order, as evaluation reads them: DeviceImages, or StreamedImages."""

    def __len__(self) -> int:
        """Return the number of images."""

    @property
    def side(self) -> int:
        """Height and width of an image, in pixels."""

    def plain(self, start: int, stop: int) -> Tensor:
        """Return images start..stop - 1, normalised, float32 [B, 3, H, W] on the device."""


class StreamedImages:
    """Images uint8 [N, H, W, 3], read in slices, served in batches as a network reads them.

    The images may be a memory map, or anything that gives slices of itself as arrays.
    """

    def __init__(self, source: LabelledImages, normalise: Normalise) -> None:
        self._images, self._normalise = source.images, normalise

    def __len__(self) -> int:
        return len(self._images)

    @property
    def side(self) -> int:
        """Height and width of an image, in pixels."""
        return int(self._images.shape[1])

    def plain(self, start: int, stop: int) -> Tensor:
        """Return images start..stop - 1, normalised, float32 [B, 3, H, W]."""
        # A copy, since a memory map may be read-only, which torch does not know.
        pixels = torch.from_numpy(self._images[start:stop].copy())
        return self._normalise(pixels.to(self._normalise.device).permute(0, 3, 1, 2))
