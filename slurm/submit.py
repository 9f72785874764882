"""submit and cancel: read what is under way, decide how many workers are wanted, then act. One caller at a time."""

import shlex
import sys
from collections import Counter
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
from bench.work.items import EnsembleWork, RunWork, TrainRun, Work
from bench.work.readiness import StoreView
from bench.work.repair import clear_failures
from slurm.checks import lacks_gpu, refusals, warnings
from slurm.dispatch import asks, cluster_of, make_submission, script_text, submit_what_fits
from slurm.queue import QueuedWorker, cancel, max_array_size, queued_workers
from slurm.records import SubmissionFolder, require_submissions, submissions, writing
from slurm.share import SiteWork, divided, open_folders, shares, workers_wanted
from slurm.site import Site, load_site, site_path
from slurm.status import STUCK

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
    grids: Sequence[Path], site_names: Sequence[str], store: Path | None, request: Request, *, console: "Console"
) -> None:
    """Submit as many workers as the open work of grids wants, of each site its share, or only show them.

    UserError before anything is submitted that could not be.
    """
    sites = [(load_site(name), site_path(name)) for name in site_names]
    where = store_of(site_names, store)
    loaded = [load_grid(path) for path in grid_files(grids)]  # mistakes in grids come first
    refused = list(dict.fromkeys(problem for site, _ in sites for problem in refusals(where, site)))
    if refused and not request.dry_run:
        raise UserError(refused[0])
    with _alone(where, quiet=request.dry_run):
        found = _open_work(loaded, where, sites, request)
        open_ids = open_folders(found[0].work, where)
        given, unfit = divided(found, open_ids)
        lacking = [lacks_gpu(one.plans, one.site) for one in found]
        forced = list(dict.fromkeys(problem for problem in (*lacking, unfit) if problem is not None))
        if not request.force:
            refused += [f"{problem}; --force submits it all the same" for problem in forced]
            if refused and not request.dry_run:
                raise UserError(refused[0])
        if request.retry and not request.dry_run:
            clear_failures(found[0].work, where)
            found = _open_work(loaded, where, sites, request)
            open_ids = open_folders(found[0].work, where)
            given, _ = divided(found, open_ids)
        _submit(where, found[0].work, open_ids, given, request, console)
        said = (warning for one in found for warning in warnings(one.plans, where, one.site, request.data))
        for warning in dict.fromkeys((*said, *(forced if request.force else ()))):
            console.print(f"warning: {warning}", soft_wrap=True)
    if refused:  # a dry run shows everything, and ends as the submission would
        raise UserError("\n".join(refused))


def _open_work(
    grids: Sequence[Grid], store: Store, sites: Sequence[tuple[Site, str]], request: Request
) -> list[SiteWork]:
    """Return the plans of grids and the work that is chosen of them, each run and ensemble once, for each site.

    Sites differ in the hours that runs are estimated to take.
    """
    known: dict[tuple[object, ...], tuple[list[Plan], Work]] = {}
    for site, _ in sites:
        speed = site.device, site.tflops
        if speed not in known:
            known[speed] = _planned(grids, store, site, request)
    return [SiteWork(site, path, *known[site.device, site.tflops]) for site, path in sites]


def _planned(grids: Sequence[Grid], store: Store, site: Site, request: Request) -> tuple[list[Plan], Work]:
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


def _submit(
    store: Store, work: Work, open_ids: set[str], given: Sequence[SiteWork], request: Request, console: "Console"
) -> None:
    """Submit what is missing of the workers that open work wants; `given` is what each site may take of the work."""
    covered, working, idle = _under_way(store, open_ids, quiet=request.dry_run)
    runs = sum(isinstance(item, TrainRun) and item.run.id in open_ids for item in work.items())
    console.print(
        f"{counted(runs, 'run')} of {len(work.runs):,} {'has' if runs == 1 else 'have'} work left; "
        f"{counted(sum(working.values()), 'worker')} queued or running"
        + (f", of which {idle} {'waits' if idle == 1 else 'wait'} for you: `status` says why" if idle else ""),
        soft_wrap=True,
    )
    for left in left_of(given[0].plans, {run.id for run in work.runs}):
        console.print(f"left: {left}")
    # Workers of sites that are not named now take a run each.
    elsewhere = sum(count for path, count in working.items() if path not in {one.path for one in given})
    taken = set(sorted(covered)[:elsewhere])
    ids = [
        {run.id for run in one.work.runs} | {attacked.ensemble.id for attacked in one.work.ensembles} for one in given
    ]
    fits = {name: [place for place, of_site in enumerate(ids) if name in of_site] for name in open_ids - taken}
    queued: list[str] = []
    of = len(work.runs) if len(given) > 1 else None
    for one, share in zip(given, shares(fits, [one.site.max_jobs for one in given]), strict=True):
        wanted = workers_wanted(share, covered & share, working[one.path], one.site.max_jobs)
        if not wanted:
            continue
        try:
            sent = _submit_to(store, one, open_ids, wanted, request, console, of=of)
        except UserError as refused:
            raise UserError(f"{refused}{_despite(queued, store)}") from None
        queued.append(f"{counted(sent, 'worker')} of {one.name}")
    if not queued:
        view = StoreView(store)
        stuck = sum(view.run(run.spec).state in STUCK for run in work.runs)
        hint = (
            f" {counted(stuck, 'run')} failed, or cannot start for what failed: --retry tries again." if stuck else ""
        )
        console.print(f"Nothing to submit.{hint}", soft_wrap=True)
    elif not request.dry_run:
        command = f"python -m slurm status --store {shlex.quote(str(store.root))}"
        console.print(f"{command} says how they stand; logs and work are in {store.root / 'slurm'}", soft_wrap=True)


def _despite(queued: Sequence[str], store: Store) -> str:
    """Return what is said of the workers of other sites that are in the queue when a site is refused."""
    if not queued:
        return ""
    cancels = f"python -m slurm cancel --store {shlex.quote(str(store.root))}"
    return (
        f"\n  in the queue all the same: {', '.join(queued)}. They may stay: correct the site and submit again, which "
        f"submits nothing twice. Or cancel them: {cancels}"
    )


def _submit_to(
    store: Store,
    given: SiteWork,
    open_ids: set[str],
    wanted: int,
    request: Request,
    console: "Console",
    *,
    of: int | None,
) -> int:
    """Submit so many workers of one site, or show them; return how many.

    of   the runs of all sites, None where this is the only one
    """
    site, work = given.site, given.work
    if site.scheduler == "slurm" and not request.dry_run:
        wanted = min(wanted, max_array_size(cluster_of(site)))
    still_open = Work(runs=tuple(run for run in work.runs if run.id in open_ids) or work.runs, ensembles=work.ensembles)
    if {run for attacked in work.ensembles for run in attacked.runs} - {run.id for run in still_open.runs}:
        still_open = work
    sized = make_submission(
        site,
        given.path,
        tuple(f"{plan.grid} {plan.scale}" for plan in given.plans),
        still_open,
        wanted,
        data=request.data,
        deterministic=request.deterministic,
        checkpoint_seconds=request.checkpoint_seconds,
        peaks=given.peaks,
    )
    name = f"{given.name}: " if of is not None else ""
    take = f", for {len(work.runs):,} of {counted(of, 'run')}" if of is not None else ""
    if request.dry_run:
        console.print(
            f"{name}would submit {counted(wanted, 'worker')}, each of {asks(sized, site)}{take}", soft_wrap=True
        )
        if site.scheduler == "slurm":
            console.print(f"sbatch would be asked for:\n{script_text(store, sized, site)}", soft_wrap=True)
        return wanted
    sent = submit_what_fits(store, sized, work, site).submission.workers
    console.print(
        f"{name}submitted {counted(sent, 'worker')} as {sized.name}, each of {asks(sized, site)}{take}", soft_wrap=True
    )
    if sent < wanted:
        full = (
            f"{sent} of {wanted} workers were accepted, as the cluster limits your jobs in the queue; these do all work"
        )
        console.print(f"{name}{full}, and the same command later sends the rest", soft_wrap=True)
    return sent


def _under_way(store: Store, open_ids: set[str], *, quiet: bool) -> tuple[set[str], Counter[str], int]:
    """Return which open runs and ensembles workers know of that are queued or running, and how many by site file.

    And how many of these wait for a person.
    """
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
    relevant: dict[str, str] = {}
    for folder in folders:
        if folder.submission.name in names:
            known = {run.id for run in folder.work.runs} | {attacked.ensemble.id for attacked in folder.work.ensembles}
            if known & open_ids:
                covered |= known & open_ids
                relevant[folder.submission.name] = folder.submission.site
    knowing = [worker for worker in workers if worker.submission in relevant]
    return covered, Counter(relevant[worker.submission] for worker in knowing), sum(w.idle for w in knowing)


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
        workers = queued_workers(folders)  # a process may have ended meanwhile, and its number be another's
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


def store_of(site_names: Sequence[str], store: Path | None) -> Store:
    """Return the one store of some sites: the option's, else what the sites name, else results."""
    named = {name: path for name in site_names if (path := load_site(name).store) is not None}
    if store is None and len(set(named.values())) > 1:
        places = ", ".join(f"{name}: {path}" for name, path in named.items())
        raise UserError(f"--site: the sites name different stores ({places}); --store says which is the queue of all")
    return open_store(store or next(iter(named.values()), RESULTS))


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
