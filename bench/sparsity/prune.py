"""Magnitude pruning: which weights stay so that a network reaches the density of its topology.

"erk" and "uniform" keep the largest magnitudes of each layer, as many as exact_counts says; "global" keeps the largest
over all layers, whatever the layer (paper, section 4.1: PF and LTR).
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from bench.sparsity.distribution import DISTRIBUTIONS, exact_counts
from bench.sparsity.select import count_true, largest
from bench.spec.run import Topology


def pruned_masks(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], topology: Topology, progress: float
) -> dict[str, Tensor]:
    """Return the masks (bool) after pruning `progress` (0..1) of the way from all weights to the topology's density.

    weights float32 and masks bool, by layer, of equal shapes and strides. Only active weights stay, never more than
    there are; of equal magnitudes those of lowest index (layers in their order, each in C order) stay.
    """
    if topology.distribution == "global":
        return _global(weights, masks, 1 - progress * (1 - topology.density))
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    target = exact_counts(shapes, DISTRIBUTIONS[topology.distribution](shapes, topology.density))
    kept = {}
    for name, mask in masks.items():
        size = prod(shapes[name])
        count = size - round(progress * (size - target[name]))
        kept[name] = largest(weights[name], mask, min(count, count_true(mask)))
    return kept


def _global(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    flat = torch.cat([weights[name].flatten() for name in masks])
    active = torch.cat([mask.flatten() for mask in masks.values()])
    chosen = largest(flat, active, min(round(density * flat.numel()), count_true(active)))
    parts = torch.split(chosen, [mask.numel() for mask in masks.values()])
    # back into the strides of each mask
    return {
        name: torch.empty_like(mask).copy_(part.view(mask.shape))
        for (name, mask), part in zip(masks.items(), parts, strict=True)
    }
