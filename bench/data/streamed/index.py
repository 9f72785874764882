"""Which images a folder or tars hold, by class: names only are read, and kept until a folder or a tar changes.

A part, such as train, is a folder of class folders, an uncompressed tar of them, or tars of which each has a class:
in a tar, in a folder, or numbered shards. A flat part, or a flat tar, needs labels by file name, or beside each image.
"""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bench.data.alone import alone
from bench.data.dataset import Array, LabelledImages
from bench.data.progress import counted
from bench.data.streamed.files import Entry, ImageFiles, image_files, own_files
from bench.data.streamed.shards import find_shards, tars_of
from bench.data.streamed.tars import NESTED, images_among, images_in, is_image, tar_members
from bench.errors import UserError, did_you_mean
from bench.store.files import atomic_path

VERSION = 3
# On the file servers of clusters most of the time of a listing is waiting.
THREADS = 16
# A local disk lists a class of ImageNet, 1,300 names, in less; there threads are in each other's way.
LOCAL_SECONDS = 0.005
# As many names are listed in a message.
NAMED = 5
# Returns the label of each file name of a flat part, None if nothing says it.
FlatLabels = Callable[[Path], Mapping[str, str] | None]


@dataclass(frozen=True)
class Part:
    """Image files, sorted by class and name, and the class of each: an index into `classes`.

    encoding   how a pack has encoded them anew; empty for the bytes of the files
    """

    files: ImageFiles
    labels: Array
    classes: tuple[str, ...]
    encoding: str = ""

    def named(self, names: Sequence[str]) -> "Part":
        """Return the part with classes that are numbers called by name, as shards and folders 0 to 999 have them."""
        numbers = [int(name) for name in self.classes if name.isascii() and name.isdigit()]
        if len(numbers) < len(self.classes) or max(numbers, default=0) >= len(names) or {*self.classes} & {*names}:
            return self
        by_name = sorted(range(len(numbers)), key=lambda label: names[numbers[label]])
        place = np.argsort(by_name)[self.labels]
        order = np.argsort(place, kind="stable")
        classes = tuple(names[numbers[label]] for label in by_name)
        return replace(self, files=self.files[order], labels=place[order], classes=classes)

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
        return Part(self.files[labels >= 0], labels[labels >= 0], tuple(kept), self.encoding)

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
    """Return a folder of one of these names in `location`, a tar, or a pattern of shards; None if there is none."""
    for name in names:
        for path in (location / name, location / f"{name}.tar"):
            if path.exists():
                return path
    return next(filter(None, (find_shards(location, name) for name in names)), None)


def index_part(where: Path, cache: Path, flat_labels: FlatLabels = lambda _: None) -> Part:
    """Return what a part holds: as kept in the folder `cache`, unless it has changed since.

    UserError, with what was found, if it is neither by class nor flat with labels.
    """
    state = _state(where)
    kept = cache / f"index-{hashlib.sha256(os.fsencode(where.resolve())).hexdigest()[:16]}.npz"
    known = _kept(kept, state, where)
    if known is not None:
        return known
    with alone(kept.with_suffix(".lock"), f"the images of {where} are listed"):
        part = _kept(kept, state, where) or _listed(where, flat_labels)
        with suppress(OSError):  # where nothing can be kept, it is listed each time
            _keep(kept, state, where, part)
    return part


def index_tar(tar: Path, cache: Path) -> dict[str, list[Entry]]:
    """Return the images in each folder of a tar, by its path, sorted by name; kept as index_part does."""
    state = _state(tar)
    kept = cache / f"tar-{hashlib.sha256(os.fsencode(tar.resolve())).hexdigest()[:16]}.npz"
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if str(arrays["state"]) == state:
                columns = (arrays[name].tolist() for name in ("names", "offsets", "sizes"))
                return _by_folder(zip(*columns, strict=True), str(tar))
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        pass
    with alone(kept.with_suffix(".lock"), f"the images of {tar} are listed"):
        members = (member for member in tar_members(tar) if is_image(member.name.rpartition("/")[2]))
        found = [(os.fsencode(member.name), member.offset, member.size) for member in members]
        names, offsets, sizes = zip(*sorted(found), strict=True) if found else ((), (), ())
        arrays = {"state": np.array(state), "names": np.array(names, np.bytes_)}
        arrays |= {"offsets": np.array(offsets, np.int64), "sizes": np.array(sizes, np.int64)}
        with suppress(OSError), atomic_path(kept) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    return _by_folder(sorted(found), str(tar))


def _by_folder(members: Iterable[tuple[bytes, int, int]], tar: str) -> dict[str, list[Entry]]:
    by_folder: dict[str, list[Entry]] = {}
    for path, offset, size in members:
        folder, _, name = os.fsdecode(path).rpartition("/")
        by_folder.setdefault(folder, []).append((name, tar, offset, size, -1))
    return by_folder


def part_of(by_class: Mapping[str, Sequence[Entry]], encoding: str = "") -> Part:
    """Return the part of these files of each class."""
    files = image_files([entry for name in sorted(by_class) for entry in by_class[name]])
    return _part(files, by_class, encoding)


def _part(files: ImageFiles, by_class: Mapping[str, Sequence[object]], encoding: str = "") -> Part:
    classes = tuple(sorted(by_class))
    return Part(files, np.repeat(np.arange(len(classes)), [len(by_class[name]) for name in classes]), classes, encoding)


def _listed(where: Path, flat_labels: FlatLabels) -> Part:
    names, flat = _in_folder(where) if where.is_dir() else ({}, [])
    if names:
        _check_full(where, names)
        return _part(own_files([(str(where / name), names[name]) for name in sorted(names)]), names)
    by_class: dict[str, list[Entry]] = {}
    entries, encoding = [(name, str(where), -1, -1, -1) for name in flat], ""
    if not entries:
        held = images_in(tars_of(where), of_classes=where.is_dir())
        by_class, entries, encoding = held.by_class, held.flat, held.encoding
    if entries and not by_class:
        by_class = _labelled(where, entries, flat_labels(where))
    if not by_class:
        raise UserError(f"{where}: holds no image, nor a folder of images for each class")
    _check_full(where, by_class)
    for of_class in by_class.values():
        of_class.sort()
    return part_of(by_class, encoding)


def _check_full(where: Path, by_class: Mapping[str, Sequence[object]]) -> None:
    for name in sorted(by_class):
        if not by_class[name]:
            raise UserError(f"{where / name}: holds no image; remove the folder, or fill it")


def _in_folder(where: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return the names of the files in the folders of `where`, by folder, and those in no folder; sorted."""
    with os.scandir(where) as entries:
        seen = [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in entries if entry.name[0] != "."]
    for name, is_folder, is_link in seen:
        if is_link and not is_folder and not (where / name).exists():
            raise UserError(f"{where / name}: a link to what is not here (DVC, git-annex)? Fetch it, or remove it")
    found = sorted((name, is_folder) for name, is_folder, _ in seen)
    folders = [name for name, is_folder in found if is_folder]
    if folders == [NESTED]:  # val/images/ of Tiny ImageNet
        return {}, _in_class(where)
    return _in_classes(where, folders), images_among(name for name, is_folder in found if not is_folder)


def _in_classes(where: Path, folders: Sequence[str]) -> dict[str, list[str]]:
    """Return the names in each folder: in threads where the first shows that listing is waiting."""
    started = time.perf_counter()
    first = {name: _in_class(where / name) for name in folders[:1]}
    if time.perf_counter() - started < LOCAL_SECONDS:
        return first | {name: _in_class(where / name) for name in folders[1:]}
    with ThreadPoolExecutor(THREADS) as pool:
        listed = pool.map(lambda name: _in_class(where / name), folders[1:])
        others = counted(listed, len(folders) - 1, f"listing the folders of {where}", progress=True)
        return first | dict(zip(folders[1:], others, strict=True))


def _in_class(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names alone)
        found = sorted(images_among(names))
        if not found and NESTED in names:
            return sorted(f"{NESTED}/{name}" for name in images_among(os.listdir(folder / NESTED)))  # noqa: PTH208
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    return found


def _labelled(where: Path, flat: Sequence[Entry], label_of: Mapping[str, str] | None) -> dict[str, list[Entry]]:
    """Return the files of a flat part by class."""
    if label_of is None:
        names = sorted(entry[0] for entry in flat)
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


def _state(where: Path) -> str:
    """Return a text that changes when a file comes to a folder of the part or goes from it, or a tar is another."""
    try:
        folders = []
        if where.is_dir():
            with os.scandir(where) as entries:
                folders = sorted(
                    (entry.name, entry.stat().st_mtime_ns, _changed(f"{entry.path}/{NESTED}"))
                    for entry in entries
                    if entry.is_dir()
                )
        tars = [(path.name, status.st_mtime_ns, status.st_size) for path in tars_of(where) for status in [path.stat()]]
        changed = where.stat().st_mtime_ns if where.is_dir() else 0
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    text = repr((VERSION, changed, tars, folders))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _changed(path: str) -> int:
    """Return when something came to a folder or went from it, 0 if there is no such folder."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116, once a class
    except FileNotFoundError:
        return 0


def _kept(path: Path, state: str, where: Path) -> Part | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["state"]) != state:
                return None
            classes = tuple(os.fsdecode(name) for name in arrays["classes"].tolist())
            files = ImageFiles.load(arrays)
            holders = tuple(str(where.parent / holder) for holder in files.holders)
            return Part(replace(files, holders=holders), arrays["labels"], classes, str(arrays["encoding"]))
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):  # absent or damaged: it is listed anew
        return None


def _keep(path: Path, state: str, where: Path, part: Part) -> None:
    # Relative to the part: the next process may name it from another folder, or by another link.
    holders = tuple(str(Path(holder).relative_to(where.parent)) for holder in part.files.holders)
    classes = np.array([os.fsencode(name) for name in part.classes], dtype=np.bytes_)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        arrays = {"state": np.array(state), "encoding": np.array(part.encoding), "classes": classes}
        np.savez(
            stream, allow_pickle=False, labels=part.labels, **arrays, **replace(part.files, holders=holders).save()
        )
