"""From a grid to its report with one command: `python -m reproduce GRID`.

Trains what is missing (`bench run`), then makes tables and figures of what is there (`analysis report`); an earlier
call's work is kept. A scale that is of no use without a GPU stops before any work on a machine that has none.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import __main__ as analysis
from bench import __main__ as bench
from bench.options import (
    DataPath,
    Device,
    DeviceName,
    GridPath,
    Retry,
    ScaleName,
    StorePath,
    check_folder,
    run_app,
)
from bench.signals import EXIT_INTERRUPTED

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def reproduce(
    grid: GridPath,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    data: DataPath = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where reports go: into GRID-SCALE/ in this folder.")
    ] = Path("report"),
    device: DeviceName = Device.auto,
    retry: Retry = False,
    parallel: bench.Parallel = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Train a scale that needs a GPU without one.", show_default="stop")
    ] = False,
) -> None:
    """Train what is missing of a grid, then write its tables and figures.

    Exit code: 0 if all runs are done, 1 if some are not (the report is made of the others), 2 for a mistake in what was
    given or a missing GPU, 75 after an interruption (the same command continues).
    """
    pages = out / f"{grid.stem}-{scale}"
    check_folder("--out", pages)
    if not force and _lacks_gpu(grid, scale, store, device):
        bench.plan([grid], scale=scale, store=store, data=data)
        print(
            f"Stopped before any work: the scale {scale!r} needs a GPU and this machine offers none. "
            "What makes sense here:\n"
            "  tox -e reproduce-digits\n"
            "  tox -e reproduce-cifar10 -- --scale tiny\n"
            "--force trains it all the same."
        )
        raise typer.Exit(2)
    code = _exit_code(
        bench.run, grid, scale=scale, store=store, data=data, retry=retry, device=device, parallel=parallel
    )
    if code == EXIT_INTERRUPTED:
        print("Interrupted; what was trained is kept, and the same command continues from there.")
        raise typer.Exit(code)
    report_code = _exit_code(analysis.report, grid, store=store, scale=scale, out=pages)
    if code:
        print("Some runs are not done: the report is made of the others; --retry makes failed ones again.")
    raise typer.Exit(code or report_code)


def _lacks_gpu(grid: Path, scale: str, store: Path, device: Device) -> bool:
    """Return whether something is left to train that needs a GPU and would not get one."""
    from bench.grid import load_grid
    from bench.plan import make_plan
    from bench.store import Store

    plan = make_plan(load_grid(grid), scale, Store(store))
    if not plan.needs_gpu or all(run.status == "done" for run in plan.runs):
        return False
    import torch

    return device is Device.cpu or not torch.cuda.is_available()


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
