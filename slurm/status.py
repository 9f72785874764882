"""How submitted runs and their workers stand: the store first, then the queue, which is asked once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bench.errors import UserError, counted
from bench.plan.show import make_table
from bench.plan.total import duration
from bench.store.lock import holder
from bench.store.pace import Pace, pace_of
from bench.store.store import Store
from bench.work.items import AttackEnsemble, Item, RunWork, TrainRun
from bench.work.readiness import SILENT, State, StoreView
from slurm.queue import QueuedWorker, queued_workers
from slurm.records import SubmissionFolder, still_there

if TYPE_CHECKING:
    from rich.console import Console

# More lines of one kind than this help nobody on a screen; --json has them all.
MOST_RUNS = 20
# People read about these first.
ORDER: tuple[State, ...] = ("running", "failed", "damaged", "blocked", "missing", "waiting", "done")
# No worker goes on with a run in one of these.
STUCK: tuple[State, ...] = ("failed", "damaged", "blocked")


@dataclass(frozen=True)
class RunStatus:
    """How a run stands; seconds_left and images_per_second are None before its first epoch and when it is done."""

    id: str
    cell: str
    state: State
    reason: str
    epoch: int
    epochs: int
    images_per_second: float | None
    seconds_left: float | None
    host: str | None
    sets: int
    sets_asked: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overview:
    """All submitted runs, and the workers that are queued or running; `complaint` says why SLURM did not answer.

    attacks     the states of attacks on ensembles that are not made yet
    without_log folders of submissions without a worker, and without a log of one that was
    last_words  where no worker is queued or running: the log of the last one, and its last line
    """

    runs: tuple[RunStatus, ...]
    workers: tuple[QueuedWorker, ...]
    complaint: str | None
    attacks: tuple[State, ...] = ()
    without_log: tuple[str, ...] = ()
    last_words: str = ""

    @property
    def needs_attention(self) -> bool:
        """Whether something failed, or work is left that no worker will do."""
        return any(run.state in STUCK for run in self.runs) or bool(self.left and not self.will_work)

    @property
    def will_work(self) -> tuple[QueuedWorker, ...]:
        """The workers that work, or will without a person's doing."""
        return tuple(worker for worker in self.workers if not worker.idle)

    @property
    def left(self) -> tuple[State, ...]:
        """The states of what is not done: runs that are not trained or lack evaluation sets, and attacks."""
        runs = (run.state for run in self.runs if run.state != "done" or run.sets < run.sets_asked)
        return (*runs, *self.attacks)


def overview(folders: Sequence[SubmissionFolder], store: Store) -> Overview:
    """Return how everything stands that was submitted."""
    complaint = None
    workers: list[QueuedWorker] = []
    folders = still_there(folders, lambda folder: (folder.owner, folder.work))
    try:
        workers = queued_workers(folders)
    except UserError as silent:
        complaint = f"{silent}; what the workers do is not known"
    view = StoreView(store)
    runs: dict[str, RunStatus] = {}
    attacks: dict[Item, State] = {}
    for folder in folders:
        for item in folder.work.items():
            if isinstance(item, TrainRun):
                runs[item.run.id] = _run_status(item.run, view)
            elif isinstance(item, AttackEnsemble):
                attacks[item] = view.may_start(item).state
    unmade = tuple(state for state in attacks.values() if state != "done")
    names = {worker.submission for worker in workers}
    ended = [f for f in folders if f.submission.scheduler == "slurm" and f.submission.name not in names]
    without_log = tuple(str(f.path) for f in ended if complaint is None and not f.logs())
    said = "" if workers or complaint else next(filter(None, (f.last_words() for f in reversed(folders))), "")
    return Overview(tuple(runs.values()), tuple(workers), complaint, unmade, without_log, said)


def _run_status(run: RunWork, view: StoreView) -> RunStatus:
    folder, readiness = view.store.run(run.id), view.run(run.spec)
    pace = Pace(run.spec.epochs, None, None)
    if readiness.state != "done":
        try:
            pace = pace_of(folder.history(), run.spec.epochs)
        except UserError:
            pace = pace_of([], run.spec.epochs)
    sets = sum(view.evaluation(run.spec, asked).state == "done" for asked in run.evaluations)
    host = holder(folder.path / "lock").get("host") if readiness.state == "running" else None
    return RunStatus(
        run.id,
        run.cell,
        readiness.state,
        readiness.reason,
        pace.epoch,
        run.spec.epochs,
        pace.images_per_second,
        pace.seconds_left,
        host,
        sets,
        len(run.evaluations),
        view.warnings(run.spec),
    )


def overview_to_json(found: Overview) -> str:
    """Return an overview as a JSON document."""
    workers = [asdict(worker) for worker in found.workers]
    return json.dumps({"runs": [asdict(run) for run in found.runs], "workers": workers}, indent=1)


def print_overview(found: Overview, console: "Console", *, everything: bool) -> None:
    """Print counts, a line for each run that is not done, and what to do."""
    counts = Counter(run.state for run in found.runs)
    states = ", ".join(f"{counts[state]:,} {state}" for state in ORDER if counts[state])
    made, asked = sum(run.sets for run in found.runs), sum(run.sets_asked for run in found.runs)
    console.print(
        f"{counted(len(found.runs), 'run')}: {states}; {made:,} of {counted(asked, 'evaluation set')} of runs are made"
    )
    running = sum(worker.known and not worker.waits and not worker.suspended for worker in found.workers)
    suspended = sum(worker.suspended for worker in found.workers)
    unknown = Counter(worker.state for worker in found.workers if not worker.known)
    reasons = Counter(worker.reason for worker in found.workers if worker.waits)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    stopped = f", {suspended} suspended" if suspended else ""
    console.print(f"workers: {running} running, {sum(reasons.values())} queued{f' ({why})' if why else ''}{stopped}")
    for site in sorted({worker.site for worker in found.workers}):
        of_site = [worker for worker in found.workers if worker.site == site]
        if len(of_site) < len(found.workers):
            queued = sum(worker.waits for worker in of_site)
            console.print(f"  of site {site}: {len(of_site) - queued} running, {queued} queued")
    for state, count in unknown.items():
        console.print(f"{counted(count, 'worker')} in the state {state}, which may mean anything: none takes its place")
    shown = [run for run in found.runs if everything or run.state != "done"]
    shown.sort(key=lambda run: ORDER.index(run.state))
    if shown:
        table = make_table("run", "cell", "state", ">epoch", ">images/s", ">left", "node", "why")
        for run in shown if everything else shown[:MOST_RUNS]:
            speed = "" if run.images_per_second is None else f"{run.images_per_second:,.0f}"
            left = "" if run.seconds_left is None or run.state in STUCK else duration(run.seconds_left / 3600)
            reason = (
                "" if run.state == "missing" or (run.state == "running" and SILENT not in run.reason) else run.reason
            )
            progress = f"{run.epoch}/{run.epochs}"
            table.add_row(run.id[:8], run.cell, run.state, progress, speed, left, run.host or "", reason)
        console.print(table)
        if len(shown) > MOST_RUNS and not everything:
            console.print(f"... and {len(shown) - MOST_RUNS:,} more; --all shows them", style="dim")
    for run in [run for run in found.runs if run.warnings][: None if everything else MOST_RUNS]:
        console.print(f"{run.cell} {run.id[:8]}: {'; '.join(run.warnings)}")
    if found.left and not found.workers and found.without_log:
        console.print(
            f"workers left no log in {found.without_log[-1]}: they were cancelled before they began, or their node "
            "does not see that folder or may not write there (`python -m slurm check` finds out)",
            soft_wrap=True,
        )
    if found.last_words and set(found.left) - set(STUCK):
        console.print(f"the last worker's log {found.last_words}", soft_wrap=True)
    console.print(outlook(found), soft_wrap=True)


def outlook(found: Overview) -> str:
    """Return the line that says whether anything more will happen by itself, and if not, what a user can do."""
    if not found.left:
        return "All is done: nothing more happens by itself."
    if found.complaint is not None:
        return "Whether anything more happens by itself is not known, as SLURM does not answer: ask again later."
    stuck = [state for state in found.left if state in STUCK]
    if len(stuck) == len(found.left):
        return "What is left has failed or waits for what failed, so nothing more happens by itself: `submit --retry`."
    if not found.workers:
        return (
            "Work is left and no worker is queued or running, so nothing more happens by itself: `submit` again "
            "(--retry if runs failed)."
        )
    if not found.will_work:
        return f"Nothing more happens by itself: {'; '.join(_idle(found.workers))}."
    if all(worker.suspended for worker in found.will_work):
        return (
            f"{_some(found.will_work)} suspended, and nothing more happens until SLURM, or `scontrol resume`, goes on."
        )
    rest = "; what has failed, or waits for that, needs `submit --retry`" if stuck else ""
    return f"The work that is left goes on by itself: {_some(found.workers)} queued or running{rest}."


def _idle(workers: Sequence[QueuedWorker]) -> Iterator[str]:
    """Yield what a person has to do for workers that are held, and for those that can never start."""
    if held := [worker for worker in workers if worker.held]:
        yield f"{_some(held)} held; `scontrol release` frees {'it' if len(held) == 1 else 'them'}"
    if never := [worker for worker in workers if not worker.held]:
        reasons = ", ".join(sorted({worker.reason for worker in never}))
        yield (
            f"{_some(never)} refused a start ({reasons}); `cancel`, correct the site file and `submit` again, or use "
            "`scontrol update`"
        )


def _some(workers: Sequence[QueuedWorker]) -> str:
    return f"{counted(len(workers), 'worker')} {'is' if len(workers) == 1 else 'are'}"
