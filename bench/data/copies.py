"""Copies of images on a disk of the node, made once a node; where the images are stays where they were copied from.

A copy has the files and folders that one data set is read from. Each file is compared with its source by SHA-256, and
the copy appears under its name only when whole. If names, sizes or times in the source have changed, it is made again.
Readers ask `nearest` where to read a path. No record, index or variant comes from a copy, and none names one.
"""

import errno
import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from bench.data.alone import alone
from bench.data.files import is_hidden
from bench.errors import UserError
from bench.store.files import read_json, write_json

log = logging.getLogger(__name__)

FOLDER = "freetickets-data"
MANIFEST = "copied.json"
# One of so many bytes of a disk stays free.
FREE = 20
BLOCK = 2**22
# On the file servers of clusters most of the time of a small file is waiting.
THREADS, BATCH = 16, 1024

# Size and time of last change of each file below a path, by its name from there on; of a file by an empty name.
State = Mapping[str, tuple[int, int]]

# What this process reads from copies: the source's path -> the copy's.
_copies: dict[Path, Path] = {}


def nearest(path: Path) -> Path:
    """Return where to read a file or folder: in a copy that this process uses, else `path` itself."""
    if not _copies:
        return path
    whole = _absolute(path)
    copy = next((_copies[at] / whole.relative_to(at) for at in (whole, *whole.parents) if at in _copies), None)
    return path if copy is None or not copy.exists() else copy


def use_copy(name: str, paths: Iterable[Path], scratch: Path, check: Callable[[], None]) -> None:
    """Let this process read the files and folders of a data set from their copy in `scratch`, made if it must be.

    check   is called again and again meanwhile; what it raises ends the copying, and leaves no part of a copy

    Where they cannot be copied (no room, say) one line of the log says why, and they are read where they are.
    """
    sources = [path for path in dict.fromkeys(map(_absolute, paths)) if path.exists()]
    if not sources:
        return
    place = _place(name, sources, scratch)
    try:
        states = {path: _state(path) for path in sources}
        if not _is_copy(place, states):
            with alone(place.with_name(f".{place.name}.lock"), f"{name} is copied to {place}", check):
                if not _is_copy(place, states):  # another process may have made it since
                    _make(name, place, states, check)
        log.info("%s is read from its copy %s", name, place)
    except (OSError, UserError) as error:
        log.warning("%s is not copied to %s (%s): it is read from %s", name, place, error, sources[0])
        return
    _copies.update({path: _inside(place, number, path) for number, path in enumerate(sources)})


def room(name: str, paths: Iterable[Path], scratch: Path) -> tuple[int, int]:
    """Return the bytes that a copy of these files and folders still needs, 0 if it is there, and those it may take."""
    states = {path: _state(path) for path in dict.fromkeys(map(_absolute, paths)) if path.exists()}
    needed = 0 if _is_copy(_place(name, list(states), scratch), states) else _bytes(states)
    return needed, _free(scratch)


def _make(name: str, place: Path, states: Mapping[Path, State], check: Callable[[], None]) -> None:
    """Write a copy, and put it in place of an outdated or damaged one; OSError if it cannot be."""
    began, total = time.monotonic(), _bytes(states)
    for leftover in place.parent.glob(f".{place.name}-*"):  # of processes that were killed
        shutil.rmtree(leftover, ignore_errors=True)
    if total > (free := _free(place.parent)):
        outdated = "; an outdated copy is there" if place.exists() else ""
        raise UserError(f"{_said(total)} to copy, and room for {_said(free)}{outdated}")
    log.info("copying %s of %s to %s", _said(total), name, place)
    temporary = place.with_name(f".{place.name}-{uuid.uuid4().hex}")
    try:
        copying = _copying(states, temporary)
        with ThreadPoolExecutor(THREADS) as pool:
            while batch := list(islice(copying, BATCH)):
                list(pool.map(partial(_copy_file, check), *zip(*batch, strict=True)))
        if {path: _state(path) for path in states} != states:
            raise UserError("its files changed while they were copied")
        write_json(temporary / MANIFEST, {"of": [str(path) for path in states], "state": _digest(states)})
        os.sync()  # so that a node that loses its power leaves no copy with holes
        if place.exists():
            # Renamed first: processes that read it find the new one under its name at once.
            place.rename(place.with_name(f".{place.name}-{uuid.uuid4().hex}"))
        temporary.rename(place)
    finally:
        for leftover in place.parent.glob(f".{place.name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    log.info("copied %s of %s to %s in %.0f s", _said(total), name, place, time.monotonic() - began)


def _copying(states: Mapping[Path, State], folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file and where to copy it."""
    for number, (path, state) in enumerate(states.items()):
        copy = _inside(folder, number, path)
        if path.is_dir():
            copy.mkdir(parents=True)
        for name in state:
            target = copy / name if name else copy
            target.parent.mkdir(parents=True, exist_ok=True)
            yield (path / name if name else path), target


def _copy_file(check: Callable[[], None], source: Path, target: Path) -> None:
    written = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        for block in iter(lambda: read.read(BLOCK), b""):
            check()
            written.update(block)
            write.write(block)
    found = hashlib.sha256()
    with target.open("rb") as read:
        for block in iter(lambda: read.read(BLOCK), b""):
            check()
            found.update(block)
    if found.digest() != written.digest():
        raise UserError(f"{target} is not what was written: check the disk")


def _is_copy(place: Path, states: Mapping[Path, State]) -> bool:
    """Return whether a copy is there, of the source as it is now, and every file of it as long as it should be."""
    if not (place / MANIFEST).is_file():
        return False
    try:
        manifest = read_json(place / MANIFEST)
        copies = [_state(_inside(place, number, path)) for number, path in enumerate(states)]
    except (OSError, UserError):
        return False
    if not isinstance(manifest, dict) or manifest.get("state") != _digest(states):
        return False
    return list(map(_sizes, copies)) == list(map(_sizes, states.values()))


def _place(name: str, sources: Sequence[Path], scratch: Path) -> Path:
    """Return where the copy of these files and folders is: another folder for other ones."""
    digest = hashlib.sha256("\0".join(map(str, sources)).encode(errors="surrogateescape")).hexdigest()[:12]
    return scratch / FOLDER / f"{re.sub(r'[^A-Za-z0-9_]+', '-', name)}-{digest}"


def _inside(place: Path, number: int, path: Path) -> Path:
    return place / str(number) / path.name


def _state(path: Path, around: tuple[tuple[int, int], ...] = ()) -> State:
    """Return size and time of every file below a path, through links; hidden files are none of the user's data."""
    status = path.stat()
    if not path.is_dir():
        return {"": (status.st_size, status.st_mtime_ns)}
    this = (status.st_dev, status.st_ino)
    if this in around:
        raise OSError(errno.ELOOP, f"{path} is a link back to a folder around it", str(path))
    found = {}
    for inside in sorted(path.iterdir()):
        if not is_hidden(inside.name):
            for name, state in _state(inside, (*around, this)).items():
                found[f"{inside.name}/{name}" if name else inside.name] = state
    return found


def _digest(states: Mapping[Path, State]) -> str:
    digest = hashlib.sha256()
    for number, state in enumerate(states.values()):
        for name, (size, changed) in state.items():
            digest.update(f"{number}\0{name}\0{size}\0{changed}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _sizes(state: State) -> dict[str, int]:
    return {name: size for name, (size, _) in state.items()}


def _bytes(states: Mapping[Path, State]) -> int:
    return sum(size for state in states.values() for size, _ in state.values())


def _free(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    usage = shutil.disk_usage(folder)
    return max(0, usage.free - usage.total // FREE)


def _said(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e10 else f"{size / 1e6:,.0f} MB"


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links stay: readers name files by them)
