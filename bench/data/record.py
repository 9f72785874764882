"""What a data set, and a set that networks are only evaluated on, says of itself: one record has all of it.

Those of the suite are in bench.data.sets. A user's own, `package.module:name` in a grid, is a DataSet like any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from bench.data.dataset import Array, Dataset
from bench.data.files import named
from bench.data.lazy import EvaluationImages, LazyImages
from bench.data.rows import Row
from bench.data.streamed.files import ImageFiles
from bench.errors import UserError
from bench.spec.run import Augmentation, ImageFacts, ResizedCrop


class Parts(NamedTuple):
    """Images uint8 [N, S, S, 3] and labels int64 [N]: to train on, of which the last ones validate, and to test on.

    train_images   may be ImageFiles (bench.data.streamed), which nobody decodes until a batch is due
    """

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


class Source(Protocol):
    """Where the images of a data set come from, and what `bench data` says of it; `folder` is the data folder.

    names    files and folders, in a data folder, that are this source's; none if a user cannot give the images instead
    origin   which images they are, in a few words to be recorded with results
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def origin(self) -> str: ...

    def read(self, data: "DataSet", folder: Path, *, download: bool, progress: bool) -> Parts:
        """Return all images; UserError, with what to do, if they are not to be had."""

    def listed(self, data: "DataSet", folder: Path) -> Row:
        """Return what names and sizes of files say."""

    def verified(self, data: "DataSet", folder: Path) -> Row:
        """Return the row after checking every byte."""


@runtime_checkable
class VersionedSource(Protocol):
    """A Source that knows which images it has only by looking."""

    def version(self, data: "DataSet", folder: Path) -> str:
        """Return "official", or a fingerprint of other images."""


@runtime_checkable
class StoredSource(Protocol):
    """A Source whose files can be copied to a disk of the node (bench.data.copies), where it then reads them."""

    def stored(self, data: "DataSet", folder: Path) -> Sequence[Path]:
        """Return the files and folders that `read` reads, made first if they are made once; UserError as `read`."""


@dataclass(frozen=True)
class DataSet:
    """A data set of RGB images: what a plan must know of it, and where its images come from.

    The training set holds train_images + validation_images; the last ones validate (released code, utils.py).

    mean, std      per channel, of images in [0, 1]
    source         None: its grids can be planned, not trained
    class_names    in the order of the labels
    ood_whole      whether networks trained on another data set are shown all of its images, not its test images alone
    version        which images, part of a run's identity: another word for other images
    facts_named    whether its facts are part of a run's identity too, as of a user's data set: they changed once
    """

    name: str
    classes: int
    train_images: int
    validation_images: int
    test_images: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augmentation: Augmentation | ResizedCrop
    source: Source | None
    image_size: int = 32
    class_names: tuple[str, ...] = ()
    ood_whole: bool = False
    version: str = "official"
    facts_named: bool = False

    @cached_property
    def facts(self) -> ImageFacts:
        """What a network is built and fed for."""
        return ImageFacts(classes=self.classes, image_size=self.image_size, mean=self.mean, std=self.std)

    @property
    def images(self) -> int:
        """How many images there are, all parts together."""
        return self.train_images + self.validation_images + self.test_images

    @property
    def ood_images(self) -> int:
        """How many of its images are shown to networks that were trained on another data set."""
        return self.images if self.ood_whole else self.test_images

    def read(self, folder: Path, *, download: bool = True, progress: bool = False) -> Dataset:
        """Return all images, from the data folder; UserError if they are not to be had or not what the record says."""
        if self.source is None:
            raise unreadable(self.name)
        with named(folder):
            parts = self.source.read(self, folder, download=download, progress=progress)
        for part, images, labels in (("train", *parts[:2]), ("test", *parts[2:])):
            if problem := self._problem(images, labels):
                raise UserError(f"data: {self.name}: its {part}_images are {problem}")
        classes = self.class_names or tuple(map(str, range(self.classes)))
        version = self.source.version(self, folder) if isinstance(self.source, VersionedSource) else self.version
        names = parts[2].names if isinstance(parts[2], LazyImages) else None
        return Dataset(self.name, version, classes, *parts, test_names=names)

    def _problem(self, images: Array, labels: Array) -> str | None:
        side = self.image_size
        in_memory = not isinstance(images, ImageFiles | LazyImages)
        if in_memory and _form(images) != f"uint8 {[*np.shape(images)[:1], side, side, 3]}":
            return f"{_form(images)}, not uint8 [N, {side}, {side}, 3]"
        if _form(labels) != f"int64 {[len(images)]}":
            return f"labelled by {_form(labels)}, not int64 [{len(images)}]"
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.classes:
            return f"labelled {labels.min()} to {labels.max()}, not 0 to {self.classes - 1}"
        return None


def _form(array: object) -> str:
    """Return dtype and shape, such as "uint8 [900, 64, 64, 3]"; the type of what is no array."""
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__


def unreadable(name: str) -> UserError:
    """Return what to tell a user who wants the images of a data set that has no source."""
    return UserError(f"data: the images of {name} cannot be read yet: its grids can be planned, not trained")


@dataclass(frozen=True)
class Embedded:
    """Images that a function returns, of a package or of the user's; always there, and not to be given otherwise."""

    function: Callable[[], Parts]
    note: str = ""
    names: tuple[str, ...] = ()
    origin: str = "official"

    def read(self, data: DataSet, folder: Path, *, download: bool, progress: bool) -> Parts:  # noqa: ARG002
        """Return all images; UserError for whatever the function raises."""
        try:
            return Parts(*self.function())
        except UserError:
            raise
        except Exception as error:  # it may be the user's
            raise UserError(f"data: {data.name}: its images cannot be read: {type(error).__name__}: {error}") from error

    def listed(self, data: DataSet, folder: Path) -> Row:  # noqa: ARG002
        """Return that they are embedded."""
        return Row(data.name, data.version, "embedded", None, data.images, self.note)

    def verified(self, data: DataSet, folder: Path) -> Row:
        """Return that they are intact, if they are what the record says."""
        data.read(folder)
        return Row(data.name, data.version, "intact", None, data.images, self.note)


class Shown(Protocol):
    """A set to evaluate on, as `bench data` shows it."""

    @property
    def name(self) -> str: ...

    def listed(self, root: Path) -> Row | None:
        """Return what names and sizes of files in a data folder say; None if there is nothing to say."""

    def verified(self, root: Path) -> Row:
        """Return the row after checking every byte."""

    def prepared(self, root: Path, *, progress: bool) -> Row:
        """Download what is missing; UserError if that fails."""


class OodImages(Protocol):
    """A set of images that show none of the classes, labels -1."""

    @property
    def name(self) -> str: ...

    @property
    def images(self) -> int: ...

    def open(self, size: int, images: int | None, root: Path, *, download: bool, progress: bool) -> EvaluationImages:
        """Return uint8 [N, size, size, 3], an array or LazyImages: the first `images`, all if None."""


class Corruptions(Protocol):
    """Corrupted images, of all types and severities of a family."""

    def read(self, type: str, severity: int, images: int) -> EvaluationImages:
        """Return the first images of a type and severity; UserError that names what is missing or damaged."""


class ReleasedCorruptions(Protocol):
    """A released corrupted set: `of` is the data set whose test images it shows, `key` what a grid asks for it by."""

    @property
    def name(self) -> str: ...

    @property
    def of(self) -> str: ...

    @property
    def key(self) -> str: ...

    def family(self, images: int | None, available: int) -> tuple[str, int | None]:
        """Return the family that evaluation sets are named by, and how many images of each (None: all)."""

    def open(self, family: str, root: Path, *, download: bool, size: int) -> Corruptions:
        """Return the images of a family, in a size; UserError, with what to do, if they are not to be had."""
