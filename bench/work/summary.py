"""What is left of some work, in words and as an exit code; and how failures are cleared for another try."""

import logging
from collections import Counter
from contextlib import suppress

from bench.errors import UserError
from bench.spec.run import RunSpec
from bench.store.folders import RunFolder, Store
from bench.store.lock import RunLock, RunLockedError
from bench.store.logits import RECORDS, StoredLogits, ensemble_folder, ensemble_logits
from bench.work.attempts import forget_attempts
from bench.work.items import TrainRun, Work
from bench.work.readiness import StoreView

log = logging.getLogger(__name__)

# States of a run that a user has to do something about.
EXPLAINED = ("failed", "damaged", "blocked")


def summarise(work: Work, store: Store) -> int:
    """Log how many runs are in which state, and why some are left; return 0 if everything is done, else 1."""
    view = StoreView(store)
    runs = [(item.run, view.may_start(item)) for item in work.items() if isinstance(item, TrainRun)]
    for run, readiness in runs:
        if readiness.state in EXPLAINED:
            hint = "" if readiness.state == "blocked" else "; --retry tries again"
            log.error("%s %s: %s: %s%s", run.cell, run.id[:8], readiness.state, readiness.reason, hint)
    counts = Counter(readiness.state for _, readiness in runs)
    log.info("%d runs: %s", len(runs), ", ".join(f"{count} {state}" for state, count in counts.items()))
    sets = [view.may_start(item) for item in work.items() if not isinstance(item, TrainRun)]
    for reason in dict.fromkeys(readiness.reason for readiness in sets if readiness.state in ("failed", "damaged")):
        log.error("evaluation sets are left: %s", reason)
    made = sum(readiness.state == "done" for readiness in sets)
    if sets:
        log.info("%d evaluation sets: %d made, %d left", len(sets), made, len(sets) - made)
    return int(counts["done"] != len(runs) or made != len(sets))


def clear_failures(work: Work, store: Store) -> None:
    """Let failed, given-up and damaged items be tried again: what `--retry` does before any work.

    Files are compared with their checksums. A damaged run loses its tickets and logits, and is trained again; a
    damaged set is made again. Folders that another process works in are left alone.
    """
    for run in work.runs:
        folder = store.run(run.id)
        if folder.path.exists():
            with suppress(RunLockedError), RunLock(folder.path / "lock"):
                _clear_run(run.spec, folder, store)
                forget_attempts(folder.path)
    for ensemble in work.ensembles:
        path = ensemble_folder(store, ensemble.ensemble)
        if path.exists():
            with suppress(RunLockedError), RunLock(path / "lock"):
                forget_attempts(path)
                with suppress(UserError):  # a run of the ensemble is not done
                    _clear_logits(ensemble_logits(store, ensemble.ensemble))


def _clear_run(spec: RunSpec, folder: RunFolder, store: Store) -> None:
    (folder.path / "error.json").unlink(missing_ok=True)
    result = folder.path / "result.json"
    if not result.exists():
        return
    damaged = folder.damaged_files(deep=True)
    if damaged or store.is_stale(spec):
        names = ", ".join(str(file.relative_to(folder.path)) for file in damaged) or "its parent was made again"
        log.warning("%s: damaged (%s); it is trained again", folder.path, names)
        result.unlink()
        for kind in ("tickets", "kept", "logits"):
            for file in folder.tensors(kind):
                file.unlink()
        (folder.path / RECORDS).unlink(missing_ok=True)
        return
    try:
        _clear_logits(StoredLogits.of_run(folder))
    except UserError as damage:
        log.warning("%s", damage)
        (folder.path / RECORDS).unlink()


def _clear_logits(logits: StoredLogits) -> None:
    damaged = [name for name in logits.records() if not logits.has(name, deep=True)]
    if damaged:
        log.warning("%s: damaged (%s); made again", logits.path, ", ".join(damaged))
        logits.forget(damaged)


def is_finished(work: Work, store: Store) -> bool:
    """Whether no item of some work is left that a worker could start, now or once another worker is done."""
    view = StoreView(store)
    return not any(view.may_start(item).state in ("missing", "running", "waiting") for item in work.items())
