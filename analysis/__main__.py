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
    from analysis.sources import Sources

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


@app.command()
def tables(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = Path("report"),
) -> None:
    """Write the tables of a grid as CSV, Markdown and LaTeX."""
    from analysis.sheets import all_tables, write_tables
    from analysis.sources import read_sources

    sources = read_sources(grid, store, scale)
    write_tables(all_tables(sources), sources.context, out)
    _finish(sources, out)


@app.command()
def figures(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = Path("report"),
) -> None:
    """Write the figures of a grid as PNG and PDF, and their captions."""
    from analysis.gallery import write_pictures
    from analysis.sources import read_sources

    sources = read_sources(grid, store, scale)
    write_pictures(sources, out)
    _finish(sources, out)


@app.command()
def report(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = Path("report"),
) -> None:
    """Write index.html with all tables, figures and verdicts, and the files it shows in tables/ and figures/."""
    from analysis.report import write_report
    from analysis.sources import read_sources

    sources = read_sources(grid, store, scale)
    _finish(sources, write_report(sources, out))


def _finish(sources: "Sources", written: Path) -> None:
    """Say where things are and what was left out; exit code 1 if something was."""
    print(written)
    for problem in sources.problems:
        print(f"left out: {problem}", file=sys.stderr)
    raise typer.Exit(int(bool(sources.problems)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
