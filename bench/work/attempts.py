"""How often a work item was started, counted in its folder: three starts in a row without progress, and it is given up.

Only a process that dies leaves its attempt counted against the item: it may be the item that kills it (memory, a bad
node). An error is recorded as a failure instead, and an attempt that a signal ended politely is taken back.
"""

import hashlib
from pathlib import Path

from bench.errors import UserError
from bench.store.files import read_json, write_json
from bench.store.records import ATTEMPTS, Attempts, parsed

MOST_WITHOUT_PROGRESS = 3
GIVEN_UP = (
    f"gave up: {MOST_WITHOUT_PROGRESS} attempts in a row ended without getting any further (out of memory, killed?); "
    "the logs may say why, and --retry tries again"
)
# What a later attempt continues from.
_PROGRESS = ("checkpoint.pt", "result.json")


def given_up(folder: Path, item: str) -> bool:
    """Whether attempts at an item of a folder (a run's or an ensemble's) ended too often without progress."""
    record = _read(folder).get(item)
    return (
        record is not None
        and record.without_progress >= MOST_WITHOUT_PROGRESS
        and record.progress == _progress(folder, item)
    )


def was_begun(folder: Path, item: str) -> bool:
    """Whether a process died in the last attempt at an item of a folder, or is at it."""
    return item in _read(folder)


def begin_attempt(folder: Path, item: str) -> Attempts:
    """Count an attempt that starts now; only while holding the folder's lock."""
    records, progress = _read(folder), _progress(folder, item)
    before = records.get(item)
    record = Attempts(
        attempts=1 if before is None else before.attempts + 1,
        without_progress=before.without_progress + 1 if before is not None and before.progress == progress else 1,
        progress=progress,
    )
    _write(folder, {**records, item: record})
    return record


def forget_attempts(folder: Path, item: str | None = None) -> None:
    """Count no attempt at an item (None: at any) any more; only while holding the folder's lock, or before work."""
    records = _read(folder)
    kept = {name: record for name, record in records.items() if item is not None and name != item}
    if kept != records:
        _write(folder, kept)


def _read(folder: Path) -> dict[str, Attempts]:
    path = folder / "attempts.json"
    if not path.exists():
        return {}
    try:
        return parsed(ATTEMPTS, read_json(path), path, "a count of attempts")
    except UserError:  # nothing is lost but a count
        return {}


def _write(folder: Path, records: dict[str, Attempts]) -> None:
    path = folder / "attempts.json"
    if records:
        write_json(path, {name: record.model_dump(mode="json") for name, record in records.items()})
    else:
        path.unlink(missing_ok=True)


def _progress(folder: Path, item: str) -> str:
    """Return a text that changes when anything that a later attempt continues from does; a set is made in one go."""
    if item != "train":
        return ""
    files = [folder / name for name in _PROGRESS]
    times = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
    return hashlib.sha256(repr(times).encode()).hexdigest()[:16]
