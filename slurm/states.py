"""What became of every submitted run: the store's word first, then what elements wrote down, then SLURM's.

A finished run is done whatever SLURM thinks of its job; a run with a live heartbeat is running, whoever trains it.
"""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bench.errors import UserError
from bench.evaluation.sets import AttackSet, CorruptedSet, OodSet
from bench.spec.run import RunSpec
from bench.store.folders import RunFolder, Status, Store
from bench.store.lock import holder
from bench.store.logits import Ensemble, Evaluated, evaluated_ensemble
from bench.work.signals import EXIT_INTERRUPTED
from slurm.owners import Owner, Owners, is_final
from slurm.records import Mark
from slurm.scheduler import Answer, Known

State = Literal["waiting", "running", "done", "failed", "lost", "blocked", "cancelled"]
STATES: tuple[State, ...] = ("waiting", "running", "done", "failed", "lost", "blocked", "cancelled")
# So many epochs back, the time that the next ones will take.
RECENT_EPOCHS = 5
_NEVER = "SLURM: {}: it asks for more than its partition gives and will not start; cancel it, and correct the site file"
# Words for reasons of squeue; any other is given as it is.
REASONS = {
    "": "",
    "None": "",
    "Priority": "for jobs of a higher priority",
    "Resources": "for a free node",
    "Dependency": "for its parent",
    "JobArrayTaskLimit": "for others of its array: max_jobs of the site",
    "BeginTime": "back in the queue after an interruption",
    **{reason: _NEVER.format(reason) for reason in ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit")},
}


@dataclass(frozen=True)
class RunState:
    """A run that was submitted, and how it stands.

    element    the last element that was to train it, or to evaluate it, as SLURM calls it
    epoch      epochs done, of `epochs`
    sets       evaluation sets that are there, of `sets_asked`; `evaluating` while an element will make the others.
               Those of an ensemble under attack count with the last of its runs
    reason     what a person has to know: why it waits, how it failed
    """

    id: str
    grid: str
    cell: str
    state: State
    reason: str = ""
    element: str | None = None
    node: str | None = None
    attempt: int | None = None
    epoch: int = 0
    epochs: int = 0
    images_per_second: float | None = None
    seconds_left: float | None = None
    sets: int = 0
    sets_asked: int = 0
    evaluating: bool = False
    log: Path | None = None


@dataclass(frozen=True)
class _Noted:
    """What is on disk of a batch besides its units, read once."""

    elements: tuple[str, ...] | None
    marks: Mapping[int, Mark]
    cancelled: Set[int]


class Observer:
    """Tells states from a store, the owners of its runs, and what SLURM answered; None: it did not."""

    def __init__(self, store: Store, owners: Owners, answer: Answer | None) -> None:
        self._store, self._owners, self._answer = store, owners, answer
        self._noted: dict[str, _Noted] = {}
        self._states: dict[str, RunState] = {}

    def states(self) -> list[RunState]:
        """Return the state of every run, in the order of submission."""
        return [self.state(run) for run in self._owners.last]

    def state(self, run: str) -> RunState:
        """Return the state of one run."""
        if run not in self._states:
            self._states[run] = self._state(run)
        return self._states[run]

    def _state(self, run: str) -> RunState:
        owner = self._owners.last[run]
        folder, mark, known = self._store.run(run), self._mark(owner), self._known(owner)
        waits = known is not None and known.waits
        facts: dict[str, Any] = {
            "id": run,
            "grid": owner.run["grid"],
            "cell": owner.run["cells"][0],
            "element": self._element(owner),
            "attempt": mark.attempt if mark else None,
            "node": None if waits else (known.node if known else None) or (mark.node if mark else None),
            "epochs": sum(phase["epochs"] for phase in owner.run["spec"]["phases"]),
            "sets_asked": len(owner.run["evaluations"])
            + sum(map(self._attacks_asked, self._owners.attacks.get(run, ()))),
            # Also without a mark: lines of the site's setup may have failed before Python started.
            "log": None if waits and mark is None else owner.folder.log(owner.index),
        }
        status = self._status(run, owner)
        if status == "done":
            return RunState(state="done", **{**facts, **self._evaluated(run), "epoch": facts["epochs"]})
        history = folder.history()
        facts["epoch"] = len(history)
        if status == "running":
            host = holder(folder.path / "lock").get("host")
            own = mark is not None and mark.node == host
            reason = "" if own else "by a process outside of its task"
            facts |= {"node": host or facts["node"], **_speed(history, facts["epochs"])}
            return RunState(state="running", reason=reason, **facts)
        state, reason = self._unfinished(owner, folder, status)
        return RunState(state=state, reason=reason, **facts)

    def _status(self, run: str, owner: Owner) -> Status:
        """Return what the store says of a run."""
        status = self._store.run(run).status()
        if status == "done" and owner.run["parent"] is not None:
            return self._store.status(RunSpec.model_validate_json(json.dumps(owner.run["spec"])))
        return status

    def _unfinished(self, owner: Owner, folder: RunFolder, status: Status) -> tuple[State, str]:
        """Return state and reason of a run that is neither done nor being trained."""
        mark, known = self._mark(owner), self._known(owner)
        error = folder.error()
        if error is not None and is_final(error, owner.folder.batch, known):
            return "failed", f"{error.get('type')}: {(str(error.get('message')).strip().splitlines() or ['-'])[-1]}"
        if known is not None and known.active:
            return "waiting", _why_waiting(known)
        if status == "damaged":
            return "failed", _damage(folder)
        if owner.index in self._read(owner).cancelled:
            return "cancelled", "by the user"
        parent = owner.run["parent"]
        if parent is not None and (stopped := self._stopped(parent)) is not None:
            if stopped == "cancelled":
                return "cancelled", "with its parent"
            return "blocked", f"by its parent {parent[:8]}, which is {stopped}"
        if self._element(owner) is None:
            return "lost", "was never submitted: sbatch refused it, or the call of `submit` was cut short"
        if self._may_act(owner):
            return "waiting", "as far as is known without an answer of SLURM"
        if mark is not None and mark.message:
            return "failed", mark.message
        if mark is not None and mark.code == EXIT_INTERRUPTED and (known is None or known.state != "CANCELLED"):
            return "failed", "stopped by a signal, and not put back in the queue; `retry` goes on from its checkpoint"
        return _ended(owner, known, mark)

    def _stopped(self, parent: str) -> str | None:
        """Return the state of a parent that is not done, and that nothing is going to train; else None."""
        if parent in self._owners.last:
            state = self.state(parent).state
            return None if state in ("waiting", "running", "done") else state
        status = self._store.run(parent).status()
        return None if status in ("running", "done") else "not trained" if status == "missing" else status

    def _evaluated(self, run: str) -> dict[str, Any]:
        """Return how many sets of a finished run are there, with those of its ensembles, and why not more."""
        owner = self._owners.evaluate.get(run) or self._owners.train[run]
        names = [_set_name(one) for one in owner.run["evaluations"]]
        attacks = self._owners.attacks.get(run, ())
        asked = len(names) + sum(map(self._attacks_asked, attacks))
        try:
            lacking = len(Evaluated.of_run(self._store.run(run)).missing(names)) if names else 0
            left = [(one, count) for one in attacks if (count := self._attacks_lacking(one))]
        except UserError as damage:
            return {"reason": str(damage), "sets_asked": asked}
        evaluating, mark, reason = self._may_act(owner), self._mark(owner), ""
        what = "sets" if lacking else "attacks on its ensemble"
        if not lacking:
            evaluating = all(map(self._is_seen_to, (one for one, _ in left)))
        if lacking and evaluating:
            reason = "its sets are being made, or wait for that"
        elif (lacking or left) and not evaluating:
            reason = (mark.message if mark else None) or f"{what} are missing; `retry` makes them"
        there = asked - lacking - sum(count for _, count in left)
        return {"sets": there, "sets_asked": asked, "evaluating": evaluating, "reason": reason}

    def _attacks_asked(self, ensemble: Ensemble) -> int:
        return len(self._owners.ensembles[ensemble].run["evaluations"])

    def _attacks_lacking(self, ensemble: Ensemble) -> int:
        names = [AttackSet(**one).name for one in self._owners.ensembles[ensemble].run["evaluations"]]
        if not self._is_whole(ensemble):
            return len(names)
        return len(evaluated_ensemble(self._store, ensemble).missing(names))

    def _is_seen_to(self, ensemble: Ensemble) -> bool:
        """Whether some element will attack an ensemble: one under way, or that of a run which is not done yet."""
        owners = [self._owners.ensembles[ensemble]]
        owners += [one for run in ensemble.runs if (one := self._owners.evaluate.get(run)) is not None]
        return not self._is_whole(ensemble) or any(map(self._may_act, owners))

    def _is_whole(self, ensemble: Ensemble) -> bool:
        return all(self._store.run(run).status() == "done" for run in ensemble.runs)

    def _may_act(self, owner: Owner) -> bool:
        """Whether an element is in the queue or runs, or, where SLURM did not answer, may be."""
        if self._answer is None:
            mark = self._mark(owner)
            return self._element(owner) is not None and (mark is None or mark.code in (None, EXIT_INTERRUPTED))
        known = self._known(owner)
        return known is not None and known.active

    def _known(self, owner: Owner) -> Known | None:
        return None if self._answer is None else self._answer.get(owner.key)

    def _mark(self, owner: Owner) -> Mark | None:
        return self._read(owner).marks.get(owner.index)

    def _element(self, owner: Owner) -> str | None:
        elements = self._read(owner).elements
        return elements[owner.index] if elements else None

    def _read(self, owner: Owner) -> _Noted:
        folder = owner.folder
        if folder.batch.name not in self._noted:
            self._noted[folder.batch.name] = _Noted(folder.submitted(), folder.marks(), folder.cancelled())
        return self._noted[folder.batch.name]


def _speed(history: Sequence[Mapping[str, Any]], epochs: int) -> dict[str, float]:
    """Return how fast the epochs so far say a run is, and how long the others will take."""
    if not history:
        return {}
    seconds = median(line["seconds"] for line in history[-RECENT_EPOCHS:])
    left = (epochs - len(history)) * seconds
    return {"images_per_second": history[-1]["images_per_second"], "seconds_left": left}


def _why_waiting(known: Known) -> str:
    if not known.waits:
        return "in a task that has started, and comes to it"
    return REASONS.get(known.reason, f"SLURM: {known.reason}")


def _damage(folder: RunFolder) -> str:
    files = [str(file.relative_to(folder.path)) for file in folder.damaged_files(deep=False)]
    if not files:
        return "damaged: its parent was made again since"
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"damaged: {files[0]}{more} gone, truncated or altered"


def _ended(owner: Owner, known: Known | None, mark: Mark | None) -> tuple[State, str]:
    """Return what it means that a task has ended, or that nothing is known of it, while its run is not done."""
    if known is None and mark is not None and mark.code:
        return "failed", f"its task ended with exit code {mark.code}; the log may say why"
    if known is None:
        local = owner.folder.batch.scheduler == "local"
        gone = "its process is gone" if local else "SLURM no longer knows its job"
        return "lost", f"{gone}, and there is no result"
    said = known.state if known.reason in ("", "None", known.state) else f"{known.state} ({known.reason})"
    if known.reason == "DependencyNeverSatisfied":
        return "blocked", "SLURM cancelled it because its parent failed; `retry` submits it again"
    if known.state == "CANCELLED":
        return "cancelled", f"SLURM: {said}"
    if known.state == "COMPLETED":
        return "lost", "its task ended well, but its result is not there"
    if known.state == "OUT_OF_MEMORY":
        return "failed", f"SLURM: {said}; raise margin (or memory) in the site file, then `retry`"
    if mark is not None:
        return "failed", f"SLURM: {said}, without a word from the run itself; the log may say why"
    if owner.folder.log(owner.index) is not None:
        return "failed", f"SLURM: {said} before the run began; the log says why, often a line of the site's setup"
    return "failed", f"SLURM: {said}, without a log: do the nodes see {owner.folder.path}?"


def _set_name(record: Mapping[str, Any]) -> str:
    """Return the name of an evaluation set from its JSON."""
    kind = CorruptedSet if "severity" in record else OodSet
    return kind(**record).name


def needing_retry(states: Sequence[RunState], *, cancelled: bool) -> list[RunState]:
    """Return what `retry` makes again: failed and lost runs, those blocked by them, and cancelled ones if asked for."""
    kinds = ("failed", "lost", "blocked", "cancelled") if cancelled else ("failed", "lost", "blocked")
    return [one for one in states if one.state in kinds]


def lacking_sets(states: Sequence[RunState]) -> list[RunState]:
    """Return finished runs that lack sets which no element is going to make."""
    return [one for one in states if one.state == "done" and one.sets < one.sets_asked and not one.evaluating]
