"""`python -m bench check`: what this machine can do, before the first run."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.completion import complete_grid
from bench.commands.folders import check_writable
from bench.commands.options import (
    GRID_HELP,
    AsJson,
    DataPath,
    Device,
    DeviceName,
    ScaleName,
    StorePath,
    a_grid,
    log_to_stderr,
    make_console,
)

MaybeGrid = Annotated[
    Path | None,
    typer.Argument(
        metavar="GRID",
        help=f"{GRID_HELP} Its steps are measured too.",
        show_default="the device alone",
        callback=lambda grid: None if grid is None else a_grid(grid),
        autocompletion=complete_grid,
    ),
]
Minutes = Annotated[
    float,
    typer.Option(
        "--minutes",
        min=0.0,
        max=10_000.0,
        metavar="M",
        help="Divide about M minutes among the steps of the grid. Those that would take far longer are left out.",
    ),
]


def check(
    grid: MaybeGrid = None,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    data: DataPath = None,
    device: DeviceName = Device.auto,
    minutes: Minutes = 10.0,
    as_json: AsJson = False,
) -> None:
    """Check this machine: device, precisions, compilation, ranks, agreement with the CPU, and the steps of a grid.

    Every distinct network and method of the grid is measured at its own batch and precision: images/s, memory, time
    over a dense step, and where the time goes. Made-up images are trained on, so none are needed. What was measured
    is written to the store, in measured/, where `plan` and SLURM submissions take it from.

    Exit code: 1 if something is wrong, which is named; else 0.
    """
    from bench.work.options import set_thread_variables

    set_thread_variables()  # before anything imports torch
    from bench.check.run import check as check_device
    from bench.check.table import print_check
    from bench.data.sources import takes_location
    from bench.grid import load_grid
    from bench.plan import make_plan, variants_of
    from bench.store.measured import measured_file, write_measured
    from bench.store.store import Store
    from bench.work.context import find_device

    plan, where = None, Store(store)
    places = {name: Path(record.location) for name, record in where.data_records().items() if record.location}
    if grid is not None:
        loaded = load_grid(grid)
        plan = make_plan(loaded, scale, where, variants_of(loaded, scale, where, data))
        if data is not None:
            places |= {name: data for name in {cell.data.name for cell in plan.cells} if takes_location(name)}
    found = find_device(device.value)
    check_writable("--store", store)
    log_to_stderr()
    measured = check_device(plan, found, minutes, places, partial(write_measured, store))
    if as_json:
        print(measured.model_dump_json())
    else:
        console = make_console()
        print_check(measured, console)
        console.print(f"written to {measured_file(store, measured.device_name)}")
    raise typer.Exit(1 if measured.wrong else 0)
