"""`python -m bench plan`: what grids ask for, what is done of it, and what the rest costs."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import AsJson, DataPath, Device, GridPaths, ScaleName, StorePath, make_console
from bench.errors import UserError

MOST_TFLOPS = 1_000_000_000


def plan(
    grids: GridPaths,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    data: DataPath = None,
    device: Annotated[
        Device,
        typer.Option(
            "--device",
            help="The device to estimate hours for; auto: a GPU if the scale needs one or the store used one.",
        ),
    ] = Device.auto,
    tflops: Annotated[
        float | None,
        typer.Option(
            "--tflops",
            metavar="RATE",
            help="Sustained TFLOP/s to assume where the store has no measured speed.",
            show_default="20 of a GPU, 0.1 of a CPU",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a grid, the runs behind them, what is done and what the rest costs. Trains nothing.

    With several grids: what they share, and what they cost together.
    """
    from bench.grid import grid_files, load_grid
    from bench.plan import (
        Together,
        make_plan,
        near_misses,
        print_plan,
        print_several,
        several_to_json,
        to_json,
        variants_of,
    )
    from bench.store.store import Store

    if tflops is not None and not 0 < tflops <= MOST_TFLOPS:
        raise UserError(f"--tflops: found {tflops:g}; allowed: more than 0 and at most {MOST_TFLOPS:,}")
    kind = None if device is Device.auto else device.value
    where = Store(store)
    made = [
        make_plan(loaded, scale, where, variants_of(loaded, scale, where, data), device=kind, tflops=tflops)
        for loaded in map(load_grid, grid_files(grids))
    ]
    misses = near_misses(made, where)
    if len(made) == 1 and as_json:
        print(to_json(made[0], misses))
    elif len(made) == 1:
        print_plan(made[0], make_console(), misses)
    elif as_json:
        print(several_to_json(Together.of(made), misses))
    else:
        print_several(Together.of(made), make_console(), misses)
