"""Heartbeats of locks in simulated time, and what a process remembers of those of others.

Each heartbeat is the real code on the real file, or, where there would be millions, written as soon as somebody looks.
"""

import os
import random
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import simpy
from greenlet import greenlet

import bench.store.lock as lock_module
from bench.store.lock import HEARTBEAT_SECONDS
from tests.simulation.clock import Event, Process, Time, current

# When the process of each worker began.
STARTED = "then"
# What one heartbeat asks the file server: read the lock, write a temporary file, rename it.
OPERATIONS = 3


@dataclass
class Holder:
    """Who holds a lock since when; its heartbeat stopped at `until`."""

    token: str
    process: Process
    since: float
    until: float = float("inf")
    released: bool = False

    def heartbeat(self, now: float) -> float:
        """Return when it was written last."""
        beats = (min(now, self.until) - self.since) // HEARTBEAT_SECONDS
        return self.since + beats * HEARTBEAT_SECONDS


class Heartbeats:
    """All locks that are held, by path; `lazily` says whether heartbeats are written when somebody looks."""

    def __init__(self, env: simpy.Environment, *, lazily: bool) -> None:
        self._env, self._lazily = env, lazily
        self.holders: dict[Path, Holder] = {}

    def watch(self, patch: pytest.MonkeyPatch, seed: int) -> None:
        """Give the lock's code simulated time, threads, hosts and memory of its own."""
        tokens = random.Random(seed)
        patch.setattr(lock_module, "time", Time(self._env))
        patch.setattr(lock_module, "threading", SimpleNamespace(Event=Event, Thread=self._thread))
        patch.setattr(
            lock_module, "uuid", SimpleNamespace(uuid4=lambda: uuid.UUID(int=tokens.getrandbits(128), version=4))
        )
        patch.setattr(lock_module, "_seen", Seen())
        patch.setattr(lock_module, "_this_process", _this_process)
        # Or each would take its own locks for those of a dead process.
        patch.setattr(lock_module, "_start_time", lambda _: STARTED)
        if self._lazily:
            patch.setattr(lock_module, "_read", self._reading(lock_module._read))

    def stop(self, process: Process) -> None:
        """Stop the heartbeats of a process that is killed."""
        for holder in self.holders.values():
            if holder.process is process:
                holder.until = self._env.now

    def _thread(self, *, target: Callable[[], None], **_: object) -> "_Thread":
        return _Thread(self, target)

    def _reading(self, real: Callable[[Path], Mapping[str, Any]]) -> Callable[[Path], Mapping[str, Any]]:
        def read(path: Path) -> Mapping[str, Any]:
            content, holder = real(path), self.holders.get(path)
            if holder is None or content.get("token") != holder.token:
                return content
            return {**content, "heartbeat": holder.heartbeat(self._env.now)}

        return read

    def began(self, lock: Any, beat: Callable[[], None]) -> None:
        process = current()
        assert process is not None
        self.holders[lock.path] = holder = Holder(lock._token, process, self._env.now)
        if not self._lazily:
            self._env.process(self._beating(beat, holder))

    def ended(self, lock: Any) -> None:
        holder = self.holders.get(lock.path)
        if holder is not None and holder.token == lock._token:
            holder.until, holder.released = self._env.now, True

    def _beating(self, beat: Callable[[], None], holder: Holder) -> Generator[simpy.Event, Any, None]:
        thread = greenlet(beat)
        seconds = thread.switch()
        while not thread.dead:
            yield self._env.timeout(seconds)
            if holder.until < self._env.now:
                return
            seconds = thread.switch()


class _Thread:
    """In place of threading.Thread, for the heartbeat of a lock."""

    def __init__(self, heartbeats: Heartbeats, beat: Callable[[], None]) -> None:
        self._heartbeats, self._beat = heartbeats, beat
        self._lock: Any = beat.__self__  # type: ignore[attr-defined]

    def start(self) -> None:
        self._heartbeats.began(self._lock, self._beat)

    def join(self) -> None:
        self._heartbeats.ended(self._lock)


class Seen(MutableMapping[Path, Any]):
    """In place of what bench.store.lock has seen: each simulated process has seen its own."""

    @staticmethod
    def _of_process() -> dict[Path, Any]:
        process = current()
        return {} if process is None else process.seen

    def __getitem__(self, path: Path) -> Any:
        return self._of_process()[path]

    def __setitem__(self, path: Path, seen: Any) -> None:
        self._of_process()[path] = seen

    def __delitem__(self, path: Path) -> None:
        del self._of_process()[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._of_process())

    def __len__(self) -> int:
        return len(self._of_process())


def _this_process() -> dict[str, Any]:
    """Return what a lock says of its holder: each worker has a node of its own, so that none knows another's pid."""
    process = current()
    host = "heartbeat" if process is None else process.host
    return {"host": host, "namespace": host, "pid": os.getpid(), "started": STARTED}
