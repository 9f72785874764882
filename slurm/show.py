"""What a person reads: a submission before and after it is made, and the states of runs, as tables or JSON."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING

from submitit.slurm.slurm import _make_sbatch_string

from bench.plan.show import duration, make_table
from bench.store.logits import Ensemble
from slurm.dispatch import Options, make_batch, slurm_parameters
from slurm.ledger import BatchFolder, Ledger
from slurm.records import Resources, RunItem
from slurm.resources import attempts, task_hours
from slurm.site import Site
from slurm.states import STATES, RunState
from slurm.todo import Todo
from slurm.units import Array, Place

if TYPE_CHECKING:
    from rich.console import Console

# More lines of one kind than this help nobody on a screen; --json has them all.
MOST_RUNS = 20
# In this order people want to read about runs.
SHOWN_FIRST: tuple[str, ...] = ("running", "failed", "lost", "blocked", "cancelled", "waiting", "done")


def print_submission(todo: Todo, arrays: Sequence[Array], options: Options, console: "Console") -> None:
    """Print the groups of tasks that are to be submitted, what they ask for, and what they cost."""
    for reason, count in todo.left.items():
        console.print(f"{counted(count, 'run')} left out: {reason}", style="dim")
    if not arrays:
        console.print("Nothing to submit.")
        return
    table = make_table(">arrays", ">tasks", ">runs", ">sets", "each asks for", ">at once", "waits for")
    table.columns[4].no_wrap = False
    attacked: set[Ensemble] = set()
    for (resources, waits), group in _alike(arrays).items():
        units = [unit for array in group for unit in array.units]
        runs, sets = sum(len(unit.train) for unit in units), sum(_sets(unit.runs) for unit in units if unit.evaluate)
        # An ensemble is on the list of each of its runs' tasks, and attacked by one.
        own = {one.ensemble: len(one.evaluations) for unit in units for one in unit.ensembles}
        sets += sum(count for ensemble, count in own.items() if ensemble not in attacked)
        attacked |= own.keys()
        at_once = sum(array.at_once for array in group)
        table.add_row(
            f"{len(group):,}", f"{len(units):,}", f"{runs:,}", f"{sets:,}", asked(resources), f"{at_once:,}", waits
        )
    console.print(table)
    training = sum(run.hours for run in todo.train)
    evaluation = sum(run.evaluation_hours for run in (*todo.train, *todo.evaluate))
    evaluation += sum(one.hours for one in todo.ensembles)
    site = options.site
    parts = f"{duration(training)} of training, {duration(evaluation)} of evaluation"
    console.print(f"about {_amount(training, evaluation, site)}: {parts}")
    longest = max(task_hours(unit, site) for array in arrays for unit in array.units)
    if site.scheduler == "slurm" and (times := attempts(longest, site)) > 1:
        how = "is requeued" if site.requeue else "has to be submitted again (requeue: false)"
        console.print(
            f"the longest task takes about {duration(longest)} and asks for {site.margin:g} x that; the site's "
            f"walltime is {site.walltime}, so it {how} {times - 1} time{'s' * (times > 2)}",
            soft_wrap=True,
        )


def _amount(training: float, evaluation: float, site: Site) -> str:
    """Return what is used of the cluster: the same of several processes, as far as they are that much faster."""
    hours = training + evaluation
    if not site.gpus:
        return f"{duration(hours)} on a CPU"
    hours *= site.gpus
    return f"{hours:,.1f} GPU-hours" if hours >= 0.95 else f"{duration(hours)} on a GPU"


def print_sbatch(arrays: Sequence[Array], ledger: Ledger, options: Options, console: "Console") -> None:
    """Print the script that sbatch would get, and of arrays that ask for something else the lines that differ."""
    if options.site.scheduler != "slurm":
        return
    first: tuple[str, ...] = ()
    for (_, waits), group in _alike(arrays).items():
        array = group[0]
        after = "PARENT" if isinstance(array.after, Place) else array.after
        batch = make_batch(array, after, options).model_copy(update={"name": "NAME"})
        folder = ledger.folder(batch.name)
        text = _make_sbatch_string(
            command=f"{options.site.python or quote(sys.executable)} -u -m submitit.core._submit {quote(str(folder))}",
            folder=folder,
            map_count=len(array.units) if len(array.units) > 1 else None,
            **slurm_parameters(batch, options.site, array.at_once),
        )
        lines = tuple(text.strip().splitlines())
        which = f"the first of {len(group):,} arrays" if len(group) > 1 else "an array"
        what = f"{which} of {counted(len(array.units), 'task')}{f' that waits for {waits}' if waits else ''}"
        head = f"sbatch gets, for {what}" if not first else f"for {what}, what differs"
        console.print(f"\n{head}", style="bold")
        console.print("\n".join(line for line in lines if line not in first), soft_wrap=True)
        first = first or lines


def asked(resources: Resources) -> str:
    """Return what a task asks for, in words: "1 a100, 8 CPUs, 16 GB, 4.0 h"."""
    kind = resources.gpu_type or ("GPU" if resources.gpus == 1 else "GPUs")
    gpus = f"{resources.gpus} {kind}, " if resources.gpus else ""
    several = f"{resources.processes} processes of " if resources.processes > 1 else ""
    cpus = f"{resources.cpus} CPU{'s' * (resources.cpus > 1)}"
    return f"{several}{gpus}{cpus}, {resources.memory_gb} GB, {duration(resources.minutes / 60)}"


def print_states(states: Sequence[RunState], console: "Console", *, everything: bool = False) -> None:
    """Print how many runs of each grid are in which state, and what there is to say of single ones."""
    by_grid: defaultdict[str, list[RunState]] = defaultdict(list)
    for one in states:
        by_grid[one.grid].append(one)
    there = {one.state for one in states}
    columns = [state for state in STATES if state in there or state == "done"]
    counts = make_table("grid", *(f">{state}" for state in columns), ">sets")
    counts.columns[0].no_wrap = False
    for grid, own in by_grid.items():
        count: Counter[str] = Counter(one.state for one in own)
        sets, sets_asked = sum(one.sets for one in own), sum(one.sets_asked for one in own)
        cells = [f"{count[state]:,}" if count[state] else "-" for state in columns]
        counts.add_row(grid, *cells, f"{sets:,}/{sets_asked:,}" if sets_asked else "-")
    console.print(counts)
    rows = sorted(states, key=lambda one: SHOWN_FIRST.index(one.state))
    shown = [one for one in rows if everything or one.state != "done" or one.reason]
    if not shown:
        return
    table = make_table("run", "cell", "state", ">epoch", ">images/s", ">left", "task")
    table.columns[-1].no_wrap = False
    limit = len(shown) if everything else MOST_RUNS
    for one in shown[:limit]:
        table.add_row(one.id[:8], one.cell, one.state, *_numbers(one), _task(one))
    console.print("", table, sep="\n")
    if len(shown) > limit:
        console.print(f"... and {len(shown) - limit:,} more; --all shows them")
    reasons = list(_reasons(shown))
    for line in reasons if everything else reasons[:MOST_RUNS]:
        console.print(line, soft_wrap=True)
    if len(reasons) > MOST_RUNS and not everything:
        console.print(f"... and {len(reasons) - MOST_RUNS:,} more reasons; --all shows them")
    if again := [one for one in states if one.state in ("failed", "lost", "blocked")]:
        console.print(f"`retry` submits {counted(len(again), 'run')} again; `logs RUN` prints what a task wrote")


def states_to_json(states: Sequence[RunState]) -> str:
    """Return the states as a JSON document: counts, then every run."""
    counts: Counter[str] = Counter(one.state for one in states)
    runs = [{**asdict(one), "log": None if one.log is None else str(one.log)} for one in states]
    return json.dumps({"counts": {state: counts[state] for state in STATES}, "runs": runs}, indent=2)


def print_submitted(folders: Sequence[BatchFolder], ledger: Ledger, console: "Console") -> None:
    """Print what was submitted, and what to type next."""
    for folder in folders[:MOST_RUNS]:
        elements = folder.submitted() or ()
        job = elements[0].partition("_")[0]
        what = "process" if folder.batch.scheduler == "local" else "job"
        console.print(f"submitted {folder.batch.name} as {what} {job}: {counted(len(elements), 'task')}")
    if len(folders) > MOST_RUNS:
        console.print(f"... and {len(folders) - MOST_RUNS:,} more")
    store = quote(str(ledger.root.parent))
    console.print(f"how they are: python -m slurm status --store {store}", soft_wrap=True)


def _alike(arrays: Sequence[Array]) -> Mapping[tuple[Resources, str], list[Array]]:
    alike: defaultdict[tuple[Resources, str], list[Array]] = defaultdict(list)
    for array in arrays:
        waits = "" if array.after is None else "a parent" if isinstance(array.after, Place) else "a run under way"
        alike[array.resources, waits].append(array)
    return alike


def counted(number: int, thing: str) -> str:
    """Return "1 run" or "2,000 runs"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _sets(runs: Sequence[RunItem]) -> int:
    return sum(len(run.evaluations) for run in runs if run.evaluation_hours > 0)


def _numbers(one: RunState) -> tuple[str, str, str]:
    speed = "-" if one.images_per_second is None else f"{one.images_per_second:,.0f}"
    left = "-" if one.seconds_left is None else duration(one.seconds_left / 3600)
    return f"{one.epoch}/{one.epochs}", speed, left


def _task(one: RunState) -> str:
    where = f" on {one.node.partition('.')[0]}" if one.node else ""
    again = f", attempt {one.attempt}" if one.attempt and one.attempt > 1 else ""
    return f"{one.element or ''}{where}{again}".strip() or "-"


def _reasons(states: Sequence[RunState]) -> Iterator[str]:
    """Yield a line for each thing there is to say, with the first of the runs that it is said of and its log."""
    said: defaultdict[tuple[str, str], list[RunState]] = defaultdict(list)
    for one in states:
        if one.reason:
            said[one.state, one.reason].append(one)
    for (state, reason), runs in said.items():
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        log = f"  (log: {runs[0].log})" if runs[0].log and state in ("failed", "lost") else ""
        yield f"{state}: {runs[0].id[:8]}{more}: {reason}{log}"
