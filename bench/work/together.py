"""Which runs are evaluated together, so that each image is read and decoded once for all of them. Without torch."""

from collections.abc import Iterable
from math import ceil

from bench.data.catalog import facts_of
from bench.evaluation.sets import OwnSet
from bench.models.layers import weights_in
from bench.spec.run import DataSpec, Execution, RunSpec
from bench.work.items import EvaluateRun, Item

# Networks and logits of the runs that share a pass: twelve ResNet-50s on 50,000 images of 1,000 classes. A run that
# needs more is evaluated by itself.
MOST_BYTES = 4 * 10**9


def sharing(first: EvaluateRun, items: Iterable[Item]) -> list[EvaluateRun]:
    """Return those of the items whose runs see the same images as that of `first`, in the same arithmetic.

    Own sets and the others are not mixed, since the others wait until everything is trained.
    """
    own = isinstance(first.asked, OwnSet)
    key = _key(first.run.spec, own=own)
    return [
        item
        for item in items
        if isinstance(item, EvaluateRun)
        and isinstance(item.asked, OwnSet) == own
        and _key(item.run.spec, own=own) == key
    ]


def share_of(items: list[EvaluateRun], running: int, workers: int) -> list[EvaluateRun]:
    """Return the items of the first runs, as many as one of the workers takes; `running` more runs are others' now."""
    runs = list(dict.fromkeys(item.run.id for item in items))
    mine = set(runs[: ceil((len(runs) + running) / workers)])
    return [item for item in items if item.run.id in mine]


def bytes_in_pass(spec: RunSpec, images: int) -> int:
    """Return the bytes that a run takes in a pass over so many images: its networks, and their logits, float32."""
    logits = spec.model.members * images * facts_of(spec.data).classes
    return 4 * spec.tickets * (weights_in(spec.model, spec.data) + logits)


def _key(spec: RunSpec, *, own: bool) -> tuple[DataSpec, Execution]:
    """Return what the images of a set and torch's switches depend on."""
    # How many images trained and validated shows in the validation images alone.
    data = spec.data if own else spec.data.model_copy(update={"train_images": 1, "validation_images": 0})
    return data, spec.execution
