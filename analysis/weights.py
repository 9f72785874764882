"""How far apart the tickets of an ensemble lie in weight space: overlap of their masks, cosine of their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from analysis.members import Replicate, replicates_of, tidy
from bench import metrics
from bench.errors import UserError
from bench.plan import Plan
from bench.spec import MASK_PREFIX
from bench.store import Array, RunFolder, Store

OVERLAP = "cell replicate first second layer iou topological_distance weight_cosine"


@dataclass(frozen=True)
class Weights:
    """One row a pair of tickets (first < second, from 1) of a finished sparse replicate, and layer or "overall".

    Layers are in the order of the network.

    iou, topological_distance   of masks; weight_cosine of the masked weights
    problems                    a sentence for each ticket that can not be used
    """

    overlap: pd.DataFrame
    problems: tuple[str, ...]


def load_weights(plan: Plan, store: Store) -> Weights:
    """Return what every pair of tickets of a sparse ensemble has in common."""
    sparse = {run.id for run in plan.runs if run.like.topology is not None}
    rows: list[dict[str, Any]] = []
    problems = []
    for replicate in replicates_of(plan, store):
        if sparse.issuperset(replicate.runs):
            try:
                rows += _pairs(replicate)
            except UserError as error:
                problems.append(str(error))
    return Weights(tidy(rows, OVERLAP), tuple(dict.fromkeys(problems)))


def _pairs(replicate: Replicate) -> list[dict[str, Any]]:
    tickets = [ticket for run in replicate.runs for ticket in _tickets(replicate.store.run(run))]
    rows = []
    for (first, one), (second, other) in combinations(enumerate(tickets, start=1), 2):
        overlap = metrics.mask_overlap(one[0], other[0])
        distance = metrics.topological_distance(one[0], other[0])
        cosine = metrics.weight_cosine(one[1], other[1])
        rows += [
            {
                "cell": replicate.cell,
                "replicate": replicate.number,
                "first": first,
                "second": second,
                "layer": layer,
                "iou": iou,
                "topological_distance": distance[layer],
                "weight_cosine": cosine[layer],
            }
            for layer, iou in overlap.items()
        ]
    return rows


def _tickets(folder: RunFolder) -> list[tuple[dict[str, Array], dict[str, Array]]]:
    """Return masks and weights of each ticket of a run; UserError that names a damaged file."""
    try:
        return [
            _masked(folder.ticket(ticket["index"]), list(ticket["layer_density"]))
            for ticket in folder.result()["tickets"]
        ]
    except (KeyError, TypeError):
        raise UserError(f"{folder.path / 'result.json'}: what it says of tickets is incomplete") from None


def _masked(tensors: dict[str, Array], layers: Sequence[str]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return masks and weights of these layers, in the order of the network, which a file of tensors does not keep."""
    return {layer: tensors[MASK_PREFIX + layer] for layer in layers}, {layer: tensors[layer] for layer in layers}
