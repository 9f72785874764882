"""Which part of an image an epoch sees: torchvision's RandomResizedCrop from random words that are counted, not drawn.

The window at a position of an epoch is a function of (seed, position): no matter which process computes it, after
which interruption, or how many positions it computes at once.
"""

import math
from typing import NamedTuple

import numpy as np

from bench.data.dataset import Array
from bench.spec.run import ResizedCrop

TRIES = 10
# Area and ratio of each try, then row and column.
DRAWS = 2 * TRIES + 2


class Window(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def uniforms(seed: int, first: int, count: int) -> Array:
    """Return float64 [count, DRAWS] in [0, 1): the draws of the positions from `first` on.

    NumPy promises the raw words of a bit generator for ever (NEP 19); 53 bits of each are used.
    """
    generator = np.random.PCG64(seed)
    generator.advance(DRAWS * first)
    return (generator.random_raw((count, DRAWS)) >> np.uint64(11)) * 2.0**-53


def random_window(height: int, width: int, draws: Array, crop: ResizedCrop) -> Window:
    """Return the window of an image of this size, as torchvision's RandomResizedCrop.get_params would from `draws`."""
    (least_ratio, most_ratio), (least_area, most_area) = crop.ratio, crop.scale
    low, high = math.log(least_ratio), math.log(most_ratio)
    for at in range(0, 2 * TRIES, 2):
        area = height * width * (least_area + (most_area - least_area) * draws[at])
        ratio = math.exp(low + (high - low) * draws[at + 1])
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return Window(int(draws[-2] * (height - tall + 1)), int(draws[-1] * (width - wide + 1)), tall, wide)
    wide, tall = width, height
    if width / height < least_ratio:
        tall = round(width / least_ratio)
    elif width / height > most_ratio:
        wide = round(height * most_ratio)
    return Window((height - tall) // 2, (width - wide) // 2, tall, wide)


def middle_window(height: int, width: int, size: int) -> tuple[tuple[int, int], Window]:
    """Return the size that evaluation resizes an image to, (height, width), and the window of it that it sees.

    The shorter side becomes 8/7 of the image size (256 for 224), the longer is rounded down, as by torchvision's Resize
    and CenterCrop.
    """
    short, target = min(height, width), round(size * 8 / 7)
    tall, wide = target * height // short, target * width // short
    return (tall, wide), Window(round((tall - size) / 2), round((wide - size) / 2), size, size)
