"""Execute several runs at once, each in a process of its own: for runs too small to fill a device by themselves.

The processes are started afresh (torch does not survive a fork), keep the loaded images from run to run, and get their
runs from here: in the order of the plan, a run once its parent is done.
"""

import logging
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from bench.errors import UserError
from bench.store.folders import Store
from bench.work.executor import CHECKPOINT_SECONDS, Executor
from bench.work.progress import RunsTable, RunState
from bench.work.runner import PlannedRun, Task, summarise, tasks
from bench.work.signals import EXIT_INTERRUPTED, SIGNALS, StopRequest
from bench.work.worker import Ended, Options, Ready, Refused, Said, work

log = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5


def run_parallel(
    runs: Sequence[PlannedRun],
    store: Store,
    *,
    parallel: int,
    data: Path | None = None,
    device: str = "auto",
    limit: int | None = None,
    retry: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    deterministic: bool = False,
) -> int:
    """Execute what is missing of `runs`, `parallel` at a time; exit codes and options as bench.work.runner.run_plan.

    Each worker gets its share of the threads that torch would use. Rounding follows the number of threads: with another
    `parallel` a run comes to other bits.
    """
    threads = max(1, torch.get_num_threads() // parallel)
    options = Options(data, device, checkpoint_seconds, deterministic, threads)
    with StopRequest() as stop, RunsTable() as table:
        todo = tasks(runs, store, retry=retry, limit=limit)
        _prepare(todo, store, options)
        crew = _Crew(todo, store, options, parallel, stop, table)
        try:
            crew.work()
        finally:
            crew.kill()
    if crew.mistake is not None:
        raise UserError(crew.mistake)
    if crew.interrupted or stop.received is not None:
        log.warning("stopped by %s; the same command continues", stop.received.name if stop.received else "a signal")
        return EXIT_INTERRUPTED
    return summarise(runs, store)


def _prepare(todo: Sequence[Task], store: Store, options: Options) -> None:
    """Load each data set once here, so that no two workers decode it, and record it in the store, at the same time."""
    executor = Executor(store, data=options.data, device=options.device)
    for spec in {task.spec.data.name: task.spec.data for task in reversed(todo)}.values():
        executor.load_data(spec)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    state: RunState | None = None
    ready: bool = False
    dismissed: bool = False

    def send(self, task: Task | None) -> None:
        with suppress(OSError):  # it was killed, as the other end of the pipe is about to tell
            self.pipe.send(task)


class _Crew:
    """The workers, the runs that wait for one, and what became of the others."""

    def __init__(
        self, todo: Sequence[Task], store: Store, options: Options, size: int, stop: StopRequest, table: RunsTable
    ) -> None:
        self.mistake: str | None = None
        self.interrupted = False
        self._store, self._options, self._size, self._stop, self._table = store, options, size, stop, table
        self._waiting = list(todo)
        self._unfinished = {task.id for task in todo}
        self._workers: list[_Worker] = []
        self._counts = Counter({"done": 0, "failed": 0, "blocked": 0})

    def work(self) -> None:
        """Return when everything was tried or a signal came, and all workers have ended."""
        while True:
            if self._stop.received is not None or self.interrupted or self.mistake is not None:
                self._dismiss()
            else:
                self._hand_out()
            if not self._workers:
                return
            for pipe in wait([worker.pipe for worker in self._workers], REFRESH_SECONDS):
                self._hear(next(worker for worker in self._workers if worker.pipe is pipe))
            busy = [worker.state for worker in self._workers if worker.state is not None]
            self._table.refresh(busy, {**self._counts, "left": len(self._waiting) + len(busy)})

    def kill(self) -> None:
        """End what is left of the workers at once: after a second Ctrl-C, or a bug."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()

    # -- to the workers ------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give a run to everyone who has none, and send home those for whom there will be none."""
        idle = [worker for worker in self._workers if worker.task is None and not worker.dismissed]
        while (idle or len(self._workers) < self._size) and (task := self._next()) is not None:
            worker = idle.pop(0) if idle else self._start()
            worker.task, worker.state = task, RunState(task.title, task.spec.epochs)
            worker.send(task)
        if not self._waiting:
            for worker in idle:
                worker.dismissed = True
                worker.send(None)

    def _next(self) -> Task | None:
        """Take the first run whose parent is done out of those that wait, and the blocked ones before it."""
        for task in list(self._waiting):
            parent = None if task.spec.parent is None else task.spec.parent.run_id
            if parent in self._unfinished:
                continue
            self._waiting.remove(task)
            reason = self._store.blocked_by(task.spec)
            if reason is None:
                return task
            log.warning("%s: blocked, %s", task.title, reason)
            self._count(task, "blocked")
        return None

    def _start(self) -> _Worker:
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, self._store, self._options), name="bench worker")
        with _signals_blocked():
            process.start()
        there.close()  # now nobody but the worker holds it, and the pipe ends with its life
        worker = _Worker(process, here)
        self._workers.append(worker)
        return worker

    def _dismiss(self) -> None:
        """Ask every worker to end, with a checkpoint if it is busy; one that is still starting has none to write."""
        staying = [worker for worker in self._workers if not worker.dismissed]
        if any(worker.task is not None and worker.ready for worker in staying):
            log.info("stopping: the runs in progress write their checkpoints")
        for worker in staying:
            worker.dismissed = True
            worker.send(None)
            if not worker.ready:
                worker.process.kill()

    # -- from the workers ----------------------------------------------------------------------------------------------

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):  # OSError: killed in the middle of a message
            self._lose(worker)
            return
        match message:
            case Ready():
                worker.ready = True
            case Said():
                self._say(worker, message)
            case Ended():
                self.interrupted |= message.outcome == "interrupted"
                self._finish(worker, message.outcome)
            case Refused():
                self.mistake = self.mistake or message.message
                worker.task = worker.state = None

    def _say(self, worker: _Worker, said: Said) -> None:
        if said.epoch is not None and worker.state is not None:
            worker.state.hear(said.epoch)
            if self._table.shown:
                return
        title = worker.task.title if worker.task is not None else "worker"
        log.log(said.level, "%s", said.text if said.text.startswith(title) else f"{title}: {said.text}")

    def _lose(self, worker: _Worker) -> None:
        """Take leave of a worker that has ended, whether asked to or not."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        code = worker.process.exitcode or 0
        if worker.task is not None and not worker.dismissed:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            log.error(
                "the worker training %s %s; the run continues from its checkpoint with the same command",
                worker.task.title,
                how,
            )
            self._finish(worker, "lost")

    def _finish(self, worker: _Worker, outcome: str) -> None:
        if worker.task is not None:
            self._count(worker.task, outcome)
        worker.task = worker.state = None

    def _count(self, task: Task, outcome: str) -> None:
        self._unfinished.discard(task.id)
        self._counts[outcome] += 1


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold back the signals, so that a process started meanwhile does not die of one before it can handle it."""
    resource_tracker.ensure_running()  # multiprocessing's; to start it later would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
