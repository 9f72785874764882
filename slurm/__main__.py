"""The command line: `python -m slurm check | submit | status | cancel | logs`."""

if __name__ == "__main__":  # first, since what follows takes a moment to import
    from bench.commands.ctrl_c import end_imports_at_once

    end_imports_at_once()

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.completion import complete_grid, complete_run
from bench.commands.folders import a_folder
from bench.commands.options import (
    EXIT_CTRL_C,
    GRID_HELP,
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
    some_grids,
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
SiteNames = Annotated[
    list[str],
    typer.Option(
        "--site",
        metavar="FILE",
        help="A site file, or the name of one in slurm/sites/; local: this machine. Repeat it for workers of several.",
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


MaybeGrids = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="GRID",
        help=f"{GRID_HELP} The steps of its networks are measured, and its images are looked for.",
        show_default="none",
        callback=lambda grids: some_grids(grids or []),
        autocompletion=complete_grid,
    ),
]
Minutes = Annotated[
    float,
    typer.Option("--minutes", min=0.0, max=10_000.0, metavar="M", help="Divide about M minutes among the steps."),
]


@app.command()
def check(
    site: SiteName,
    grids: MaybeGrids = None,
    scale: ScaleName = "paper",
    store: StoreFolder = None,
    data: DataPath = None,
    minutes: Minutes = 10.0,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Submit the job and return.", show_default="wait, and print the answer")
    ] = False,
) -> None:
    """Check a site with one small job: Python, store, images, cores, GPU, clock and speed of a node.

    It is submitted as a worker would be, and runs `bench check` there. What was measured is kept in the store, where
    `plan` and `submit` take it from. With --site local it runs on this machine.

    Exit code: 0 if the site works; 1 if something is wrong, which is named, or the job ended without an answer; 2 for a
    mistake in what was given, and for what sbatch refuses; 130 after Ctrl-C, which leaves the job.
    """
    if not checked(site, grids or [], store, scale, data, minutes, wait=not no_wait):
        raise typer.Exit(1)


def checked(
    site: str,
    grids: list[Path],
    store: Path | None,
    scale: str,
    data: Path | None,
    minutes: float,
    *,
    wait: bool = True,
) -> bool:
    """Return whether a check finds nothing wrong with a site."""
    from slurm.check import CheckRequest, check_site
    from slurm.submit import store_of

    try:
        where = store_of([site], store)
        return check_site(site, where, CheckRequest(grids, scale, data, minutes, wait), console=make_console())
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_CTRL_C) from None


@app.command()
def submit(
    grids: GridPaths,
    site: SiteNames,
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
        bool,
        typer.Option("--force", help="Submit what needs a GPU, or more memory, to sites without.", show_default="stop"),
    ] = False,
    check_first: Annotated[
        bool,
        typer.Option("--check", help="Check each site with these grids first; submit if nothing is wrong."),
    ] = False,
) -> None:
    """Submit workers for the open work of grids, and return at once.

    A worker takes runs from the store until none is left. If enough workers are queued or running already, none is
    submitted. What was submitted no longer depends on the grid's file. Workers of several sites take from one store,
    each what fits its memory; how many each gets is in proportion to max_jobs.
    """
    from slurm.submit import Request, submit_grids

    if check_first and not dry_run:
        for name in site:
            if not checked(name, grids, store, scale, data, 10.0):
                print(f"--check: {name}: something is wrong (above); nothing was submitted", file=sys.stderr)
                raise typer.Exit(1)

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
