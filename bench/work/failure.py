"""What is on record of a run that failed."""

import logging
import socket
import traceback

from bench.errors import UserError
from bench.store.records import Failure
from bench.store.run_folder import RunFolder
from bench.work import provenance

log = logging.getLogger(__name__)

TRACEBACK_LINES = 30


def record_failure(folder: RunFolder, error: Exception, rank: int | None) -> None:
    """Write down why a run failed, where and in which attempt; of several processes `rank` is the one that did."""
    try:
        attempt = len(folder.sessions())
    except UserError:
        attempt = 0
    failure = Failure(
        type=type(error).__name__,
        message=str(error),
        traceback=tuple("".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]),
        host=socket.gethostname(),
        rank=rank,
        attempt=max(attempt, 1),
        time=provenance.now(),
    )
    try:
        folder.write_failure(failure)
    except OSError as unwritten:
        log.error("%s: %s; the failure above could not be recorded", folder.path, unwritten.strerror)
