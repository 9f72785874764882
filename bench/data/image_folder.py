"""A data set of the user's own from an image folder, or a zip of one: `data: {folder: PATH, image_size: 64}` in a grid.

train/<class>/* trains. test/, val/ or valid/ tests. Where there is test/ and val/ (or valid/), val/ validates; else the
last tenth of the training images does, after they were put in a fixed pseudo-random order. Classes are the names of the
folders, sorted. An image is decoded (bench.data.decode), its shorter side is resized to the image size, bilinearly, and
the middle is cut out. Normalisation, unless given, is measured once on train/, and kept with the decoded images.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import Field

from bench.data.cache import CACHE_VERSION, cache_path, cached
from bench.data.dataset import Array, Dataset
from bench.data.decode import square
from bench.data.files import named
from bench.data.folders import (
    ImageTree,
    class_folders,
    decoded,
    labels_of,
    listing,
    open_images,
    training_order,
)
from bench.data.layout import OWN, TRAIN
from bench.data.record import DataSet, Parts
from bench.data.rows import Row
from bench.errors import UserError
from bench.spec.record import Record
from bench.spec.run import Augmentation
from bench.store.files import write_json

# Unless there is a folder to validate on, one of so many training images validates.
VALIDATION = 10
# The random crop moves an image by up to one of so many of its pixels: 4 of 32, as for CIFAR.
CROP = 8
NAME = re.compile(r"[a-z0-9][a-z0-9_]*")

Channels = tuple[float, float, float]


class FolderIndex(Record):
    """What is known of a folder whose files have not changed since: which images, classes, how many in each part."""

    version: int
    listing: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    measured: dict[int, tuple[Channels, Channels]] = Field(default={})


@dataclass(frozen=True)
class FolderSource:
    """The images of a folder at a size, decoded once into the cache of the data folder."""

    path: Path
    size: int
    names: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Where the images are."""
        return f"images of {self.path.name}"

    def read(self, data: DataSet, folder: Path, *, download: bool, progress: bool) -> Parts:  # noqa: ARG002
        """Return all images; UserError that names what is missing, damaged, or another image than was planned with."""

        def decode() -> Dataset:
            with open_images(self.path, OWN) as tree:
                if (found := _variant(tree.fingerprint, self.size)) != data.version:
                    raise UserError(f"{self.path}: its images are {found}, no longer {data.version}: plan again")
                return Dataset(data.name, data.version, data.class_names, *_decoded(data, tree, progress=progress))

        read = cached(folder, data.name, data.version, f"images of {self.path} are decoded", decode)
        return Parts(read.train_images, read.train_labels, read.test_images, read.test_labels)

    def stored(self, data: DataSet, folder: Path) -> tuple[Path, ...]:
        """Return the file of decoded images, decoded first if it is not there; UserError as `read`."""
        path = cache_path(folder, data.name, data.version)
        if not path.exists():
            self.read(data, folder, download=False, progress=False)
        return (path,)

    def listed(self, data: DataSet, folder: Path) -> Row:  # noqa: ARG002
        """Return where the folder is."""
        return Row(data.name, data.version, "ready", self.path, data.images, "")

    def verified(self, data: DataSet, folder: Path) -> Row:
        """Return the row after reading all images."""
        data.read(folder)
        return Row(data.name, data.version, "intact", self.path, data.images, "")


def open_image_folder(
    path: Path,
    size: int,
    *,
    root: Path,
    name: str | None = None,
    mean: Channels | None = None,
    std: Channels | None = None,
) -> DataSet:
    """Return the record of an image folder, or a zip of one, at an image size.

    root   the data folder, where what is measured and decoded is kept
    name   what runs and tables call it; the name of the folder unless given

    UserError, with what was found, for a layout or an image that cannot be used.
    """
    with named(path):
        if not path.exists():
            where = "" if path.is_absolute() else f" in {Path.cwd()}"
            raise UserError(f"{path}: no such folder, nor a zip{where}")
    name = folder_name(path, name)
    index = _index(path, root)
    tests = [part for part in OWN.tests if part in index.counts]
    if {"val", "valid"} <= index.counts.keys():
        raise UserError(f"{path}: found val/ and valid/; keep one of them")
    training = index.counts[TRAIN]
    validation = index.counts[tests[1]] if tests[1:] else max(1, training // VALIDATION)
    data = DataSet(
        name=name,
        classes=len(index.classes),
        train_images=training if tests[1:] else training - validation,
        validation_images=validation,
        test_images=index.counts[tests[0]],
        mean=mean or (0.0, 0.0, 0.0),
        std=std or (1.0, 1.0, 1.0),
        augmentation=Augmentation(padding=size // CROP, padding_mode="zero", flip=True),
        source=FolderSource(path.resolve(), size),
        image_size=size,
        class_names=index.classes,
        version=_variant(index.fingerprint, size),
    )
    return data if mean and std else _measured(data, path, index, root, mean, std)


def folder_name(path: Path, name: str | None) -> str:
    """Return what runs and tables call a folder: the name given, else its own; UserError if that cannot be one."""
    name = re.sub(r"[^a-z0-9]+", "_", path.resolve().stem.lower()).strip("_") if name is None else name
    if not NAME.fullmatch(name):
        raise UserError(f"{path}: {name!r} cannot be its name; give `name:`, of lower-case letters, digits and _")
    return name


def _measured(
    data: DataSet, path: Path, index: FolderIndex, root: Path, mean: Channels | None, std: Channels | None
) -> DataSet:
    """Return the record with the mean and standard deviation of train/, to four decimals, where none is given."""
    if data.image_size not in index.measured:
        images = data.read(root, progress=True).train_images[: index.counts[TRAIN]]
        found = mean_and_std(images)
        index = index.model_copy(update={"measured": {**index.measured, data.image_size: found}})
        _keep(_index_path(path, root), index)
    measured = index.measured[data.image_size]
    return replace(data, mean=mean or measured[0], std=std or measured[1])


def mean_and_std(images: Array) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of each channel, of images in [0, 1], from exact counts of the levels."""
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    levels, total = np.arange(256) / 255, counts[0].sum()
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    rounded = [[round(float(value), 4) for value in values] for values in (mean, std)]
    first, second = ((values[0], values[1], values[2]) for values in rounded)
    # A channel of one level everywhere is not divided by nothing.
    return first, (second[0] or 1.0, second[1] or 1.0, second[2] or 1.0)


def _decoded(data: DataSet, tree: ImageTree, *, progress: bool) -> Parts:
    """Return the images, train/ in a fixed pseudo-random order, then what validates; UserError names unusable files."""
    labels = labels_of(tree, data.class_names)
    parts = np.array([file.part for file in tree.files])
    tests = [part for part in OWN.tests if part in parts]
    train, test = np.flatnonzero(parts == TRAIN), np.flatnonzero(parts == tests[0])
    train = train[training_order(data.name, len(train))]
    train = np.concatenate([train, *(np.flatnonzero(parts == part) for part in tests[1:])])
    images = decoded(tree, data.image_size, square, progress=progress)
    return Parts(images[train], labels[train], images[test], labels[test])


def _variant(fingerprint: str, size: int) -> str:
    return f"folder-{fingerprint}-{size}px"


def _index(path: Path, root: Path) -> FolderIndex:
    """Return what is in a folder, as kept in the data folder unless a file has changed since."""
    state, kept = listing(path, OWN), _index_path(path, root)
    known = _read_index(kept)
    if known is not None and (known.version, known.listing) == (CACHE_VERSION, state):
        return known
    with open_images(path, OWN) as tree:
        counts: dict[str, int] = {}
        for file in tree.files:
            counts[file.part] = counts.get(file.part, 0) + 1
        index = FolderIndex(
            version=CACHE_VERSION,
            listing=state,
            fingerprint=tree.fingerprint,
            classes=class_folders(tree),
            counts=counts,
        )
    _keep(kept, index)
    return index


def _index_path(path: Path, root: Path) -> Path:
    name = sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return cache_path(root, "folder", name).with_suffix(".json")


def _read_index(path: Path) -> FolderIndex | None:
    try:
        return FolderIndex.model_validate_json(path.read_bytes()) if path.exists() else None
    except (OSError, ValueError):  # a damaged one is made again
        return None


def _keep(path: Path, index: FolderIndex) -> None:
    with suppress(OSError):  # a data folder that cannot be written costs time, each time
        write_json(path, index.model_dump(mode="json"))
