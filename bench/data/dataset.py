"""A data set in memory, and the part of it that a run sees: the first images train, the last ones validate.

Split as in the released code (sparselearning/utils.py): by position, never drawn.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.spec.run import DataSpec

Array = np.ndarray[Any, np.dtype[Any]]
# Images of up to 64 pixels a side that are predicted at once, and the fewest of larger ones.
AT_ONCE, LEAST_AT_ONCE = 500, 100


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images uint8 [N, H, W, 3] and labels int64 [N], -1 where an image is of no class.

    The images may be a memory map, or whatever gives slices of itself as arrays (bench.data.lazy).
    """

    images: Array
    labels: Array

    def first(self, count: int | None) -> "LabelledImages":
        """Return the first images, all if None."""
        return LabelledImages(leading(self.images, count), self.labels[:count])


def leading(images: Array, count: int | None) -> Array:
    """Return the first images, all if None; of those that are made slice by slice (bench.data.lazy) none is made."""
    first = getattr(images, "first", None)
    return images[:count] if first is None else first(count)


@dataclass(frozen=True, eq=False)
class Dataset:
    """All images of a data set: uint8 [N, 32, 32, 3] with int64 labels [N] that index `classes`.

    `variant` is "official", or the fingerprint of substitute images (bench.data.sources.variant_of). `test_names` are
    file names, bytes [N], where images to test on have some.
    """

    name: str
    variant: str
    classes: tuple[str, ...]
    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    test_names: Array | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """What a run trains on, chooses its epochs by, and is judged on."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    test_names: Array | None = None


def cut(dataset: Dataset, spec: DataSpec) -> Split:
    """Return views: first train_images and last validation_images of the training images, first test_images to test.

    UserError if the images are not those the spec names, are too few, or if the first two parts would overlap.
    """
    source = f"{dataset.name} ({dataset.variant})"
    if (dataset.name, dataset.variant) != (spec.name, spec.variant):
        raise UserError(f"data: the run asks for {spec.name} ({spec.variant}), but the images given are {source}")
    available, tests = len(dataset.train_images), len(dataset.test_images)
    if spec.train_images + spec.validation_images > available:
        raise UserError(
            f"data.train_images: {spec.train_images:,} images to train on and {spec.validation_images:,} to validate "
            f"on (data.validation_images) would overlap; together at most {available:,} are allowed, all that {source} "
            "has for training"
        )
    if spec.test_images > tests:
        raise UserError(f"data.test_images: {spec.test_images:,}, but {source} has {tests:,} test images")
    images, labels = dataset.train_images, dataset.train_labels
    first_validation = available - spec.validation_images
    return Split(
        train=LabelledImages(images[: spec.train_images], labels[: spec.train_images]),
        validation=LabelledImages(images[first_validation:], labels[first_validation:]),
        test=LabelledImages(dataset.test_images, dataset.test_labels).first(spec.test_images),
        test_names=None if dataset.test_names is None else dataset.test_names[: spec.test_images],
    )


def shrunk(dataset: Dataset, size: int) -> Dataset:
    """Return images uint8 [N, size, size, 3]: each pixel is the mean of a block of pixels, halves rounded up.

    `size` divides the size that the images have; the same images where it is that size.
    """
    train, test = (_block_means(images, size) for images in (dataset.train_images, dataset.test_images))
    return replace(dataset, train_images=train, test_images=test)


def _block_means(images: Array, size: int) -> Array:
    count, side, *_ = images.shape
    if side == size:
        return images
    block = side // size
    sums: Array = np.asarray(images).reshape(count, size, block, size, block, 3).sum(axis=(2, 4), dtype=np.uint32)
    means: Array = (sums + block**2 // 2) // block**2
    return means.astype(np.uint8)


def fixed_order(count: int, seed: int) -> Array:
    """Return a permutation of range(count), int64, that no release of NumPy may change.

    NumPy promises the raw words of a bit generator for ever, and no shuffle made from them (NEP 19).
    """
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def at_once(side: int) -> int:
    """Return how many images of this side, in pixels, are predicted at once."""
    return max(LEAST_AT_ONCE, min(AT_ONCE, AT_ONCE * 64**2 // side**2))
