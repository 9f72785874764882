"""What `--retry` does before any work: failures are forgotten, and what is damaged is mended, alone.

Files are compared with their checksums. Nothing intact is removed: a run whose tickets are damaged is trained again
over its old files, and evaluation sets that were made with the same tickets stay valid. A damaged history or provenance
is set aside: no table needs it, and to get it back the run would have to be trained again.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.errors import UserError
from bench.spec.run import RunSpec
from bench.store.files import discard
from bench.store.lock import RunLock, RunLockedError
from bench.store.logits import RECORDS, Ensemble, StoredLogits, ensemble_folder, ensemble_logits
from bench.store.run_folder import REPLACED_RESULT, RunFolder
from bench.store.store import Store
from bench.work.attempts import forget_attempts
from bench.work.items import Work

log = logging.getLogger(__name__)

DAMAGED = ".damaged"


def clear_failures(work: Work, store: Store) -> None:
    """Let failed, given-up and damaged items be tried again; folders that another process works in are left alone."""
    for run in work.runs:
        folder = store.run(run.id)
        _alone_in(folder.path, partial(_clear_run, run.spec, folder, store))
    for ensemble in work.ensembles:
        _alone_in(ensemble_folder(store, ensemble.ensemble), partial(_clear_ensemble, ensemble.ensemble, store))


def _alone_in(folder: Path, clear: Callable[[], None]) -> None:
    """Clear a folder, if there is one, under its lock; what its file system refuses is said and keeps no other back."""
    try:
        if os.path.lexists(folder):
            with RunLock(folder / "lock"):
                clear()
                forget_attempts(folder)
    except RunLockedError as locked:
        # Its process has just recorded the failure, or died then on another machine.
        if os.path.lexists(folder / "error.json"):
            log.warning("%s: failed, and not tried again now: %s", folder, locked)
    except OSError as refused:
        log.error("%s: cannot be mended: %s", folder, refused)


def _clear_ensemble(ensemble: Ensemble, store: Store) -> None:
    with suppress(UserError):  # a run of the ensemble is not done
        _clear_logits(ensemble_logits(store, ensemble))


def _clear_run(spec: RunSpec, folder: RunFolder, store: Store) -> None:
    (folder.path / "error.json").unlink(missing_ok=True)
    if not (folder.path / "result.json").exists():
        return
    damaged = {str(file.relative_to(folder.path)) for file in folder.damaged_files(deep=True)}
    for name in sorted(damaged & {"spec.yaml", "provenance.json", "history.jsonl"}):
        _mend(spec, folder, name)
    damaged -= {"spec.yaml", "provenance.json", "history.jsonl"}
    if damaged or store.is_stale(spec):
        names = ", ".join(sorted(damaged)) or "its parent was made again"
        log.warning("%s: damaged (%s); it is trained again", folder.path, names)
        for name in damaged - {"result.json"}:
            discard(folder.path / name)
        discard(folder.path / REPLACED_RESULT)
        (folder.path / "result.json").replace(folder.path / REPLACED_RESULT)
        return
    _clear_logits(StoredLogits.of_run(folder))


def _mend(spec: RunSpec, folder: RunFolder, name: str) -> None:
    """Write a file of a finished run anew that no number depends on; what it said is lost, but for the spec."""
    aside = _set_aside(folder.path / name)
    match name:
        case "spec.yaml":
            folder.write_spec(spec)
        case "provenance.json":
            folder.write_provenance(())
        case "history.jsonl":
            folder.write_history(())
    folder.record_again(name)
    lost = "" if name == "spec.yaml" else "; what it recorded is lost, tickets and logits are not"
    log.warning("%s: damaged, kept as %s and written anew%s", folder.path / name, aside.name, lost)


def _set_aside(path: Path) -> Path:
    aside = path.with_name(path.name + DAMAGED)
    if path.exists():
        discard(aside)
        path.replace(aside)
    return aside


def _clear_logits(logits: StoredLogits) -> None:
    try:
        logits.records()
    except UserError as damage:
        log.warning("%s, now", damage)
        _set_aside(logits.path / RECORDS)
        return
    damaged = [name for name in logits.records() if not logits.has(name, deep=True)]
    if damaged:
        log.warning("%s: damaged (%s); made again", logits.path, ", ".join(damaged))
        logits.forget(damaged)
