"""How far apart the tickets of an ensemble lie in weight space: overlap of their masks, cosine of their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from analysis.members import Replicate, replicates_of, tidy
from bench import metrics
from bench.errors import UserError
from bench.models.layers import layers_of
from bench.plan import Plan
from bench.spec.run import MASK_PREFIX
from bench.store.folders import Array, RunFolder, Store

OVERLAP = "cell replicate first second layer iou topological_distance weight_cosine"


@dataclass(frozen=True)
class Weights:
    """One row a pair of tickets (first < second, from 1) of a finished replicate, and layer or "overall".

    Layers are in the order of the network.

    iou, topological_distance   of masks, NaN without any; weight_cosine of the weights of the same layers
    problems                    a sentence for each ticket that can not be used
    """

    overlap: pd.DataFrame
    problems: tuple[str, ...]


def load_weights(plan: Plan, store: Store) -> Weights:
    """Return what every pair of tickets of an ensemble has in common; of dense ones the cosine alone."""
    layers = {run.id: [layer.name for layer in layers_of(run.like.model, run.like.data)] for run in plan.runs}
    rows: list[dict[str, Any]] = []
    problems = []
    for replicate in replicates_of(plan, store):
        if replicate.count > 1:
            try:
                rows += _pairs(replicate, layers[replicate.runs[0]])
            except UserError as error:
                problems.append(str(error))
    return Weights(tidy(rows, OVERLAP), tuple(dict.fromkeys(problems)))


def _pairs(replicate: Replicate, layers: Sequence[str]) -> list[dict[str, Any]]:
    tickets = [ticket for run in replicate.runs for ticket in _tickets(replicate.store.run(run), layers)]
    rows = []
    for (first, one), (second, other) in combinations(enumerate(tickets, start=1), 2):
        sparse = bool(one[0])
        overlap = metrics.mask_overlap(one[0], other[0]) if sparse else {}
        distance = metrics.topological_distance(one[0], other[0]) if sparse else {}
        cosine = metrics.weight_cosine(one[1], other[1])
        rows += [
            {
                "cell": replicate.cell,
                "replicate": replicate.number,
                "first": first,
                "second": second,
                "layer": layer,
                "iou": overlap.get(layer, float("nan")),
                "topological_distance": distance.get(layer, float("nan")),
                "weight_cosine": value,
            }
            for layer, value in cosine.items()
        ]
    return rows


def _tickets(folder: RunFolder, layers: Sequence[str]) -> list[tuple[dict[str, Array], dict[str, Array]]]:
    """Return masks and weights of each ticket of a run; UserError that names a damaged file."""
    try:
        indices = [int(ticket["index"]) for ticket in folder.result()["tickets"]]
    except (KeyError, TypeError):
        raise UserError(f"{folder.path / 'result.json'}: what it says of tickets is incomplete") from None
    return [_masked(folder.ticket(index), layers) for index in indices]


def _masked(tensors: dict[str, Array], layers: Sequence[str]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return masks, none of a dense ticket, and weights, in the order of the layers, which the file does not keep."""
    masks = {layer: tensors[MASK_PREFIX + layer] for layer in layers if MASK_PREFIX + layer in tensors}
    return masks, {layer: tensors[layer] for layer in layers}
