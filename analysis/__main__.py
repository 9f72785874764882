"""The command line: `python -m analysis tables | figures | report`. Imports wait for a command: --help is instant.

Exit codes: 0; 1 if stored results are damaged, after everything that can be made without them was written; 2 for a
mistake in what was given.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import GRID_HELP, ScaleName, StorePath, a_folder, run_app

if TYPE_CHECKING:
    from analysis.loading import Loaded

# Without rich, help takes a tenth of a second; tracebacks stay Python's own.
app = typer.Typer(
    help="Tables, figures and the report of a grid, from whatever results its store holds. Trains nothing.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

GridPath = Annotated[Path, typer.Option("--grid", metavar="GRID", help=GRID_HELP)]
OutPath = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Where to write; files of the same name go.", callback=a_folder),
]
TopicNames = Annotated[
    list[str] | None,
    typer.Option("--topic", metavar="PACKAGE.MODULE:NAME", help="A topic of your own; may be given several times."),
]


@app.command()
def tables(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = Path("report"),
    topics: TopicNames = None,
) -> None:
    """Write the tables of a grid as CSV, Markdown and LaTeX."""
    from analysis.loading import load
    from analysis.report import all_tables, write_tables

    loaded = load(grid, store, scale, topics or ())
    write_tables(all_tables(loaded), loaded.results.context, out)
    _finish(loaded, out)


@app.command()
def figures(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = Path("report"),
    topics: TopicNames = None,
) -> None:
    """Write the figures of a grid as PNG and PDF, and their captions."""
    from analysis.loading import load
    from analysis.report import write_figures

    loaded = load(grid, store, scale, topics or ())
    write_figures(loaded, out)
    _finish(loaded, out)


@app.command()
def report(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = Path("report"),
    topics: TopicNames = None,
) -> None:
    """Write index.html with all tables, figures and verdicts, and the files it shows in tables/ and figures/."""
    from analysis.loading import load
    from analysis.report import write_report

    loaded = load(grid, store, scale, topics or ())
    _finish(loaded, write_report(loaded, out))


def _finish(loaded: "Loaded", written: Path) -> None:
    """Say where things are and what was left out; exit code 1 if something was."""
    print(written)
    for problem in loaded.problems:
        print(f"left out: {problem}", file=sys.stderr)
    raise typer.Exit(int(bool(loaded.problems)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
