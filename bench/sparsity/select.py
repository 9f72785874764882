"""Exact selection of the entries of largest magnitude, ties by index, without sorting.

A mask update needs a threshold, not an order. On a CPU, NumPy's vectorised partition finds it in linear time, where
the released code sorts every layer twice, and a sample first tells between which two magnitudes it lies.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

SAMPLE = 16_384
Array = np.ndarray[Any, np.dtype[Any]]


def largest(values: Tensor, among: Tensor, count: int, ties: Literal["first", "last"] = "first") -> Tensor:
    """Return a boolean mask of exactly the `count` entries of `among` with the largest magnitudes.

    values floats without NaN, among bool, same shape and strides, dense in memory; 0 <= count <= entries of `among`.
    Of entries tied at the threshold those of lowest ("first") or highest ("last") index in C order are chosen.
    """
    if count == 0:
        return torch.zeros_like(among)
    threshold = kth_largest_magnitude(values, among, count)
    chosen = at_least(values, threshold).logical_and_(among)
    surplus = count_true(chosen) - count
    if surplus:
        tied = ((values.abs() == threshold) & among).flatten().nonzero().squeeze(1)
        excess = tied[-surplus:] if ties == "first" else tied[:surplus]
        chosen[np.unravel_index(excess.cpu().numpy(), chosen.shape)] = False  # torch's own imports sympy, in seconds
    return chosen


def kth_largest_magnitude(values: Tensor, among: Tensor, k: int) -> float:
    """Return the k-th largest magnitude (1-based) of the entries of `among`; arguments as for `largest`."""
    flat, marked = _in_memory_order(values), _in_memory_order(among)
    if values.device.type != "cpu":
        # A sort takes a GPU less than a millisecond a layer, and unlike kthvalue was always deterministic there.
        return float(flat[marked].abs().sort().values[-k])
    if flat.element_size() == 2:  # NumPy has no bfloat16; float32 holds the values of both half precisions
        flat = flat.float()
    low, high = _bracket(flat.numpy(), marked.numpy(), k / count_true(marked))
    top = at_least(flat, high).logical_and_(marked)
    part = (at_least(flat, low) if low > 0 else flat != 0).logical_and_(marked).logical_xor_(top)
    above = count_true(top)
    if not above < k <= above + count_true(part):  # the sample misled, or all that is left are zeros
        above, part = 0, (flat != 0).logical_and_(marked)
        if count_true(part) < k:
            return 0.0
    magnitudes = np.compress(part.numpy(), flat.numpy())
    np.abs(magnitudes, out=magnitudes)
    position = magnitudes.size - (k - above)
    magnitudes.partition(position)
    return float(magnitudes[position])


def count_true(mask: Tensor) -> int:
    """Return the number of True entries; on a CPU by NumPy, which counts several times faster."""
    if mask.device.type != "cpu":
        return int(mask.count_nonzero())
    return int(np.count_nonzero(_in_memory_order(mask).numpy()))


def at_least(values: Tensor, magnitude: float) -> Tensor:
    """Return where the magnitude of `values` is at least `magnitude` (bool): two comparisons beat an abs in memory."""
    return (values >= magnitude).logical_or_(values <= -magnitude)


def _bracket(array: Array, where: Array, share: float) -> tuple[float, float]:
    """Return two magnitudes between which, very likely, lies the one that `share` of the marked entries reach."""
    stride = max(1, array.size // SAMPLE) | 1  # odd, so as not to march in step with the dimensions of a kernel
    sample = np.abs(array[::stride][where[::stride]])
    if sample.size < SAMPLE // 8:
        return 0.0, math.inf
    margin = 5 * math.sqrt(share * (1 - share) / sample.size) + 1e-3
    sample.sort()
    low, high = (int((1 - share + side * margin) * sample.size) for side in (-1, 1))
    return float(sample[low]) if low > 0 else 0.0, float(sample[high]) if high < sample.size else math.inf


def _in_memory_order(tensor: Tensor) -> Tensor:
    """Return a flat view of a dense tensor in the order of its memory, whatever its memory format."""
    return tensor.as_strided((tensor.numel(),), (1,))
