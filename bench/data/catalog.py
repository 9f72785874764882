"""The data sets and the sets to evaluate on, by name: what plans, workers and `bench data` look up.

A data set that is not listed is named `package.module:name`, or is an image folder that a grid names
(bench.data.image_folder). Without torch, and without loading an image.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from bench.data.ood import OtherDataSet
from bench.data.record import DataSet, OodImages, ReleasedCorruptions, Shown
from bench.data.sets.cifar import CIFAR10, CIFAR100
from bench.data.sets.cifar_c import CIFAR10_C, CIFAR100_C
from bench.data.sets.digits import DIGITS
from bench.data.sets.imagenet import IMAGENET
from bench.data.sets.imagenet64 import IMAGENET64, Batches
from bench.data.sets.imagenet_c import IMAGENET_C
from bench.data.sets.imagenet_parts import IMAGENET100, IMAGENETTE, IMAGEWOOF, TINY_IMAGENET
from bench.data.sets.imagenet_shift import (
    IMAGENET_A,
    IMAGENET_R,
    IMAGENET_REAL,
    IMAGENET_SKETCH,
    IMAGENET_V2,
    ShiftedImages,
)
from bench.data.sets.mnist import MNIST
from bench.data.sets.noise import GAUSSIAN, UNIFORM
from bench.data.sets.openood import FAR, IMAGENET_O, NEAR
from bench.data.sets.svhn import SVHN
from bench.data.streamed.source import FileSource
from bench.errors import UserError, did_you_mean
from bench.spec.elsewhere import find_elsewhere
from bench.spec.run import Augmentation, DataSpec, ImageFacts, ResizedCrop

# In the order in which `bench data` shows them.
DATASETS: dict[str, DataSet] = {
    data.name: data
    for data in (DIGITS, CIFAR10, CIFAR100, IMAGENET, IMAGENET64, IMAGENET100, IMAGENETTE, IMAGEWOOF, TINY_IMAGENET)
}
RELEASES: dict[str, ReleasedCorruptions] = {release.name: release for release in (CIFAR10_C, CIFAR100_C, IMAGENET_C)}
# Other images of ImageNet's classes, and images of none of them.
SHIFTED: dict[str, ShiftedImages] = {
    images.name: images for images in (IMAGENET_V2, IMAGENET_A, IMAGENET_R, IMAGENET_SKETCH)
}
OOD_OF_IMAGENET: dict[str, OodImages] = {images.name: images for images in (IMAGENET_O, *NEAR, *FAR)}
OOD: dict[str, OodImages] = {images.name: images for images in (SVHN, MNIST, GAUSSIAN, UNIFORM)} | OOD_OF_IMAGENET
_SHOWN: tuple[Shown, ...] = (CIFAR10_C, CIFAR100_C, SVHN, MNIST, IMAGENET_C, *SHIFTED.values(), IMAGENET_REAL)
SHOWN: dict[str, Shown] = {shown.name: shown for shown in (*_SHOWN, IMAGENET_O, *NEAR, *FAR)}
# Image folders that grids named in this process, by name and variant.
_FOLDERS: dict[tuple[str, str], DataSet] = {}


def find_data_set(name: str, variant: str | None = None) -> DataSet:
    """Return a data set by name: listed, elsewhere as `package.module:name`, or an image folder that a grid named.

    UserError if there is none.
    """
    if name in DATASETS:
        return DATASETS[name]
    if ":" in name:
        return _imported(name)
    for (known, of), data in _FOLDERS.items():
        if known == name and variant in (None, of):
            return data
    other = ", or a data set elsewhere as package.module:name"
    raise UserError(f"data: unknown data set {name!r}{did_you_mean(name, DATASETS)}{other}")


def remember_folder(data: DataSet) -> None:
    """Let an image folder be found by its name, in this process."""
    _FOLDERS[data.name, data.version] = data


def facts_of(data: DataSpec) -> ImageFacts:
    """Return what a network for these images is built for: as listed, or as in the spec of a run on a user's images."""
    if data.facts is not None:
        return data.facts
    if data.name not in DATASETS:
        raise UserError(f"data: unknown data set {data.name!r}{did_you_mean(data.name, DATASETS)}")
    return DATASETS[data.name].facts


def facts_to_name(data: DataSet) -> ImageFacts | None:
    """Return the facts that are part of the identity of a run on a data set; None where its name says them."""
    return None if DATASETS.get(data.name) is data and not data.facts_named else data.facts


def resized(data: DataSet, size: int) -> DataSet:
    """Return a data set with its images in another size.

    UserError for one that is in memory if its pixels are not whole blocks of those it has (bench.data.dataset.shrunk).
    """
    if size == data.image_size:
        return data
    if not isinstance(data.source, FileSource) and data.image_size % size:
        side = data.image_size
        raise UserError(f"found {size}; the images of {data.name} have {side} pixels a side; others must divide {side}")
    return replace(data, image_size=size, augmentation=resized_crop(data.augmentation, data.image_size, size))


def resized_crop(augmentation: Augmentation | ResizedCrop, before: int, size: int) -> Augmentation | ResizedCrop:
    """Return the augmentation of images in another size: a random crop moves them by the same share of their side."""
    if isinstance(augmentation, ResizedCrop) or not augmentation.padding:
        return augmentation
    return augmentation.model_copy(update={"padding": max(1, round(augmentation.padding * size / before))})


def images_of(data: DataSpec) -> int:
    """Return how many images there are, all parts together; of a user's data set, as many as the run sees."""
    if data.name in DATASETS:
        return DATASETS[data.name].images
    return data.train_images + data.validation_images + data.test_images


def is_mapped(name: str) -> bool:
    """Return whether the images of a data set are one array on disk, of which pages are read as they are used."""
    return name in DATASETS and isinstance(DATASETS[name].source, Batches)


def class_names(name: str) -> tuple[str, ...]:
    """Return the names of the classes, in the order of the labels; none where they are not known."""
    try:
        return find_data_set(name).class_names
    except UserError:  # a user's own, of a store that was brought here without it
        return ()


def ood_names() -> Iterator[str]:
    """Yield the names of the sets out of distribution: those listed, and small data sets whose images can be read."""
    yield from OOD
    large_or_none = (FileSource, Batches, type(None))
    yield from (data.name for data in DATASETS.values() if not isinstance(data.source, large_or_none))


def find_ood(name: str) -> OodImages:
    """Return a set out of distribution; UserError if there is none of this name."""
    if name in OOD:
        return OOD[name]
    if name not in ood_names() and ":" not in name:
        raise UserError(f"out of distribution: unknown set {name!r}{did_you_mean(name, ood_names())}")
    return OtherDataSet(find_data_set(name))


def find_release(family: str) -> ReleasedCorruptions | None:
    """Return the released corrupted set that a family belongs to: "imagenet-c-500" is of "imagenet-c"."""
    found = [release for name, release in RELEASES.items() if family == name or family.startswith(f"{name}-")]
    return found[0] if found else None


@cache
def _imported(name: str) -> DataSet:
    try:
        found = find_elsewhere(name)
    except ImportError as error:
        raise UserError(f"data: {name!r} {error}") from None
    if not isinstance(found, DataSet):
        kind = type(found).__name__
        raise UserError(f"data: {name!r} is a {kind}; allowed: a bench.data.record.DataSet")
    return replace(found, name=name)
