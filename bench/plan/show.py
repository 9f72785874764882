"""A plan as JSON for programs, and as tables for people."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Any

from bench.errors import counted
from bench.plan.cost import GLOBAL_FLOPS, decoding_hours
from bench.plan.evaluations import evaluation_bytes
from bench.plan.near_misses import NearMisses
from bench.plan.records import CellPlan, Plan, RunPlan
from bench.plan.remarks import assumed_references, shrunken_maps, slower_than_counted, uncounted_flops
from bench.plan.total import duration, left_of
from bench.store.run_folder import NO_WEIGHTS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# More rows than this help nobody on a screen; --json has them all.
MOST_CELLS = 60
MOST_RUNS = 20
STATUSES = ("done", "running", "failed", "damaged", "blocked", "waiting", "missing")


def to_json(plan: Plan, misses: NearMisses | None = None) -> str:
    """Return the plan, and its near misses where they were looked for, as a JSON document."""
    return json.dumps({**document(plan), **(misses.to_json() if misses else {})})


def document(plan: Plan) -> dict[str, Any]:
    """Return a plan as what JSON can hold."""
    counts = plan.counts()
    return {
        "grid": plan.grid,
        "title": plan.title,
        "scale": plan.scale,
        "needs_gpu": plan.needs_gpu,
        "hours_basis": list(dict.fromkeys(str(run.hours_basis) for run in plan.runs)),
        "totals": {
            "runs": len(plan.runs),
            "runs_without_sharing": plan.unshared_runs,
            **{status: counts[status] for status in STATUSES},
            "hours_left": plan.hours_left,
            "hours": plan.hours,
            "hours_without_sharing": plan.unshared_hours,
            "evaluation_sets": plan.sets,
            "evaluation_sets_left": plan.sets_left,
            "evaluation_hours_left": sum(left.evaluation for left in left_of([plan])),
        },
        "evaluations": _evaluations(plan),
        "cells": [_cell_record(cell) for cell in plan.cells],
        "runs": [_run_record(run) for run in plan.runs],
    }


def _cell_record(cell: CellPlan) -> dict[str, Any]:
    return {
        "name": cell.name,
        "method": cell.method,
        "members": cell.members,
        "sparsity": cell.sparsity,
        "replicates": cell.replicates,
        "train_flops_ratio": cell.train_flops_ratio,
        "inference_flops_ratio": cell.inference_flops_ratio,
        "parameters_ratio": cell.parameters_ratio,
        "flops_assumed": cell.flops_assumed,
        **({"assumed_epochs": cell.assumed_epochs} if cell.assumed_epochs is not None else {}),
        **({"flops_uncounted": list(cell.flops_uncounted)} if cell.flops_uncounted else {}),
        "parents": [run_id for replicate in cell.parents for run_id in replicate],
        "runs": [run_id for replicate in cell.runs for run_id in replicate],
        "data": cell.data.model_dump(),
        "model": cell.model.model_dump(),
    }


def _run_record(run: RunPlan) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run.status,
        **({"parent": run.parent, "reason": run.reason} if run.parent else {}),
        "seed": run.spec.seed,
        "epochs": run.spec.epochs,
        "tickets": run.spec.tickets,
        "train_flops": run.train_flops,
        "train_flops_ratio": run.train_flops_ratio,
        "hours": run.hours,
        "hours_device": run.hours_device,
        **({"host_bytes": run.host_bytes} if run.host_bytes is not None else {}),
        **({"device_bytes": run.device_bytes} if run.device_bytes is not None else {}),
        "cells": run.cells,
        **({"evaluated": run.evaluated, "evaluations": len(run.evaluations)} if run.evaluations else {}),
    }


def _evaluations(plan: Plan) -> dict[str, int]:
    """Return how many sets of each family (what stands before the first slash) a run or an ensemble is evaluated on."""
    by_data = {run.spec.data.name: run.evaluations for run in plan.runs if run.evaluations}
    sets = chain.from_iterable(by_data.values())
    attacks = plan.ensembles[0].evaluations if plan.ensembles else ()
    return dict(Counter(asked.name.partition("/")[0] for asked in (*sets, *attacks)))


def print_plan(plan: Plan, console: "Console", misses: NearMisses | None = None) -> None:
    """Print cells, runs, totals and near misses, at whatever width the console has; it must print names as they are."""
    from rich.text import Text

    gpu = " (needs a GPU)" if plan.needs_gpu else ""
    head = Text.assemble((plan.grid, "bold"), " at scale ", (plan.scale, "bold"), gpu)
    console.print(head.append(f" · {plan.title}" if plan.title else ""))
    for line in dict.fromkeys(_material(cell) for cell in plan.cells[:MOST_CELLS]):
        console.print(line, style="dim")
    console.print("", _cell_table(plan), sep="\n")
    if len(plan.cells) > MOST_CELLS:
        console.print(f"... and {counted(len(plan.cells) - MOST_CELLS, 'more cell')}; --json lists them all")
    console.print("training, prediction: FLOPs of one replicate, in dense runs and dense networks", style="dim")
    for line in assumed_references(plan.cells):
        console.print(line, style="dim")
    if any(cell.flops_assumed for cell in plan.cells):
        console.print(
            f"what global magnitude pruning leaves is assumed: {GLOBAL_FLOPS} x density of the FLOPs", style="dim"
        )
    for line in uncounted_flops(plan.cells):
        console.print(line, style="dim")
    for line in (*shrunken_maps(plan.cells), *slower_than_counted(plan)):
        console.print(line)
    console.print("", _run_table(plan) if len(plan.runs) <= MOST_RUNS else _group_table(plan), "", sep="\n")
    for line in (*_totals(plan), *(misses.lines() if misses else ())):
        console.print(line)


def _material(cell: CellPlan) -> str:
    data = cell.data
    substitute = "not the official images: " if data.variant.startswith("images-") else ""
    variant = "" if data.variant == "official" else f" ({substitute}{data.variant})"
    arguments = ", ".join(f"{key} {value}" for key, value in cell.model.arguments.items())
    if cell.model.ensemble is not None:
        kind, *parameters = cell.model.ensemble.model_dump().items()
        arguments += f" as {kind[1]} (" + ", ".join(f"{key} {value:g}" for key, value in parameters) + ")"
    return (
        f"{data.name}{variant}: {data.train_images:,} images to train, {data.validation_images:,} to validate, "
        f"{data.test_images:,} to test; {cell.model.name}, {arguments}"
    )


def _cell_table(plan: Plan) -> "Table":
    table = make_table("cell", ">M", ">S", ">replicates", ">runs done", ">training", ">prediction")
    status = {run.id: run.status for run in plan.runs}
    for cell in plan.cells[:MOST_CELLS]:
        ids = list(dict.fromkeys(run for replicate in range(cell.replicates) for run in cell.all_runs(replicate)))
        done = sum(status[run_id] == "done" for run_id in ids)
        ratios = (f"{cell.train_flops_ratio:.3f}", f"{cell.inference_flops_ratio:.3f}")
        sparsity = f"{cell.sparsity:g}" if cell.sparsity else "-"
        counts = (str(cell.members), sparsity, str(cell.replicates), f"{done}/{len(ids)}")
        table.add_row(cell.name, *counts, *ratios)
    return table


def _run_table(plan: Plan) -> "Table":
    table = make_table("run", ">seed", "status", ">FLOPs", ">x dense", ">time", "cells")
    for run in plan.runs:
        table.add_row(run.id, str(run.spec.seed), run.status, *_numbers(run), ", ".join(run.cells))
    return table


def _group_table(plan: Plan) -> "Table":
    groups: defaultdict[tuple[str, ...], list[RunPlan]] = defaultdict(list)
    for run in plan.runs:
        groups[run.cells].append(run)
    table = make_table(">runs", "status", ">FLOPs each", ">x dense", ">time each", "cells")
    for cells, runs in list(groups.items())[:MOST_CELLS]:
        counts: Counter[str] = Counter(run.status for run in runs)
        status = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        table.add_row(str(len(runs)), status, *_numbers(runs[0]), ", ".join(cells))
    return table


def _numbers(run: RunPlan) -> tuple[str, str, str]:
    return f"{run.train_flops:.2e}", f"{run.train_flops_ratio:.3f}", duration(run.hours)


def _totals(plan: Plan) -> Iterator[str]:
    counts = plan.counts()
    saved = plan.unshared_runs - len(plan.runs)
    sharing = f" (sharing saves {saved:,} of {plan.unshared_runs:,})" if saved else ""
    states = ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if counts[status])
    yield f"{counted(len(plan.runs), 'distinct run')}{sharing}: {states}"
    left = [run for run in plan.runs if run.status != "done"]
    yield from (f"left: {part}" for part in left_of([plan]))
    yield from time_bases(plan.runs)
    if hosts := [run.host_bytes for run in left if run.host_bytes is not None]:
        gpus = [run.device_bytes for run in left if run.device_bytes is not None]
        of_gpu = f", {max(gpus) / 1e9:.1f} GB of the GPU" if gpus else ""
        yield f"  memory measured by `bench check`: up to {max(hosts) / 1e9:.1f} GB{of_gpu}, beside the images"
    decoding = {run.id: hours for run in left if (hours := decoding_hours(run.spec))}
    if decoding:
        cores = sum(decoding.values())
        keep_up = max(ceil(decoding[run.id] / run.hours) for run in left if run.id in decoding)
        decoders = f"{counted(keep_up, 'decoder')} keep{'s' if keep_up == 1 else ''} up"
        yield f"  decoding takes about {cores:,.1f} core-hours; {decoders} with the fastest run"
    if plan.sets:
        kinds = ", ".join(f"{count} of {family}" for family, count in _evaluations(plan).items())
        yield f"{counted(plan.sets, 'evaluation set')} ({kinds}; by run, attacks by ensemble): {plan.sets_left:,} left"
        yield f"  {evaluation_bytes(plan) / 1e9:.2g} GB of logits in all"
        if plan.sets_left and any(run.reason == NO_WEIGHTS for run in plan.runs):
            yield f"  some cannot be made: {NO_WEIGHTS}"
    broken = [run for run in plan.runs if run.status in ("failed", "damaged")]
    for run in broken[:MOST_RUNS]:
        yield f"{run.status}: {run.id} ({', '.join(run.cells)}); `python -m bench run --retry` makes it again"
    for run in [run for run in plan.runs if run.status == "blocked"][:MOST_RUNS]:
        yield f"blocked: {run.id} ({', '.join(run.cells)}): {run.reason}"


def time_bases(runs: Iterable[RunPlan]) -> Iterator[str]:
    """Yield how hours were estimated: a line of what was measured, and one of what was assumed."""
    bases = list(dict.fromkeys(run.hours_basis for run in runs))
    measured = [basis for basis in bases if basis.measured]
    if len(measured) == 1:
        yield f"  time {measured[0]}"
    elif measured:
        how = " and ".join(dict.fromkeys(basis.how for basis in measured)).replace(" and measured", " and")
        devices = list(dict.fromkeys(basis.device for basis in measured))
        where = devices[0] if len(devices) == 1 else counted(len(devices), "device")
        slowest, *_, fastest = sorted(basis.rate for basis in measured)
        yield f"  time {how}, {slowest:,.0f} to {fastest:,.0f} images/s on {where}; --json has all of them"
    yield from (f"  time {basis}" for basis in bases if not basis.measured)


def make_table(*columns: str) -> "Table":
    """Return an empty table; a column whose title begins with > holds numbers; names of cells and reasons wrap."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in columns:
        numbers = title.startswith(">")
        table.add_column(
            title.removeprefix(">"),
            justify="right" if numbers else "left",
            no_wrap=not title.startswith(("cell", "why")),
        )
    return table
