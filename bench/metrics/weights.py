"""How different two tickets are as networks: their masks and weights, compared position by position.

Neurons are not re-aligned: two networks that differ by a permutation of hidden neurons count as different. Tickets of
one run share their initialisation, so positions correspond; those of independent runs show what chance gives. Layers
are parameters by name; dense tickets have no masks, and whether to skip them is up to the caller.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.probabilities import Floats

Masks = Mapping[str, npt.NDArray[Any]]
OVERALL = "overall"


def mask_overlap(first: Masks, second: Masks) -> dict[str, float]:
    """Return the intersection over union of the active positions of each layer, in [0, 1], and "overall" of them all.

    first, second: bool masks by layer (of other types, what isn't 0 is active); ValueError unless they have the same
    layers and shapes, at least one. NaN for a layer without active weights in both. Two random masks of density d
    overlap by about d / (2 - d).
    """
    _check(first, second)
    counts = {}
    for layer in first:
        a, b = first[layer] != 0, second[layer] != 0
        counts[layer] = np.array([np.count_nonzero(a & b), np.count_nonzero(a | b)])
    counts[OVERALL] = sum(counts.values(), np.zeros(2, dtype=np.int64))
    return {layer: float(both / either) if either else float("nan") for layer, (both, either) in counts.items()}


def topological_distance(first: Masks, second: Masks) -> dict[str, float]:
    """Return the aligned topological distance of each layer, in [0, 1], and "overall", the mean over layers.

    Of each output neuron (channel; the first axis of the mask; of a transposed convolution these are its inputs), the
    connections that only one of the two tickets has,
    divided by those that either has; mean over neurons. A neuron without connections in both has distance 0. Masks and
    errors as in mask_overlap. Source: Liu et al. 2020 (Topological insights into sparse neural networks) and its code,
    where this normalised edit distance is that of neurons matched at the least total distance; here neuron i is
    compared with neuron i, since neurons tied by residual connections can't be matched a layer at a time.
    """
    _check(first, second)
    distances = {}
    for layer in first:
        a, b = ((masks[layer] != 0).reshape(len(masks[layer]), -1) for masks in (first, second))
        differing, either = np.count_nonzero(a ^ b, axis=1), np.count_nonzero(a | b, axis=1)
        distances[layer] = float(np.mean(differing / np.maximum(either, 1)))
    return {**distances, OVERALL: float(np.mean(list(distances.values())))}


def weight_cosine(first: Mapping[str, Floats], second: Mapping[str, Floats]) -> dict[str, float]:
    """Return the cosine of the angle between the weights of each layer, in [-1, 1], and "overall" of all weights.

    first, second: float arrays by layer, inactive weights 0; ValueError unless they have the same layers and shapes, at
    least one. NaN where all weights of one are 0.
    """
    _check(first, second)
    products = {}
    for layer in first:
        a, b = (weights[layer].astype(np.float64).ravel() for weights in (first, second))
        products[layer] = np.array([a @ b, a @ a, b @ b])
    products[OVERALL] = sum(products.values(), np.zeros(3))
    lengths = {layer: np.sqrt(aa * bb) for layer, (_, aa, bb) in products.items()}
    return {
        layer: float(np.clip(ab / lengths[layer], -1, 1)) if lengths[layer] > 0 else float("nan")
        for layer, (ab, _, _) in products.items()
    }


def _check(first: Mapping[str, npt.NDArray[Any]], second: Mapping[str, npt.NDArray[Any]]) -> None:
    """ValueError unless both have the same layers, at least one, of the same shapes."""
    if not first or first.keys() != second.keys():
        differing = ", ".join(sorted(first.keys() ^ second.keys())) or "-"
        raise ValueError(f"both tickets must have the same layers, at least one; differing: {differing}")
    for layer in first:
        if first[layer].shape != second[layer].shape:
            raise ValueError(f"{layer}: shapes {first[layer].shape} and {second[layer].shape} differ")
