"""One layer's drop-and-grow update (SET, Mocanu et al. 2018; RigL, Evci et al. 2020; FreeTickets, section 3).

Drop the smallest active magnitudes, grow as many weights elsewhere, which start at zero. Every behaviour in which the
released code differs from the literature is a field of RewireRule.
"""

import math
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from bench.sparsity.select import count_true, exceeding, largest
from bench.spec.phases import RewireRule


@dataclass(frozen=True)
class LayerUpdate:
    """The outcome for one layer: new mask, weights that keep their value (bool, shape of the layer), counts."""

    mask: Tensor
    kept: Tensor
    dropped: int
    grown: int


def rewire_layer(
    weight: Tensor, mask: Tensor, gradient: Tensor | None, fraction: float, rule: RewireRule, generator: torch.Generator
) -> LayerUpdate:
    """Drop ceil(fraction * active) weights of one layer and grow as many.

    weight float32, mask bool, gradient float32 (the dense gradient; may be None for random growth): one shape, the same
    strides. With regrowth excluded at most as many are dropped as there are inactive positions to grow, so that the
    number of nonzeros never changes. Released code: sparselearning/core.py, truncate_weights.
    """
    size, active = mask.numel(), count_true(mask)
    if active == size and rule.dense_layers == "exempt":
        return LayerUpdate(mask, mask, 0, 0)
    count = math.ceil(fraction * active)
    if not rule.regrow_dropped and active < size:
        count = min(count, size - active)
    kept = keep_largest(weight, mask, active - count, rule.ties)
    dropped = active - count_true(kept)
    if active == size:
        return LayerUpdate(mask, kept, dropped, dropped)  # as released: values lost, the mask forced back to ones
    candidates = ~kept if rule.regrow_dropped else ~mask
    grown = _grow(candidates, gradient, dropped, rule, generator)
    survives = kept | (grown & mask) if rule.regrow_dropped == "kept" else kept
    return LayerUpdate(kept | grown, survives, dropped, count_true(grown))


def keep_largest(weight: Tensor, mask: Tensor, survivors: int, ties: Literal["lowest_index", "all"]) -> Tensor:
    """Return which active weights stay when all but the `survivors` largest magnitudes are dropped (bool).

    ties "lowest_index": exactly `survivors` stay, of equal magnitudes the lowest index goes first; "all": every weight
    tied with the largest that goes, goes too, as in the released code, which keeps abs(weight) > threshold.
    """
    active = count_true(mask)
    if ties == "lowest_index" or survivors == active:
        return largest(weight, mask, survivors, ties="last")
    return exceeding(weight, mask, survivors + 1)


def _grow(
    candidates: Tensor, gradient: Tensor | None, count: int, rule: RewireRule, generator: torch.Generator
) -> Tensor:
    """Return the grown positions among `candidates` (bool)."""
    available = count_true(candidates)
    # With tied drops more weights may have gone than there are candidates when regrowth is excluded.
    count = min(count, available)
    match rule.growth:
        case "gradient":
            if gradient is None:
                raise ValueError("gradient growth needs the dense gradient")
            return largest(gradient, candidates, count)
        case "random":
            scores = torch.empty_like(candidates, dtype=torch.float32).uniform_(generator=generator)
            if rule.random_growth == "bernoulli" and available:
                return (scores < count / available).logical_and_(candidates)
            return largest(scores, candidates, count)
        case _:
            assert_never(rule.growth)
