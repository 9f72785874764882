"""One process a run: a lock file with a heartbeat, safe on file systems that many machines share.

A lock is stale when its process is known to be dead (same machine, same process namespace), or when its heartbeat has
not moved for two minutes while this process looked on: clocks of machines differ, so no time in a lock is compared with
this machine's. A stale lock is taken over, and the takeover is logged.
"""

import errno
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from bench.errors import UserError
from bench.store.files import regular_bytes

log = logging.getLogger(__name__)

# What a file server answers for a file that is not there, or that another machine has just replaced.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 120.0


class RunLockedError(Exception):
    """Another live process works on the run."""


class LockLostError(Exception):
    """This process was thought dead (suspended for minutes?) and another took the run over."""


class RunLock:
    """Context manager that holds `path` and refreshes its heartbeat; RunLockedError if somebody else holds it."""

    def __init__(self, path: Path, heartbeat: float = HEARTBEAT_SECONDS, stale_after: float = STALE_SECONDS) -> None:
        self.path = path
        self._heartbeat = heartbeat
        self._stale_after = stale_after
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat of {path}", daemon=True)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            holder = _read(self.path)
            if is_live(self.path, self._stale_after):
                raise RunLockedError(f"{self.path}: held by process {holder.get('pid')} on {holder.get('host')}")
            self._remove_stale()
        self._remove_leftovers()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        try:
            if self._is_mine():
                self.path.unlink(missing_ok=True)
        except OSError as error:  # what was done under it is done; without heartbeats the lock is stale soon
            log.warning("%s: not removed: %s", self.path, error)

    def _is_mine(self) -> bool:
        return _read(self.path).get("token") == self._token

    @property
    def lost(self) -> bool:
        """Whether the last heartbeat found that another process took the lock over; reads no file."""
        return self._lost

    def check(self) -> None:
        """Read the lock; LockLostError if another process took it over. For what is about to write something final."""
        self._lost = self._lost or not self._is_mine()
        if self._lost:
            raise LockLostError(f"{self.path} now belongs to another process; this one stops")

    def _create(self) -> bool:
        """Create the lock with its content in one step; False if it exists."""
        temporary = self._write_temporary()
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            raise UserError(
                f"{self.path}: its file system has no hard links ({error.strerror}), without which two processes could "
                "train one run; put --store on another one"
            ) from None
        finally:
            temporary.unlink()
        return True

    def _remove_stale(self) -> None:
        """Remove a stale lock; only the holder of the takeover file may, so that nobody removes a lock taken since."""
        mutex = self.path.with_name(self.path.name + ".takeover")
        if _seconds_unchanged(mutex, _written(mutex)) >= self._stale_after:
            mutex.unlink(missing_ok=True)
        try:
            os.close(os.open(mutex, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise RunLockedError(f"{self.path}: another process is taking it over") from None
        try:
            holder = _read(self.path)
            if self.path.exists() and not is_live(self.path, self._stale_after):
                pid, host = holder.get("pid"), holder.get("host")
                log.warning("taking over a stale lock: %s of process %s on %s", self.path, pid, host)
                self.path.unlink(missing_ok=True)
        finally:
            mutex.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left of their locks; what was written lately may belong to one that tries."""
        for leftover in self.path.parent.glob(f".{self.path.name}-*"):
            if _seconds_unchanged(leftover, _written(leftover)) >= self._stale_after:
                leftover.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat):
            try:
                if not self._is_mine():
                    self._lost = True
                    return
                self._write_temporary().replace(self.path)
            except OSError as error:  # a full disk or a file server away for a moment: try again at the next beat
                log.warning("%s: heartbeat not written: %s", self.path, error)

    def _write_temporary(self) -> Path:
        temporary = self.path.with_name(f".{self.path.name}-{self._token}")
        content = {**_this_process(), "token": self._token, "heartbeat": time.time()}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        return temporary


def holder(path: Path) -> Mapping[str, Any]:
    """Return who wrote a lock file: host, pid and more; nothing if there is none."""
    return _read(path)


def is_live(path: Path, stale_after: float = STALE_SECONDS) -> bool:
    """Return whether a lock file exists whose holder is, as far as can be known, still at work.

    A holder on another machine counts as alive when it is first looked at, and as dead once `stale_after` seconds have
    passed, by this process's clock, in which its heartbeat did not move.
    """
    holder = _read(path)
    pid = holder.get("pid")
    if not isinstance(pid, int) or "token" not in holder:
        _seen.pop(path, None)
        return False
    here = _this_process()
    if (holder.get("host"), holder.get("namespace")) == (here["host"], here["namespace"]):
        started = _start_time(pid)
        if started is None or started != holder.get("started"):
            return False
    return _seconds_unchanged(path, (holder["token"], holder.get("heartbeat"))) < stale_after


def has_moved(path: Path) -> bool:
    """Return whether a lock that `is_live` looked at changed between two looks that were not far apart.

    A change since a look of an hour ago does not say that its holder was alive in the last two minutes.
    """
    return path in _seen and _seen[path].moved


@dataclass(frozen=True)
class _Seen:
    """In which state this process last saw another one's file, since when and until when by its own clock.

    moved   whether it was in another state less than STALE_SECONDS before
    """

    state: object
    since: float
    until: float
    moved: bool


_seen: dict[Path, _Seen] = {}


def _seconds_unchanged(path: Path, state: object) -> float:
    """Return for how long this process has seen a file in this state, 0 if it was in another when last seen."""
    now = time.monotonic()
    before = _seen.get(path)
    if before is None or before.state != state:
        _seen[path] = _Seen(state, now, now, moved=before is not None and now - before.until < STALE_SECONDS)
    else:
        _seen[path] = replace(before, until=now)
    return now - _seen[path].since


def _written(path: Path) -> object:
    """Return what changes when a file is replaced or written, None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(regular_bytes(path).decode())
    except ValueError:  # neither UTF-8 nor JSON
        return {}
    except OSError as error:
        if error.errno in ABSENT:
            return {}
        raise
    return content if isinstance(content, dict) else {}


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "namespace": _namespace(), "pid": pid, "started": _start_time(pid)}


def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return ""


def _start_time(pid: int) -> str | None:
    """Return a text that differs between two processes of the same pid, None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie is dead, though nobody has noticed yet
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
