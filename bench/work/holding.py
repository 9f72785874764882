"""A folder of results while a worker evaluates it: its lock, the sets it lacks, and errors that end it alone."""

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.errors import UserError
from bench.store.files import PASSING, remove_temporaries
from bench.store.lock import LockLostError, RunLock, RunLockedError
from bench.store.logits import StoredLogits
from bench.work.attempts import begin_attempt, forget_attempts, given_up
from bench.work.signals import InterruptedRunError

log = logging.getLogger(__name__)


class Holding:
    """A run's or an ensemble's folder; `read` returns its sets, `title` is what log lines call it.

    open      whether the work on it goes on
    missing   the sets that it lacks
    passing   whether the file system, which was away for a moment, ended the work
    """

    def __init__(self, folder: Path, title: str, read: Callable[[], StoredLogits]) -> None:
        self.title, self.open, self.passing = title, False, False
        self.missing: list[str] = []
        self._made_with: dict[str, str] = {}
        self.read = read
        self._folder, self._lock = folder, RunLock(folder / "lock")

    def take(self, names: Sequence[str], held: ExitStack) -> bool:
        """Take the lock, for as long as `held`, and find which of the sets are missing; False if another has it.

        The folder is open if some are.
        """
        with self.guarded():
            try:
                self._lock.__enter__()
            except RunLockedError as locked:
                log.warning("%s: left to another process: %s", self.title, locked)
                return False
            with ExitStack() as releasing:
                releasing.push(self._lock)
                remove_temporaries(self._folder)
                # Other processes may have made some in the meantime, or died of them too often.
                logits = self.read()
                self._made_with = logits.made_with
                lacking = logits.missing(names)
                self.missing = [name for name in lacking if not given_up(self._folder, name)]
                self.open = bool(self.missing)
                if self.open:
                    held.push(releasing.pop_all())
        return True

    def check(self) -> None:
        """Raise LockLostError if the lock is known to be another process's; reads no file."""
        if self._lock.lost:
            self._lock.check()

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Count an attempt at a set; only a process that dies leaves it counted."""
        begin_attempt(self._folder, name)
        try:
            yield
        finally:
            with self.guarded():
                forget_attempts(self._folder, name)

    def to_write(self) -> StoredLogits:
        """Return the sets, of which one is to be written; LockLostError if the lock is another process's by now."""
        self._lock.check()
        logits = self.read()
        if logits.made_with != self._made_with:  # the runs of an ensemble have locks of their own
            raise UserError(f"{self._folder}: a run of it was made again meanwhile; the same command goes on")
        return logits

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let an error end the work on this folder and on no other; it is said.

        InterruptedRunError passes, and so does a disk that is full, as a UserError.
        """
        try:
            yield
            return
        except InterruptedRunError:
            raise
        except LockLostError as lost:
            log.warning("%s: left to another process: %s", self.title, lost)
        except UserError as error:
            log.error("%s: %s", self.title, error)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"{self._folder}: the disk is full; free some space, then run the same command"
                ) from None
            self.passing = isinstance(error, OSError) and error.errno in PASSING
            kind, trace = type(error).__name__, not isinstance(error, OSError)
            log.error("%s: evaluation failed: %s: %s", self.title, kind, error, exc_info=trace)
        self.open = False
