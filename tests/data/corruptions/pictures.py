"""Pictures to corrupt: smooth blobs and edges that are drawn, and crops of the photographs scikit-learn ships."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image
from torch import Tensor


def drawn(count: int, size: int = 32) -> Tensor:
    """Return uint8 [count, size, size, 3]: a gradient, two Gaussian blobs and a disk with a sharp edge each."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    pictures = np.empty((count, size, size, 3), dtype=np.uint8)
    for picture in pictures:
        values = rng.uniform(0.2, 0.8, 3) + (x[..., None] - 0.5) * rng.uniform(-0.4, 0.4, 3)
        for _ in range(2):
            (a, b), width = rng.uniform(0, 1, 2), rng.uniform(0.1, 0.3)
            values += np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * width**2))[..., None] * rng.uniform(-0.5, 0.5, 3)
        a, b = rng.uniform(0.3, 0.7, 2)
        values[(y - a) ** 2 + (x - b) ** 2 < 0.04] = rng.uniform(0, 1, 3)
        picture[:] = (values.clip(0, 1) * 255).round()
    return torch.from_numpy(pictures)


def photographed(count: int, size: int = 32) -> Tensor:
    """Return uint8 [count, size, size, 3]: crops of a temple and a flower, each at half its resolution."""
    rng = np.random.default_rng(1)
    crops = []
    for number in range(count):
        photograph = _photograph(("china.jpg", "flower.jpg")[number % 2])
        top, left = (rng.integers(0, length - size) for length in photograph.shape[:2])
        crops.append(photograph[top : top + size, left : left + size])
    return torch.from_numpy(np.stack(crops))


@cache
def _photograph(name: str) -> NDArray[np.uint8]:
    return np.asarray(load_sample_image(name)[::2, ::2])
