"""`python -m bench watch`: what goes on in a store, again and again in a terminal, once everywhere else."""

import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import EXIT_CTRL_C, MaybeGrids, ScaleName, StorePath, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from bench.commands.trackers import Feed, Tracker
    from bench.plan.live import Snapshot

# At least so long between two looks, and so many times as long as a look takes: a large store is not read all the time.
SECONDS, LOOKS = 2.0, 10


def watch(
    grids: MaybeGrids = None,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow/--once",
            help="Keep looking until Ctrl-C or until nothing of the grids is left, or look once.",
            show_default="--follow in a terminal, else --once",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", metavar="DIR", help="Write curves for TensorBoard.", show_default="do not"),
    ] = None,
    wandb: Annotated[
        str | None,
        typer.Option("--wandb", metavar="PROJECT", help="Send curves to Weights & Biases.", show_default="do not"),
    ] = None,
) -> None:
    """Watch the runs that a store is worked on by: epochs, losses and accuracy so far, time left. Writes nothing there.

    With grids: their runs alone, and the time that all of them still take. It works while `run` or SLURM workers train
    elsewhere. --tensorboard and --wandb take every epoch of every run once, also if `watch` is called again.

    Exit code: 0; 130 after Ctrl-C.
    """
    from bench.commands.trackers import Feed
    from bench.commands.watched import shown
    from bench.plan.live import of_plans, of_store
    from bench.store.store import Store

    where = Store(store)
    console = make_console()
    with ExitStack() as held:
        feed = Feed(where, [held.enter_context(tracker) for tracker in _trackers(tensorboard, wandb)])
        if grids:
            from bench.grid import grid_files, load_grid
            from bench.plan import make_plan

            loaded = [load_grid(path) for path in grid_files(grids)]

            def look() -> "Snapshot":
                return of_plans([make_plan(grid, scale, where) for grid in loaded], where)
        else:

            def look() -> "Snapshot":
                return of_store(where)

        try:
            if follow if follow is not None else console.is_terminal:
                _follow(look, feed, console, grids=bool(grids))
            else:
                console.print(shown(look(), console, feed.send()))
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_CTRL_C) from None


def _trackers(tensorboard: Path | None, wandb: str | None) -> "list[Tracker]":
    """Return where curves go; UserError if what it takes is not installed."""
    if tensorboard is None and wandb is None:
        return []
    from bench.commands.folders import check_writable
    from bench.commands.trackers import TensorBoard, Wandb

    found: list[Tracker] = []
    if tensorboard is not None:
        check_writable("--tensorboard", tensorboard)
        found.append(TensorBoard(tensorboard))
    if wandb is not None:
        check_writable("--wandb", Path("wandb"))
        found.append(Wandb(wandb))
    return found


def _follow(look: "Callable[[], Snapshot]", feed: "Feed", console: "Console", *, grids: bool) -> None:
    """Look again and again; return when nothing of the grids is left."""
    from rich.live import Live

    from bench.commands.watched import shown

    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            begun = time.monotonic()
            snapshot = look()
            damage = feed.send()
            if live is not None:
                live.update(shown(snapshot, console, damage), refresh=True)
            if grids and snapshot.finished:
                return
            time.sleep(max(SECONDS, LOOKS * (time.monotonic() - begun)))
