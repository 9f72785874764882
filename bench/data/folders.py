"""Images from an image folder, or from a zip of one: train/<class>/*, test/<class>/*.

A substitute for the official archives of a data set (JPEG copies, say), or a data set of the user's own
(bench.data.image_folder). Which images they are is a fingerprint of every image file, the same for a folder and for a
zip of it. Folders sorted by class are put in a fixed pseudo-random order, since the last training images validate.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.dataset import Array, fixed_order
from bench.data.decode import exact, rgb
from bench.data.files import (
    LARGEST,
    folders_in,
    named,
    read_file,
    regular,
    shown,
)
from bench.data.layout import SUBSTITUTE, TRAIN, Layout, placed, required_root, some, walk
from bench.data.progress import tracked
from bench.data.record import DataSet, Parts
from bench.errors import UserError
from bench.spec.seeds import derived_seed

if TYPE_CHECKING:
    from PIL.Image import Image

# As many unusable images are named before giving up.
NAMED = 3
# As many images are decoded at once.
BATCH = 64


@dataclass(frozen=True)
class ImageFile:
    """An image file: path from train/ or test/ on, name in its container, CRC-32 and size of its bytes."""

    path: str
    member: str
    crc: int
    size: int

    @property
    def part(self) -> str:
        """The word "train" or "test"."""
        return self.path.split("/")[0]

    @property
    def label(self) -> str:
        """The class, by name."""
        return self.path.split("/")[1]


@dataclass(frozen=True)
class ImageTree:
    """The image files of an opened folder or zip, sorted by path, and how to read one."""

    location: Path
    files: tuple[ImageFile, ...]
    read: Callable[[ImageFile], bytes]

    @property
    def fingerprint(self) -> str:
        """Return 12 hex digits of the SHA-256 over (path, CRC-32, size) of all image files."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.path}\0{file.crc:08x}\0{file.size}\n".encode())
        return digest.hexdigest()[:12]

    @property
    def variant(self) -> str:
        """The variant of a data set that these images stand for."""
        return f"images-{self.fingerprint}"


@contextmanager
def open_images(location: Path, layout: Layout = SUBSTITUTE) -> Iterator[ImageTree]:
    """Open an image folder or a zip of one; a zip costs the reading of its directory, a folder that of every file.

    UserError if it cannot be read, or if images lie elsewhere than in train/<class>/ and test/<class>/.
    """
    if _is_folder(location):
        root = required_root(location, layout)
        members = placed(location, list(walk(root, layout)), layout, [path.name for path in folders_in(root)])
        checked = ((path, member, read_file(root / member)) for path, member in members.items())
        files = tuple(ImageFile(path, member, zlib.crc32(data), len(data)) for path, member, data in checked)
        yield ImageTree(location, files, lambda file: read_file(root / file.member))
        return
    with _open_zip(location) as archive:
        members = placed(location, archive.namelist(), layout)
        infos = ((path, archive.getinfo(member)) for path, member in members.items())
        files = tuple(ImageFile(path, info.filename, info.CRC, info.file_size) for path, info in infos)
        yield ImageTree(location, files, lambda file: _read_member(archive, file))


def listing(location: Path, layout: Layout) -> str:
    """Return a digest of names, sizes and times of the image files, or of the zip: cheap, and it tells a change."""
    if _is_folder(location):
        root = required_root(location, layout)
        states = [(member, regular(root / member)) for member in sorted(walk(root, layout))]
    else:
        states = [(location.name, regular(location))]
    text = "".join(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n" for name, state in states)
    return hashlib.sha256(text.encode()).hexdigest()


def class_folders(tree: ImageTree) -> tuple[str, ...]:
    """Return the class names, sorted; UserError unless all parts hold images of the same classes."""
    of_part: dict[str, set[str]] = {}
    for file in tree.files:
        of_part.setdefault(file.part, set()).add(file.label)
    everything = set[str]().union(*of_part.values())
    lacks = [
        f"{part}/ has no images of {some(everything - labels)}"
        for part, labels in of_part.items()
        if everything - labels
    ]
    if lacks:
        parts = " and ".join(f"{part}/" for part in of_part)
        raise UserError(f"{tree.location}: {'; '.join(lacks)}; {parts} must hold the same classes")
    return tuple(sorted(everything))


def classes_of(data: DataSet, tree: ImageTree) -> tuple[str, ...]:
    """Return the class names, sorted; UserError unless they are as many as the data set has."""
    classes = class_folders(tree)
    if len(classes) != data.classes:
        official, found = set(data.class_names), set(classes)
        raise UserError(
            f"{tree.location}: {data.name} needs {data.classes} classes, found {len(classes)}; compared with the "
            f"official names, missing: {some(official - found)}; unexpected: {some(found - official)}"
        )
    return classes


def training_order(name: str, count: int) -> Array:
    """Return the fixed pseudo-random order in which the training images of a data set of this name are used."""
    return fixed_order(count, derived_seed("image folder order", name, count))


def labels_of(tree: ImageTree, classes: Sequence[str]) -> Array:
    """Return the labels int64 of all files."""
    number = {label: index for index, label in enumerate(classes)}
    return np.array([number[file.label] for file in tree.files], dtype=np.int64)


def decode_substitute(data: DataSet, tree: ImageTree, *, progress: bool) -> tuple[tuple[str, ...], Parts]:
    """Return classes and images, those to train on in a fixed order; UserError as classes_of and decoded."""
    classes = classes_of(data, tree)
    labels = labels_of(tree, classes)
    trains = np.array([file.part == TRAIN for file in tree.files])
    train, test = np.flatnonzero(trains), np.flatnonzero(~trains)
    train = train[training_order(data.name, len(train))]
    images = decoded(tree, data.image_size, exact, progress=progress)
    return classes, Parts(images[train], labels[train], images[test], labels[test])


def decoded(tree: ImageTree, size: int, fit: "Callable[[Image, int], Image]", *, progress: bool) -> Array:
    """Return the images of all files, uint8 [N, size, size, 3]; UserError that names those that cannot be used.

    fit   makes an image fit a size; ValueError if it does not
    """
    images = np.empty((len(tree.files), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> str | None:
        try:
            images[index] = np.asarray(fit(rgb(tree.read(tree.files[index])), size))
        except ValueError as error:
            return f"{shown(tree.files[index].path)} {error}"
        return None

    problems: list[str] = []
    starts = range(0, len(images), BATCH)
    # Pillow lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in tracked(starts, f"decoding {tree.location.name}", progress=progress):
            found = pool.map(decode, range(start, min(start + BATCH, len(images))))
            problems += [problem for problem in found if problem]
            if len(problems) >= NAMED:
                break
    if problems:
        raise UserError(f"{tree.location}: not all images are usable: {'; '.join(problems[:NAMED])}")
    return images


@contextmanager
def _open_zip(location: Path) -> Iterator[zipfile.ZipFile]:
    regular(location)
    try:
        archive = zipfile.ZipFile(location)
    except Exception as error:  # zipfile raises what it likes at damaged bytes
        raise UserError(f"{location}: not a complete zip ({error}); copy or download it again, or unpack it") from None
    with archive:
        yield archive


def _read_member(archive: zipfile.ZipFile, file: ImageFile) -> bytes:
    if file.size > LARGEST:
        raise ValueError(f"has {file.size:,} bytes; allowed for an image: {LARGEST:,}")
    try:
        return archive.read(file.member)
    except Exception as error:  # as above
        raise ValueError(f"cannot be decoded ({error})") from None


def _is_folder(location: Path) -> bool:
    with named(location):
        return location.is_dir()
