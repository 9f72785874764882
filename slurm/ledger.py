"""The submissions of a store, in its folder slurm/: one folder a batch, written before sbatch is called.

batch.json and units.jsonl (a unit a line) say what was asked for, submitted.json how SLURM calls it, elements/<k>.json
what became of element k as it saw it; the rest of the folder is submitit's, logs included. A batch without
submitted.json was not submitted, or this process died in between: the job's name tells which (slurm.dispatch).
"""

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from bench.errors import UserError
from bench.store.files import write_text
from bench.store.folders import Store
from slurm.records import Batch, Mark, Submitted, Unit

M = TypeVar("M", bound=BaseModel)
_INDICES = TypeAdapter(list[int])


class BatchFolder:
    """One batch on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, batch: Batch, units: Sequence[Unit]) -> "BatchFolder":
        """Write a batch down, batch.json last; UserError if the disk is full."""
        folder = cls(path)
        with writing(path):
            write_text(path / "units.jsonl", "".join(unit.model_dump_json() + "\n" for unit in units))
            write_text(path / "batch.json", batch.model_dump_json(indent=2) + "\n")
        return folder

    @cached_property
    def batch(self) -> Batch:
        """What is common to the units."""
        return _read(Batch, self.path / "batch.json")

    def unit(self, index: int) -> Unit:
        """Return one unit, without parsing the others; IndexError if there is none."""
        if not 0 <= index < self.batch.units:
            raise IndexError(f"{self.path}: no unit {index}")
        path = self.path / "units.jsonl"
        with reading(path), path.open("rb") as lines:
            return Unit.model_validate_json(next(islice(lines, index, None), b""))

    def units(self) -> list[Unit]:
        """Return all units."""
        with reading(self.path / "units.jsonl"):
            return [Unit.model_validate_json(line) for line in self._lines()]

    def raw_units(self) -> list[dict[str, Any]]:
        """Return all units as plain JSON, unvalidated: of thousands of runs, in a tenth of the time."""
        with reading(self.path / "units.jsonl"):
            return [json.loads(line) for line in self._lines()]

    def _lines(self) -> list[bytes]:
        # Of bytes, since text also has line breaks within the name of a cell: U+2028, for one.
        lines = (self.path / "units.jsonl").read_bytes().splitlines()
        if len(lines) != self.batch.units:
            raise ValueError(f"{len(lines)} lines, where the batch has {self.batch.units} units")
        return lines

    def submitted(self) -> tuple[str, ...] | None:
        """Return how SLURM calls the units, None if that is not known."""
        path = self.path / "submitted.json"
        return _read(Submitted, path).elements if path.exists() else None

    def submit(self, elements: Sequence[str]) -> None:
        """Write down how SLURM calls the units."""
        with writing(self.path):
            write_text(self.path / "submitted.json", Submitted(elements=tuple(elements)).model_dump_json() + "\n")

    def elements(self) -> list[tuple[Unit, str]]:
        """Return the units with how SLURM calls them, none if that is not known."""
        return list(zip(self.units(), self.submitted() or (), strict=False))

    def mark(self, index: int) -> Mark | None:
        """Return what element `index` wrote down, None before it started."""
        path = self._mark(index)
        return _read(Mark, path) if path.exists() else None

    def marks(self) -> dict[int, Mark]:
        """Return what every element that started wrote down."""
        return {int(path.stem): _read(Mark, path) for path in (self.path / "elements").glob("[0-9]*.json")}

    def write_mark(self, index: int, mark: Mark) -> None:
        """Write down what became of an element."""
        with writing(self.path):
            write_text(self._mark(index), mark.model_dump_json(indent=2) + "\n")

    def cancelled(self) -> set[int]:
        """Return the elements that the user cancelled."""
        path = self.path / "cancelled.json"
        if not path.exists():
            return set()
        with reading(path):
            return set(_INDICES.validate_json(path.read_bytes()))

    def cancel(self, indices: set[int]) -> None:
        """Write down that the user cancelled these elements."""
        with writing(self.path):
            write_text(self.path / "cancelled.json", json.dumps(sorted(self.cancelled() | indices)) + "\n")

    def log(self, index: int) -> Path | None:
        """Return the log of an element, None before it started."""
        elements = self.submitted()
        path = None if elements is None else self.path / f"{elements[index]}_0_log.out"
        return path if path is not None and path.exists() else None

    def _mark(self, index: int) -> Path:
        return self.path / "elements" / f"{index}.json"


class Ledger:
    """All batches of a store, oldest first."""

    def __init__(self, store: Store) -> None:
        self.root = store.root / "slurm"

    def folder(self, name: str) -> Path:
        """Return where a batch of this name is or will be."""
        return self.root / name

    def batches(self) -> list[BatchFolder]:
        """Return the batches that were written whole, oldest first."""
        found = [BatchFolder(path.parent) for path in self.root.glob("*/batch.json")]
        return sorted(found, key=lambda folder: (folder.batch.created, folder.batch.name))


def now() -> str:
    """Return the time as records hold it: UTC, ISO 8601; two calls of a command may fall into one second."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk, and a folder that may not be written, into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full; free some space, then run the same command") from None
        raise UserError(f"{path}: {error.strerror}; nothing more was submitted") from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what is wrong with the content of a file into one clear line."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: gone, though a submission wrote it; restore it, or delete its folder") from None
    except ValueError as error:  # pydantic's, of JSON, of UTF-8
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: not as it was written ({reason}); it was truncated or altered") from None


def _read(model: type[M], path: Path) -> M:
    with reading(path):
        return model.model_validate_json(path.read_bytes())
