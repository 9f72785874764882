"""Real code in simulated time: each process is a greenlet, which gives way to simpy whenever it waits.

What code under simulation takes from `time` and `threading` is replaced by what is here, in the test's process alone.
"""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simpy
from greenlet import getcurrent, greenlet

# So many file operations of one process are waited for at once: each by itself is an event too many.
OPERATIONS_AT_ONCE = 32
Wait = tuple[float, bool]


class Process(greenlet):
    """A simulated process.

    operations   on files of the store, and how many of them it has not waited for yet
    waited       seconds by what for
    """

    def __init__(self, run: Callable[[], Any], files: "FileServer", host: str) -> None:
        super().__init__(run)
        self.files, self.host = files, host
        self.operations = self.unpaid = 0
        self.waited: Counter[str] = Counter()
        self.seen: dict[Any, Any] = {}  # what bench.store.lock remembers in a process
        self.interrupted, self.preempted = False, False
        self.purpose = "working"
        self.training: tuple[Path, float, float] | None = None
        self._waits: tuple[str, float] | None = None

    def count(self, operations: int) -> None:
        """Note operations on files, to be waited for at the next `pay`."""
        self.operations += operations
        self.unpaid += operations

    def pay(self, least: int = 1) -> None:
        """Wait for the operations since the last time, if they are so many."""
        if self.unpaid >= least:
            self.files.count(self.unpaid, self.purpose)
            seconds = self.files.serve(self.unpaid)
            self.unpaid = 0
            self.wait(seconds, "files")

    def wait(self, seconds: float, what: str, *, interruptible: bool = False) -> float:
        """Wait; return the seconds until it was over, or until a signal came to one that can be interrupted."""
        if interruptible and self.interrupted:
            return 0.0
        if what != "files":
            self.pay()
        if seconds <= 0:
            return 0.0
        self._waits = what, self.files.env.now
        self.parent.switch((seconds, interruptible))
        return self.end_wait()

    def end_wait(self) -> float:
        """Note that the process waits no more, be it over or dead; return for how long it did."""
        if self._waits is None:
            return 0.0
        what, since = self._waits
        self._waits = None
        self.waited[what] += self.files.env.now - since
        return float(self.files.env.now - since)


def current() -> Process | None:
    """Return the simulated process that runs, None outside of any."""
    process = getcurrent()
    return process if type(process) is Process else None


class KilledError(Exception):
    """A simulated process was killed."""


def drive(env: simpy.Environment, process: Process) -> Generator[simpy.Event, Any, Any]:
    """Let a process run to its end and return what its function returned; KilledError if it was killed.

    An interrupt whose cause is None kills it: none of its code runs from then on. With another cause it is a signal.
    """
    wanted: Any = process.switch()
    while not process.dead:
        seconds, interruptible = wanted
        over = env.timeout(seconds)
        while True:
            try:
                yield over
                break
            except simpy.Interrupt as interrupt:
                if interrupt.cause is None:
                    raise KilledError from None
                interrupt.cause()
                process.interrupted = True
                if interruptible:
                    break
        wanted = process.switch()
    return wanted


class FileServer:
    """What answers operations on the store's files: each takes `latency` seconds, and at most `capacity` a second."""

    def __init__(self, env: simpy.Environment, latency: float, capacity: float = float("inf")) -> None:
        self.env, self.latency, self.capacity = env, latency, capacity
        self.by_minute: Counter[int] = Counter()
        self.by_purpose: Counter[str] = Counter()
        self._free = 0.0

    def count(self, operations: float, purpose: str) -> None:
        self.by_purpose[purpose] += operations
        self.by_minute[int(self.env.now // 60)] += operations

    def serve(self, operations: float) -> float:
        """Return the seconds until the server has answered these operations of one process, one after another."""
        now = self.env.now
        self._free = max(self._free, now) + operations / self.capacity
        return max(operations * self.latency, self._free - now)


def purposeful(purpose: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose operations on files are counted as made for a purpose."""

    def called(*arguments: Any, **options: Any) -> Any:
        process = current()
        if process is None:
            return function(*arguments, **options)
        process.pay()
        before, process.purpose = process.purpose, purpose
        try:
            return function(*arguments, **options)
        finally:
            process.pay()
            process.purpose = before

    return called


@dataclass(frozen=True)
class Time:
    """In place of the module `time`."""

    env: simpy.Environment

    def monotonic(self) -> float:
        return float(self.env.now)

    def time(self) -> float:
        return float(self.env.now)

    @staticmethod
    def sleep(seconds: float) -> None:
        process = current()
        assert process is not None
        process.wait(seconds, "sleep")


class Event:
    """In place of threading.Event, for a thread that looks at it now and then."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def wait(self, seconds: float) -> bool:
        if not self._set:
            getcurrent().parent.switch(seconds)
        return self._set
