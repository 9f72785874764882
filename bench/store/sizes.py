"""What takes the space of a store: number and size of its files by kind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from bench.store.files import TEMPORARY

# Of files, by the folder or the name that says which they are; the rest are records.
KINDS = {
    "tickets": "tickets",
    "kept": "rewind checkpoints",
    "checkpoint.pt": "checkpoints",
    "logits": "logits",
    "samples": "samples",
    "slurm": "submissions",
}
RECORDS, LEFT_OVER = "records", "left by killed processes"
ALL_KINDS = (*KINDS.values(), RECORDS, LEFT_OVER)


@dataclass(frozen=True)
class Size:
    """Number of files, and their bytes."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.files + other.files, self.bytes + other.bytes)


@dataclass(frozen=True)
class Sizes:
    """Sizes by kind, those of ALL_KINDS that there are, and the folders that could not be read, a sentence each."""

    kinds: Mapping[str, Size]
    unread: tuple[str, ...]


def sizes_below(root: Path, folder: Path) -> Sizes:
    """Return the sizes of regular files in a folder of a store at `root`, and below; links are not followed."""
    found: dict[str, Size] = {}
    unread: list[str] = []
    for path, size in _files(folder, unread):
        kind = kind_of(path.relative_to(root))
        found[kind] = found.get(kind, Size()) + Size(1, size)
    return Sizes({kind: found[kind] for kind in ALL_KINDS if kind in found}, tuple(unread))


def kind_of(path: Path) -> str:
    """Return which kind a file is, by its path from the root of a store."""
    if any(part.startswith(TEMPORARY) for part in path.parts):
        return LEFT_OVER
    place, *rest = path.parts
    named = rest[1:2] if place in ("runs", "ensembles") else [place]
    return KINDS.get(named[0], RECORDS) if named else RECORDS


def total(kinds: Mapping[str, Size]) -> Size:
    """Return the size of all kinds together."""
    return sum(kinds.values(), Size())


def readable(count: int) -> str:
    """Return a number of bytes in the unit that reads best: 512 B, 3.4 kB, 12 MB."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 9.95 else f"{amount:.1f} {unit}"


def _files(folder: Path, unread: list[str]) -> Iterator[tuple[Path, int]]:
    folders = [folder]
    while folders:
        place = folders.pop()
        try:
            paths = list(place.iterdir())
        except OSError as refused:
            if isinstance(refused, FileNotFoundError) and place != folder:  # gone since it was listed
                continue
            unread.append(f"{place}: {refused.strerror}")
            continue
        for path in paths:
            try:
                status = path.lstat()
            except OSError:  # gone since it was listed, as files of a run at work are
                continue
            if S_ISDIR(status.st_mode):
                folders.append(path)
            elif S_ISREG(status.st_mode):
                yield path, status.st_size
