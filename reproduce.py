"""From grids to their reports with one command: `python -m reproduce GRID...`.

Trains and evaluates what is missing (`bench run`), then makes tables and figures of what is there (`analysis report`);
an earlier call's work is kept. A scale that is of no use without a GPU stops before any work where there is none.
"""

import bench  # noqa: F401, as it refuses a Python that is too old before anything is imported that is not there

# isort: split
if __name__ == "__main__":  # first, since what follows takes a moment to import
    from bench.commands.ctrl_c import end_imports_at_once

    end_imports_at_once()

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import __main__ as analysis
from bench.commands.folders import check_writable
from bench.commands.gpu import Force, lacks_gpu, stop_without_gpu
from bench.commands.options import (
    PLAIN,
    DataPath,
    Device,
    DeviceName,
    GridPaths,
    Retry,
    ScaleName,
    StorePath,
    run_app,
)
from bench.commands.run import Decoders, Parallel, run
from bench.commands.version import Version
from bench.errors import UserError, printable
from bench.work.signals import EXIT_INTERRUPTED

app = typer.Typer(**PLAIN)


@app.command()
def reproduce(
    grids: GridPaths,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    data: DataPath = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where reports go: into GRID-SCALE/ in this folder.")
    ] = Path("report"),
    device: DeviceName = Device.auto,
    retry: Retry = False,
    parallel: Parallel = 1,
    decoders: Decoders = None,
    force: Force = False,
    version: Version = False,  # noqa: ARG001, as its callback ends the program
) -> None:
    """Train and evaluate what is missing of a grid, then write its tables and figures; several grids in turn.

    Where the suite's own results of a grid are known (expected/ beside it), it ends by comparing yours with them.

    Exit code: 0 if all runs are done and evaluated, 1 if some are not (the report is made of the others), 2 for a
    mistake in what was given or a missing GPU, 75 after an interruption (the same command continues).
    """
    from bench.grid import grid_files

    files = grid_files(grids)
    for grid in files:
        check_writable("--out", _pages(out, grid, scale))
    for grid in files:  # every grid, and what is claimed of it, before any work
        _check_claims(grid)
    if not force and any(_lacks_gpu(grid, scale, store, data, device, retry=retry) for grid in files):
        stop_without_gpu(files, scale, store, data)
    codes = []
    for grid in files:
        try:
            code = _exit_code(
                run,
                grid,
                scale=scale,
                store=store,
                data=data,
                retry=retry,
                device=device,
                parallel=parallel,
                decoders=decoders,
                force=True,  # it was seen to above
            )
            if code == EXIT_INTERRUPTED:
                print("Interrupted; what was trained is kept, and the same command continues from there.")
                if "TOX_ENV_NAME" in os.environ:  # its last lines are red, and nothing can follow them
                    print(f"What tox says next, FAIL code {code} and evaluation failed, is that interruption.")
                raise typer.Exit(code)
            codes += [code, _exit_code(analysis.report, grid, store=store, scale=scale, out=_pages(out, grid, scale))]
            _say_whether_expected(grid, store, scale)
        except UserError as error:
            if len(files) == 1:
                raise
            print(f"error: {printable(str(error))}", file=sys.stderr)  # the other grids may be well
            codes.append(2)
    if any(codes):
        print("Some runs or evaluation sets are not there: reports are made of the others; --retry tries again.")
    raise typer.Exit(max(codes))


def _check_claims(grid: Path) -> None:
    """Read the claims that a grid names; UserError for a mistake in them."""
    from analysis.paper.claims import claims_of
    from analysis.topics import TOPICS
    from bench.grid import load_grid

    claims_of(load_grid(grid).claims, {metric.key: metric for topic in TOPICS for metric in topic.metrics})


def _say_whether_expected(grid: Path, store: Path, scale: str) -> None:
    """Print how the results compare with those that the suite's own run of the grid gave, if it was run."""
    from analysis.kept import expected_file

    if expected_file(grid, scale).exists():
        _exit_code(analysis.compare, grid, store, scale=scale)


def _pages(out: Path, grid: Path, scale: str) -> Path:
    return out / f"{grid.stem}-{scale}"


def _lacks_gpu(grid: Path, scale: str, store: Path, data: Path | None, device: Device, *, retry: bool) -> bool:
    """Return whether something of a grid is left to do that needs a GPU and would not get one."""
    from bench.grid import load_grid
    from bench.plan import make_plan, variants_of, work_of
    from bench.store.store import Store

    loaded, where = load_grid(grid), Store(store)
    made = make_plan(loaded, scale, where, variants_of(loaded, scale, where, data))
    return lacks_gpu(made, work_of(made, made.runs), where, device, retry=retry)


def _exit_code(command: Callable[..., Any], *arguments: object, **options: object) -> int:
    """Return the exit code with which a command of a command line ends."""
    try:
        command(*arguments, **options)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
