"""A worker process of `run --parallel`: executes the runs that its parent hands it, one after another, and reports.

The parent alone writes to the terminal, and alone decides when to stop: it says so over the pipe, or is gone.
"""

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.store.folders import Store
from bench.work.signals import SIGNALS, StopRequest

if TYPE_CHECKING:
    from bench.work.runner import Outcome, Task


@dataclass(frozen=True)
class Options:
    """How a worker executes its runs: as Executor, with so many threads."""

    data: Path | None
    device: str
    checkpoint_seconds: float
    deterministic: bool
    threads: int


@dataclass(frozen=True)
class Ready:
    """Everything is imported, and the first run begins; to end a worker before costs nothing."""


@dataclass(frozen=True)
class Said:
    """A log record; `epoch` is the history line it reports, if it does."""

    level: int
    text: str
    epoch: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Ended:
    """How the run in progress ended; the worker waits for the next."""

    outcome: "Outcome"


@dataclass(frozen=True)
class Refused:
    """A mistake of the user's that no run would get past; the worker ends."""

    message: str


Message = Ready | Said | Ended | Refused
Send = Callable[[Message], None]


def work(connection: Connection, store: Store, options: Options) -> None:
    """Execute the tasks that come over the pipe until None comes, or the pipe ends with the parent.

    Either one stops a run in progress as a signal does, with a checkpoint. To be started with its signals
    blocked, so that none of them arrives before it is handled.
    """
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # torch reads it when it is imported, below
    send = _sender(connection)
    sys.stderr = _Stderr(send)
    logger = logging.getLogger("bench")
    logger.addHandler(_Forwarder(send))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    with StopRequest() as stop:
        # Ctrl-C reaches every process of the terminal: the parent counts how often, and says what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

        import torch

        from bench.work.executor import Executor
        from bench.work.runner import attempt

        torch.set_num_threads(options.threads)
        tasks: SimpleQueue[Task | None] = SimpleQueue()
        threading.Thread(target=_listen, args=(connection, tasks, stop), daemon=True).start()
        try:
            executor = Executor(
                store,
                data=options.data,
                device=options.device,
                checkpoint_seconds=options.checkpoint_seconds,
                deterministic=options.deterministic,
                stop=stop,
            )
            send(Ready())
            while (task := tasks.get()) is not None:
                send(Ended("interrupted" if stop.received else attempt(executor, task)))
        except UserError as error:
            send(Refused(str(error)))


def _listen(connection: Connection, tasks: "SimpleQueue[Task | None]", stop: StopRequest) -> None:
    """Pass on what comes over the pipe; its end stops what is in progress."""
    with suppress(EOFError, OSError):
        while (task := connection.recv()) is not None:
            tasks.put(task)
    stop.received = stop.received or signal.SIGTERM
    tasks.put(None)


def _sender(connection: Connection) -> Send:
    """Return a function that sends whole messages from any thread, and none to a parent that is gone."""
    lock = threading.Lock()

    def send(message: Message) -> None:
        with lock, suppress(OSError):
            connection.send(message)

    return send


class _Forwarder(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Said(record.levelno, record.getMessage(), getattr(record, "epoch", None)))


class _Stderr(io.TextIOBase):
    """What libraries print goes through the parent too, and they find no terminal to draw on."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def write(self, text: str) -> int:
        if text.strip():
            self._send(Said(logging.WARNING, text.rstrip()))
        return len(text)
