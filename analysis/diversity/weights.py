"""How far apart the tickets of an ensemble lie in weight space: overlap of their masks, cosine of their weights."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from analysis.reading import Replicate, StoreView, tidy
from bench import metrics
from bench.models.layers import layers_of
from bench.spec.run import MASK_PREFIX
from bench.store.run_folder import Array

OVERLAP = "cell replicate first second layer iou topological_distance weight_cosine"


def load_overlap(view: StoreView) -> pd.DataFrame:
    """Return one row a pair of tickets (first < second, from 1) of a finished replicate, and layer or "overall".

    Replicates whose weights were not exported have none.
    Layers are in the order of the network. Columns: iou and topological_distance of masks, NaN without any;
    weight_cosine of the weights of the same layers.
    """
    rows: list[dict[str, Any]] = []
    for replicate in view.replicates():
        if replicate.cell.members > 1:
            with view.noting():
                if not all(map(view.has_weights, replicate.runs)):
                    continue
                layers = [layer.name for layer in layers_of(replicate.cell.model, replicate.cell.data)]
                rows += _pairs(view, replicate, layers) if layers else []
    return tidy(rows, OVERLAP)


def _pairs(view: StoreView, replicate: Replicate, layers: Sequence[str]) -> list[dict[str, Any]]:
    tickets = [
        _masks_and_weights(view.tensors(run, ticket.index), layers)
        for run in replicate.runs
        for ticket in view.tickets(run)
    ]
    rows = []
    for (first, (masks, weights)), (second, (other_masks, other_weights)) in combinations(enumerate(tickets, 1), 2):
        overlap = metrics.mask_overlap(masks, other_masks) if masks else {}
        distance = metrics.topological_distance(masks, other_masks) if masks else {}
        rows += [
            {
                **replicate.key,
                "first": first,
                "second": second,
                "layer": layer,
                "iou": overlap.get(layer, float("nan")),
                "topological_distance": distance.get(layer, float("nan")),
                "weight_cosine": cosine,
            }
            for layer, cosine in metrics.weight_cosine(weights, other_weights).items()
        ]
    return rows


def _masks_and_weights(tensors: dict[str, Array], layers: Sequence[str]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return masks, none for a dense ticket, and weights, in the order of the layers, which the file does not keep."""
    masks = {layer: tensors[MASK_PREFIX + layer] for layer in layers if MASK_PREFIX + layer in tensors}
    return masks, {layer: tensors[layer] for layer in layers}
