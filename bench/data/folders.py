"""CIFAR images from an image folder, or from a zip of one: train/<class>/*, test/<class>/*.

A substitute for the official archives (JPEG copies, say), never mixed up with them: its variant is a fingerprint of
every image file, the same for a folder and for a zip of it. Folders sorted by class are put in a fixed pseudo-random
order, since the last training images validate.
"""

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.catalog import DATASETS
from bench.data.class_names import CLASS_NAMES
from bench.data.dataset import Array, Dataset, fixed_order
from bench.data.progress import tracked
from bench.errors import UserError
from bench.spec.seeds import derived_seed

PARTS = ("train", "test")
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LAYOUT = "train/<class>/<image> and test/<class>/<image>, at most one folder around them"
# As many unusable images are named before giving up.
NAMED = 3


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
    def variant(self) -> str:
        """Return "images-" and 12 hex digits of the SHA-256 over (path, CRC-32, size) of all image files."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.path}\0{file.crc:08x}\0{file.size}\n".encode())
        return f"images-{digest.hexdigest()[:12]}"


def image_root(folder: Path) -> Path | None:
    """Return the folder that holds train/ or test/: `folder`, or the only folder in it; None if neither does."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for root in (folder, *inside[: len(inside) == 1]):
        if any((root / part).is_dir() for part in PARTS):
            return root
    return None


@contextmanager
def open_images(location: Path) -> Iterator[ImageTree]:
    """Open an image folder or a zip of one; a zip costs the reading of its directory, a folder that of every file.

    UserError if it cannot be read, or if images lie elsewhere than in train/<class>/ and test/<class>/.
    """
    if location.is_dir():
        root = image_root(location)
        if root is None:
            raise UserError(f"{location}: not an image folder; expected {LAYOUT}")
        members = _layout(location, _walk(root))
        checked = ((path, member, (root / member).read_bytes()) for path, member in members.items())
        files = tuple(ImageFile(path, member, zlib.crc32(data), len(data)) for path, member, data in checked)
        yield ImageTree(location, files, lambda file: (root / file.member).read_bytes())
        return
    with _open_zip(location) as archive:
        members = _layout(location, archive.namelist())
        infos = ((path, archive.getinfo(member)) for path, member in members.items())
        files = tuple(ImageFile(path, info.filename, info.CRC, info.file_size) for path, info in infos)
        yield ImageTree(location, files, lambda file: archive.read(file.member))


def classes_of(name: str, tree: ImageTree) -> tuple[str, ...]:
    """Return the class names, sorted; UserError unless train/ and test/ hold images of the same, right number."""
    train, test = ({file.label for file in tree.files if file.part == part} for part in PARTS)
    if train != test:
        lacks = [
            f"{part}/ has no images of {_some(missing)}"
            for part, missing in (("train", test - train), ("test", train - test))
            if missing
        ]
        raise UserError(f"{tree.location}: {'; '.join(lacks)}; train/ and test/ must hold the same classes")
    expected = DATASETS[name].classes
    if len(train) != expected:
        official = set(CLASS_NAMES[name])
        raise UserError(
            f"{tree.location}: {name} needs {expected} classes, found {len(train)}; compared with the official names, "
            f"missing: {_some(official - train)}; unexpected: {_some(train - official)}"
        )
    return tuple(sorted(train))


def decode_dataset(name: str, tree: ImageTree, *, progress: bool) -> Dataset:
    """Decode all images, those to train on in a fixed pseudo-random order; UserError as classes_of and decode."""
    classes = classes_of(name, tree)
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([number[file.label] for file in tree.files], dtype=np.int64)
    trains = np.array([file.part == "train" for file in tree.files])
    train, test = np.flatnonzero(trains), np.flatnonzero(~trains)
    train = train[fixed_order(len(train), derived_seed("image folder order", name, len(train)))]
    images = decode(tree, progress=progress)
    return Dataset(name, tree.variant, classes, images[train], labels[train], images[test], labels[test])


def decode(tree: ImageTree, *, progress: bool) -> Array:
    """Return the images of all files, uint8 [N, 32, 32, 3]; UserError that names those that are no 32x32 images.

    One thread: 60,000 JPEG files take 5 s, and Pillow holds the interpreter too long on small ones for two to help.
    """
    images = np.empty((len(tree.files), 32, 32, 3), dtype=np.uint8)
    problems: list[str] = []
    for index, file in enumerate(tracked(tree.files, f"decoding {tree.location.name}", progress=progress)):
        try:
            images[index] = _pixels(tree, file)
        except ValueError as error:
            problems.append(f"{file.path} {error}")
            if len(problems) == NAMED:
                break
    if problems:
        raise UserError(f"{tree.location}: not all images are usable: {'; '.join(problems)}")
    return images


def _pixels(tree: ImageTree, file: ImageFile) -> Array:
    """Return one image as uint8 [32, 32, 3]; ValueError that completes the sentence "<file> ..."."""
    try:
        with Image.open(io.BytesIO(tree.read(file))) as image:
            size = image.size
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB")) if size == (32, 32) else None
    # zipfile, zlib and the decoders of Pillow raise what they like at damaged bytes.
    except Exception as error:
        raise ValueError(f"cannot be decoded ({error})") from None
    if pixels is None:
        raise ValueError(f"is {size[0]}x{size[1]} pixels, not 32x32")
    return pixels


@contextmanager
def _open_zip(location: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(location)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{location}: not a complete zip ({error}); copy or download it again") from None
    with archive:
        yield archive


def _walk(root: Path) -> Iterator[str]:
    """Yield the files below train/ and test/, through links too."""
    for part in PARTS:
        for folder, _, files in os.walk(root / part, followlinks=True):
            yield from ((Path(folder) / file).relative_to(root).as_posix() for file in files)


def _layout(location: Path, members: Iterable[str]) -> dict[str, str]:
    """Return {path from train/ or test/ on: member}, sorted, of the image files; hidden files and others are not."""
    images = [member for member in members if _is_image(member)]
    tops = {member.split("/")[0] for member in images}
    wrapped = len(tops) == 1 and not tops & set(PARTS)
    layout = {(member.partition("/")[2] if wrapped else member): member for member in images}
    for path, member in layout.items():
        if path.count("/") != 2 or path.split("/")[0] not in PARTS:
            raise UserError(f"{location}: image at {member}; expected {LAYOUT}")
    if not layout:
        raise UserError(f"{location}: no images; expected {LAYOUT}")
    return dict(sorted(layout.items()))


def _is_image(member: str) -> bool:
    hidden = any(name.startswith(".") or name == "__MACOSX" for name in member.split("/"))
    return not hidden and member.lower().endswith(IMAGE_SUFFIXES)


def _some(names: set[str], limit: int = 12) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return (", ".join(listed[:limit]) or "none") + more
