"""Several workers on one machine, each in a process of its own: for runs too small to fill a device by themselves.

Each child is the same worker as `bench run` is, with its share of the threads and its number before its log lines. The
parent only starts them, passes signals on, and says at the end what is left.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.data.loading import record_folders
from bench.errors import UserError
from bench.store.store import Store
from bench.work.items import Work
from bench.work.options import Options, most_decoders, set_thread_variables
from bench.work.signals import EXIT_INTERRUPTED, SIGNALS, StopRequest

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
# How often the time that is left is said.
LEFT_SECONDS = 60.0


def run_parallel(work: Work, store: Store, options: Options, workers: int, say_left: Callable[[], str] = str) -> int:
    """Let `workers` processes do the work; return 75 after a signal, 2 after a user's mistake, else 0.

    Each worker gets its share of the threads that torch would use. Rounding follows the number of threads, so another
    number of workers gives other bits.
    """
    import torch

    record_folders(store, (run.spec.data for run in work.runs))
    threads = max(1, torch.get_num_threads() // workers)
    decoders = max(0, most_decoders() + 1 - workers) // workers if options.decoders is None else options.decoders
    shared = replace(options, threads=threads, decoders=decoders, bars=False)
    with StopRequest() as stop:
        children = [_start(number, work, store.root, shared) for number in range(1, workers + 1)]
        try:
            codes = _watch(children, stop, say_left)
        finally:
            for child in children:  # after a second Ctrl-C, or a bug
                child.kill()
                child.join()
    if 2 in codes:
        return 2
    if EXIT_INTERRUPTED in codes or stop.received is not None:
        log.warning("stopped by %s; the same command continues", stop.received.name if stop.received else "a signal")
        return EXIT_INTERRUPTED
    return 0


def _start(number: int, work: Work, root: Path, options: Options) -> BaseProcess:
    # Started afresh, since torch does not survive a fork.
    process = get_context("spawn").Process(target=_child, args=(number, work, root, options), name=f"worker {number}")
    with _signals_blocked():
        process.start()
    return process


def _watch(children: list[BaseProcess], stop: StopRequest, say_left: Callable[[], str]) -> list[int]:
    """Return the exit codes of all children; pass a signal on, and let no child go on after a user's mistake."""
    told = lost = False
    said_at = time.monotonic()
    codes: dict[str, int] = {}
    while len(codes) < len(children):
        for child in children:
            child.join(POLL_SECONDS / len(children))
            if child.exitcode is not None and child.name not in codes:
                codes[child.name] = child.exitcode
                if child.exitcode < 0 and not told:
                    log.error("%s was killed by signal %d; the others go on", child.name, -child.exitcode)
                lost = lost or child.exitcode == 2
        if time.monotonic() - said_at >= LEFT_SECONDS and not told:
            said_at = time.monotonic()
            if left := say_left():
                log.info("left: %s", left)
        if (stop.received is not None or lost) and not told:
            told = True
            log.info("stopping: the workers write their checkpoints")
            for child in children:
                if child.is_alive() and child.pid is not None:
                    os.kill(child.pid, signal.SIGTERM)
    return list(codes.values())


def _child(number: int, work: Work, root: Path, options: Options) -> None:
    """Work as a child; to be started with SIGNALS blocked, so that none of them arrives before it is handled."""
    set_thread_variables(options.threads)
    prefix = f"worker {number} | "
    logging.basicConfig(stream=sys.stderr, format=f"%(asctime)s {prefix}%(message)s", datefmt="%H:%M:%S")
    logging.getLogger("bench").setLevel(logging.INFO)
    with StopRequest() as stop:
        # Ctrl-C reaches every process of the terminal; the parent counts how often, and says what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
        from bench.work.context import Context
        from bench.work.worker import Worker

        try:
            code = Worker(work, Context.make(Store(root), options, stop)).work()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
    raise SystemExit(code)


def _stop_with_parent(stop: StopRequest) -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    stop.received = stop.received or signal.SIGTERM


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold back the signals, so that a process started meanwhile does not die of one before it can handle it."""
    resource_tracker.ensure_running()  # multiprocessing's own; to start it later would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
