"""submit, retry and cancel: one caller at a time reads what is under way, decides on everything, then acts."""

import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.options import check_folder
from bench.data.catalog import DATASETS
from bench.data.inventory import inventory
from bench.data.sources import default_root
from bench.errors import UserError, did_you_mean
from bench.grid import grid_files, load_grid
from bench.plan import Plan, make_plan, select, variants_of
from bench.store.folders import Store
from bench.store.lock import RunLock, RunLockedError
from slurm.dispatch import Options, adopt, submit_arrays
from slurm.ledger import BatchFolder, Ledger, writing
from slurm.owners import Owner, Owners, under_way
from slurm.records import Batch, EnsembleItem, RunItem, Unit
from slurm.scheduler import MAX_ARRAY_SIZE, Answer, ask, cancel, max_array_size, partitions, require_slurm
from slurm.show import counted, print_sbatch, print_submission, print_submitted
from slurm.site import SITES, Site, load_site
from slurm.states import Observer, RunState, lacking_sets, needing_retry
from slurm.todo import Todo, UnderWay, what_is_left
from slurm.units import make_arrays

if TYPE_CHECKING:
    from rich.console import Console

RESULTS = Path("results")
# More names than this help nobody in a line.
MOST_NAMED = 5


def submit_grids(
    grids: Sequence[Path],
    site_name: str,
    *,
    console: "Console",
    scale: str,
    store: Path | None,
    data: Path | None,
    selections: Sequence[str],
    retry: bool,
    dry_run: bool,
    deterministic: bool,
    checkpoint_seconds: float,
    force: bool,
) -> None:
    """Submit what is missing of grids, or only show it; UserError before anything is submitted that could not be."""
    options = open_site(site_name, Terms(site_name, data, deterministic, checkpoint_seconds))
    where = open_store(store or options.site.store or RESULTS)
    loaded = [load_grid(path) for path in grid_files(grids)]  # mistakes in grids come first
    if options.site.scheduler == "slurm" and not dry_run:
        require_slurm()
    with _alone(Ledger(where), quiet=dry_run) as ledger:
        # Asked first: a run that ends in between is done by the time it is planned.
        batches, answer = look(ledger, dry_run=dry_run)
        busy = under_way(where, batches, answer or {})
        plans = [
            make_plan(
                grid,
                scale,
                where,
                variants_of(grid, where, data),
                device=options.site.device,
                tflops=options.site.tflops,
            )
            for grid in loaded
        ]
        chosen = [(plan, select(plan, selections)) for plan in plans]
        warnings = list(_warnings(plans, where, options, data))
        if (no_gpu := _lacks_gpu(plans, options.site)) and not (force or dry_run):
            raise UserError(f"{no_gpu}; --force submits it all the same")
        waits = options.site.scheduler == "slurm"
        _submit(what_is_left(chosen, busy, retry=retry, waits=waits), busy, ledger, options, console, dry_run=dry_run)
        for warning in (*warnings, *([no_gpu] if no_gpu else [])):
            console.print(f"warning: {warning}", soft_wrap=True)


def _lacks_gpu(plans: Sequence[Plan], site: Site) -> str | None:
    """Return what to tell a user whose site has no GPU for scales that need one, None if all is well."""
    lacking = [plan for plan in plans if plan.needs_gpu and not plan.finished]
    if not lacking or site.device == "cuda":
        return None
    hours = sum(plan.hours_left for plan in lacking)
    names = ", ".join(plan.grid for plan in lacking)
    return (
        f"{names}: the scale {lacking[0].scale!r} needs a GPU, and the site has none (about {hours:,.0f} h on a CPU); "
        "take another --scale, such as tiny"
    )


def _warnings(plans: Sequence[Plan], store: Store, options: Options, data: Path | None) -> Iterator[str]:
    """Yield what will probably stop tasks on their nodes, though SLURM would take them."""
    root = options.site.data or default_root()
    there = {row.name for row in inventory(root) if row.state != "absent"}
    known = store.data_records()
    for name in dict.fromkeys(cell.data.name for plan in plans for cell in plan.cells):
        if data is None and name in DATASETS and name not in there and name not in known:
            yield (
                f"no images of {name} in {root}; before tasks start, where nodes have no internet: "
                f"python -m bench data prepare {name} --root {shlex.quote(str(root))}"
            )
    partition = options.site.partition
    if options.site.scheduler == "slurm" and partition is not None and (names := partitions()):
        for part in partition.split(","):
            if part not in names:
                yield f"site {options.site_name}: partition: found {part!r}{did_you_mean(part, names)}"


def retry_runs(store: Path, site_name: str | None, names: Sequence[str], *, console: "Console", dry_run: bool) -> None:
    """Submit again what failed or was lost, what waits for it, and the sets that finished runs lack.

    names   beginnings of run ids: only these, cancelled ones included
    The site is the one that a run had, its file read again, unless another is given.
    """
    where = open_store(store)
    ledger = Ledger(where)
    require_submissions(ledger)
    with _alone(ledger, quiet=dry_run):
        batches, answer = look(ledger, dry_run=dry_run)
        owners = Owners.of(batches)
        states = Observer(where, owners, answer).states()
        wanted = matching(states, names)
        lacking = lacking_sets(wanted)
        again = with_parents(needing_retry(wanted, cancelled=bool(names)), states, owners)
        if not again and not lacking:
            console.print(_no_need(wanted, named=bool(names)), soft_wrap=True)
        busy = under_way(where, batches, answer or {})
        todos = [
            (open_site(site_name or terms.site, terms), todo) for terms, todo in _todos(again, lacking, owners).items()
        ]
        for options, todo in todos:
            folders = _submit(todo, busy, ledger, options, console, dry_run=dry_run)
            busy = busy.joined([(unit, element) for folder in folders for unit, element in folder.elements()])


def cancel_runs(
    store: Path, names: Sequence[str], grids: Sequence[str], *, console: "Console", confirm: Callable[[str], bool]
) -> None:
    """Cancel the tasks of runs (by the beginnings of their ids), or of grids (by name), or all; `confirm` is asked."""
    where = open_store(store)
    ledger = Ledger(where)
    require_submissions(ledger)
    with _alone(ledger, quiet=False):
        batches, answer = look(ledger)
        states = Observer(where, Owners.of(batches), answer).states()
        chosen = {one.id for one in of_grids(matching(states, names), grids)}
        active = [
            _Task(folder, index, known.element, unit)
            for folder in batches
            for index, unit in enumerate(folder.raw_units())
            if (known := (answer or {}).get((folder.batch.name, index))) is not None and known.active
            if not chosen.isdisjoint((*unit["train"], *unit["evaluate"]))
        ]
        if not active:
            console.print("None of these runs is waiting or running in a task.")
            return
        beside = _beside(active, batches, {one.id: one for one in states}, chosen)
        if not confirm(f"Cancel {counted(len(active), 'task')}{beside}? Running ones write a checkpoint first."):
            console.print("Nothing was cancelled.")
            return
        cancel((task.folder, task.element) for task in active)
        by_folder: defaultdict[BatchFolder, set[int]] = defaultdict(set)
        for task in active:
            by_folder[task.folder].add(task.index)
        for folder, indices in by_folder.items():
            folder.cancel(indices)
        console.print(f"cancelled {counted(len(active), 'task')}; `submit` goes on from the checkpoints")


@dataclass(frozen=True)
class _Task:
    """A task to cancel."""

    folder: BatchFolder
    index: int
    element: str
    unit: Mapping[str, Any]


def _beside(
    tasks: Sequence[_Task], batches: Sequence[BatchFolder], states: Mapping[str, RunState], chosen: Collection[str]
) -> str:
    """Return in words what ends with these tasks besides the chosen runs."""
    shared = {run: None for task in tasks for run in (*task.unit["train"], *task.unit["evaluate"])}
    others = [run for run in shared if run not in chosen and run in states and states[run].state != "done"]
    ended = {task.element for task in tasks}
    batch_names = {task.folder.batch.name for task in tasks}
    waiting = sum(
        folder.batch.units for folder in batches if folder.batch.after in ended and folder.batch.name not in batch_names
    )
    names = ", ".join(run[:8] for run in others[:MOST_NAMED]) + ", ..." * (len(others) > MOST_NAMED)
    it = "it" if len(tasks) == 1 else "them"
    beside = f", with {counted(len(others), 'other run')} in {it} ({names})" if others else ""
    waits = f"{counted(waiting, 'task')} that wait{'s' * (waiting == 1)} for {it}"
    return f"{beside}, and with {it} {waits}" if waiting else beside


def _no_need(states: Sequence[RunState], *, named: bool) -> str:
    """Return why there is nothing to submit again."""
    cancelled = sum(one.state == "cancelled" for one in states)
    if named:
        return "Nothing to submit again: " + ", ".join(f"{one.id[:8]} is {one.state}" for one in states[:MOST_NAMED])
    hint = f" {counted(cancelled, 'cancelled run')}: `submit`, or `retry RUN`, goes on." if cancelled else ""
    return f"Nothing failed, and nothing was lost.{hint}"


def look(ledger: Ledger, *, dry_run: bool = False) -> tuple[list[BatchFolder], Answer | None]:
    """Return the batches of a store and what SLURM knows of them, after finding those whose submission was cut short.

    Only while no other submission can be on its way. A dry run finds none, and does without an answer: then None.
    """
    batches = ledger.batches()
    if dry_run:
        known, complaint = ask_if_possible(batches)
        if complaint is not None:
            print(complaint, file=sys.stderr)
        return batches, known
    answer = ask(batches, ended=True)
    adopt(batches, answer)
    return batches, answer


def ask_if_possible(batches: Sequence[BatchFolder]) -> tuple[Answer | None, str | None]:
    """Return what SLURM knows of batches, or None and why it does not answer."""
    try:
        return ask(batches, ended=True), None
    except UserError as silent:
        return None, f"{silent}; what its jobs do is not known"


@dataclass(frozen=True)
class Terms:
    """What runs are submitted with besides themselves, and are submitted again with; site is a name or file."""

    site: str
    data: Path | None
    deterministic: bool
    checkpoint_seconds: float

    @classmethod
    def of(cls, batch: Batch) -> "Terms":
        """Return those of a batch."""
        data = None if batch.data is None else Path(batch.data)
        return cls(batch.site, data, batch.deterministic, batch.checkpoint_seconds)


def open_site(name: str, terms: Terms) -> Options:
    """Return a site and what else its tasks have in common; UserError for a mistake in its file."""
    site = load_site(name)
    path = SITES / f"{name}.yaml" if (SITES / f"{name}.yaml").is_file() else Path(name)
    return Options(site, str(path.resolve()), terms.data, terms.deterministic, terms.checkpoint_seconds)


def open_store(path: Path) -> Store:
    """Return the store at a path; UserError if SLURM could not write its logs there."""
    root = path.resolve()
    if "%" in str(root):
        raise UserError(f"--store {root}: SLURM and submitit replace what follows a %; give a path without one")
    check_folder("store", root)  # a site's has not been checked
    return Store(root)


def require_submissions(ledger: Ledger) -> None:
    """UserError if nothing was submitted from a store."""
    if not any(ledger.root.glob("*/batch.json")):
        store = ledger.root.parent
        raise UserError(
            f"{store}: nothing was submitted from this store; give --store DIR as `submit` named it, or "
            f"`python -m slurm submit GRID --site NAME --store {shlex.quote(str(store))}`"
        )


def matching(states: Sequence[RunState], names: Sequence[str]) -> list[RunState]:
    """Return the states of runs whose ids begin with one of these names, all without any; UserError for an unknown."""
    for name in names:
        if not any(one.id.startswith(name) for one in states):
            near = get_close_matches(name, [one.id[: len(name)] for one in states], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; `status --all` shows the first 8 digits of each"
            raise UserError(f"{name}: no run submitted from this store has an id that begins so{hint}")
    return [one for one in states if not names or one.id.startswith(tuple(names))]


def of_grids(states: Sequence[RunState], grids: Sequence[str]) -> list[RunState]:
    """Return the states of runs of grids, given by name or by file, all without any; UserError for an unknown one."""
    names = [Path(grid).name.removesuffix(".yaml").removesuffix(".yml") for grid in grids]
    known = dict.fromkeys(one.grid.rpartition(" ")[0] for one in states)
    for name in names:
        if name not in known:
            raise UserError(f"{name}: no grid of this name was submitted from this store{did_you_mean(name, known)}")
    return [one for one in states if not names or one.grid.rpartition(" ")[0] in names]


@contextmanager
def _alone(ledger: Ledger, *, quiet: bool) -> Iterator[Ledger]:
    """Keep other submissions to the store out; `quiet`: write nothing, and so keep nobody out."""
    if quiet:
        yield ledger
        return
    with ExitStack() as stack:
        try:
            with writing(ledger.root):
                stack.enter_context(RunLock(ledger.root / "lock"))
        except RunLockedError as locked:
            raise UserError(f"another submission to this store is being made ({locked}); wait until it is") from None
        yield ledger


def _submit(
    todo: Todo, busy: UnderWay, ledger: Ledger, options: Options, console: "Console", *, dry_run: bool
) -> list[BatchFolder]:
    arrays = make_arrays(todo, options.site, busy, _most_elements(options.site, dry_run=dry_run))
    print_submission(todo, arrays, options, console)
    if dry_run:
        print_sbatch(arrays, ledger, options, console)
        return []
    folders = submit_arrays(arrays, ledger, options)
    if folders:
        print_submitted(folders, ledger, console)
    return folders


def _most_elements(site: Site, *, dry_run: bool) -> int:
    """Return how many elements an array may have; UserError where there is no SLURM to submit to."""
    if site.scheduler == "local":
        return 1  # a process each
    if dry_run:
        with suppress(UserError):
            return site.max_array_size or max_array_size()
        return MAX_ARRAY_SIZE
    require_slurm()
    return site.max_array_size or max_array_size()


def with_parents(runs: Sequence[RunState], states: Sequence[RunState], owners: Owners) -> list[RunState]:
    """Return the runs with the parents without which they would be blocked again, parents first."""
    everyone = owners.last
    parents = {everyone[run.id].run["parent"] for run in runs}
    wanted = {run.id for run in runs}
    wanted |= {one.id for one in needing_retry(states, cancelled=True) if one.id in parents}
    return [one for one in states if one.id in wanted]


def _todos(train: Sequence[RunState], evaluate: Sequence[RunState], owners: Owners) -> dict[Terms, Todo]:
    """Return what is to be submitted again as it was written down, by what it was submitted with."""
    units: dict[str, list[Unit]] = {}

    def unit_of(owner: Owner) -> Unit:
        name = owner.folder.batch.name
        if name not in units:
            units[name] = owner.folder.units()
        return units[name][owner.index]

    parts: defaultdict[Terms, _Parts] = defaultdict(_Parts)
    for runs, own, kind in ((train, owners.last, "train"), (evaluate, owners.evaluate, "evaluate")):
        for one in runs:
            owner = own.get(one.id) or owners.train[one.id]  # the evaluation of a parent may not have been submitted
            part = parts[Terms.of(owner.folder.batch)]
            getattr(part, kind).append(next(run for run in unit_of(owner).runs if run.id == one.id))
            attackers = [owner, *(owners.ensembles[attacked] for attacked in owners.attacks.get(one.id, ()))]
            ensembles = [ensemble for attacker in attackers for ensemble in unit_of(attacker).ensembles]
            part.ensembles |= {(e.runs, e.members): e for e in ensembles if one.id in e.runs}
    return {
        key: Todo(tuple(part.train), tuple(part.evaluate), tuple(part.ensembles.values()), {})
        for key, part in parts.items()
    }


@dataclass
class _Parts:
    train: list[RunItem] = field(default_factory=list)
    evaluate: list[RunItem] = field(default_factory=list)
    ensembles: dict[tuple[tuple[str, ...], int], EnsembleItem] = field(default_factory=dict)
