"""Noise, independent in every channel of every pixel, as in ODIN (Liang et al. 2018): Gaussian and uniform."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.dataset import Array
from bench.data.lazy import EvaluationImages, LazyImages
from bench.data.ood import no_labels
from bench.spec.seeds import derived_seed


@dataclass(frozen=True)
class Noise:
    """Noise images: `levels` turns uniform numbers in (0, 1) into levels in [0, 1]; any number of images can be had."""

    name: str
    levels: Callable[[Array], Array]
    images: int = 10_000

    def open(self, size: int, images: int | None, root: Path, *, download: bool, progress: bool) -> EvaluationImages:  # noqa: ARG002
        """Return noise of this size, labels -1.

        Image i is the same in whatever slice, and whatever the release of NumPy (as bench.data.dataset.fixed_order).
        """
        count = self.images if images is None else images
        values = size * size * 3

        def make(start: int, stop: int) -> Array:
            generator = np.random.PCG64(derived_seed("noise", self.name)).advance(start * values)
            words = generator.random_raw((stop - start) * values)
            # 53 bits, in the open interval (0, 1).
            uniform = ((words >> np.uint64(11)) + 0.5) * 2.0**-53
            pixels: Array = np.rint(255 * self.levels(uniform)).astype(np.uint8)
            return pixels.reshape(-1, size, size, 3)

        array = LazyImages(count, size, make).as_array()
        return EvaluationImages(array, no_labels(count), f"generated {self.name} noise")


def _normal(uniform: Array) -> Array:
    """Return N(0.5, 1), clipped to [0, 1]."""
    from scipy.special import ndtri

    return np.clip(0.5 + np.asarray(ndtri(uniform)), 0, 1)


def _uniform(uniform: Array) -> Array:
    return uniform


GAUSSIAN = Noise("gaussian", _normal)
UNIFORM = Noise("uniform", _uniform)
