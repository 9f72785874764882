"""What may start now: the one function that says so. Workers, `plan`, `run`, `status` and submissions all ask it.

A work item may start if nobody holds its lock, the store lacks its result, what it needs is done, and it has neither
failed nor been given up. Nothing here is a state of its own: everything is read from the store.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

from bench.errors import UserError
from bench.evaluation.sets import AttackSet, TicketSet
from bench.spec.run import RunSpec
from bench.store.files import PASSING
from bench.store.lock import STALE_SECONDS, holder, is_live
from bench.store.logits import Ensemble, StoredLogits, ensemble_folder, ensemble_logits
from bench.store.run_folder import NO_WEIGHTS
from bench.store.store import Store
from bench.work.attempts import GIVEN_UP, given_up
from bench.work.items import AttackEnsemble, EvaluateRun, Item, TrainRun

# missing: may start now. running: a live process holds it. waiting: for a run that is not done yet. blocked: what it
# needs failed or is damaged. failed: by an error, or given up; `--retry` clears that.
State = Literal["done", "missing", "running", "waiting", "blocked", "failed", "damaged"]

# Of a run whose lock says that a process holds it, but has not moved for some time.
SILENT = "silent for"


@dataclass(frozen=True)
class Readiness:
    """The state of a work item, and why it may not start; the reason is empty where there is nothing to explain."""

    state: State
    reason: str = ""

    @property
    def now(self) -> bool:
        """Whether the item may start now."""
        return self.state == "missing"


DONE, MAY_START = Readiness("done"), Readiness("missing")


class StoreView:
    """What a store says at one moment: every run is looked at once, however many items need it.

    held   the folders with locks of live processes that were met
    away   whether something looked damaged since its file system did not answer, perhaps for a moment only
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: set[Path] = set()
        self.away = False
        self._runs: dict[str, Readiness] = {}
        self._logits: dict[Path, StoredLogits | UserError] = {}

    def may_start(self, item: Item) -> Readiness:
        """Return whether a work item may start now, and if not, why."""
        match item:
            case TrainRun(run):
                return self.run(run.spec)
            case EvaluateRun(run, asked):
                return self.evaluation(run.spec, asked)
            case AttackEnsemble(ensemble, specs, attack):
                return self.attack(ensemble.ensemble, specs, attack)
            case _:
                assert_never(item)

    def run(self, spec: RunSpec) -> Readiness:
        """Return whether training a run may start."""
        run_id = spec.run_id
        if run_id not in self._runs:
            try:
                self._runs[run_id] = self._look(spec)
            except OSError as refused:
                self._runs[run_id] = self._refused(self.store.run(run_id).path, refused)
        return self._runs[run_id]

    def warnings(self, spec: RunSpec) -> tuple[str, ...]:
        """Return what the result of a run that is done, or its history so far, says besides numbers."""
        folder = self.store.run(spec.run_id)
        try:
            if self.run(spec).state == "done":
                return folder.result().warnings
            return tuple(warning for line in folder.history() for warning in line.warnings)
        except UserError:  # said elsewhere, as damage
            return ()

    def evaluation(self, spec: RunSpec, asked: TicketSet) -> Readiness:
        """Return whether a run may be evaluated on a set."""
        if (unready := self._needs([spec])) is not None:
            return unready
        folder = self.store.run(spec.run_id)
        found = self._set(folder.path, asked.name, lambda: StoredLogits.of_run(folder))
        return self._with_weights(found, [spec])

    def attack(self, ensemble: Ensemble, specs: Sequence[RunSpec], attack: AttackSet) -> Readiness:
        """Return whether an ensemble may be attacked."""
        if (unready := self._needs(specs)) is not None:
            return unready
        folder = ensemble_folder(self.store, ensemble)
        found = self._set(folder, attack.name, lambda: ensemble_logits(self.store, ensemble))
        return self._with_weights(found, specs)

    def _look(self, spec: RunSpec) -> Readiness:
        folder = self.store.run(spec.run_id)
        match self.store.status(spec):
            case "done":
                return Readiness("done", NO_WEIGHTS if folder.absent_weights() else "")
            case "running":
                return self._held_by(folder.path)
            case "failed":
                error = folder.error()
                return Readiness("failed", f"{error.type}: {error.message}" if error else "")
            case "damaged":
                if folder.look() != "damaged" and not self.store.is_stale(spec):
                    self.away = True  # it was not seen damaged, but not seen
                return Readiness(
                    "damaged", _damage([str(f.relative_to(folder.path)) for f in folder.damaged_files(deep=False)])
                )
            case "missing":
                return self._given_up(folder.path, "train") or self._after_parent(spec)

    def _after_parent(self, spec: RunSpec) -> Readiness:
        begun = (self.store.run(spec.run_id).path / "checkpoint.pt").exists()
        if spec.parent is None or begun:
            return MAY_START
        parent, name = self.run(spec.parent), f"its parent {spec.parent.run_id}"
        match parent.state:
            case "done":
                return self._with_weights(MAY_START, [spec.parent])
            case "missing" | "waiting":
                return Readiness("waiting", f"{name} is not trained yet")
            case "running":
                return Readiness("waiting", f"{name} is being trained by another process")
            case "failed" | "blocked":
                return Readiness(
                    "blocked", f"{name} failed ({parent.reason})" if parent.state == "failed" else f"{name} is blocked"
                )
            case "damaged":
                return Readiness("blocked", f"{name} is damaged")
            case _:
                assert_never(parent.state)

    def _with_weights(self, found: Readiness, specs: Sequence[RunSpec]) -> Readiness:
        """Return what was found of an item, blocked if it may start but for weights that were not exported."""
        if found.now and any(self.store.run(spec.run_id).absent_weights() for spec in specs):
            return Readiness("blocked", NO_WEIGHTS)
        return found

    def _needs(self, specs: Sequence[RunSpec]) -> Readiness | None:
        """Return why a run that an item needs keeps it from starting, None if all are done."""
        for spec in specs:
            needed = self.run(spec)
            match needed.state:
                case "done":
                    continue
                case "missing" | "running" | "waiting":
                    return Readiness("waiting", f"run {spec.run_id} is not done yet")
                case "failed" | "blocked" | "damaged":
                    return Readiness("blocked", f"run {spec.run_id} is {needed.state}")
                case _:
                    assert_never(needed.state)
        return None

    def _set(self, folder: Path, name: str, read: Callable[[], StoredLogits]) -> Readiness:
        logits = self._read(folder, read)
        if isinstance(logits, UserError):
            return Readiness("damaged", str(logits))
        try:
            if logits.has(name):
                nonfinite = logits.records()[name].nonfinite
                return (
                    Readiness("damaged", f"{folder}: {name}: logits not finite: {nonfinite:,}") if nonfinite else DONE
                )
            if folder in self.held or is_live(folder / "lock"):
                return self._held_by(folder)
            return self._given_up(folder, name) or MAY_START
        except OSError as refused:
            return self._refused(folder, refused)

    def _refused(self, folder: Path, refused: OSError) -> Readiness:
        self.away = self.away or refused.errno in PASSING
        return Readiness("damaged", f"{folder}: {refused.strerror}")

    def _read(self, folder: Path, read: Callable[[], StoredLogits]) -> StoredLogits | UserError:
        if folder not in self._logits:
            try:
                logits = read()
                logits.records()
                self._logits[folder] = logits
            except UserError as error:
                self._logits[folder] = error
        return self._logits[folder]

    def _given_up(self, folder: Path, name: str) -> Readiness | None:
        """Return that an item was given up, None if not; its last attempt may have begun since its lock was free."""
        if not given_up(folder, name):
            return None
        return self._held_by(folder) if is_live(folder / "lock") else Readiness("failed", GIVEN_UP)

    def _held_by(self, folder: Path) -> Readiness:
        self.held.add(folder)
        try:
            process = holder(folder / "lock")
        except OSError as refused:  # away for a moment, and read a moment ago
            return Readiness("running", f"{folder}: {refused.strerror}")
        return Readiness("running", f"process {process.get('pid')} on {process.get('host')}{_silence(process)}")


def _silence(process: Mapping[str, Any]) -> str:
    """Return a hint where the last heartbeat of a lock is old by this machine's clock, which may be wrong."""
    beat = process.get("heartbeat")
    age = time.time() - beat if isinstance(beat, int | float) else 0.0
    if age < STALE_SECONDS:
        return ""
    return f", {SILENT} {age / 60:.0f} min by this machine's clock; a worker that sees it stay so takes over"


def _damage(files: Sequence[str]) -> str:
    """Return what is wrong with a damaged run; without a damaged file its parent was made again since."""
    return f"{', '.join(files)} gone, truncated or altered" if files else "its parent was made again since"
