"""Images out of distribution: of classes that a network was not trained on, all of label -1, at the size it takes.

Images of another size are resized, bilinearly, when they are read. What there is by name is in bench.data.catalog; a
folder of the user's own is read here.
"""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.dataset import Array
from bench.data.decode import rgb, square
from bench.data.files import IMAGE_SUFFIXES, image_files, named, read_file, shown
from bench.data.lazy import EvaluationImages, LazyImages
from bench.data.record import DataSet
from bench.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class OtherDataSet:
    """The test images of a data set, or all where it says so, shown to networks trained on another one."""

    data: DataSet

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.data.name

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.data.ood_images

    def open(self, size: int, images: int | None, root: Path, *, download: bool, progress: bool) -> EvaluationImages:
        """Return the images, labels -1; UserError, with what to do, if they are not to be had."""
        read = self.data.read(root, download=download, progress=progress)
        array = np.concatenate([read.train_images, read.test_images]) if self.data.ood_whole else read.test_images
        origin = self.data.source.origin if self.data.source else ""
        return first_images(array, images, size, origin)


def open_folder(folder: Path, size: int, images: int | None) -> EvaluationImages:
    """Return the images below a folder, in the order of their paths, labels -1.

    images   how many, the first ones; None, or more than there are: all

    The source is a digest of path, CRC-32 and size of those that are used. UserError if it is no folder or holds no
    image; when a slice is read, for a file that cannot be decoded.
    """
    with named(folder):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected one with images below it")
    paths = sorted(image_files(folder))
    if not paths:
        raise UserError(f"{folder}: no images below it; allowed: {', '.join(IMAGE_SUFFIXES)}")
    used = paths[:images]
    digest = hashlib.sha256()
    for path in used:
        data = read_file(folder / path)
        digest.update(f"{path}\0{zlib.crc32(data):08x}\0{len(data)}\n".encode())

    def make(index: int) -> "Image":
        try:
            return square(rgb(read_file(folder / used[index])), size)
        except ValueError as error:
            raise UserError(f"{shown(folder / used[index])}: {error}") from None

    lazy = _made_singly(len(used), size, make)
    return EvaluationImages(lazy, no_labels(len(used)), f"images-{digest.hexdigest()[:12]}")


def first_images(array: Array, images: int | None, size: int, source: str) -> EvaluationImages:
    """Return the first images of an array, at another size; those of the right size as they are.

    images   how many; None, or more than there are: all
    """
    count = len(array[:images])
    if array.shape[1] != size:
        from PIL import Image

        return EvaluationImages(
            _made_singly(count, size, lambda index: square(Image.fromarray(array[index]), size)),
            no_labels(count),
            source,
        )
    return EvaluationImages(array[:count], no_labels(count), source)


def no_labels(count: int) -> Array:
    """Return the label -1 as often as there are images."""
    return np.full(count, -1, dtype=np.int64)


def _made_singly(count: int, size: int, make: Callable[[int], "Image"]) -> Array:
    def several(start: int, stop: int) -> Array:
        images = np.empty((stop - start, size, size, 3), dtype=np.uint8)
        for index in range(start, stop):
            images[index - start] = np.asarray(make(index))
        return images

    return LazyImages(count, size, several).as_array()
