"""The workers of a store that evaluate, or wait for something to: as many as there are share the runs.

Each has a file with a heartbeat in workers/. A worker that trains has none, since it would leave its share undone.
"""

import uuid
from contextlib import suppress

from bench.store.lock import RunLock, is_live
from bench.store.store import Store


class Peers:
    """This worker among its peers."""

    def __init__(self, store: Store) -> None:
        self._folder = store.root / "workers"
        self._mark: RunLock | None = None

    def join(self) -> None:
        """Be one of them from now on."""
        if self._mark is None:
            mark = RunLock(self._folder / uuid.uuid4().hex)
            with suppress(OSError):  # the runs have locks of their own
                self._mark = mark.__enter__()

    def leave(self) -> None:
        """Be none of them any more."""
        if self._mark is not None:
            with suppress(OSError):
                self._mark.__exit__()
            self._mark = None

    def count(self) -> int:
        """Return how many there are, this one included; marks of the dead are removed."""
        live = 0
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name.startswith("."):  # a heartbeat that is being written
                    continue
                if is_live(path):
                    live += 1
                else:
                    path.unlink(missing_ok=True)
        return max(1, live)
