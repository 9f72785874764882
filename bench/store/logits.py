"""Logits on the sets that were asked for besides a run's own: part of the store (README, "The store").

A folder of results, of a run or of an ensemble, holds logits/<set>.safetensors for each set, and evaluations.json with
a receipt for each: size and checksum of the file, checksums of the tickets it was made with, which images they saw. A
set without a receipt does not exist; one whose tickets were made again since is out of date. Both are made by the next
call.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from bench.errors import UserError
from bench.spec.record import Record
from bench.store.files import atomic_path, read_json, sha256_of, write_json
from bench.store.folders import Array, RunFolder, Store

RECEIPTS = "evaluations.json"
# Above so many classes logits are stored in half precision: those of CIFAR-100-C and ImageNet-C fill disks.
MOST_FLOAT32 = 50


class Receipt(Record):
    """What is known of a set: its file, the tickets by file name, the images in words, and the time it took.

    forward_seconds   of the seconds, those spent in networks
    """

    bytes: int
    sha256: str
    tickets: dict[str, str]
    images: str
    count: int = Field(ge=1)
    seconds: float
    forward_seconds: float
    device: str


_RECEIPTS = TypeAdapter(dict[str, Receipt])


class Evaluated:
    """The evaluation sets in one folder; `made_with` are the checksums of the tickets as they are now."""

    def __init__(self, path: Path, made_with: Mapping[str, str]) -> None:
        self.path = path
        self._made_with = dict(made_with)
        self._known: dict[str, Receipt] | None = None

    @classmethod
    def of_run(cls, folder: RunFolder) -> "Evaluated":
        """Return the sets of a finished run; UserError if it is not done."""
        return cls(folder.path, ticket_checksums(folder))

    def receipts(self) -> dict[str, Receipt]:
        """Return the receipt of each set by name; UserError if the file was altered."""
        if self._known is None:
            path = self.path / RECEIPTS
            try:
                self._known = _RECEIPTS.validate_python(read_json(path)) if path.exists() else {}
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise UserError(
                    f"{path}: not receipts of evaluations ({reason}); it was altered: delete it, and `bench run` makes "
                    "its sets again"
                ) from None
        return self._known

    def has(self, name: str, *, deep: bool = False) -> bool:
        """Whether a set is there, whole (`deep`: by its SHA-256 too) and made with the tickets of now."""
        receipt = self.receipts().get(name)
        if receipt is None or receipt.tickets != self._made_with:
            return False
        file = self._file(name)
        if not file.is_file() or file.stat().st_size != receipt.bytes:
            return False
        return not deep or sha256_of(file) == receipt.sha256

    def missing(self, names: Iterable[str], *, deep: bool = False) -> list[str]:
        """Return the sets that are still to make, in their order."""
        return [name for name in names if not self.has(name, deep=deep)]

    def logits(self, name: str) -> tuple[Array, Array]:
        """Return logits float32 and labels int64 of a set; UserError that names the file if it is not as written.

        Of a run: [members, images, classes]. Of an ensemble under attack: [crafted on, members, images, classes].
        """
        from safetensors.numpy import load

        file = self._file(name)
        receipt = self.receipts().get(name)
        if receipt is None or receipt.tickets != self._made_with:
            raise UserError(f"{file}: missing from the store, or made with other tickets; `bench run` makes it")
        content = file.read_bytes() if file.is_file() else b""
        if hashlib.sha256(content).hexdigest() != receipt.sha256:
            raise UserError(
                f"{file}: gone, truncated or altered; restore it, or make it again with `bench run --retry`"
            )
        tensors = load(content)
        return tensors["logits"].astype(np.float32, copy=False), tensors["labels"].astype(np.int64, copy=False)

    def write(self, name: str, logits: Array, labels: Array, **facts: Any) -> None:
        """Write a set, then its receipt with these `facts`; only while holding the folder's lock."""
        from safetensors.numpy import save_file

        file = self._file(name)
        kind = np.float16 if logits.shape[-1] > MOST_FLOAT32 else np.float32
        with atomic_path(file) as temporary:
            save_file({"logits": np.ascontiguousarray(logits, kind), "labels": labels}, temporary)
        receipt = Receipt(
            bytes=file.stat().st_size, sha256=sha256_of(file), tickets=self._made_with, count=len(labels), **facts
        )
        self._known = None  # what is on disk counts, whoever wrote it
        known = {**self.receipts(), name: receipt}
        write_json(self.path / RECEIPTS, {key: one.model_dump() for key, one in known.items()})
        self._known = known

    def _file(self, name: str) -> Path:
        return self.path / "logits" / f"{name}.safetensors"


def ticket_checksums(folder: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of each ticket of a finished run by file name; UserError if it is not done."""
    files: dict[str, dict[str, str]] = folder.result()["files"]
    return {name: file["sha256"] for name, file in files.items() if name.startswith("tickets/")}


@dataclass(frozen=True)
class Ensemble:
    """The first `members` members of all tickets of these runs, in order: what a cell's replicate is."""

    runs: tuple[str, ...]
    members: int

    @property
    def id(self) -> str:
        """16 hex digits."""
        text = json.dumps([self.members, *self.runs], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def ensemble_folder(store: Store, ensemble: Ensemble) -> Path:
    """Return where what was evaluated on an ensemble as a whole is kept."""
    return store.root / "ensembles" / ensemble.id


def evaluated_ensemble(store: Store, ensemble: Ensemble) -> Evaluated:
    """Return the sets of an ensemble; UserError if one of its runs is not done."""
    tickets = {
        f"{run}/{name}": checksum
        for run in ensemble.runs
        for name, checksum in ticket_checksums(store.run(run)).items()
    }
    return Evaluated(ensemble_folder(store, ensemble), tickets)


def describe_ensemble(store: Store, ensemble: Ensemble) -> None:
    """Write which runs an ensemble is made of, for people and other programs."""
    path = ensemble_folder(store, ensemble) / "ensemble.json"
    if not path.exists():
        write_json(path, {"runs": list(ensemble.runs), "members": ensemble.members})
