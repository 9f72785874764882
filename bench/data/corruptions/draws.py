"""Random numbers that belong to an image: a function of (key, index of the image, how many were drawn before).

Counter-based (splitmix64: Steele, Lea and Flood 2014), in integer arithmetic and look-ups in tables, so that neither
the batch an image is in nor the device changes a bit.
"""

from functools import cache

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

# The constants of splitmix64 as signed integers: torch multiplies int64 modulo 2**64, as splitmix64 wants.
_GOLDEN, _FIRST, _SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# Normal values are the quantiles at the middles of this many equal parts of (0, 1), up to 4.3 standard deviations...
QUANTILES = 2**16
# ...as multiples of this: 16 bits hold one, as the exact filters ask.
NORMAL_STEP = 2.0**-12


class Draws:
    """A stream of random numbers for each image of a batch; two calls return different numbers.

    key    63-bit, names the stream: derived_seed(seed, type, severity)
    index  int64 [B], the index of each image in its data set; results are on its device
    """

    def __init__(self, key: int, index: Tensor) -> None:
        self._start = _mix(index * _GOLDEN + key)
        self._used = 0

    def uniform(self, *shape: int) -> Tensor:
        """Return float64 [B, *shape], multiples of 2**-32 in [0, 1)."""
        return self._words(torch.int32, *shape).double().add_(2.0**31).mul_(2.0**-32)

    def normal(self, *shape: int) -> Tensor:
        """Return float64 [B, *shape] of mean 0 and variance 1, multiples of NORMAL_STEP."""
        words = self._words(torch.int16, *shape)
        table = _normal_table(words.device)
        return table.index_select(0, words.flatten().int().add_(QUANTILES // 2)).view(words.shape).double()

    def _words(self, dtype: torch.dtype, *shape: int) -> Tensor:
        """Return random bits as signed integers [B, *shape] of 16 or 32 bits; what a 64-bit word has left is lost."""
        count = int(np.prod(shape))
        words = -(-count * dtype.itemsize // 8)
        counter = torch.arange(self._used + 1, self._used + words + 1, device=self._start.device)
        self._used += words
        bits = _mix(self._start[:, None] + counter * _GOLDEN)
        return bits.view(dtype)[:, :count].reshape(-1, *shape)


def _mix(words: Tensor) -> Tensor:
    """Return the finaliser of splitmix64, a bijection of int64."""
    words = (words ^ _shift(words, 30)).mul_(_FIRST)
    words = (words ^ _shift(words, 27)).mul_(_SECOND)
    return words ^ _shift(words, 31)


def _shift(words: Tensor, bits: int) -> Tensor:
    # torch's shift copies the sign into the upper bits; the algorithm wants zeros there.
    return (words >> bits).bitwise_and_((1 << (64 - bits)) - 1)


@cache
def _normal_table(device: torch.device) -> Tensor:
    quantiles = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    table = np.round(quantiles / NORMAL_STEP) * NORMAL_STEP
    return torch.tensor(table, dtype=torch.float32, device=device)
