"""The images of evaluation sets, opened by name: made here, released, out of distribution. Each reader is made once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.data.catalog import SHIFTED, facts_of, find_data_set, find_ood, find_release
from bench.data.dataset import Array, Split
from bench.data.lazy import EvaluationImages
from bench.data.local_c import LocalCorruptions
from bench.data.ood import open_folder
from bench.data.record import Corruptions
from bench.data.sets.imagenet_shift import IMAGENET_REAL
from bench.data.sources import is_streamed
from bench.errors import UserError
from bench.evaluation.sets import LOCAL, CorruptedSet, OodSet, OwnSet, RelabelledSet, ShiftSet, TicketSet
from bench.spec.run import DataSpec

K = TypeVar("K")
V = TypeVar("V")


class EvaluationSets:
    """Opens sets; each reader is made once.

    split      gives the images of a run's data
    root       the data folder
    download   whether to get what is not there
    """

    def __init__(self, root: Path, split: Callable[[DataSpec], Split], *, download: bool = True) -> None:
        self._root, self._split, self._download = root, split, download
        self._readers: dict[tuple[str, int | None, DataSpec], Corruptions | UserError] = {}
        self._other: dict[tuple[OodSet | ShiftSet, int], EvaluationImages | UserError] = {}

    def open(self, asked: TicketSet, data: DataSpec) -> EvaluationImages:
        """Return a set for runs on `data`; UserError, naming the file, if its images are not to be had.

        Of a RelabelledSet: the test images, of which nothing is predicted again.
        """
        if isinstance(asked, RelabelledSet):
            return self.open(OwnSet("test"), data)
        if isinstance(asked, OwnSet):
            split = self._split(data)
            images = split.test if asked.part == "test" else split.validation
            source = f"{asked.part} images of {data.name} ({data.variant})"
            return EvaluationImages(images.images, images.labels, source)
        if isinstance(asked, OodSet | ShiftSet):
            size = facts_of(data).image_size
            return _once(self._other, (asked, size), lambda: self._open_other(asked, size))
        key = (asked.family, asked.images, data.model_copy(update={"train_images": 1, "validation_images": 0}))
        reader = _once(self._readers, key, lambda: self._open_family(asked, data))
        return reader.read(asked.type, asked.severity, asked.images or data.test_images)

    def label_pairs(self, asked: RelabelledSet, data: DataSpec) -> tuple[Array, str]:
        """Return other labels of the test images, int64 [K, 2] of place and label, and their source."""
        names = self._split(data).test_names
        if names is None or asked.relabelled != IMAGENET_REAL.name:
            raise UserError(f"{asked.name}: the test images of {data.name} have no file names to know them by")
        return IMAGENET_REAL.pairs(self._root, [os.fsdecode(name) for name in names.tolist()])

    def _open_other(self, asked: OodSet | ShiftSet, size: int) -> EvaluationImages:
        if isinstance(asked, ShiftSet):
            return SHIFTED[asked.shifted].open(size, asked.images, self._root, download=False, progress=False)
        if asked.folder is not None:
            return open_folder(Path(asked.folder), size, asked.images)
        named = find_ood(asked.source)
        return named.open(size, asked.images, self._root, download=self._download, progress=False)

    def _open_family(self, asked: CorruptedSet, data: DataSpec) -> Corruptions:
        family = asked.family
        if family == LOCAL:
            test = self._split(data).test.first(asked.images)
            return LocalCorruptions(data.name, data.variant, test, self._root)
        release = find_release(family)
        if release is None:
            raise UserError(f"evaluations: no corrupted set {family!r} is known to this version")
        if data.variant != "official" and not is_streamed(find_data_set(data.name)):
            raise UserError(
                f"evaluations.{release.key}: {family} shows the official test images, these runs see an image folder "
                f"({data.variant}); local_c makes the same corruptions of that"
            )
        return release.open(family, self._root, download=self._download, size=facts_of(data).image_size)


def _once(known: dict[K, V | UserError], key: K, open: Callable[[], V]) -> V:
    """Return what was opened under a key; what kept it from opening once keeps it again, without another attempt."""
    if key not in known:
        try:
            known[key] = open()
        except UserError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, UserError):
        raise found.with_traceback(None)
    return found
