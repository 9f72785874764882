"""Exact selection of the entries of largest magnitude, ties by index, without sorting.

A mask update needs a threshold, not an order. On a CPU, NumPy's vectorised partition finds it in linear time, where
the released code sorts every layer twice, and a sample first tells which small part of the entries can hold it at all.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

SAMPLE = 16_384


def largest(values: Tensor, among: Tensor, count: int, ties: Literal["first", "last"] = "first") -> Tensor:
    """Return a boolean mask of exactly the `count` entries of `among` with the largest magnitudes.

    values float32 without NaN, among bool, same shape and strides, dense in memory; 0 <= count <= entries of `among`.
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
    bound = _lower_bound(flat.numpy(), marked.numpy(), k / count_true(marked))
    part = at_least(flat, bound) if bound > 0 else flat != 0
    if count_true(part.logical_and_(marked)) < k:  # the sample misled, or all that is left are zeros
        part = (flat != 0).logical_and_(marked)
        if count_true(part) < k:
            return 0.0
    magnitudes = np.compress(part.numpy(), flat.numpy())
    np.abs(magnitudes, out=magnitudes)
    position = magnitudes.size - k
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


def _lower_bound(array: np.ndarray, where: np.ndarray, share: float) -> float:
    """Return a magnitude that very likely has slightly more than `share` of the marked entries above it."""
    stride = max(1, array.size // SAMPLE) | 1  # odd, so as not to march in step with the dimensions of a kernel
    sample = np.abs(array[::stride][where[::stride]])
    margin = 5 * np.sqrt(share * (1 - share) / max(sample.size, 1)) + 1e-3
    if sample.size < SAMPLE // 8 or share + margin >= 1:
        return 0.0
    return float(np.quantile(sample, 1 - share - margin))


def _in_memory_order(tensor: Tensor) -> Tensor:
    """Return a flat view of a dense tensor in the order of its memory, whatever its memory format."""
    return tensor.as_strided((tensor.numel(),), (1,))
