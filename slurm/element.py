"""What runs on the node: one unit of a batch, from wherever an earlier attempt left it.

The exit code is honest, so that sacct agrees with the store: 0 if everything was trained and evaluated, 1 if not, 2 for
a mistake that stops all runs (images that are not there), 75 after a signal, with a checkpoint written. Ahead of the
time limit SLURM sends SIGUSR2: then the element also puts itself back in the queue. After SIGTERM it does not: that is
the user's scancel, or a preemption after which SLURM itself queues it again.
"""

import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from bench.errors import UserError
from bench.evaluation.sets import AttackSet, TicketSet
from bench.spec.run import RunSpec
from bench.store.files import write_json
from bench.store.folders import Store
from bench.store.lock import STALE_SECONDS, holder, is_live
from bench.store.logits import RECEIPTS, Evaluated, ensemble_folder, evaluated_ensemble
from bench.work.signals import EXIT_INTERRUPTED, StopRequest
from slurm.ledger import BatchFolder, now
from slurm.records import Batch, Mark, Unit
from slurm.site import expanded

if TYPE_CHECKING:
    from bench.training.ranks import Ranks
    from bench.work.executor import Executor

log = logging.getLogger("bench.slurm")

AHEAD_OF_LIMIT = (signal.SIGUSR1, signal.SIGUSR2)
# So many starts in a row that find nothing further than the one before, and an element gives up.
MOST_STALLS = 3
POLL_SECONDS = 2.0
# A killed process's lock on another node looks alive until its heartbeat is old.
LOCK_PATIENCE = STALE_SECONDS + 30.0


class Element:
    """The callable that submitit pickles: where its unit is written down, and nothing else."""

    def __init__(self, folder: Path, index: int) -> None:
        self.folder, self.index = str(folder), index

    def __call__(self) -> None:
        """Work on the unit; always ends in SystemExit."""
        folder = BatchFolder(Path(self.folder))
        environment = submitit.JobEnvironment()
        _log_to_stdout()
        with StopRequest() as stop:
            code = _Work(folder, self.index, environment, stop).run()
            again = code == EXIT_INTERRUPTED and stop.received in AHEAD_OF_LIMIT
            if environment.global_rank > 0:
                # The step ends with the highest code, and a task that fails takes the others with it: let rank 0 speak.
                raise SystemExit(code if code == 1 else 0)
            if again and folder.batch.requeue:
                _requeue(environment)
            raise SystemExit(code)


def _log_to_stdout() -> None:
    """Log what this suite says; submitit and srun write to the same file."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("bench")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _set_environment(batch: Batch) -> None:
    """Set the variables that libraries read when they are imported, or when they first write a temporary file."""
    # Rounding follows the number of threads.
    os.environ["OMP_NUM_THREADS"] = str(batch.resources.cpus)
    if batch.data_folder is not None:
        os.environ["FREETICKETS_DATA"] = batch.data_folder
    if batch.scratch is not None:
        try:
            scratch = expanded(batch.scratch)
            scratch.mkdir(parents=True, exist_ok=True)
        except (ValueError, OSError) as error:
            raise UserError(f"{batch.site}: scratch: {batch.scratch}: {error}") from None
        os.environ["TMPDIR"] = str(scratch)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(scratch / "inductor")
        os.environ["TRITON_CACHE_DIR"] = str(scratch / "triton")


def _take_own_gpus(environment: submitit.JobEnvironment, gpus: int) -> None:
    """Leave visible, of the GPUs that SLURM gave the processes of this node, those of this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus and visible:  # their numbers need not begin at 0, where SLURM does not hide those of other jobs
        own = visible.split(",")[gpus * environment.local_rank : gpus * (environment.local_rank + 1)]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own)


def _requeue(environment: submitit.JobEnvironment) -> None:
    """Put the element back in the queue; where that is not allowed, `submit` goes on with it."""
    log.warning("back to the queue: the next attempt continues from the checkpoint")
    try:
        environment._requeue(0)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("SLURM did not take it (%s); `python -m slurm submit` goes on from the checkpoint", error)


class _Work:
    """One attempt at a unit."""

    def __init__(
        self, folder: BatchFolder, index: int, environment: submitit.JobEnvironment, stop: StopRequest
    ) -> None:
        self._folder, self._index, self._environment, self._stop = folder, index, environment, stop
        self._batch, self._unit = folder.batch, folder.unit(index)
        self._store = Store(folder.path.parent.parent)
        self._runs = {run.id: run for run in self._unit.runs}

    def run(self) -> int:
        """Return the exit code; rank 0 writes down how it went."""
        if self._environment.global_rank > 0:
            return self._guarded()[0]
        mark = _started(
            self._folder,
            self._index,
            self._environment,
            _progress(self._store, self._unit, several=self._environment.num_tasks > 1),
        )
        self._folder.write_mark(self._index, mark)
        log.info("%s element %d, attempt %d, on %s", self._batch.name, self._index, mark.attempt, mark.node)
        code, message = self._give_up(mark) if mark.stalls >= MOST_STALLS else self._guarded()
        update = {"code": code, "message": message, "ended": now()}
        self._folder.write_mark(self._index, mark.model_copy(update=update))
        return code

    def _guarded(self) -> tuple[int, str | None]:
        """Return the exit code, and what the user has to know of what stopped all runs of the unit."""
        try:
            _set_environment(self._batch)
            return self._work(), None
        except UserError as mistake:
            log.error("error: %s", mistake)
            return 2, str(mistake)
        except Exception as error:
            log.exception("the task failed outside of its runs")
            return 1, f"{type(error).__name__}: {error}"

    def _give_up(self, mark: Mark) -> tuple[int, str]:
        """Record as failed the run that no attempt gets past; it may kill the node, so nothing more is tried."""
        message = f"gave up: {mark.stalls} attempts in a row ended without getting any further; the logs may say why"
        log.error("%s", message)
        for run in map(self._runs.__getitem__, self._unit.train):
            if self._store.status(run.spec) in ("missing", "failed"):
                record = {"type": "GaveUp", "message": message, "traceback": [], "attempt": mark.attempt}
                where = {"host": mark.node, "time": now()}
                write_json(self._store.run(run.id).path / "error.json", {"status": "failed", **record, **where})
                break
        return 1, message

    def _work(self) -> int:
        from bench.training.ranks import ALONE, Ranks
        from bench.work.executor import Executor

        device = self._batch.device
        several = self._environment.num_tasks > 1
        if several:
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
            _take_own_gpus(self._environment, self._batch.resources.gpus)
        with Ranks.join(device) if several else nullcontext(ALONE) as ranks:
            executor = Executor(
                self._store,
                data=self._data,
                device=device,
                checkpoint_seconds=self._batch.checkpoint_seconds,
                deterministic=self._batch.deterministic,
                stop=self._stop,
                ranks=ranks,
            )
            trained = self._train(executor, ranks)
        if trained is None:
            return 1
        if self._stop.received is not None:
            return EXIT_INTERRUPTED
        if self._environment.global_rank > 0:
            return int(not trained)
        code = self._evaluate()
        return code if trained else max(code, 1)

    @property
    def _data(self) -> Path | None:
        return None if self._batch.data is None else Path(self._batch.data)

    def _wanted(self) -> list[str]:
        """Return the runs to train: not those that are done, nor those that failed in an earlier attempt."""
        wanted = []
        for run in map(self._runs.__getitem__, self._unit.train):
            folder, status = self._store.run(run.id), self._store.status(run.spec)
            # As slurm.owners.is_final: several processes may have failed because a node did.
            several = self._environment.num_tasks > 1
            earlier = not several and (folder.error() or {}).get("time", "") >= self._batch.created
            if status != "done" and not (status == "failed" and earlier):
                wanted.append(run.id)
        return wanted

    def _train(self, executor: "Executor", ranks: "Ranks") -> bool | None:
        """Train the runs in order; return whether all runs of the unit are done, None if the processes lost each other.

        After a signal to any of the processes all of them know of it.
        """
        from bench.work.runner import Task, attempt

        wanted = ranks.from_first(self._wanted)
        for number, run in enumerate(map(self._runs.__getitem__, wanted), start=1):
            lock = self._store.run(run.id).path / "lock"
            ranks.from_first(lambda lock=lock: self._wait_for_lock(lock))  # type: ignore[misc]
            self._agree(ranks)
            if self._stop.received is not None:
                return False
            outcome = attempt(executor, Task(run.id, f"[{number}/{len(wanted)}] {run.cells[0]} {run.id[:8]}", run.spec))
            if outcome == "failed" and ranks.size > 1:
                return None
            self._agree(ranks)
        return all(self._store.status(self._runs[run].spec) == "done" for run in self._unit.train)

    def _agree(self, ranks: "Ranks") -> None:
        """Let every process know of a signal that one of them got; of two, of that ahead of the time limit."""
        limit, any_signal = ranks.any(self._stop.received in AHEAD_OF_LIMIT, self._stop.received is not None)
        if limit:
            self._stop.received = signal.SIGUSR2
        elif any_signal:
            self._stop.received = self._stop.received or signal.SIGTERM

    def _wait_for_lock(self, lock: Path) -> None:
        """Wait while a lock looks alive and its heartbeat stands still: as that of a process killed elsewhere does."""
        patience, heartbeat = time.monotonic() + LOCK_PATIENCE, holder(lock).get("heartbeat")
        said = False
        while is_live(lock) and holder(lock).get("heartbeat") == heartbeat and time.monotonic() < patience:
            if self._stop.received is not None:
                return
            if not said:
                log.info("%s is locked by another process; waiting whether it is alive", lock.parent.name[:8])
                said = True
            time.sleep(POLL_SECONDS)

    def _evaluate(self) -> int:
        """Make the missing sets of finished runs, and attack the ensembles that are now whole."""
        from bench.work.evaluator import evaluate_plan

        runs = [run for run in map(self._runs.__getitem__, self._unit.evaluate) if self._done(run.spec)]
        ensembles = [one for one in self._unit.ensembles if all(map(self._done, one.specs))]
        if not runs and not ensembles:
            return 0
        folders = [self._store.run(run.id).path for run in runs]
        for folder in (*folders, *(ensemble_folder(self._store, one.ensemble) for one in ensembles)):
            self._wait_for_lock(folder / "lock")
        code = evaluate_plan(
            runs,
            ensembles,
            self._store,
            data=self._data,
            device=self._batch.device,
            deterministic=self._batch.deterministic,
            stop=self._stop,
        )
        if code == EXIT_INTERRUPTED:
            return code
        missing = [run for run in runs if self._lacks(Evaluated.of_run(self._store.run(run.id)), run.evaluations)]
        lacking = [
            one
            for one in ensembles
            # The run that ended at the same time as this one may be at it.
            if not is_live(ensemble_folder(self._store, one.ensemble) / "lock")
            and self._lacks(evaluated_ensemble(self._store, one.ensemble), one.evaluations)
        ]
        return int(bool(missing or lacking))

    def _done(self, spec: RunSpec) -> bool:
        return self._store.status(spec) == "done"

    @staticmethod
    def _lacks(evaluated: Evaluated, sets: Sequence[TicketSet] | Sequence[AttackSet]) -> bool:
        return bool(evaluated.missing([one.name for one in sets]))


def _started(folder: BatchFolder, index: int, environment: submitit.JobEnvironment, progress: str) -> Mark:
    """Return the mark of an attempt that begins, one more than the last."""
    last = folder.mark(index)
    return Mark(
        job=environment.job_id,
        attempt=1 if last is None else last.attempt + 1,
        stalls=last.stalls + 1 if last is not None and last.progress == progress else 0,
        progress=progress,
        node=socket.gethostname(),
        started=now(),
    )


def _progress(store: Store, unit: Unit, *, several: bool) -> str:
    """Return a text that changes when anything that a later attempt continues from does."""
    folders = [store.run(run.id).path for run in unit.runs]
    folders += [ensemble_folder(store, one.ensemble) for one in unit.ensembles]
    files = [folder / name for folder in folders for name in ("checkpoint.pt", "result.json", RECEIPTS)]
    if not several:  # of several processes a run that failed is tried again
        files += [folder / "error.json" for folder in folders]
    times = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
    return hashlib.sha256(repr(times).encode()).hexdigest()[:16]
