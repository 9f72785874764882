"""Data sets whose images are decoded from their files while networks train: where they are, and which they are."""

import hashlib
import logging
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from bench.data.cache import default_root
from bench.data.copies import nearest
from bench.data.dataset import Array, LabelledImages, fixed_order
from bench.data.folders import training_order
from bench.data.lazy import LazyImages
from bench.data.progress import tracked
from bench.data.record import DataSet, Parts
from bench.data.rows import Row
from bench.data.streamed.files import ImageFiles, joined
from bench.data.streamed.index import Part, find_part, index_part
from bench.data.streamed.parquet import parquet_parts
from bench.errors import UserError
from bench.spec.run import ResizedCrop
from bench.spec.seeds import derived_seed

log = logging.getLogger(__name__)

# As many images are decoded at once where all are.
BATCH = 256
# As many files are named in a message.
NAMED = 5
# How the variant of images begins that are known by the names of their files.
FILES = "files"
# What the images of ImageNet and of Tiny ImageNet are called by those who released them.
RELEASED_NAME = re.compile(r"(images/)?(n[0-9]{8}_[0-9]+|ILSVRC2012_val_[0-9]{8}|val_[0-9]+)\.\w+")


@dataclass(frozen=True)
class FileSource:
    """Image files of a train and a test part, in folders or in tars.

    names         of files and folders in a data folder that are this source's; the first is the folder of its own
    train, test   what the parts may be called
    around        folders, relative to a location, that the parts may lie in
    flat_labels   what finds labels of a test part that is not by class, given the part's place and the folder of both
    official      numbers of images to train on and to test on, of images with published names
    numbers       the classes that numbers stand for, in shards and in folders 0 to 999; the class names, if none
    some_classes  whether the parts hold other classes too, which are left out
    side          of images that all have it, in pixels; None: of any size
    by_hand       how to get them
    validation    what a part that validates may be called; without one the last images to train on do
    where         the place of the parts, of images that lie in no data folder

    Images that are cropped at random (ResizedCrop) stay in their files; others are decoded when they are read.
    """

    names: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    around: tuple[str, ...] = ()
    flat_labels: Callable[[Path, Path], dict[str, str] | None] = lambda *_: None
    official: tuple[int, int] | None = None
    numbers: tuple[str, ...] = ()
    some_classes: bool = False
    side: int | None = None
    by_hand: str = ""
    validation: tuple[str, ...] = ()
    where: Path | None = None

    @property
    def origin(self) -> str:
        """Which images they are."""
        return "official, by their number and names"

    def read(self, data: DataSet, folder: Path, *, download: bool, progress: bool) -> Parts:  # noqa: ARG002
        """Return images to train on, in a fixed order, files or decoded, and to test on, decoded as they are read."""
        (train, where), (test, test_where) = self.parts(data, folder)
        train, test = _nearest(train), _nearest(test)
        classes = data.class_names or train.classes
        if len(classes) != data.classes:
            raise UserError(f"{where}: found {len(classes)} classes; {data.name} has {data.classes}")
        if missing := set(classes) - set(train.classes):
            log.warning("%s: no image of %d of the %d classes", where, len(missing), len(classes))
        order, shuffled = training_order(data.name, len(train.labels)), test_order(data.name, len(test.labels))
        to_train, to_test = train.labelled(classes, where), test.labelled(classes, test_where)
        files, labels = cast("ImageFiles", to_train.images[order]), to_train.labels[order]
        tests = self._shown(to_test.images[shuffled], data)
        if (validation := self.held_out(where)) is not None:
            held_out = _nearest(validation).labelled(classes, where.parent)
            files = joined(files, cast("ImageFiles", held_out.images))
            labels = np.concatenate([labels, held_out.labels])
        images = files.as_array()
        if not isinstance(data.augmentation, ResizedCrop):
            images = whole(self._shown(images, data), f"decoding {where}", progress=progress)
        if self.where is not None and (version := self.version_of(train, test, validation)) != data.version:
            raise UserError(f"{self.where}: its images are {version}, no longer {data.version}: plan again")
        return Parts(images, labels, tests, to_test.labels[shuffled])

    def stored(self, data: DataSet, folder: Path) -> tuple[Path, ...]:
        """Return the tars, or the folders of the classes, that hold the files; UserError as `read`."""
        (train, where), (test, _) = self.parts(data, folder)
        parts = [part for part in (train, test, self.held_out(where)) if part is not None]
        used = [part.files.holders[holder] for part in parts for holder in np.unique(part.files.holder)]
        return tuple(map(Path, dict.fromkeys(used)))

    def held_out(self, train: Path) -> Part | None:
        """Return the part that validates, beside the one to train on; None if there is none."""
        where = find_part(train.parent, self.validation)
        return None if where is None else index_part(where, default_root() / "cache")

    def _shown(self, files: Array, data: DataSet) -> Array:
        return shown(files, data.image_size) if self.side is None else exact(files, self.side, data.image_size)

    def version(self, data: DataSet, folder: Path) -> str:
        """Return "official", or a fingerprint of the names of other images."""
        (train, where), (test, _) = self.parts(data, folder)
        return self.version_of(train, test, self.held_out(where))

    def listed(self, data: DataSet, folder: Path) -> Row:
        """Return what names of files say."""
        try:
            (train, where), (test, _) = self.parts(data, folder)
        except UserError as error:
            there = any((folder / name).exists() for name in self.names)
            return Row(data.name, data.version, "damaged" if there else "absent", folder, None, str(error))
        images = len(train.labels) + len(test.labels)
        version = self.version_of(train, test, self.held_out(where))
        return Row(data.name, version, "ready", where.parent, images, "")

    def verified(self, data: DataSet, folder: Path) -> Row:
        """Return the row after decoding every image."""
        row = self.listed(data, folder)
        if row.state != "ready":
            return row
        for part, where in self.parts(data, folder):
            problems = first_problems(part.files, f"decoding {where}")
            if problems:
                return Row(row.name, row.variant, "damaged", row.where, row.images, "; ".join(problems))
        return Row(row.name, row.variant, "intact", row.where, row.images, "every image can be decoded")

    def parts(self, data: DataSet, folder: Path) -> tuple[tuple[Part, Path], tuple[Part, Path]]:
        """Return what there is to train on and to test on, with its place; UserError with what was found instead."""
        root, train, test = self._places(data, folder)
        cache = default_root() / "cache"
        parts = index_part(train, cache), index_part(test, cache, lambda where: self.flat_labels(where, root))
        names = self.numbers or data.class_names
        parts = parts[0].named(names), parts[1].named(names)
        if self.some_classes:
            parts = parts[0].of_classes(data.class_names), parts[1].of_classes(data.class_names)
        return (parts[0], train), (parts[1], test)

    def _places(self, data: DataSet, folder: Path) -> tuple[Path, Path, Path]:
        folder = self.where or folder
        roots = [*(folder / name for name in self.names), folder]
        roots += [root / around for root in roots for around in self.around]
        # In a data folder the only folder may be of another data set.
        looked_into = folder.is_dir() and folder.resolve() != default_root().resolve()
        inside = [path for path in folder.iterdir() if path.is_dir()] if looked_into else []
        roots += inside[: len(inside) == 1]
        expected = (
            f"{self.train[0]}/<class>/<image> and {self.test[0]}/<class>/<image>, or tars: "
            f"{self.train[-1]}.tar and {self.test[-1]}.tar"
        )
        for root in roots:
            train, test = find_part(root, self.train), find_part(root, self.test)
            if train is not None and test is not None:
                return root, train, test
            if train is not None or test is not None:
                lacks = self.test if test is None else self.train
                raise UserError(f"{root}: found {(train or test or root).name}, no {lacks[0]}; expected {expected}")
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:NAMED]) if folder.is_dir() else "no folder"
        by_hand = f". {self.by_hand}" if self.by_hand else ""
        if parquet := next((root for root in roots if parquet_parts(root)), None):
            name = f"{data.name} " if self.where is None else ""
            raise UserError(
                f"{parquet}: holds Parquet files, which give no single image; convert them once: python -m bench data "
                f"pack {name}--data {parquet} --out DIR"
            )
        raise UserError(
            f"data: the images of {data.name} are not in {folder.resolve()} (found: {found or 'nothing'}); expected "
            f"{expected}{by_hand}"
        )

    def version_of(self, train: Part, test: Part, validation: Part | None = None) -> str:
        """Return "official", or a fingerprint of the names of other images; and how packs have encoded them anew."""
        parts = [train, test, *([] if validation is None else [validation])]
        if self.official == (len(train.labels), len(test.labels)) and all(map(_released, parts)):
            version = "official"
        else:
            together = hashlib.sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest()
            version = f"{'images' if self.where is None else FILES}-{together[:12]}"
        encodings = [part.encoding or "original" for part in parts]
        said = dict.fromkeys(encodings) if len(set(encodings)) == 1 else encodings
        return version if not any(part.encoding for part in parts) else "-".join([version, *said])


def _nearest(part: Part) -> Part:
    """Return a part that reads from copies on this node where this process uses some."""
    holders = tuple(str(nearest(Path(holder))) for holder in part.files.holders)
    return replace(part, files=replace(part.files, holders=holders))


def _released(part: Part) -> bool:
    """Whether the first image of each class has a name of the release: shards may have names of their own."""
    first = np.unique(part.labels, return_index=True)[1]
    return all(RELEASED_NAME.fullmatch(os.fsdecode(name)) for name in part.files.names[first].tolist())


def test_order(name: str, count: int) -> Array:
    """Return the fixed pseudo-random order in which the test images of a data set of this name are taken.

    Files are sorted by class: without it, the first ones were of a few classes.
    """
    return fixed_order(count, derived_seed("test order", name, count))


def shown(files: Array, size: int) -> Array:
    """Return image files as evaluation sees them: LazyImages uint8 [N, size, size, 3]."""

    def one(data: bytes) -> Array:
        from bench.data.streamed.decode import evaluated  # loads torch, which plans do without

        return evaluated(data, size).numpy()

    return _lazy(files, size, one)


def exact(files: Array, side: int, size: int) -> Array:
    """Return image files that are all of side x side pixels, in another size: LazyImages uint8 [N, size, size, 3]."""

    def one(data: bytes) -> Array:
        from bench.data.streamed.decode import decode, resized
        from bench.data.streamed.windows import Window

        pixels = decode(data)
        height, width, _ = pixels.shape
        if (height, width) != (side, side):
            raise ValueError(f"{width}x{height} pixels, not {side}x{side}")
        return pixels if size == side else resized(pixels, Window(0, 0, side, side), (size, size)).numpy()

    return _lazy(files, size, one)


def _lazy(images: Array, size: int, one: Callable[[bytes], Array]) -> Array:
    """Return what makes slices of image files; `one` returns uint8 [size, size, 3] of the bytes of a file."""
    files = cast("ImageFiles", images)

    def make(start: int, stop: int) -> Array:
        pixels = np.empty((stop - start, size, size, 3), np.uint8)

        def decode(place: int) -> None:
            try:
                pixels[place] = one(files.read(start + place))
            except ValueError as error:
                raise UserError(f"{files.path(start + place)}: {error}") from None

        # The decoder lets go of the interpreter.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode, range(stop - start)):
                pass
        return pixels

    return LazyImages(len(files), size, make, files.names).as_array()


def decoded(images: LabelledImages, size: int, what: str, *, progress: bool) -> LabelledImages:
    """Return image files as evaluation sees them, all in memory; UserError that names an unusable one."""
    return LabelledImages(whole(shown(images.images, size), what, progress=progress), images.labels)


def whole(lazy: Array, what: str, *, progress: bool) -> Array:
    """Return all of LazyImages in memory; UserError that names an unusable one."""
    pixels = np.empty(lazy.shape, np.uint8)
    for start in tracked(range(0, len(pixels), BATCH), what, progress=progress):
        pixels[start : start + BATCH] = lazy[start : start + BATCH]
    return pixels


def first_problems(files: ImageFiles, what: str) -> list[str]:
    """Return what is wrong with the first files that cannot be decoded."""
    from bench.data.streamed.decode import decode

    def problem(index: int) -> str | None:
        try:
            decode(files.read(index))
        except ValueError as error:
            return f"{files.path(index)}: {error}"
        return None

    problems: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in tracked(range(0, len(files), BATCH), what, progress=True):
            found = pool.map(problem, range(start, min(start + BATCH, len(files))))
            problems += [text for text in found if text is not None]
            if len(problems) >= NAMED:
                break
    return problems[:NAMED]
