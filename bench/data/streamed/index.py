"""Which images a folder or a tar holds, by class: names only are read, and kept until a folder changes.

A part, such as train, is a folder of class folders, an uncompressed tar of them, or a tar of a tar for each class. A
flat part, or a flat tar, needs labels by file name.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bench.data.alone import alone
from bench.data.dataset import Array, LabelledImages
from bench.data.files import IMAGE_SUFFIXES
from bench.data.streamed.files import Entry, ImageFiles, image_files, tar_members
from bench.errors import UserError, did_you_mean
from bench.store.files import atomic_path

VERSION = 1
# On the file servers of clusters most of the time of a listing is waiting.
THREADS = 16
# As many names are listed in a message.
NAMED = 5

# A folder of a class that holds its images in a folder of their own: Tiny ImageNet.
NESTED = "images"
# What a folder around the images of a flat tar may be called.
PARTS = ("train", "val", "valid", "test")
# Returns the label of each file name of a flat part, None if nothing says it.
FlatLabels = Callable[[Path], Mapping[str, str] | None]


@dataclass(frozen=True)
class Part:
    """Image files, sorted by class and name, and the class of each: an index into `classes`."""

    files: ImageFiles
    labels: Array
    classes: tuple[str, ...]

    def labelled(self, classes: Sequence[str], where: Path) -> LabelledImages:
        """Return files and labels, int64, that index `classes`; UserError for a class that is not among them."""
        number = {name: label for label, name in enumerate(classes)}
        for name in self.classes:
            if name not in number:
                raise UserError(f"{where / name}: not one of the {len(classes):,} classes{did_you_mean(name, classes)}")
        return LabelledImages(
            self.files.as_array(), np.array([number[name] for name in self.classes], np.int64)[self.labels]
        )

    def of_classes(self, classes: Collection[str]) -> "Part":
        """Return the files of some classes."""
        kept = [name for name in self.classes if name in classes]
        number = {name: label for label, name in enumerate(kept)}
        labels = np.array([number.get(name, -1) for name in self.classes], np.int64)[self.labels]
        return Part(self.files[labels >= 0], labels[labels >= 0], tuple(kept))

    def paths(self) -> set[str]:
        """Return <class>/<name> of all files."""
        names = map(os.fsdecode, self.files.names.tolist())
        return {f"{self.classes[label]}/{name}" for label, name in zip(self.labels, names, strict=True)}

    @property
    def fingerprint(self) -> str:
        """Return 12 hex digits of the SHA-256 of classes and file names."""
        digest = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        digest.update(self.labels.astype("<i8").tobytes())
        for name in self.files.names.tolist():
            digest.update(name + b"\0")
        return digest.hexdigest()[:12]


def find_part(location: Path, names: Sequence[str]) -> Path | None:
    """Return a folder of one of these names in `location`, or a tar that is called so; None if there is none."""
    for name in names:
        for path in (location / name, location / f"{name}.tar"):
            if path.exists():
                return path
    return None


def index_part(where: Path, cache: Path, flat_labels: FlatLabels = lambda _: None) -> Part:
    """Return what a part holds: as kept in the folder `cache`, unless it has changed since.

    UserError, with what was found, if it is neither by class nor flat with labels.
    """
    state = _state(where)
    kept = cache / f"index-{hashlib.sha256(os.fsencode(where.resolve())).hexdigest()[:16]}.npz"
    known = _kept(kept, state)
    if known is not None:
        return known
    with alone(kept.with_suffix(".lock"), f"the images of {where} are listed"):
        part = _kept(kept, state) or _listed(where, flat_labels)
        with suppress(OSError):  # where nothing can be kept, it is listed each time
            _keep(kept, state, part)
    return part


def index_tar(tar: Path, cache: Path) -> dict[str, list[Entry]]:
    """Return the images in each folder of a tar, by its path, sorted by name; kept as index_part does."""
    state = _state(tar)
    kept = cache / f"tar-{hashlib.sha256(os.fsencode(tar.resolve())).hexdigest()[:16]}.npz"
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if str(arrays["state"]) == state:
                return _by_folder(zip(*(arrays[name].tolist() for name in ("names", "offsets", "sizes")), strict=True))
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        pass
    with alone(kept.with_suffix(".lock"), f"the images of {tar} are listed"):
        members = (member for member in tar_members(tar) if _is_image(member.name.rpartition("/")[2]))
        found = [(os.fsencode(member.name), member.offset, member.size) for member in members]
        names, offsets, sizes = zip(*sorted(found), strict=True) if found else ((), (), ())
        arrays = {"state": np.array(state), "names": np.array(names, np.bytes_)}
        arrays |= {"offsets": np.array(offsets, np.int64), "sizes": np.array(sizes, np.int64)}
        with suppress(OSError), atomic_path(kept) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    return _by_folder(sorted(found))


def _by_folder(members: Iterable[tuple[bytes, int, int]]) -> dict[str, list[Entry]]:
    by_folder: dict[str, list[Entry]] = {}
    for path, offset, size in members:
        folder, _, name = os.fsdecode(path).rpartition("/")
        by_folder.setdefault(folder, []).append((name, offset, size))
    return by_folder


def part_of(where: Path, by_class: Mapping[str, Sequence[Entry]], *, in_folders: bool) -> Part:
    """Return the part of these files of each class, in folders of `where` or in it."""
    classes = tuple(sorted(by_class))
    files = image_files((where / name if in_folders else where, by_class[name]) for name in classes)
    return Part(files, np.repeat(np.arange(len(classes)), [len(by_class[name]) for name in classes]), classes)


def _listed(where: Path, flat_labels: FlatLabels) -> Part:
    by_class, flat = _in_tar(where) if where.is_file() else _in_folder(where)
    if flat and not by_class:
        by_class = _labelled(where, flat, flat_labels(where))
    if not by_class:
        raise UserError(f"{where}: holds no image, nor a folder of images for each class")
    for name, entries in sorted(by_class.items()):
        if not entries:
            raise UserError(f"{where / name}: holds no image; remove the folder, or fill it")
        entries.sort()
    return part_of(where, by_class, in_folders=where.is_dir() and not flat)


def _in_folder(where: Path) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """Return the files in the folders of `where`, and those in no folder."""
    with os.scandir(where) as entries:
        seen = [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in entries if entry.name[0] != "."]
    for name, is_folder, is_link in seen:
        if is_link and not is_folder and not (where / name).exists():
            raise UserError(f"{where / name}: a link to what is not here (DVC, git-annex)? Fetch it, or remove it")
    found = sorted((name, is_folder) for name, is_folder, _ in seen)
    folders = [name for name, is_folder in found if is_folder]
    if folders == [NESTED]:  # val/images/ of Tiny ImageNet
        return {}, _in_class(where)
    with ThreadPoolExecutor(THREADS) as pool:
        by_class = dict(zip(folders, pool.map(lambda name: _in_class(where / name), folders), strict=True))
    return by_class, [(name, -1, -1) for name, is_folder in found if not is_folder and _is_image(name)]


def _in_class(folder: Path) -> list[Entry]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names alone)
        found = [(name, -1, -1) for name in names if _is_image(name)]
        if not found and NESTED in names:
            return [(f"{NESTED}/{name}", -1, -1) for name in os.listdir(folder / NESTED) if _is_image(name)]  # noqa: PTH208
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    return found


def _in_tar(where: Path) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """Return the images in folders of a tar, or in tars in it, by the name of the folder; and those in none."""
    by_class: dict[str, list[Entry]] = {}
    flat: list[Entry] = []
    for member in tar_members(where):
        folder, _, name = member.name.rpartition("/")
        label = folder.rpartition("/")[2]
        if _is_image(name):
            holder = flat if label in ("", *PARTS) else by_class.setdefault(label, [])
            holder.append((name, member.offset, member.size))
    return by_class, flat


def _labelled(where: Path, flat: Sequence[Entry], label_of: Mapping[str, str] | None) -> dict[str, list[Entry]]:
    """Return the files of a flat part by class."""
    if label_of is None:
        names = sorted(name for name, _, _ in flat)
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        raise UserError(
            f"{where}: holds images, {', '.join(names[:NAMED])}{more}, and nothing says which class each is of; "
            "expected a folder for each class"
        )
    by_class: dict[str, list[Entry]] = {}
    for entry in flat:
        name = entry[0].rpartition("/")[2]
        if name not in label_of:
            raise UserError(f"{where / entry[0]}: no label is given for it")
        by_class.setdefault(label_of[name], []).append(entry)
    return by_class


def _is_image(name: str) -> bool:
    return name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES)


def _state(where: Path) -> str:
    """Return a text that changes when a file comes to a folder of the part or goes from it."""
    try:
        status, folders = where.stat(), []
        if where.is_dir():
            with os.scandir(where) as entries:
                folders = sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.is_dir())
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    text = repr((VERSION, status.st_mtime_ns, status.st_size if where.is_file() else 0, folders))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _kept(path: Path, state: str) -> Part | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["state"]) != state:
                return None
            classes = tuple(os.fsdecode(name) for name in arrays["classes"].tolist())
            return Part(ImageFiles.load(arrays), arrays["labels"], classes)
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):  # absent or damaged: it is listed anew
        return None


def _keep(path: Path, state: str, part: Part) -> None:
    classes = np.array([os.fsencode(name) for name in part.classes], dtype=np.bytes_)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        arrays = {"state": np.array(state), "classes": classes, "labels": part.labels, **part.files.save()}
        np.savez(stream, allow_pickle=False, **arrays)
