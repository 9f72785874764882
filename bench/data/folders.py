"""Images from an image folder, or from a zip of one: train/<class>/*, test/<class>/*.

A substitute for the official archives of a data set (JPEG copies, say), or a data set of the user's own
(bench.data.image_folder). Which images they are is a fingerprint of every image file, the same for a folder and for a
zip of it. Folders sorted by class are put in a fixed pseudo-random order, since the last training images validate.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.dataset import Array, fixed_order
from bench.data.lazy import file_bytes, rgb
from bench.data.progress import tracked
from bench.data.record import DataSet, Parts
from bench.errors import UserError
from bench.spec.seeds import derived_seed

TRAIN, TEST = "train", "test"
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# As many unusable images are named before giving up.
NAMED = 3
# What else people call the parts of a data set.
OTHER_NAMES = {"training": TRAIN, "tests": TEST, "testing": TEST, "validation": "val", "valid": "val", "dev": "val"}


@dataclass(frozen=True)
class Layout:
    """The folders that hold the images: train/, and one or more to test on, in order of preference."""

    tests: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """All folders."""
        return TRAIN, *self.tests

    @property
    def expected(self) -> str:
        """What a message says of it."""
        first, *others = self.tests
        also = f" ({' or '.join(f'{part}/' for part in others)} serves as well)" if others else ""
        return f"train/<class>/<image> and {first}/<class>/<image>{also}, at most one folder around them"

    def mistake(self, names: Collection[str]) -> str:
        """Return what folders of these names should be called, else what there is."""
        if wrong := self.wrong_names(names):
            return f"found {_folders(wrong)}: rename to {_folders(wrong.values())}"
        return f"found {_folders(sorted(names))}" if names else "found no folder"

    def wrong_names(self, names: Collection[str]) -> dict[str, str]:
        """Return the folders that are called otherwise than they should be, and what they should be called."""
        right = {name: self._right_name(name) for name in sorted(names)}
        return {name: part for part in self.parts for name in right if right[name] == part and part not in names}

    def _right_name(self, name: str) -> str | None:
        part = OTHER_NAMES.get(name.lower(), name.lower())
        part = part if part in self.parts or part != "val" else TEST
        return part if part in self.parts and name not in self.parts else None


# Of a substitute for official images, and of a data set of the user's own.
SUBSTITUTE = Layout((TEST,))
OWN = Layout((TEST, "val", "valid"))


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
            digest.update(f"{file.path}\0{file.crc:08x}\0{file.size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:12]

    @property
    def variant(self) -> str:
        """The variant of a data set that these images stand for."""
        return f"images-{self.fingerprint}"


def image_root(folder: Path, layout: Layout = SUBSTITUTE) -> Path | None:
    """Return the folder that holds train/ or test/: `folder`, or the only folder in it; None if neither does."""
    inside = _inside(folder)
    for root in (folder, *inside[: len(inside) == 1]):
        names = {path.name for path in _inside(root)}
        if names & set(layout.parts):
            return root
    return None


def layout_mistake(folder: Path, layout: Layout = SUBSTITUTE) -> str:
    """Return what is wrong with a folder that image_root finds nothing in, such as "found Train/: rename to train/"."""
    inside = _inside(folder)
    for root in inside if len(inside) == 1 else []:
        if layout.wrong_names(names := [path.name for path in _inside(root)]):
            return layout.mistake(names)
    return layout.mistake([path.name for path in inside])


@contextmanager
def open_images(location: Path, layout: Layout = SUBSTITUTE) -> Iterator[ImageTree]:
    """Open an image folder or a zip of one; a zip costs the reading of its directory, a folder that of every file.

    UserError if it cannot be read, or if images lie elsewhere than in train/<class>/ and test/<class>/.
    """
    if location.is_dir():
        root = _required_root(location, layout)
        members = _placed(location, walk(root, layout), layout, [path.name for path in _inside(root)])
        checked = ((path, member, _read(location, root / member)) for path, member in members.items())
        files = tuple(ImageFile(path, member, zlib.crc32(data), len(data)) for path, member, data in checked)
        yield ImageTree(location, files, lambda file: file_bytes(root / file.member))
        return
    with _open_zip(location) as archive:
        members = _placed(location, archive.namelist(), layout)
        infos = ((path, archive.getinfo(member)) for path, member in members.items())
        files = tuple(ImageFile(path, info.filename, info.CRC, info.file_size) for path, info in infos)
        yield ImageTree(location, files, lambda file: archive.read(file.member))


def listing(location: Path, layout: Layout) -> str:
    """Return a digest of names, sizes and times of the image files, or of the zip: cheap, and it tells a change."""
    if location.is_dir():
        root = _required_root(location, layout)
        files = sorted(member for member in walk(root, layout) if _is_image(member))
        states = [(member, _state(location, root / member)) for member in files]
    else:
        states = [(location.name, _state(location, location))]
    text = "".join(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n" for name, state in states)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _state(location: Path, path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError:
        _read(location, path)  # says what is wrong, in the same words
        raise


def _read(location: Path, path: Path) -> bytes:
    try:
        return file_bytes(path)
    except ValueError as error:
        raise UserError(f"{location}: not all images are usable: {path} {error}; fetch it, or remove it") from None


def class_folders(tree: ImageTree) -> tuple[str, ...]:
    """Return the class names, sorted; UserError unless all parts hold images of the same classes."""
    of_part: dict[str, set[str]] = {}
    for file in tree.files:
        of_part.setdefault(file.part, set()).add(file.label)
    everything = set[str]().union(*of_part.values())
    lacks = [
        f"{part}/ has no images of {_some(everything - labels)}"
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
            f"official names, missing: {_some(official - found)}; unexpected: {_some(found - official)}"
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
    """Return classes and images, those to train on in a fixed order; UserError as classes_of and decode_exact."""
    classes = classes_of(data, tree)
    labels = labels_of(tree, classes)
    trains = np.array([file.part == TRAIN for file in tree.files])
    train, test = np.flatnonzero(trains), np.flatnonzero(~trains)
    train = train[training_order(data.name, len(train))]
    images = decode_exact(tree, data.image_size, progress=progress)
    return classes, Parts(images[train], labels[train], images[test], labels[test])


def decode_exact(tree: ImageTree, size: int, *, progress: bool) -> Array:
    """Return the images of all files, uint8 [N, size, size, 3]; UserError that names those that are of another size.

    One thread: 60,000 JPEG files take 5 s, and Pillow holds the interpreter too long on small ones for two to help.
    """
    images = np.empty((len(tree.files), size, size, 3), dtype=np.uint8)
    problems: list[str] = []
    for index, file in enumerate(tracked(tree.files, f"decoding {tree.location.name}", progress=progress)):
        try:
            images[index] = _pixels(tree, file, size)
        except ValueError as error:
            problems.append(f"{file.path} {error}")
            if len(problems) == NAMED:
                break
    if problems:
        raise unusable(tree, problems)
    return images


def unusable(tree: ImageTree, problems: Sequence[str]) -> UserError:
    """Return the message about image files that cannot be used."""
    return UserError(f"{tree.location}: not all images are usable: {'; '.join(problems)}")


def _pixels(tree: ImageTree, file: ImageFile, side: int) -> Array:
    """Return one image as uint8 [side, side, 3]; ValueError that completes the sentence "<file> ..."."""
    try:
        data = tree.read(file)
    except Exception as error:  # zipfile and zlib raise what they like at damaged bytes
        raise ValueError(f"cannot be decoded ({error})") from None
    image = rgb(data)
    if image.size != (side, side):
        raise ValueError(f"is {image.width}x{image.height} pixels, not {side}x{side}")
    return np.asarray(image)


@contextmanager
def _open_zip(location: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(location)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{location}: not a complete zip ({error}); copy or download it again") from None
    with archive:
        yield archive


def walk(root: Path, layout: Layout) -> Iterator[str]:
    """Yield the files below train/ and the folders to test on, through links too."""
    for part in layout.parts:
        for folder, _, files in os.walk(root / part, followlinks=True):
            yield from ((Path(folder) / file).relative_to(root).as_posix() for file in files)


def _required_root(location: Path, layout: Layout) -> Path:
    root = image_root(location, layout)
    if root is None:
        mistake = layout_mistake(location, layout)
        raise UserError(f"{location}: not an image folder; expected {layout.expected}; {mistake}")
    return root


def _placed(
    location: Path, members: Iterable[str], layout: Layout, beside: Collection[str] | None = None
) -> dict[str, str]:
    """Return {path from train/ or test/ on: member}, sorted, of the image files; hidden files and others are not.

    beside   folders that there are, to name the one that is called something else
    """
    images = [member for member in members if _is_image(member)]
    tops = {member.split("/")[0] for member in images}
    wrapped = len(tops) == 1 and not tops & set(layout.parts)
    placed = {(member.partition("/")[2] if wrapped else member): member for member in images}
    names = {path.split("/")[0] for path in placed if "/" in path} if beside is None else beside
    for path, member in placed.items():
        if path.count("/") != 2 or path.split("/")[0] not in layout.parts:
            raise UserError(f"{location}: image at {member}; expected {layout.expected}; {layout.mistake(names)}")
    if not placed:
        raise UserError(f"{location}: no images; expected {layout.expected}")
    found = {path.split("/")[0] for path in placed}
    if TRAIN not in found or not found & set(layout.tests):
        lacking = TRAIN if TRAIN not in found else TEST
        raise UserError(f"{location}: no images in {lacking}/; expected {layout.expected}; {layout.mistake(names)}")
    return dict(sorted(placed.items()))


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image(member: str) -> bool:
    hidden = any(name.startswith(".") or name == "__MACOSX" for name in member.split("/"))
    return not hidden and member.lower().endswith(IMAGE_SUFFIXES)


def holds_images(folder: Path, ignored: Collection[str], depth: int = 6) -> bool:
    """Return whether there is an image file in a folder, a few folders deep; not in those of the ignored names."""
    with os.scandir(folder) as entries:
        inside = [entry for entry in entries if not entry.name.startswith(".")]
    if any(_is_image(entry.name) for entry in inside if entry.is_file()):
        return True
    folders = [Path(entry.path) for entry in inside if entry.is_dir() and entry.name.lower() not in ignored]
    return depth > 1 and any(holds_images(path, ignored, depth - 1) for path in folders)


def _folders(names: Iterable[str]) -> str:
    *most, last = [f"{name}/" for name in names]
    shown = [*most[:5], "..."] if len(most) > 6 else most
    return f"{', '.join(shown)} and {last}" if most else last


def _some(names: set[str], limit: int = 12) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return (", ".join(listed[:limit]) or "none") + more
