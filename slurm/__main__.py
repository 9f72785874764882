"""The command line: `python -m slurm submit | status | cancel | logs`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.completion import complete_run
from bench.commands.folders import a_folder
from bench.commands.options import (
    EXIT_CTRL_C,
    AsJson,
    CheckpointSeconds,
    DataPath,
    GridPaths,
    Retry,
    ScaleName,
    Selections,
    make_app,
    make_console,
    run_app,
)
from bench.errors import UserError

app = make_app("Dispatch grids to a SLURM cluster, and see what became of their runs.")

WATCH_SECONDS = 15.0

SiteName = Annotated[
    str,
    typer.Option(
        "--site", metavar="FILE", help="A site file, or the name of one in slurm/sites/; local: this machine."
    ),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="The results directory.",
        callback=a_folder,
        show_default="the site's, else results",
    ),
]
SubmittedStore = Annotated[
    Path, typer.Option("--store", metavar="DIR", help="The results directory that was submitted.", callback=a_folder)
]


@app.command()
def submit(
    grids: GridPaths,
    site: SiteName,
    scale: ScaleName = "paper",
    store: StoreFolder = None,
    data: DataPath = None,
    select: Selections = None,
    retry: Retry = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be submitted, and submit nothing.", show_default="submit")
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Deterministic algorithms on a GPU, slower.", show_default="fastest"),
    ] = False,
    checkpoint_seconds: CheckpointSeconds = 120.0,
    force: Annotated[
        bool, typer.Option("--force", help="Submit a scale that needs a GPU to a site without.", show_default="stop")
    ] = False,
) -> None:
    """Submit workers for the open work of grids, and return at once.

    A worker takes runs from the store until none is left. If enough workers are queued or running already, none is
    submitted. What was submitted no longer depends on the grid's file.
    """
    from slurm.submit import Request, submit_grids

    request = Request(scale, data, tuple(select or ()), retry, dry_run, deterministic, checkpoint_seconds, force)
    submit_grids(grids, site, store, request, console=make_console())


@app.command()
def status(
    grids: Annotated[
        list[str] | None, typer.Argument(metavar="GRID", help="Names of grids.", show_default="all")
    ] = None,
    store: SubmittedStore = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking, until Ctrl-C.", show_default="once")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="A line for every run.", show_default="no more than 20, none that is done")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of every submitted run, and which workers are queued or running.

    Exit code: 1 if a run failed, or if work is left that no worker will do; else 0.
    """
    from slurm.records import require_submissions
    from slurm.status import overview, overview_to_json, print_overview
    from slurm.submit import of_grids, open_store

    console, where = make_console(), open_store(store)
    try:
        while True:
            found = overview(of_grids(require_submissions(where), grids or []), where)
            if watch and not as_json:
                console.clear()
            if as_json:
                print(overview_to_json(found), flush=True)
            else:
                print_overview(found, console, everything=everything)
            if found.complaint is not None:
                print(found.complaint, file=sys.stderr)
            if not watch:
                raise typer.Exit(int(found.needs_attention))
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_CTRL_C) from None


@app.command()
def cancel(
    grids: Annotated[
        list[str] | None, typer.Argument(metavar="GRID", help="Names of grids.", show_default="all")
    ] = None,
    store: SubmittedStore = Path("results"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.", show_default="ask")] = False,
) -> None:
    """Cancel workers, after asking. Nothing else ever cancels anything."""
    from slurm.submit import cancel_workers

    if not yes and not sys.stdin.isatty():
        raise UserError("cancel asks first, and nobody is there to answer; --yes answers")
    confirm = (lambda _: True) if yes else typer.confirm
    cancel_workers(store, grids or [], console=make_console(), confirm=confirm)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The beginning of a run id.", autocompletion=complete_run)],
    store: SubmittedStore = Path("results"),
    lines: Annotated[
        int | None,
        typer.Option("--lines", min=1, max=1_000_000, metavar="N", help="Only the last N.", show_default="all"),
    ] = None,
) -> None:
    """Print the logs of the workers that trained a run, oldest first; they hold other runs too."""
    from bench.store.files import regular_bytes
    from slurm.logs import logs_of

    for path in logs_of(store, run):
        print(f"{path}:", file=sys.stderr, flush=True)
        text = regular_bytes(path).decode(errors="replace").splitlines()
        print("\n".join(text[-lines:] if lines else text), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
