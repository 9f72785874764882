"""Progress of work that takes seconds: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0

T = TypeVar("T")


def on_terminal(progress: bool) -> bool:
    """Return whether to draw a bar: it is wanted, and someone can see it."""
    return progress and sys.stderr.isatty()


def tracked(items: Sequence[T], what: str, *, progress: bool) -> Iterator[T]:
    """Yield the items and report how many are done, such as "decoding cifar10.zip: 20,000 of 60,000"."""
    return counted(items, len(items), what, progress=progress)


def counted(items: Iterable[T], total: int, what: str, *, progress: bool) -> Iterator[T]:
    """Yield as many items as `total` says, as `tracked` does."""
    return _with_bar(items, total, what) if on_terminal(progress) else _with_lines(items, total, what)


def _with_bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track

    return iter(track(items, total=total, description=what, console=Console(stderr=True)))


def _with_lines(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    due = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() >= due:
            log.info("%s: %s of %s", what, f"{done:,}", f"{total:,}")
            due = time.monotonic() + LOG_SECONDS
        yield item
