"""The drop-and-grow update and the layer-wise densities, written from the protocol to be obviously right, not fast.

Plain Python over the flattened layer, full sorts, one index at a time; nothing here is shared with bench.sparsity.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq


@dataclass(frozen=True)
class Outcome:
    """Flat C-order indices that were dropped and grown, and the mask afterwards."""

    dropped: set[int]
    grown: set[int]
    mask: list[bool]


def drop(weight: Sequence[float], mask: Sequence[bool], count: int, ties: str) -> set[int]:
    """Return the `count` active indices of smallest magnitude; of equal magnitudes the lowest index goes, or all."""
    ascending = sorted((i for i in range(len(mask)) if mask[i]), key=lambda i: (abs(weight[i]), i))
    if count == 0 or ties == "lowest_index":
        return set(ascending[:count])
    threshold = abs(weight[ascending[count - 1]])
    return {i for i in ascending if not abs(weight[i]) > threshold}


def drop_and_grow(
    weight: Sequence[float],
    mask: Sequence[bool],
    gradient: Sequence[float],
    fraction: float,
    *,
    dense_layers: str,
    regrow_dropped: bool,
    ties: str,
) -> Outcome:
    """Return one gradient-growth update of a flattened layer."""
    active = {i for i in range(len(mask)) if mask[i]}
    inactive = set(range(len(mask))) - active
    if not inactive and dense_layers == "exempt":
        return Outcome(set(), set(), list(mask))
    count = math.ceil(fraction * len(active))
    if inactive and not regrow_dropped:
        count = min(count, len(inactive))  # what cannot be replaced is not dropped
    dropped = drop(weight, mask, count, ties)
    if not inactive:
        return Outcome(dropped, dropped, list(mask))
    candidates = inactive | dropped if regrow_dropped else inactive
    descending = sorted(candidates, key=lambda i: (-abs(gradient[i]), i))
    grown = set(descending[: len(dropped)])
    after = (active - dropped) | grown
    return Outcome(dropped, grown, [i in after for i in range(len(mask))])


def erdos_renyi_kernel(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return min(1, eps * sum(shape) / prod(shape)) with eps from a root finder on the global density."""
    sizes = np.array([np.prod(shape) for shape in shapes.values()], dtype=float)
    raw = np.array([sum(shape) for shape in shapes.values()]) / sizes

    def surplus(log_epsilon: float) -> float:
        return float((np.minimum(1, np.exp(log_epsilon) * raw) * sizes).sum() - density * sizes.sum())

    highest = -math.log(raw.min())
    log_epsilon = highest if surplus(highest) <= 0 else brentq(surplus, highest - 60, highest, xtol=1e-14, rtol=1e-14)
    return dict(zip(shapes, np.minimum(1, np.exp(log_epsilon) * raw).tolist(), strict=True))
