"""`python -m bench latency GRID`: what predicting with finished ensembles costs on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.folders import check_writable
from bench.commands.options import (
    Device,
    DeviceName,
    GridPath,
    ScaleName,
    Selections,
    StorePath,
    make_console,
    print_damage,
)

if TYPE_CHECKING:
    from rich.table import Table

    from bench.evaluation.latency import FinishedEnsemble
    from bench.plan.records import CellPlan, Plan
    from bench.store.latency import EnsembleLatency, PredictionTime
    from bench.store.store import Store

MEGA = 1e6


def latency(
    grid: GridPath,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    select: Selections = None,
    device: DeviceName = Device.auto,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0.0, max=3600.0, metavar="S", help="How long to predict with each ensemble, way and batch."
        ),
    ] = 2.0,
) -> None:
    """Measure what predicting costs with the first replicate of each finished cell, on this machine.

    Batches of 1 and of 256 images are predicted by the members one after the other and, where torch can, stacked into
    one call, in turn with the dense network. The results are kept in the store, and reports show them. Measure on a
    machine that does nothing else. Exit code: 0 if all selected cells were measured, 1 if some are not
    trained or are damaged.
    """
    from bench.work.options import set_thread_variables

    set_thread_variables()  # before anything imports torch
    import torch

    from bench.check.device import name_of
    from bench.errors import UserError
    from bench.evaluation.latency import measure
    from bench.grid import load_grid
    from bench.plan import make_plan, variants_of
    from bench.plan import select as select_runs
    from bench.store.latency import Latencies, write_latencies
    from bench.store.store import Store
    from bench.work.context import find_device
    from bench.work.provenance import now

    where, loaded = Store(store), load_grid(grid)
    plan = make_plan(loaded, scale, where, variants_of(loaded, scale, where, None))
    chosen = {run.id for run in select_runs(plan, select or [])}
    cells = [cell for cell in plan.cells if chosen.issuperset(cell.runs[0])]
    on = find_device(device.value)
    check_writable("--store", store)
    console = make_console()
    ensembles = {cell.name: _finished(plan, cell, where) for cell in plan.cells}
    references = plan.references()
    asked = [(cell.name, found) for cell in cells if (found := ensembles[cell.name]) is not None]
    measured: list[EnsembleLatency] = []
    damaged: list[str] = []
    for number, (cell, ensemble) in enumerate(asked, start=1):
        console.print(f"[{number}/{len(asked)}] {cell}", highlight=False, markup=False)
        dense = ensembles.get(references.get(cell, ""))
        try:
            measured.append(measure(cell, ensemble, dense, on, now(), seconds))
        except UserError as error:
            damaged.append(str(error))
            continue
        latencies = Latencies(
            device_name=name_of(on),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            ensembles=tuple(measured),
        )
        path = write_latencies(store, latencies)  # after each, so that nothing measured is lost
    if measured:
        console.print(_table(measured))
        for line in _remarks(measured):
            console.print(line, highlight=False, markup=False)
        console.print(f"kept in {path}", highlight=False, markup=False)
    states = {run.id: run.status for run in plan.runs}
    missing = [
        f"{cell.name} ({', '.join(sorted({states[run] for run in cell.runs[0]} - {'done'}))})"
        for cell in cells
        if ensembles[cell.name] is None
    ]
    if missing:
        console.print(f"not measured: {', '.join(missing)}", highlight=False, markup=False)
    print_damage(damaged)
    raise typer.Exit(int(bool(missing or damaged)))


def _finished(plan: "Plan", cell: "CellPlan", store: "Store") -> "FinishedEnsemble | None":
    """Return the first replicate of a cell, None if not all of its runs are done."""
    from bench.evaluation.latency import FinishedEnsemble

    runs = {run.id: run for run in plan.runs}
    if any(runs[run].status != "done" for run in cell.runs[0]):
        return None
    return FinishedEnsemble(tuple((runs[run].spec, store.run(run)) for run in cell.runs[0]), cell.members)


def _table(measured: list["EnsembleLatency"]) -> "Table":
    from rich.table import Table

    from bench.store.latency import MANY, ONE

    table = Table(box=None, pad_edge=False)
    table.add_column("cell")
    for head in ("M", "1 image", "x dense", f"images/s at {MANY}", "x dense", "MB", "as bits", "as CSR"):
        table.add_column(head, justify="right")
    for ensemble in measured:
        one, many, held = ensemble.fastest(ONE), ensemble.fastest(MANY), ensemble.weights
        table.add_row(
            ensemble.cell,
            str(ensemble.members),
            f"{one.seconds * 1e3:,.2f} ms",
            _ratio(one),
            f"{MANY / many.seconds:,.0f}",
            _ratio(many),
            *(f"{size / MEGA:,.2f}" for size in (held.dense, held.bits, held.csr)),
        )
    return table


def _ratio(time: "PredictionTime") -> str:
    return "" if time.over_dense is None else f"{time.over_dense:.2f}"


def _remarks(measured: list["EnsembleLatency"]) -> Iterator[str]:
    """Yield what no column says, once for all cells that it holds for."""
    from bench.errors import counted
    from bench.store.latency import MANY, ONE

    for batch in (ONE, MANY):
        faster = [ensemble.cell for ensemble in measured if ensemble.fastest(batch).way == "stacked"]
        if faster:
            yield f"{counted(batch, 'image')}: faster when stacked into one call: {', '.join(faster)}"
    reasons: dict[str, list[str]] = {}
    for ensemble in measured:
        if ensemble.unstacked and ensemble.unstacked != "a single network":
            reasons.setdefault(ensemble.unstacked, []).append(ensemble.cell)
    yield from (f"not stacked ({reason}): {', '.join(cells)}" for reason, cells in reasons.items())
    if any(ensemble.two_to_four is False for ensemble in measured):
        yield "2:4 kernels do not apply: masks keep more than two of some four weights in a row"
    linear = [ensemble.linear.over_dense for ensemble in measured if ensemble.linear is not None]
    if linear:
        yield f"linear layers as CSR take {min(linear):.2f} to {max(linear):.2f} times the time of dense ones"
