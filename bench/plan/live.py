"""What goes on in a store at one moment: the runs that are worked on, how many are in which state, what is left.

Everything is read from the store, and nothing is written: it is said by locks, histories and results, as in
bench.work.readiness. Of grids, `left_of` says the total.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.errors import UserError
from bench.plan.records import Plan, RunPlan, method_of_run
from bench.plan.total import Left, left_of
from bench.store.contents import StoredRun, contents
from bench.store.lock import is_live
from bench.store.logits import StoredLogits
from bench.store.pace import pace_of
from bench.store.records import EpochRecord
from bench.store.store import Store


@dataclass(frozen=True)
class LiveRun:
    """A run that a live process works on.

    cell           the first cell that asks for it; without a grid, its method
    phase          of training; "starting" before the first epoch, and how many sets are made of one that is evaluated
    history        its epochs so far
    seconds_left   of its training, None where it cannot be said
    damage         why its history cannot be read
    """

    id: str
    cell: str
    phase: str
    epochs: int | None
    history: tuple[EpochRecord, ...] = ()
    images_per_second: float | None = None
    seconds_left: float | None = None
    damage: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A store at one moment.

    counts     number of runs by state
    problems   a sentence for each run that failed or is damaged
    left       what is left of the grids that are watched, without what running runs have done; None without a grid
    """

    runs: tuple[LiveRun, ...]
    counts: Counter[str]
    problems: tuple[str, ...]
    left: tuple[Left, ...] | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left of the grids, and no process works on their runs."""
        return self.left == () and not self.runs

    @property
    def hours_left(self) -> float | None:
        """Hours until all is done if as many workers go on as are at work now; None if none is."""
        return sum(part.hours for part in self.left or ()) / len(self.runs) if self.runs else None


def of_store(store: Store) -> Snapshot:
    """Return what goes on in a store, whatever its runs are of; UserError if there is none."""
    found = contents(store)
    running, counts, problems = [], Counter[str](), list(found.others)
    for run in found.runs:
        counts[run.state] += 1
        if run.state in ("failed", "damaged"):
            problems.append(f"{run.id[:8]}: {run.state}{_why(run)}")
        if (live := _live(run)) is not None:
            running.append(live)
    return Snapshot(tuple(running), counts, tuple(problems))


def of_plans(plans: Sequence[Plan], store: Store) -> Snapshot:
    """Return what goes on in a store of the runs of some plans, which were made just now."""
    runs: dict[str, RunPlan] = {run.id: run for plan in plans for run in plan.runs}
    running, problems = [], []
    for run in runs.values():
        if run.status in ("failed", "damaged", "blocked"):
            problems.append(f"{run.cells[0]} {run.id[:8]}: {run.status}: {run.reason}")
        if run.status in ("running", "done") and (live := _live(StoredRun(store, store.run(run.id)), run)) is not None:
            running.append(live)
    left = left_of(plans)
    for live in running:
        left = tuple(_without(part, live, runs[live.id]) for part in left)
    return Snapshot(tuple(running), Counter(run.status for run in runs.values()), tuple(problems), left)


def _without(left: Left, live: LiveRun, run: RunPlan) -> Left:
    """Return what is left without what a run in training has done already."""
    if run.status == "done" or live.seconds_left is None or left.device != run.hours_device:
        return left
    return replace(left, training=max(0.0, left.training - run.hours) + live.seconds_left / 3600)


def _live(run: StoredRun, planned: RunPlan | None = None) -> LiveRun | None:
    """Return a run as it is worked on; None if no process does."""
    folder = run.folder
    try:
        if not is_live(folder.path / "lock"):
            return None
        trained = (folder.path / "result.json").exists()
    except OSError:  # its state says so
        return None
    spec = run.spec if planned is None else planned.spec
    cell = planned.cells[0] if planned is not None else "?" if spec is None else method_of_run(spec)
    epochs = None if spec is None else spec.epochs
    try:
        history = tuple(folder.history())
        if trained:
            made = len(StoredLogits.of_run(folder).records())
            of = f" of {len(planned.evaluations)}" if planned is not None else ""
            return LiveRun(run.id, cell, f"evaluation: {made}{of} sets", epochs, history)
    except UserError as damage:
        return LiveRun(run.id, cell, "-", epochs, damage=str(damage))
    pace = pace_of(history, epochs or len(history))
    phase = history[-1].phase if history else "starting"
    left = None if epochs is None else pace.seconds_left
    return LiveRun(run.id, cell, phase, epochs, history, pace.images_per_second, left)


def _why(run: StoredRun) -> str:
    if run.state == "damaged":
        return f": {'; '.join(run.damage)}" if run.damage else ""
    try:
        failure = run.folder.error()
    except OSError as refused:
        return f": {refused.strerror}"
    return f": {failure.type}: {failure.message}" if failure else ""
