"""Removing runs and ensembles from a store: each under its lock, at once, and never what a process works on."""

import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import UserError
from bench.store.contents import RUN_ID, StoredRun, contents
from bench.store.files import TEMPORARY, read_json
from bench.store.lock import RunLock, RunLockedError, is_live
from bench.store.sizes import sizes_below, total
from bench.store.store import Store


@dataclass(frozen=True)
class Removable:
    """A folder of the store that nobody asks for; `what` describes it to people."""

    kind: Literal["run", "ensemble"]
    path: Path
    what: str
    bytes: int


@dataclass(frozen=True)
class Removables:
    """What may go, and a sentence for each unasked folder that stays all the same."""

    items: tuple[Removable, ...]
    kept: tuple[str, ...]


def removables(
    store: Store, runs: Sequence[StoredRun], asked_runs: Collection[str], asked_ensembles: Collection[str]
) -> Removables:
    """Return the runs and ensembles that are not among those asked for, but for those that a process works on."""
    at_work = [run for run in runs if run.id not in asked_runs and _held(run.folder.path)]
    attacked = [path for path in _ensembles(store) if path.name not in asked_ensembles and _held(path)]
    kept = [f"{path}: another process works on it" for path in (*(run.folder.path for run in at_work), *attacked)]
    stay = {run.id for run in at_work} | _needed(at_work, attacked).keys()
    items = [
        Removable("run", run.folder.path, run.state, run.bytes)
        for run in runs
        if run.id not in asked_runs and run.id not in stay
    ]
    for path in _ensembles(store):
        if path.name not in asked_ensembles and path not in attacked:
            size = total(sizes_below(store.root, path).kinds).bytes
            items.append(Removable("ensemble", path, "attacks on it", size))
    return Removables(tuple(items), tuple(kept))


def remove(store: Store, items: Sequence[Removable]) -> list[str]:
    """Remove folders from a store; return a sentence for each that could not be.

    A folder is moved away while its lock is held, so that no process ever finds half of it. What a process began to
    work on since they were chosen stays, with what it starts from.
    """
    away = store.root / f"{TEMPORARY}removed-{os.getpid()}"
    problems = []
    at_work = [run for run in contents(store).runs if _held(run.folder.path)]
    needed = _needed(at_work, filter(_held, _ensembles(store)))
    try:
        for item in items:
            if item.kind == "run" and item.path.name in needed:
                problems.append(f"{item.path}: {needed[item.path.name]} needs it, and another process works on that")
                continue
            try:
                away.mkdir(exist_ok=True)
                with RunLock(item.path / "lock"):
                    item.path.rename(away / f"{item.kind}-{item.path.name}")
            except RunLockedError as locked:
                problems.append(str(locked))
            except OSError as refused:
                problems.append(f"{item.path}: {refused.strerror}")
    finally:
        shutil.rmtree(away, ignore_errors=True)
    if away.exists():
        problems.append(f"{away}: what was removed could not be deleted; delete this folder")
    return problems


def _needed(at_work: Iterable[StoredRun], attacked: Iterable[Path]) -> dict[str, str]:
    """Return by id the runs whose weights those at work started from, or that ensembles under attack are made of."""
    needed = {run.spec.parent.run_id: f"run {run.id}" for run in at_work if run.spec and run.spec.parent}
    for path in attacked:
        with suppress(UserError, TypeError, KeyError):  # one that is damaged names no runs
            needed |= dict.fromkeys(read_json(path / "ensemble.json")["runs"], f"ensemble {path.name}")
    return needed


def _held(folder: Path) -> bool:
    try:
        return is_live(folder / "lock")
    except OSError:  # a lock that cannot be read may be anybody's
        return True


def _ensembles(store: Store) -> list[Path]:
    try:
        paths = sorted((store.root / "ensembles").iterdir())
    except OSError:
        return []
    return [path for path in paths if RUN_ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
