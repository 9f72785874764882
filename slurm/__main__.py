"""The command line: `python -m slurm submit | status | retry | cancel | logs`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import DataPath, GridPaths, Retry, ScaleName, a_folder, run_app
from bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from slurm.states import RunState

app = typer.Typer(
    help="Dispatch grids to a SLURM cluster, and see what became of their runs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

WATCH_SECONDS = 15.0
EXIT_CTRL_C = 130

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
Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN...", help="Beginnings of run ids.", show_default="all"),
]


@app.command()
def submit(
    grids: GridPaths,
    site: SiteName,
    scale: ScaleName = "paper",
    store: StoreFolder = None,
    data: DataPath = None,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="KEY=VALUE", help="As of `bench run`.", show_default="all runs"),
    ] = None,
    retry: Retry = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be submitted, and write nothing.", show_default="submit")
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Deterministic algorithms on a GPU, slower.", show_default="fastest"),
    ] = False,
    checkpoint_seconds: Annotated[
        float,
        typer.Option("--checkpoint-seconds", min=0.0, metavar="S", help="What a run killed outright may lose."),
    ] = 120.0,
    force: Annotated[
        bool, typer.Option("--force", help="Submit a scale that needs a GPU to a site without.", show_default="stop")
    ] = False,
) -> None:
    """Submit what is missing of grids, and return at once.

    Runs that are done, under way, or trained by a process outside of SLURM are left alone, so the same command again
    submits nothing twice. What was submitted no longer depends on the grid's file.
    """
    from slurm.submission import submit_grids

    submit_grids(
        grids,
        site,
        console=_console(),
        scale=scale,
        store=store,
        data=data,
        selections=select or [],
        retry=retry,
        dry_run=dry_run,
        deterministic=deterministic,
        checkpoint_seconds=checkpoint_seconds,
        force=force,
    )


@app.command()
def status(
    grids: Annotated[
        list[str] | None, typer.Argument(metavar="GRID...", help="Names of grids.", show_default="all")
    ] = None,
    store: SubmittedStore = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking, until Ctrl-C.", show_default="once")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="A line for every run.", show_default="no more than 20, none that is done")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", show_default="tables")] = False,
) -> None:
    """Say how every submitted run stands: by the store first, then by what SLURM knows, which is asked once.

    Exit code: 1 if a run failed, was lost, is blocked or lacks sets, so that `retry` has something to do; else 0.
    """
    from slurm.show import print_states, states_to_json
    from slurm.states import lacking_sets, needing_retry
    from slurm.submission import of_grids

    console = _console()
    try:
        while True:
            found, complaint = _states(store)
            states = of_grids(found, grids or [])
            if watch and not as_json:
                console.clear()
            if as_json:
                print(states_to_json(states), flush=True)
            else:
                print_states(states, console, everything=everything)
            if complaint is not None:
                print(complaint, file=sys.stderr)
            if not watch:
                raise typer.Exit(int(bool(needing_retry(states, cancelled=False) or lacking_sets(states))))
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_CTRL_C) from None


@app.command()
def retry(
    runs: Runs = None,
    store: SubmittedStore = Path("results"),
    site: Annotated[
        str | None, typer.Option("--site", metavar="FILE", help="Another site.", show_default="as before, read again")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be submitted, and write nothing.", show_default="submit")
    ] = False,
) -> None:
    """Submit again what failed or was lost, with the runs that waited for it.

    Of runs given by name, cancelled ones too. A changed site file counts: give more memory or time there, then retry.
    """
    from slurm.submission import retry_runs

    retry_runs(store, site, runs or [], console=_console(), dry_run=dry_run)


@app.command()
def cancel(
    runs: Runs = None,
    store: SubmittedStore = Path("results"),
    grids: Annotated[
        list[str] | None, typer.Option("--grid", metavar="NAME", help="All runs of a grid.", show_default="none")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything submitted.", show_default="no")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.", show_default="ask")] = False,
) -> None:
    """Cancel the tasks of runs, after asking. Nothing else ever cancels anything."""
    from slurm.submission import cancel_runs

    if not runs and not grids and not everything:
        raise UserError("cancel: name runs, or --grid NAME, or --all")
    if not yes and not sys.stdin.isatty():
        raise UserError("cancel asks first, and nobody is there to answer; --yes answers")
    confirm = (lambda _: True) if yes else typer.confirm
    cancel_runs(store, runs or [], grids or [], console=_console(), confirm=confirm)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The beginning of a run id.")],
    store: SubmittedStore = Path("results"),
    lines: Annotated[
        int | None, typer.Option("--lines", min=1, metavar="N", help="Only the last N.", show_default="all")
    ] = None,
) -> None:
    """Print the log of the task that trained a run last, all its attempts; other runs may share it."""
    from slurm.submission import matching

    found = matching(_states(store)[0], [run])
    texts = {one.log: [other.id[:8] for other in found if other.log == one.log] for one in found if one.log}
    if not texts:
        raise UserError(f"{found[0].id}: {found[0].state}, and its task has written no log yet")
    for path, ids in texts.items():
        print(f"{path} ({', '.join(ids)}):", file=sys.stderr, flush=True)
        text = path.read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(text[-lines:] if lines else text), flush=True)


def _states(store: Path) -> "tuple[list[RunState], str | None]":
    """Return the states of all runs, and why SLURM did not answer; UserError if nothing was submitted."""
    from slurm.ledger import Ledger
    from slurm.owners import Owners
    from slurm.states import Observer
    from slurm.submission import ask_if_possible, open_store, require_submissions

    where = open_store(store)
    ledger = Ledger(where)
    require_submissions(ledger)
    batches = ledger.batches()
    answer, complaint = ask_if_possible(batches)
    return Observer(where, Owners.of(batches), answer).states(), complaint


def _console() -> "Console":
    """Return a console that prints names and paths as they are: brackets and colons mean nothing to it."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
