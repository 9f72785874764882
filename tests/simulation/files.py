"""The store's files as simulated processes see them: every operation is done for real, counted, and waited for.

An operation is what a file server is asked: open, stat, list, make a folder, link, rename, remove. Reading, writing
and closing an open file are not counted.
"""

import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.clock import current

# What only looks, and what changes the store; of several paths that of the last is changed.
LOOKS = ("stat", "lstat", "listdir", "scandir")
CHANGES = ("mkdir", "link", "replace", "unlink", "rmdir")
# A long listing takes an operation for each so many names.
NAMES_AN_ANSWER = 200
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Files:
    """Counts operations below `root`; `version` of a run changes whenever a file of its folder does."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}{os.sep}"
        self._runs = f"{root / 'runs'}{os.sep}"
        self.version: Counter[str] = Counter()
        self.by_name: Counter[str] = Counter()

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Put counting functions in the place of those of the module os, and of io.open."""
        for name in LOOKS:
            patch.setattr(os, name, self._looking(name, getattr(os, name)))
        for name in CHANGES:
            patch.setattr(os, name, self._changing(name, getattr(os, name)))
        patch.setattr(os, "fsync", lambda _: None)  # no power fails here, and a disk would take its time
        patch.setattr(os, "open", self._opening(os.open, lambda flags=0, *_: bool(flags & WRITING)))
        patch.setattr(io, "open", self._opening(io.open, lambda mode="r", *_: mode not in ("r", "rb")))

    def changed(self, path: str) -> None:
        """Note that a file was changed."""
        if path.startswith(self._runs):
            self.version[path[len(self._runs) :].partition(os.sep)[0]] += 1

    def _count(self, name: str, path: str, *, changes: bool) -> None:
        process = current()
        if process is not None and path.startswith(self._root):
            self.by_name[name] += 1
            process.count(1)
            if changes:
                process.pay()

    def _looking(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: Any = ".", *rest: Any, **options: Any) -> Any:
            if not isinstance(path, int):
                self._count(name, str(path), changes=False)
            found = real(path, *rest, **options)
            if name == "listdir" and (process := current()) is not None:
                process.count(len(found) // NAMES_AN_ANSWER)
            return found

        return look

    def _changing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*paths: Any, **options: Any) -> Any:
            target = str(paths[1] if name in ("link", "replace") else paths[0])
            self._count(name, target, changes=True)
            try:
                return real(*paths, **options)
            finally:
                self.changed(target)

        return change

    def _opening(self, real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def opened(path: Any, *rest: Any, **options: Any) -> Any:
            if isinstance(path, int):
                return real(path, *rest, **options)
            changes = writes(*rest) or options.get("mode", "r") not in ("r", "rb")
            self._count("open", str(path), changes=changes)
            try:
                return real(path, *rest, **options)
            finally:
                if changes:
                    self.changed(str(path))

        return opened
