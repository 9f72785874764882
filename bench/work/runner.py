"""Execute runs one after another: an error ends its run and not the others, a signal ends the process politely.

After a signal the exit code is 75 (bench.work.signals): a checkpoint is written, and the same command continues.
"""

import errno
import logging
import socket
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from bench.errors import UserError
from bench.spec.run import RunSpec
from bench.store.files import write_json
from bench.store.folders import RunFolder, Store
from bench.store.lock import LockLostError, RunLockedError
from bench.training.ranks import ALONE, RankFailedError, Ranks
from bench.work import provenance
from bench.work.executor import CHECKPOINT_SECONDS, BlockedRunError, Executor
from bench.work.signals import EXIT_INTERRUPTED, InterruptedRunError, StopRequest

log = logging.getLogger(__name__)

TRACEBACK_LINES = 30

# locked: another process has the run; blocked: its parent is not done
Outcome = Literal["done", "failed", "interrupted", "locked", "blocked"]


class PlannedRun(Protocol):
    """What the runner needs of a plan's entry (bench.plan.RunPlan)."""

    @property
    def spec(self) -> RunSpec: ...

    @property
    def cells(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Task:
    """A run to execute, and what it is called in log lines."""

    id: str
    title: str
    spec: RunSpec


def run_plan(
    runs: Sequence[PlannedRun],
    store: Store,
    *,
    data: Path | None = None,
    device: str = "auto",
    limit: int | None = None,
    retry: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    deterministic: bool = False,
    stop: StopRequest | None = None,
    ranks: Ranks = ALONE,
) -> int:
    """Execute what is missing of `runs` in order; return 0 if all are done, 1 if not, 75 after a signal.

    A run whose parent is not done when its turn comes is left, as blocked. Failed and damaged runs are executed again
    only with `retry`; at most `limit` runs are executed. `stop` is a request that the caller has entered, where it
    listens to signals itself; `ranks` are the processes that train each run together, whose group ends with the first
    run that fails.
    """
    with StopRequest() if stop is None else nullcontext(stop) as stop:
        executor = Executor(
            store,
            data=data,
            device=device,
            checkpoint_seconds=checkpoint_seconds,
            deterministic=deterministic,
            stop=stop,
            ranks=ranks,
        )
        for task in ranks.from_first(lambda: tasks(runs, store, retry=retry, limit=limit)):
            outcome = attempt(executor, task)
            if outcome == "failed" and ranks.size > 1:
                return summarise(runs, store) if ranks.first else 1
            if any(ranks.any(stop.received is not None)):
                name = stop.received.name if stop.received is not None else "a signal"
                log.log(_level(ranks), "stopped by %s; the same command continues", name)
                return EXIT_INTERRUPTED
    return ranks.from_first(lambda: summarise(runs, store))


def tasks(runs: Sequence[PlannedRun], store: Store, *, retry: bool, limit: int | None) -> list[Task]:
    """Return what is to execute, in order; without `retry`, log which runs are left for they failed or were damaged."""
    todo: list[PlannedRun] = []
    ids: set[str] = set()
    for run in runs:
        if not _wanted(store, run.spec, retry=retry):
            continue
        expected = run.spec.parent is not None and run.spec.parent.run_id in ids
        if not expected and (reason := store.blocked_by(run.spec)) is not None:
            log.warning("%s %s: blocked, %s", run.cells[0], run.spec.run_id[:8], reason)
        elif limit is None or len(todo) < limit:
            todo.append(run)
            ids.add(run.spec.run_id)
    return [
        Task(run.spec.run_id, f"[{position}/{len(todo)}] {run.cells[0]} {run.spec.run_id[:8]}", run.spec)
        for position, run in enumerate(todo, start=1)
    ]


def summarise(runs: Sequence[PlannedRun], store: Store) -> int:
    """Log how many runs are in which state; return the exit code, 0 if all are done."""
    statuses = [_state(store, run.spec) for run in runs]
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    log.info("%d runs: %s", len(runs), ", ".join(f"{count} {status}" for status, count in counts.items()))
    return 0 if all(status == "done" for status in statuses) else 1


def attempt(executor: Executor, task: Task) -> Outcome:
    """Execute one run, record and return how it ended; UserError if no run could do better.

    Of several ranks all return the same, and the first to fail records why; then their group is no more.
    """
    folder, title, ranks = executor.store.run(task.id), task.title, executor.ranks
    started = time.monotonic()
    try:
        executor.execute(task.spec, title)
        log.log(_level(ranks, logging.INFO), "%s: done in %.0f s", title, time.monotonic() - started)
        return "done"
    except InterruptedRunError:
        log.log(_level(ranks), "%s: interrupted, checkpoint written", title)
        return "interrupted"
    except (RunLockedError, LockLostError) as locked:
        log.log(_level(ranks), "%s: left to another process: %s", title, locked)
        return "locked"
    except BlockedRunError as blocked:
        log.log(_level(ranks), "%s: blocked, %s", title, blocked)
        return "blocked"
    except Exception as error:
        first = not isinstance(error, RankFailedError) and ranks.claim_failure()
        try:
            if isinstance(error, UserError):
                raise
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"{folder.path}: the disk is full; free some space, then run the same command"
                ) from None
            where = {"rank": ranks.rank} if ranks.size > 1 else {}
            on = f" on rank {ranks.rank}" if where else ""
            log.error("%s: failed%s: %s: %s", title, on, type(error).__name__, error)
            if first:
                _record_failure(folder, error, where)
        finally:
            ranks.abandon()
        return "failed"


def _record_failure(folder: RunFolder, error: Exception, where: dict[str, int]) -> None:
    report = {
        "status": "failed",
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:],
        "host": socket.gethostname(),
        **where,
        "attempt": (folder.error() or {}).get("attempt", 0) + 1,
        "time": provenance.now(),
    }
    try:
        write_json(folder.path / "error.json", report)
    except OSError as unwritten:
        raise UserError(f"{folder.path}: {unwritten.strerror}; the failure above could not be recorded") from None


def _level(ranks: Ranks, level: int = logging.WARNING) -> int:
    """Return the level of what every rank would say, and rank 0 says for all."""
    return level if ranks.first else logging.DEBUG


def _state(store: Store, spec: RunSpec) -> str:
    """Return the status of a run, "blocked" of one that waits for a parent that failed or was damaged."""
    status = store.status(spec)
    if status == "missing" and spec.parent is not None and store.status(spec.parent) in ("failed", "damaged"):
        return "blocked"
    return status


def _wanted(store: Store, spec: RunSpec, *, retry: bool) -> bool:
    folder, status = store.run(spec.run_id), store.status(spec)
    if status == "done" and retry and folder.damaged_files(deep=True):
        return True
    if status == "damaged" and not retry:
        names = ", ".join(str(file) for file in folder.damaged_files(deep=False))
        what = f"{names} is gone, truncated or altered" if names else f"{folder.path}: its parent was made again since"
        log.error("%s; --retry makes it again", what)
    if status == "failed" and not retry:
        error = folder.error() or {}
        log.error(
            "%s failed before (%s: %s); --retry tries again", folder.path, error.get("type"), error.get("message")
        )
    return status == "missing" or (retry and status in ("failed", "damaged"))
