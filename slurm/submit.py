"""submit and cancel: read what is under way, decide how many workers are wanted, then act. One caller at a time."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError, counted, did_you_mean
from bench.grid import Grid, grid_files, load_grid
from bench.plan import Plan, make_plan, select, variants_of, work_of
from bench.plan.total import left_of
from bench.store.lock import RunLock, RunLockedError
from bench.store.store import Store
from bench.work.items import AttackEnsemble, EnsembleWork, RunWork, TrainRun, Work
from bench.work.readiness import StoreView
from bench.work.repair import clear_failures
from slurm.checks import lacks_gpu, refusals, warnings
from slurm.dispatch import cluster_of, make_submission, slurm_parameters, submit_what_fits
from slurm.queue import QueuedWorker, cancel, max_array_size, queued_workers
from slurm.records import SubmissionFolder, require_submissions, submissions, writing
from slurm.site import SITES, Site, load_site

if TYPE_CHECKING:
    from rich.console import Console

RESULTS = Path("results")


@dataclass(frozen=True)
class Request:
    """What a user asks `submit` for, besides grids and site."""

    scale: str
    data: Path | None
    selections: Sequence[str]
    retry: bool
    dry_run: bool
    deterministic: bool
    checkpoint_seconds: float
    force: bool


def submit_grids(
    grids: Sequence[Path], site_name: str, store: Path | None, request: Request, *, console: "Console"
) -> None:
    """Submit as many workers as the open work of grids wants, or only show them.

    UserError before anything is submitted that could not be.
    """
    site = load_site(site_name)
    where = open_store(store or site.store or RESULTS)
    loaded = [load_grid(path) for path in grid_files(grids)]  # mistakes in grids come first
    refused = list(refusals(where, site))
    if refused and not request.dry_run:
        raise UserError(refused[0])
    with _alone(where, quiet=request.dry_run):
        plans, work = _open_work(loaded, where, site, request)
        gpu = lacks_gpu(plans, site)
        if gpu is not None and not request.force:
            refused.append(f"{gpu}; --force submits it all the same")
            if not request.dry_run:
                raise UserError(refused[0])
        if request.retry and not request.dry_run:
            clear_failures(work, where)
            plans, work = _open_work(loaded, where, site, request)
        _submit(where, site, site_name, plans, work, request, console)
        forced = [gpu] if gpu is not None and request.force else []
        for warning in (*warnings(plans, where, site, request.data), *forced):
            console.print(f"warning: {warning}", soft_wrap=True)
    if refused:  # a dry run shows everything, and ends as the submission would
        raise UserError("\n".join(refused))


def _open_work(grids: Sequence[Grid], store: Store, site: Site, request: Request) -> tuple[list[Plan], Work]:
    """Return the plans of grids and the work that is chosen of them, each run and ensemble once."""
    plans = [
        make_plan(
            grid,
            request.scale,
            store,
            variants_of(grid, request.scale, store, request.data),
            device=site.device,
            tflops=site.tflops,
        )
        for grid in grids
    ]
    runs: dict[str, RunWork] = {}
    ensembles: dict[str, EnsembleWork] = {}
    for plan in plans:
        chosen = work_of(plan, select(plan, request.selections))
        for run in chosen.runs:
            known = runs.get(run.id, run)
            sets = tuple(dict.fromkeys((*known.evaluations, *run.evaluations)))
            runs[run.id] = known.model_copy(update={"evaluations": sets})
        for attacked in chosen.ensembles:
            known_ensemble = ensembles.get(attacked.ensemble.id, attacked)
            attacks = tuple(dict.fromkeys((*known_ensemble.attacks, *attacked.attacks)))
            ensembles[attacked.ensemble.id] = known_ensemble.model_copy(update={"attacks": attacks})
    return plans, Work(runs=tuple(runs.values()), ensembles=tuple(ensembles.values()))


def open_folders(work: Work, store: Store) -> set[str]:
    """Return the ids of runs and ensembles in which an item may start, now or when what it waits for is done."""
    view = StoreView(store)
    return {
        item.ensemble.ensemble.id if isinstance(item, AttackEnsemble) else item.run.id
        for item in work.items()
        if view.may_start(item).state in ("missing", "waiting")
    }


def workers_wanted(open_ids: set[str], covered: set[str], working: int, most: int) -> int:
    """Return how many workers to submit for open work.

    covered   the open ids that workers which are queued or running know of; there are `working` such workers
    most      as many workers at once as the site wants
    """
    missing_workers = min(most, len(open_ids)) - working
    # Work that no worker knows of wants its own workers, however many others there are.
    return max(missing_workers, min(most, len(open_ids - covered)), 0)


def _submit(
    store: Store,
    site: Site,
    site_name: str,
    plans: Sequence[Plan],
    work: Work,
    request: Request,
    console: "Console",
) -> None:
    open_ids = open_folders(work, store)
    covered, working = _under_way(store, open_ids, quiet=request.dry_run)
    wanted = workers_wanted(open_ids, covered, working, site.max_jobs)
    runs = sum(isinstance(item, TrainRun) and item.run.id in open_ids for item in work.items())
    console.print(
        f"{counted(runs, 'run')} of {len(work.runs):,} have work left; {counted(working, 'worker')} queued or running"
    )
    for left in left_of(plans, {run.id for run in work.runs}):
        console.print(f"left: {left}")
    if not wanted:
        console.print("Nothing to submit.")
        return
    if site.scheduler == "slurm" and not request.dry_run:
        wanted = min(wanted, max_array_size(cluster_of(site)))
    still_open = Work(runs=tuple(run for run in work.runs if run.id in open_ids) or work.runs, ensembles=work.ensembles)
    sized = make_submission(
        site,
        _site_path(site_name),
        tuple(f"{plan.grid} {plan.scale}" for plan in plans),
        still_open,
        wanted,
        data=request.data,
        deterministic=request.deterministic,
        checkpoint_seconds=request.checkpoint_seconds,
        peaks=_measured_peaks(plans, site),
    )
    asks = ", ".join(
        part
        for part in (
            f"{sized.minutes // 60} h {sized.minutes % 60} min",
            f"{sized.processes} processes" if sized.processes > 1 else "",
            f"{sized.gpus} GPU" if sized.gpus else "no GPU",
            f"{sized.cpus} CPUs" if sized.cpus else "",
            f"{sized.memory_gb} GB" if sized.memory_gb else "",
        )
        if part
    )
    if request.dry_run:
        console.print(f"would submit {counted(wanted, 'worker')}, each of {asks}")
        if site.scheduler == "slurm":
            console.print(sbatch_text(sized.model_copy(update={"name": "NAME"}), site, store), soft_wrap=True)
        return
    folder = submit_what_fits(store, sized, work, site)
    sent = folder.submission.workers
    console.print(f"submitted {counted(sent, 'worker')} as {sized.name}, each of {asks}", soft_wrap=True)
    if sent < wanted:
        full = (
            f"{sent} of {wanted} workers were accepted, as the cluster limits your jobs in the queue; these do all work"
        )
        console.print(f"{full}, and the same command later sends the rest", soft_wrap=True)
    command = f"python -m slurm status --store {shlex.quote(str(store.root))}"
    console.print(f"{command} says how they stand; logs and work are in {folder.path}", soft_wrap=True)


def _measured_peaks(plans: Sequence[Plan], site: Site) -> dict[str, int]:
    """Return the most host memory that a check measured on such a device, in bytes, by run."""
    kind = "GPU" if site.device == "cuda" else "CPU"
    runs = [run for plan in plans for run in plan.runs if run.hours_device == kind]
    return {run.id: run.host_bytes for run in runs if run.host_bytes is not None}


def sbatch_text(submission: object, site: Site, store: Store) -> str:
    """Return the options that sbatch would get, a line each."""
    from slurm.records import Submission

    assert isinstance(submission, Submission)
    parameters = slurm_parameters(submission, site)
    further = parameters.pop("additional_parameters")
    lines = [f"  {key}: {value}" for key, value in {**parameters, **further}.items()]
    return "\n".join(["sbatch would be asked for:", *lines, f"  logs: {store.root}/slurm/NAME"])


def _under_way(store: Store, open_ids: set[str], *, quiet: bool) -> tuple[set[str], int]:
    """Return which open runs and ensembles workers know of that are queued or running, and how many workers do."""
    folders = submissions(store)
    try:
        workers = queued_workers(folders) if folders else []
    except UserError as silent:
        if not quiet:
            raise
        print(f"{silent}; what its workers do is not known", file=sys.stderr)
        workers = []
    names = {worker.submission for worker in workers}
    covered: set[str] = set()
    relevant: set[str] = set()
    for folder in folders:
        if folder.submission.name in names:
            known = {run.id for run in folder.work.runs} | {attacked.ensemble.id for attacked in folder.work.ensembles}
            if known & open_ids:
                covered |= known & open_ids
                relevant.add(folder.submission.name)
    return covered, sum(worker.submission in relevant for worker in workers)


def cancel_workers(store: Path, grids: Sequence[str], *, console: "Console", confirm: Callable[[str], bool]) -> None:
    """Cancel the workers of grids (by name), all without a name; `confirm` is asked first."""
    where = open_store(store)
    folders = of_grids(require_submissions(where), grids)
    with _alone(where, quiet=False):
        workers = queued_workers(folders)
        if not workers:
            console.print("No worker is queued or running.")
            return
        if not confirm(f"Cancel {counted(len(workers), 'worker')}? Running ones write a checkpoint first."):
            console.print("Nothing was cancelled.")
            return
        schedulers = {folder.submission.name: folder.submission.scheduler for folder in folders}
        for scheduler in ("slurm", "local"):
            chosen: list[QueuedWorker] = [worker for worker in workers if schedulers[worker.submission] == scheduler]
            if chosen:
                cancel(chosen, scheduler)
        console.print(f"cancelled {counted(len(workers), 'worker')}; `submit` goes on from the checkpoints")


def of_grids(folders: Sequence[SubmissionFolder], grids: Sequence[str]) -> list[SubmissionFolder]:
    """Return the submissions of grids, given by name or by file, all without any; UserError for an unknown one."""
    names = [Path(grid).name.removesuffix(".yaml").removesuffix(".yml") for grid in grids]
    known = {grid.rpartition(" ")[0]: None for folder in folders for grid in folder.submission.grids}
    for name in names:
        if name not in known:
            raise UserError(f"{name}: no grid of this name was submitted from this store{did_you_mean(name, known)}")
    return [
        folder
        for folder in folders
        if not names or any(grid.rpartition(" ")[0] in names for grid in folder.submission.grids)
    ]


def open_store(path: Path) -> Store:
    """Return the store at a path; UserError if SLURM could not write its logs there."""
    root = path.resolve()
    if "%" in str(root):
        raise UserError(f"--store {root}: SLURM and submitit replace what follows a %; give a path without one")
    try:
        for place in (root, *root.parents):
            if place.is_file():
                raise UserError(f"store {root}: {place} is a file, not a folder")
    except OSError as error:  # a name that is too long, a disk that is away
        raise UserError(f"store {root}: {error.strerror}") from None
    return Store(root)


def _site_path(name: str) -> str:
    path = SITES / f"{name}.yaml"
    return str((path if path.is_file() else Path(name)).resolve())


@contextmanager
def _alone(store: Store, *, quiet: bool) -> Iterator[None]:
    """Keep other submissions to the store out; `quiet`: write nothing, and so keep nobody out."""
    if quiet:
        yield
        return
    with ExitStack() as stack:
        try:
            with writing(store.root):
                stack.enter_context(RunLock(store.root / "slurm" / "lock"))
        except RunLockedError as locked:
            raise UserError(f"another submission to this store is being made ({locked}); wait until it is") from None
        yield
