"""One process at a time makes what several need: a download, an extracted archive, decoded images."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.errors import UserError
from bench.store.lock import RunLock, RunLockedError, holder

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@contextmanager
def alone(lock: Path, what: str, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock file while `what` is made; wait, with one log line, as long as another process has it.

    check   is called again and again while this process waits; what it raises ends the waiting

    The caller looks again, inside, whether what it needs is there by now. Where no lock file can be made (a folder that
    is not writable, a file system without hard links), the work is done without one: it is whole or absent in any case.
    """
    with ExitStack() as held:
        said = False
        while True:
            try:
                held.enter_context(RunLock(lock))
                break
            except RunLockedError:
                if not said:
                    other = holder(lock)
                    log.info("waiting for process %s on %s: %s", other.get("pid"), other.get("host"), what)
                    said = True
                check()
                time.sleep(POLL_SECONDS)
            except (OSError, UserError):
                break
        yield
