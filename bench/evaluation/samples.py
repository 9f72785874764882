"""One test image under every corruption that a grid asks for, kept in the store for the report to show."""

from collections.abc import Iterable, Sequence

import numpy as np

from bench.data.dataset import Array, LabelledImages
from bench.errors import UserError
from bench.evaluation.open import EvaluationSets
from bench.evaluation.sets import CorruptedSet, TicketSet
from bench.spec.run import DataSpec
from bench.store.samples import SEVERITIES, read_samples, samples_file, write_samples_file
from bench.store.store import Store


def missing_samples(
    store: Store, asked: Iterable[tuple[DataSpec, Sequence[TicketSet]]]
) -> list[tuple[DataSpec, Sequence[TicketSet]]]:
    """Return the data sets, each once, some family of whose sets has no samples, or not all types and severities."""
    first: dict[tuple[str, str], tuple[DataSpec, Sequence[TicketSet]]] = {}
    for data, sets in asked:
        first.setdefault((data.name, data.variant), (data, sets))
    return [(data, sets) for data, sets in first.values() if _lack_samples(store, data, sets)]


def write_samples(
    store: Store, images: EvaluationSets, data: DataSpec, test: LabelledImages, sets: Sequence[TicketSet]
) -> None:
    """Write samples/<data set>/<family>.safetensors for each family: a tensor a type, uint8 [1 + severities, H, W, 3].

    The clean image comes first; "severities" lists the others. A type of which a severity cannot be had is left out.
    """
    for family, members in _families(sets).items():
        severities = sorted({asked.severity for asked in members})
        tensors: dict[str, Array] = {}
        for type in dict.fromkeys(asked.type for asked in members):
            versions = sorted((asked for asked in members if asked.type == type), key=lambda asked: asked.severity)
            try:
                shown = [images.open(asked, data).images[:1] for asked in versions]
            except UserError:  # said when it was to be evaluated
                continue
            tensors[type] = np.concatenate([test.images[:1], *shown])
        if tensors:
            file = samples_file(store, data.name, family)
            write_samples_file(file, {**tensors, SEVERITIES: np.array(severities)})


def _families(sets: Sequence[TicketSet]) -> dict[str, list[CorruptedSet]]:
    families: dict[str, list[CorruptedSet]] = {}
    for asked in sets:
        if isinstance(asked, CorruptedSet):
            families.setdefault(asked.family, []).append(asked)
    return families


def _lack_samples(store: Store, data: DataSpec, sets: Sequence[TicketSet]) -> bool:
    for family, members in _families(sets).items():
        try:
            stored = read_samples(store, data.name, family) or {}
        except UserError:  # damaged ones are made again
            return True
        severities = set(stored[SEVERITIES].tolist()) if SEVERITIES in stored else set()
        if not {asked.type for asked in members} <= stored.keys():
            return True
        if not {asked.severity for asked in members} <= severities:
            return True
    return False
