"""Logits on evaluation sets, those of the test and validation images among them: the one door through which they go.

A folder of results, of a run or of an ensemble, holds logits/<set>.safetensors for each set, and evaluations.json with
a record for each: size and checksum of the file, checksums of the tickets it was made with, which images they saw. A
set without a record does not exist; one whose tickets were made again since is out of date. `bench run` makes both.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.store.files import atomic_path, discard, read_json, sha256_of, size_of, write_json
from bench.store.records import EVALUATIONS, EvaluationRecord, StoredFile, checksum_of, parsed
from bench.store.run_folder import Array, RunFolder
from bench.store.store import Store

log = logging.getLogger(__name__)

RECORDS = "evaluations.json"
# Above so many classes logits of evaluation sets are stored in half precision: those of ImageNet-C fill disks.
MOST_FLOAT32 = 50
# Of a set of other labels: place of a test image, and one of its labels.
LABEL_PAIRS = "label_pairs"


class StoredLogits:
    """The evaluation sets in one folder; `made_with` are the checksums of the tickets as they are now."""

    def __init__(
        self, path: Path, made_with: Mapping[str, str], recorded: Mapping[str, EvaluationRecord] | None = None
    ) -> None:
        self.path = path
        self.made_with = dict(made_with)
        self._recorded = dict(recorded or {})
        self._known: dict[str, EvaluationRecord] | None = None

    @classmethod
    def of_run(cls, folder: RunFolder) -> "StoredLogits":
        """Return the sets of a finished run; UserError if it is not done."""
        files = folder.result().files
        tickets = _tickets_among(files)
        recorded = {
            Path(name).stem: EvaluationRecord(bytes=file.bytes, sha256=file.sha256, tickets=tickets)
            for name, file in files.items()
            if name.startswith("logits/")  # as a result of schema 1 lists those of test and validation images
        }
        return cls(folder.path, tickets, recorded)

    def records(self) -> dict[str, EvaluationRecord]:
        """Return the record of each set by name; UserError if the file was altered."""
        if self._known is None:
            path = self.path / RECORDS
            known = {}
            if path.exists():
                try:
                    content = read_json(path)
                    known = parsed(EVALUATIONS, content, path, "records of evaluations")
                    if odd := [name for name in known if {"..", "/"} & {*Path(name).parts}]:
                        raise UserError(f"{path}: {odd[0]!r} is no name of a set; it was altered")
                except UserError as damage:
                    raise UserError(f"{damage}; `bench run --retry` makes its sets again") from None
                for name in [name for name in known if known[name].checksum not in (None, checksum_of(content[name]))]:
                    log.warning("%s: the record of %s was altered, so the set is made again", path, name)
                    del known[name]
            self._known = {**self._recorded, **known}
        return self._known

    def has(self, name: str, *, deep: bool = False) -> bool:
        """Whether a set is there, whole (`deep`: by its SHA-256 too) and made with the tickets of now."""
        record = self.records().get(name)
        if record is None or record.tickets != self.made_with:
            return False
        file = self.file(name)
        if size_of(file) != record.bytes:
            return False
        return not deep or sha256_of(file) == record.sha256

    def missing(self, names: Iterable[str], *, deep: bool = False) -> list[str]:
        """Return the sets that are still to make, in their order."""
        return [name for name in names if not self.has(name, deep=deep)]

    def logits(self, name: str) -> tuple[Array, Array]:
        """Return logits float32 and labels int64 of a set; UserError that names the file if it is not as written.

        Of a run: [members, images, classes]. Of an ensemble under attack: [crafted on, members, images, classes].
        """
        tensors = self._read(name)
        return tensors["logits"].astype(np.float32, copy=False), tensors["labels"].astype(np.int64, copy=False)

    def label_pairs(self, name: str) -> tuple[Array, Array]:
        """Return the labels of a set that is other labels of the test images, int64 [K, 2] of place and label.

        With them the labels, int64, that those images have otherwise. UserErrors as of `logits`.
        """
        tensors = self._read(name)
        if LABEL_PAIRS not in tensors:
            raise UserError(f"{self.file(name)}: holds no {LABEL_PAIRS}; delete it, and `bench run` makes it again")
        return tensors[LABEL_PAIRS].astype(np.int64, copy=False), tensors["labels"].astype(np.int64, copy=False)

    def _read(self, name: str) -> dict[str, Array]:
        from safetensors.numpy import load

        file = self.file(name)
        record = self.records().get(name)
        if record is None or record.tickets != self.made_with:
            raise UserError(f"{file}: missing from the store, or made with other tickets; `bench run` makes it")
        content = file.read_bytes() if file.is_file() else b""
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise UserError(
                f"{file}: gone, truncated or altered; restore it, or make it again with `bench run --retry`"
            )
        tensors = load(content)
        if problem := _problem(tensors):
            raise UserError(f"{file}: {problem}; delete it, and `bench run` makes it again")
        if record.nonfinite:
            raise UserError(
                f"{file}: not finite: {record.nonfinite:,} of its {tensors['logits'].size:,} logits; nothing is "
                "computed from it, and the network of this run is at fault"
            )
        return tensors

    def write(
        self,
        name: str,
        logits: Array,
        labels: Array,
        *,
        half: bool = True,
        label_pairs: Array | None = None,
        **facts: Any,
    ) -> None:
        """Write a set, then its record with these `facts`; only while holding the folder's lock.

        half          store logits of many classes in half precision, where that holds them
        label_pairs   of a set without members, that is other labels of the test images

        ValueError for what is no set of logits. Logits that are not finite are stored, counted and said.
        """
        from safetensors.numpy import save_file

        file = self.file(name)
        fits = half and logits.shape[-1] > MOST_FLOAT32 and not np.any(np.abs(logits) > np.finfo(np.float16).max)
        kind = np.float16 if fits else np.float32
        tensors = {"logits": np.ascontiguousarray(logits, kind), "labels": labels}
        if label_pairs is not None:
            tensors[LABEL_PAIRS] = label_pairs
        if problem := _problem(tensors):
            raise ValueError(f"{file}: {problem}")
        nonfinite = int(tensors["logits"].size - np.isfinite(tensors["logits"]).sum())
        if nonfinite:
            log.error("%s: not finite: %d of its %d logits", file, nonfinite, logits.size)
        with atomic_path(file) as temporary:
            save_file(tensors, temporary)
        record = EvaluationRecord(
            bytes=file.stat().st_size,
            sha256=sha256_of(file),
            tickets=self.made_with,
            count=len(labels),
            nonfinite=nonfinite,
            **facts,
        )
        self._known = None  # what is on disk counts, whoever wrote it
        self._write_records({**self.records(), name: record})

    def forget(self, names: Iterable[str]) -> None:
        """Remove sets, so that they are made again; only while holding the folder's lock."""
        forgotten = set(names)
        for name in forgotten:
            discard(self.file(name))
        self._known = None
        self._write_records({name: record for name, record in self.records().items() if name not in forgotten})

    def _write_records(self, records: Mapping[str, EvaluationRecord]) -> None:
        write_json(self.path / RECORDS, records_as_json(records))
        self._known = dict(records)

    def file(self, name: str) -> Path:
        """Return where the logits of a set are kept."""
        return self.path / "logits" / f"{name}.safetensors"


def records_as_json(records: Mapping[str, EvaluationRecord]) -> dict[str, Any]:
    """Return the content of evaluations.json, each record with its checksum."""
    content = {name: record.model_dump(mode="json") for name, record in records.items()}
    for record in content.values():
        record["checksum"] = checksum_of(record)
    return content


def _problem(tensors: Mapping[str, Array]) -> str | None:
    """Return what keeps tensors from being a set of logits, None if nothing does."""
    for name in ("logits", "labels"):
        if name not in tensors:
            return f"it holds no {name}, but {', '.join(sorted(tensors)) or 'nothing'}"
    logits, labels = tensors["logits"], tensors["labels"]
    if logits.dtype.kind != "f" or logits.ndim not in (3, 4) or 0 in logits.shape[-2:]:
        return f"its logits are {logits.dtype} {list(logits.shape)}; allowed: floats [..., members, images, classes]"
    if labels.dtype.kind not in "iu" or labels.shape != logits.shape[-2:-1]:
        return f"its labels are {labels.dtype} {list(labels.shape)}; allowed: whole numbers [{logits.shape[-2]}]"
    if labels.min() < -1 or labels.max() >= logits.shape[-1]:
        return f"its labels run from {labels.min()} to {labels.max()}; allowed: -1 to {logits.shape[-1] - 1}"
    pairs = tensors.get(LABEL_PAIRS)
    if pairs is None:
        return None
    if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or pairs.shape[1] != 2:
        return f"its {LABEL_PAIRS} are {pairs.dtype} {list(pairs.shape)}; allowed: whole numbers [K, 2]"
    if pairs.size and (pairs.min() < 0 or (pairs.max(axis=0) >= logits.shape[-2:]).any()):
        return f"its {LABEL_PAIRS} are not of {logits.shape[-2]} images and {logits.shape[-1]} classes"
    return None


def ticket_checksums(folder: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of each ticket of a finished run by file name; UserError if it is not done."""
    return _tickets_among(folder.result().files)


def _tickets_among(files: Mapping[str, StoredFile]) -> dict[str, str]:
    return {name: file.sha256 for name, file in files.items() if name.startswith("tickets/")}


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


def ensemble_logits(store: Store, ensemble: Ensemble) -> StoredLogits:
    """Return the sets of an ensemble; UserError if one of its runs is not done."""
    tickets = {
        f"{run}/{name}": checksum
        for run in ensemble.runs
        for name, checksum in ticket_checksums(store.run(run)).items()
    }
    return StoredLogits(ensemble_folder(store, ensemble), tickets)


def describe_ensemble(store: Store, ensemble: Ensemble) -> None:
    """Write which runs an ensemble is made of, for people and other programs."""
    path = ensemble_folder(store, ensemble) / "ensemble.json"
    content = {"runs": list(ensemble.runs), "members": ensemble.members}
    try:
        known = read_json(path)
    except UserError:
        known = None
    if known != content:
        write_json(path, content)
