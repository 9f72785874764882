"""The images of evaluation sets, opened by name: made here, released, out of distribution. Each reader is made once."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages
from bench.data.imagenet_c import ImageNetC, open_imagenet_c
from bench.data.lazy import EvaluationImages
from bench.data.local_c import LocalCorruptions
from bench.data.outside import open_outside
from bench.data.released import open_released
from bench.errors import UserError
from bench.evaluation.sets import LOCAL, RELEASED, CorruptedSet, OutsideSet, TicketSet
from bench.spec.run import DataSpec

K = TypeVar("K")
V = TypeVar("V")


class _Corruptions(Protocol):
    def read(self, type: str, severity: int, images: int) -> EvaluationImages: ...


class EvaluationSets:
    """Opens sets; `test` gives the test images of a run's data, from which corrupted ones are made.

    root       the data folder
    download   whether to get what is not there
    """

    def __init__(self, root: Path, test: Callable[[DataSpec], LabelledImages], *, download: bool = True) -> None:
        self._root, self._test, self._download = root, test, download
        self._readers: dict[tuple[str, int | None, DataSpec], _Corruptions | UserError] = {}
        self._outside: dict[tuple[OutsideSet, int], EvaluationImages | UserError] = {}

    def open(self, asked: TicketSet, data: DataSpec) -> EvaluationImages:
        """Return a set for runs on `data`; UserError, naming the file, if its images are not to be had."""
        if isinstance(asked, OutsideSet):
            size = DATASETS[data.name].image_size
            return _once(self._outside, (asked, size), lambda: self._open_outside(asked, size))
        key = (asked.family, asked.images, data.model_copy(update={"train_images": 1, "validation_images": 0}))
        reader = _once(self._readers, key, lambda: self._open_family(asked, data))
        return reader.read(asked.type, asked.severity, asked.images or data.test_images)

    def _open_outside(self, asked: OutsideSet, size: int) -> EvaluationImages:
        folder = None if asked.folder is None else Path(asked.folder)
        return open_outside(
            "folder" if folder else asked.source,
            size=size,
            images=asked.images,
            root=self._root,
            folder=folder,
            download=self._download,
        )

    def _open_family(self, asked: CorruptedSet, data: DataSpec) -> _Corruptions:
        family = asked.family
        if family == LOCAL:
            test = self._test(data).first(asked.images)
            return LocalCorruptions(data.name, data.variant, test, self._root)
        if family in RELEASED.values():
            if data.variant != "official":
                raise UserError(
                    f"evaluations.cifar_c: {family} shows the official test images, these runs see an image folder "
                    f"({data.variant}); local_c makes the same corruptions of that"
                )
            return open_released(data.name, self._root, download=self._download)
        return _ImagenetFolder(open_imagenet_c(self._root), family)


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


class _ImagenetFolder:
    """The subset of ImageNet-C that a family names: its size is in its name, and every folder holds all of it."""

    def __init__(self, images: ImageNetC, family: str) -> None:
        if images.name != family:
            raise UserError(
                f"evaluations.imagenet_c: {family} is asked for, but what is there is {images.name}; set images: to "
                "how many it has"
            )
        self._images = images

    def read(self, type: str, severity: int, images: int) -> EvaluationImages:
        del images  # all of them, as the family says
        return self._images.read(type, severity)
