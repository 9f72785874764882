"""Exact selection of the entries of largest magnitude, ties by index, without sorting.

A mask update needs a threshold, not an order, where the released code sorts every layer twice. On a CPU a sample tells
between which two magnitudes the threshold very likely lies. One pass over the layer, in pieces that stay in the cache,
then takes what is above both and collects what is between them, of which the threshold is found by partition.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

SAMPLE = 16_384
# Entries of a piece: all that is computed of them fits into a cache of half a megabyte.
PIECE = 65_536
Array = np.ndarray[Any, np.dtype[Any]]


def largest(values: Tensor, among: Tensor, count: int, ties: Literal["first", "last"] = "first") -> Tensor:
    """Return a boolean mask of exactly the `count` entries of `among` with the largest magnitudes.

    values floats without NaN, among bool, same shape and strides, dense in memory; 0 <= count <= entries of `among`.
    Of entries tied at the threshold those of lowest ("first") or highest ("last") index in C order are chosen.
    """
    if count == 0:
        return torch.zeros_like(among)
    threshold, chosen, reaching = _reaching(values, among, count)
    surplus = reaching - count
    if surplus:
        tied = ((values.abs() == threshold) & among).flatten().nonzero().squeeze(1)
        excess = tied[-surplus:] if ties == "first" else tied[:surplus]
        chosen[np.unravel_index(excess.cpu().numpy(), chosen.shape)] = False  # torch's own imports sympy, in seconds
    return chosen


def exceeding(values: Tensor, among: Tensor, k: int) -> Tensor:
    """Return which entries of `among` exceed its k-th largest magnitude (1-based); arguments as for `largest`."""
    return _reaching(values, among, k, strictly=True)[1]


def count_true(mask: Tensor) -> int:
    """Return the number of True entries; on a CPU by NumPy, which counts several times faster."""
    if mask.device.type != "cpu":
        return int(mask.count_nonzero())
    return int(np.count_nonzero(_in_memory_order(mask).numpy()))


def _reaching(values: Tensor, among: Tensor, k: int, *, strictly: bool = False) -> tuple[float, Tensor, int]:
    """Return the k-th largest magnitude of the entries of `among`, which of them reach or exceed it, and how many."""
    flat, marked = _in_memory_order(values), _in_memory_order(among)
    if values.device.type != "cpu":
        # A sort takes a GPU less than a millisecond a layer, and unlike kthvalue was always deterministic there.
        threshold = float(flat[marked].abs().sort().values[-k])
        magnitudes = values.abs()
        chosen = (magnitudes > threshold if strictly else magnitudes >= threshold).logical_and_(among)
        return threshold, chosen, count_true(chosen)
    if flat.element_size() == 2:  # NumPy has no bfloat16; float32 holds the values of both half precisions
        flat = flat.float()
    array, where = flat.numpy(), marked.numpy()
    chosen = torch.empty_like(among)  # with its strides
    reaching = _in_memory_order(chosen).numpy()
    above, between, index = _split(array, where, *_bracket(array, where, k / count_true(marked)), reaching)
    if not above < k <= above + between.size:  # the sample misled, or the threshold is zero
        above, between, index = _split(array, where, 0.0, math.nan, reaching)
    if k <= between.size + above:
        position = between.size - (k - above)
        threshold = float(np.partition(between, position)[position])
        index = index[between > threshold if strictly else between >= threshold]
    elif strictly:
        threshold = 0.0
    else:
        reaching[:] = where
        return 0.0, chosen, count_true(chosen)
    reaching[index] = True
    return threshold, chosen, above + index.size


def _split(array: Array, where: Array, low: float, high: float, above: Array) -> tuple[int, Array, Array]:
    """Divide the marked entries at two magnitudes; zeros belong to neither part, and nothing is above NaN.

    Writes to the mask `above` which are at least `high`. Returns how many these are, and of those from `low` to below
    it magnitudes and places.
    """
    absolute, inside = np.empty(PIECE, array.dtype), np.empty(PIECE, np.bool_)
    magnitudes, places = [], []
    count = 0
    for start in range(0, array.size, PIECE):
        piece = slice(start, start + PIECE)
        marked, over = where[piece], above[piece]
        sizes, within = absolute[: marked.size], inside[: marked.size]
        np.abs(array[piece], out=sizes)
        np.greater_equal(sizes, high, out=over)
        over &= marked
        if low > 0:
            np.greater_equal(sizes, low, out=within)
        else:
            np.greater(sizes, 0, out=within)
        within &= marked
        within ^= over
        count += int(np.count_nonzero(over))
        places.append(np.flatnonzero(within))
        magnitudes.append(sizes[places[-1]])
        places[-1] += start
    return count, np.concatenate(magnitudes), np.concatenate(places)


def _bracket(array: Array, where: Array, share: float) -> tuple[float, float]:
    """Return two magnitudes between which, very likely, lies the one that `share` of the marked entries reach.

    0 and NaN where nothing can be said.
    """
    stride = max(1, array.size // SAMPLE) | 1  # odd, so as not to march in step with the dimensions of a kernel
    sample = np.abs(array[::stride][where[::stride]])
    if sample.size < SAMPLE // 8:
        return 0.0, math.nan
    margin = 5 * math.sqrt(share * (1 - share) / sample.size) + 1e-3
    sample.sort()
    low, high = (int((1 - share + side * margin) * sample.size) for side in (-1, 1))
    return float(sample[low]) if low > 0 else 0.0, float(sample[high]) if high < sample.size else math.nan


def _in_memory_order(tensor: Tensor) -> Tensor:
    """Return a flat view of a dense tensor in the order of its memory, whatever its memory format."""
    return tensor.as_strided((tensor.numel(),), (1,))
