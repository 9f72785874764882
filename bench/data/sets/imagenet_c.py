"""ImageNet-C as released (Hendrycks & Dietterich 2019): JPEG files in [group/]<type>/<severity>/<wnid>/<name>.JPEG.

Any subset of types, severities and images, as long as all its folders hold the same images: how many is part of the
set's name, "imagenet-c" for 50,000 and "imagenet-c-<n>" otherwise. The files have no published checksums.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from bench.data.corruptions.catalog import CORRUPTIONS, SEVERITIES
from bench.data.dataset import Array
from bench.data.lazy import EvaluationImages, LazyImages, rgb
from bench.data.progress import tracked
from bench.data.record import Corruptions
from bench.data.rows import Row, State
from bench.data.sets.imagenet import IMAGENET
from bench.errors import UserError, did_you_mean

FOLDER = "ImageNet-C"
GROUPS = ("blur", "digital", "extra", "noise", "weather")
SIZE = 224
# As many JPEG files are decoded at once.
BATCH = 100
LAYOUT = "[group/]<type>/<severity>/<wnid>/<name>.JPEG"
BY_HAND = (
    f"By hand: extract the archives of https://zenodo.org/records/2235448 into a folder {FOLDER} of the data folder"
)


class ImageNetC:
    """The folders of an ImageNet-C, or of a part of it; images are decoded when they are read.

    where   the folder that holds the types, or groups of them
    types   those that have a folder, sorted
    """

    def __init__(self, where: Path, folders: dict[str, Path]) -> None:
        self.where = where
        self.types = tuple(sorted(folders))
        self._folders = folders
        self._images: list[str] | None = None

    @property
    def count(self) -> int:
        """Return the number of images of a type and severity; UserErrors as of `read`."""
        return len(self._reference())

    @property
    def name(self) -> str:
        """Return "imagenet-c", with the number of images unless it is 50,000; UserErrors as of `read`."""
        return IMAGENET_C.family(self.count, self.count)[0]

    def severities(self, type: str) -> tuple[int, ...]:
        """Return the severities that a type has a folder of; UserError for a folder that is none, or if it has none."""
        folder = self._folder(type)
        found = sorted(path.name for path in _folders_in(folder))
        allowed = [str(severity) for severity in SEVERITIES]
        strange = [name for name in found if name not in allowed]
        if strange or not found:
            what = f"folder {strange[0]!r}" if strange else "no folder of a severity"
            raise UserError(f"{folder}: {what}; expected the severities, {', '.join(allowed)}, in {LAYOUT}")
        return tuple(map(int, found))

    def read(self, type: str, severity: int) -> EvaluationImages:
        """Return all images of a type and severity, sorted by class and name: LazyImages uint8 [N, 224, 224, 3].

        Labels are positions among the 1,000 sorted wnids. The source is a fingerprint of names and sizes of the files,
        not of their bytes. ValueError for a type that does not exist. UserError that names the file or folder: for a
        type or severity that is not there, a class that ImageNet has not, an image that is not in all folders (those
        of the first type at its first severity are taken for the right ones); when a slice is read, for an image that
        cannot be decoded or is not of 224x224 pixels.
        """
        folder = self._folder(type) / str(severity)
        images, right = _listed(folder), self._reference()
        if list(images) != right:
            reference, odd = self._reference_folder(), min(images.keys() ^ set(right))
            has, lacks = (folder, reference) if odd in images else (reference, folder)
            raise UserError(f"{lacks / odd}: missing, but {has / odd} is there; all folders must hold the same images")
        wnids = _wnids()
        labels = np.array([wnids[image.partition("/")[0]] for image in images], dtype=np.int64)
        paths = [folder / image for image in images]
        lazy = LazyImages(len(paths), SIZE, lambda start, stop: _decoded(paths[start:stop]))
        listing = "".join(f"{image}\0{size}\n" for image, size in images.items())
        fingerprint = hashlib.sha256(listing.encode()).hexdigest()[:12]
        return EvaluationImages(lazy.as_array(), labels, f"names-and-sizes-{fingerprint}")

    def _folder(self, type: str) -> Path:
        if type not in CORRUPTIONS:
            raise ValueError(f"no type {type!r}; types: {CORRUPTIONS}")
        if type not in self._folders:
            raise UserError(f"{self.where}: no folder {type}; found: {', '.join(self.types)}; expected {LAYOUT}")
        return self._folders[type]

    def _reference_folder(self) -> Path:
        first = self.types[0]
        return self._folder(first) / str(self.severities(first)[0])

    def _reference(self) -> list[str]:
        if self._images is None:
            self._images = list(_listed(self._reference_folder()))
        return self._images


def find_imagenet_c(root: Path) -> Path | None:
    """Return the folder called ImageNet-C, in large or small letters, in a data folder; None if there is none."""
    named = [path for path in _folders_in(root) if path.name.lower() == FOLDER.lower()] if root.is_dir() else []
    return min(named, default=None)


def open_imagenet_c(root: Path) -> ImageNetC:
    """Open the folder ImageNet-C in a data folder, or the folder itself; lists the types, reads no image.

    UserError if it holds no type, one twice, or a folder that is neither type nor group.
    """
    where = find_imagenet_c(root) or root
    top = _folders_in(where) if where.is_dir() else []
    candidates = [path for path in top if path.name not in GROUPS]
    candidates += [path for group in top if group.name in GROUPS for path in _folders_in(group)]
    folders: dict[str, Path] = {}
    strange = []
    for path in candidates:
        if path.name not in CORRUPTIONS:
            strange.append(path)
        elif path.name in folders:
            raise UserError(f"{path}: the same type is in {folders[path.name]}; leave one of them")
        else:
            folders[path.name] = path
    if not folders:
        raise UserError(f"{root.resolve()}: no {FOLDER} here; expected {LAYOUT} in its folder {FOLDER}. {BY_HAND}")
    if strange:
        raise UserError(f"{strange[0]}: not a type of corruption{did_you_mean(strange[0].name, CORRUPTIONS)}")
    return ImageNetC(where, folders)


@cache
def _wnids() -> dict[str, int]:
    """Return the 1,000 classes of ImageNet: position among the sorted WordNet ids, by id."""
    return {wnid: position for position, wnid in enumerate(IMAGENET.class_names)}


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(folder: Path) -> dict[str, int]:
    """Return the size in bytes of the image files, "<wnid>/<name>", sorted; UserError for a class that is unknown."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected {LAYOUT}")
    sizes = {}
    for path in _folders_in(folder):
        if path.name not in _wnids():
            raise UserError(f"{path}: not one of the 1,000 classes of ImageNet; expected {LAYOUT}")
        with os.scandir(path) as entries:
            images = [entry for entry in entries if entry.name.lower().endswith(".jpeg") and entry.name[0] != "."]
            sizes.update({f"{path.name}/{entry.name}": entry.stat().st_size for entry in images})
    if not sizes:
        raise UserError(f"{folder}: no images; expected {LAYOUT}")
    return dict(sorted(sizes.items()))


def _decoded(paths: list[Path]) -> Array:
    """Return images, uint8 [N, 224, 224, 3]; UserError that names the first that is none of 224x224 pixels."""
    images = np.empty((len(paths), SIZE, SIZE, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        images[index] = _pixels(paths[index])

    # Pillow lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    return images


def _pixels(path: Path) -> Array:
    try:
        image = rgb(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    if image.size != (SIZE, SIZE):
        raise UserError(f"{path}: {image.width}x{image.height} pixels, not {SIZE}x{SIZE}")
    return np.asarray(image)


class _Subset:
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


@dataclass(frozen=True)
class Folders:
    """The record of ImageNet-C: no command gets it, and how many images a folder holds is part of the family's name."""

    name: str = "imagenet-c"
    of: str = IMAGENET.name
    key: str = "imagenet_c"
    images: int = IMAGENET.test_images

    def family(self, images: int | None, available: int) -> tuple[str, int | None]:  # noqa: ARG002
        """Return "imagenet-c", with the number of images unless it is all; and that all images of it are meant."""
        return self.name if images in (None, self.images) else f"{self.name}-{images}", None

    def open(self, family: str, root: Path, *, download: bool) -> Corruptions:  # noqa: ARG002
        """Return the images; UserError if they are not there, or if their number is not the one of the family."""
        return _Subset(open_imagenet_c(root), family)

    def listed(self, root: Path) -> Row | None:
        """Return what names say, the images of the first folder times the number of folders; None if there is none."""
        return self._row(root) if find_imagenet_c(root) else None

    def verified(self, root: Path) -> Row:
        """Return the row after decoding every image, since there are no published checksums."""
        row = self._row(root)
        if row.state == "absent":
            return row
        try:
            _decode_all(open_imagenet_c(root))
        except UserError as error:
            return replace(row, state="damaged", images=None, note=str(error))
        return replace(row, state="intact")

    def prepared(self, root: Path, *, progress: bool) -> Row:  # noqa: ARG002
        """Return the row; UserError, with what to do, if it is not there."""
        row = self._row(root)
        if row.state != "ready":
            raise UserError(f"{self.name}: {row.note}")
        return row

    def _row(self, root: Path) -> Row:
        try:
            found = open_imagenet_c(root)
            folders = sum(len(found.severities(type)) for type in found.types)
            note = f"{folders} folders of {found.count:,} images, of {len(found.types)} types"
            return Row(found.name, "image folders", "ready", found.where, folders * found.count, note)
        except UserError as error:
            state: State = "damaged" if find_imagenet_c(root) else "absent"
            return Row(self.name, "image folders", state, root, None, str(error))


def _decode_all(found: ImageNetC) -> None:
    folders = [(type, severity) for type in found.types for severity in found.severities(type)]
    for type, severity in folders:
        images = found.read(type, severity).images
        for start in tracked(range(0, len(images), BATCH), f"decoding {type}/{severity}", progress=True):
            images[start : start + BATCH]


IMAGENET_C = Folders()
