"""Progress of work that takes seconds: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0

T = TypeVar("T")


def on_terminal(progress: bool) -> bool:
    """Return whether to draw a bar: it is wanted, and someone can see it."""
    return progress and sys.stderr.isatty()


def tracked(items: Sequence[T], what: str, *, progress: bool) -> Iterator[T]:
    """Yield the items and report how many are done, such as "decoding cifar10.zip: 20,000 of 60,000"."""
    return _with_bar(items, what) if on_terminal(progress) else _with_lines(items, what)


def _with_bar(items: Sequence[T], what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track

    return iter(track(items, description=what, console=Console(stderr=True)))


def _with_lines(items: Sequence[T], what: str) -> Iterator[T]:
    due = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() >= due:
            log.info("%s: %s of %s", what, f"{done:,}", f"{len(items):,}")
            due = time.monotonic() + LOG_SECONDS
        yield item
