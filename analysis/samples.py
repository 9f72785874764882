"""One test image under each corruption, as the evaluation kept it in the store (bench.evaluation.samples)."""

from dataclasses import dataclass

import numpy as np

from bench.evaluation.sets import CorruptedSet
from bench.plan import Plan
from bench.store.folders import Array, Store, samples_file

SEVERITIES = "severities"


@dataclass(frozen=True)
class Samples:
    """Images uint8 [1 + severities, H, W, 3] by type of corruption, the clean one first, and the severities."""

    images: dict[str, Array]
    severities: tuple[int, ...]


def read_samples(plan: Plan, store: Store) -> dict[str, Samples]:
    """Return the samples of each family that the plan asks for; those that are not there, or not whole, are no loss."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    asked = {
        (run.like.data.name, one.family)
        for run in plan.runs
        for one in run.evaluations
        if isinstance(one, CorruptedSet)
    }
    found = {}
    for dataset, family in sorted(asked):
        file = samples_file(store, dataset, family)
        try:
            tensors = load_file(file)
            severities = tuple(int(severity) for severity in tensors.pop(SEVERITIES))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            continue
        if tensors and all(_is_row(images, len(severities)) for images in tensors.values()):
            found[family] = Samples(tensors, severities)
    return found


def _is_row(images: Array, severities: int) -> bool:
    return images.dtype == np.uint8 and images.ndim == 4 and len(images) == 1 + severities
