"""What the real code answered of a run whose folder has not changed since: 512 workers look at 10,000 runs each.

The first look at a state of a folder is the real one, on disk, and its operations are counted. Every further one costs
the same operations and has the same answer; `tests/simulation/test_simulation.py` compares with a simulation without.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import bench.store.lock as lock_module
import bench.work.worker as worker_module
from bench.evaluation.sets import TicketSet
from bench.spec.run import RunSpec
from bench.store.lock import STALE_SECONDS
from bench.store.run_folder import RunFolder
from bench.store.store import Store
from bench.work import together
from bench.work.readiness import Readiness, StoreView
from tests.simulation.clock import OPERATIONS_AT_ONCE, Process, current
from tests.simulation.files import Files
from tests.simulation.heartbeats import Heartbeats


@dataclass(frozen=True)
class _Known:
    """What was answered of a version of a folder, how many operations that took, and the sets that were read for it."""

    version: int
    answer: Any
    operations: int
    logits: Any = None


class Memory:
    """Answers by what was asked."""

    def __init__(self, files: Files, heartbeats: Heartbeats, now: Callable[[], float]) -> None:
        self._files, self._heartbeats, self._now = files, heartbeats, now
        self._known: dict[Any, _Known] = {}
        self._locks: dict[Path, Path] = {}

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Put functions that remember in the place of the real ones."""
        look, evaluation, begun, key_of = StoreView._look, StoreView.evaluation, worker_module.was_begun, together._key
        keys: dict[tuple[str, bool], Any] = {}
        equal: dict[str, Any] = {}
        version = self._files.version
        status, folder_of, folders = RunFolder.status, Store.run, dict[str, RunFolder]()

        def remembered_look(view: StoreView, spec: RunSpec) -> Readiness:
            process = paid()
            if process is None:
                return look(view, spec)
            run = spec.run_id
            known = self._known.get(run)
            if known is not None and known.version == version[run] and known.answer.state != "running":
                process.count(known.operations)
                return known.answer
            folder = view.store.run(run).path
            return self._answer(process, folder, run, lambda: look(view, spec), view, keep=spec.parent is None)

        def remembered_evaluation(view: StoreView, spec: RunSpec, asked: TicketSet) -> Readiness:
            process = current()
            if process is None or view.run(spec).state != "done":
                return evaluation(view, spec, asked)
            folder = view.store.run(spec.run_id).path
            key = spec.run_id, asked.name, folder in view._logits, folder in view.held
            return self._answer(process, folder, key, lambda: evaluation(view, spec, asked), view)

        def remembered_begun(folder: Path, name: str) -> bool:
            process = current()
            if process is None:
                return begun(folder, name)
            return bool(self._answer(process, folder, (folder.name, name), lambda: begun(folder, name)))

        def remembered_key(spec: RunSpec, *, own: bool) -> Any:
            of = spec.run_id, own
            if of not in keys:
                key = key_of(spec, own=own)
                keys[of] = equal.setdefault(repr(key), key)
            return keys[of]

        def remembered_folder(store: Store, run_id: str) -> RunFolder:
            if run_id not in folders:
                folders[run_id] = folder_of(store, run_id)
            return folders[run_id]

        def remembered_status(folder: RunFolder) -> Any:
            process = current()
            if process is None:
                return status(folder)
            key = folder.path.name, "status"
            return self._answer(process, folder.path, key, lambda: status(folder), keep=False)

        patch.setattr(RunFolder, "status", remembered_status)
        patch.setattr(Store, "run", remembered_folder)
        patch.setattr(StoreView, "_look", remembered_look)
        patch.setattr(StoreView, "evaluation", remembered_evaluation)
        patch.setattr(worker_module, "was_begun", remembered_begun)
        patch.setattr(together, "_key", remembered_key)

    def _answer(
        self,
        process: Process,
        folder: Path,
        key: Any,
        ask: Callable[[], Any],
        view: StoreView | None = None,
        *,
        keep: bool = True,
    ) -> Any:
        version = self._files.version[folder.name]  # a Path keeps its name
        known = self._known.get(key)
        if known is not None and known.version == version and (view is None or self._still(known.answer, folder, view)):
            process.count(known.operations)
            if view is not None and known.logits is not None:
                view._logits.setdefault(folder, known.logits)
            return known.answer
        before = process.operations
        answer = ask()
        if keep or answer == "done" or getattr(answer, "state", "") == "done":
            logits = None if view is None else view._logits.get(folder)
            self._known[key] = _Known(version, answer, process.operations - before, logits)
        return answer

    def _still(self, answer: Readiness, folder: Path, view: StoreView) -> bool:
        """Return whether an answer still holds: a lock counts as long as its heartbeat moves."""
        if answer.state != "running" or folder in view.held:
            return True
        path = self._locks.get(folder)
        if path is None:
            path = self._locks.setdefault(folder, folder / "lock")
        holder = self._heartbeats.holders.get(path)
        if holder is None or holder.released:  # it is being taken or released
            return False
        state = holder.token, holder.heartbeat(self._now())
        if lock_module._seconds_unchanged(path, state) >= STALE_SECONDS:
            return False
        view.held.add(folder)
        return True


def paid() -> Process | None:
    """Return the process that looks at a run, after it has waited for what it did before."""
    process = current()
    if process is not None:
        process.pay(OPERATIONS_AT_ONCE)
    return process
