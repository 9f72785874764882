"""The command line: `python -m analysis tables | figures | report | verdicts | compare`; --help is instant.

Exit codes: 0; 1 if stored results are damaged, after everything that can be made without them was written; 2 for a
mistake in what was given.
"""

if __name__ == "__main__":  # first, since what follows takes a moment to import
    from bench.commands.ctrl_c import end_imports_at_once

    end_imports_at_once()

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.folders import a_folder, check_writable
from bench.commands.options import GridPath, ScaleName, StorePath, make_app, run_app
from bench.errors import UserError

if TYPE_CHECKING:
    from analysis.kept import Scores
    from analysis.loading import Loaded
    from analysis.side_by_side import SideBySide

app = make_app("Tables, figures and the report of a grid, from whatever results its store holds. Trains nothing.")

OutPath = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Where to write; files of the same name go.",
        show_default="report/GRID-SCALE",
        callback=a_folder,
    ),
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
    out: OutPath = None,
    topics: TopicNames = None,
) -> None:
    """Write the tables of a grid as CSV, Markdown and LaTeX."""
    from analysis.loading import load
    from analysis.report import all_tables, write_tables

    out = _place_of(grid, scale, out)
    loaded = load(grid, store, scale, topics or ())
    write_tables(all_tables(loaded), loaded.results.context, out)
    _finish(loaded, out)


@app.command()
def figures(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = None,
    topics: TopicNames = None,
) -> None:
    """Write the figures of a grid as PNG and PDF, the numbers in them as CSV, and their captions."""
    from analysis.loading import load
    from analysis.report import write_figures

    out = _place_of(grid, scale, out)
    loaded = load(grid, store, scale, topics or ())
    write_figures(loaded, out)
    _finish(loaded, out)


@app.command()
def report(
    grid: GridPath,
    store: StorePath = Path("results"),
    scale: ScaleName = "paper",
    out: OutPath = None,
    topics: TopicNames = None,
    single_file: Annotated[
        bool,
        typer.Option(
            "--single-file",
            help="Also write GRID-SCALE.html: the same page with its pictures and tables within, to be sent.",
        ),
    ] = False,
) -> None:
    """Write index.html with all tables, figures and verdicts, and the files it shows in tables/ and figures/."""
    from analysis.loading import load
    from analysis.report import write_report

    out = _place_of(grid, scale, out)
    loaded = load(grid, store, scale, topics or ())
    _finish(loaded, write_report(loaded, out, single_file=single_file))


def _place_of(grid: Path, scale: str, out: Path | None) -> Path:
    """Return where a grid's report goes, by default a folder of its own; UserError if nothing can be written there."""
    out = out or Path("report") / f"{grid.stem}-{scale}"
    for folder in (out, out / "tables", out / "figures", out / "grid"):
        check_writable("--out", folder)
    return out


@app.command()
def verdicts(
    grid: GridPath,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="Scores that `compare --keep` wrote; without it, those that the suite ships."
        ),
    ] = None,
    scale: ScaleName = "paper",
    out: OutPath = None,
) -> None:
    """Give the verdicts on claims and published values from kept scores alone: no store is needed.

    So a study can be made of replicates of several machines. Writes the table of the grid, the verdicts, and the figure
    of accuracy, NLL and ECE.
    """
    from analysis.kept import expected_file, judge_scores, read_scores
    from analysis.report import write_kept

    path = file or expected_file(grid, scale)
    if not path.exists():
        raise UserError(f"{path}: no such file; `python -m analysis compare GRID STORE --keep {path}` writes one")
    scores = read_scores(path)
    for what, asked, found in (("grid", grid.stem, scores.grid), ("scale", scale, scores.scale)):
        if asked != found:
            raise UserError(f"{path}: scores of {what} {found}, not {asked}")
    out = _place_of(grid, scale, out)
    kept = judge_scores(grid, scores)
    write_kept(kept, out)
    for sentence in [*kept.findings.sentences, *kept.findings.surprises()]:
        print(sentence)
    print(kept.results.context.sentence)
    print(f"Made with: {'; '.join(scores.made_with) or 'results without provenance'}.")
    print(out)


@app.command()
def compare(
    grid: GridPath,
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Results of your own.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="OTHER", help="Another store; without it, what the suite expects.")
    ] = None,
    scale: ScaleName = "paper",
    every: Annotated[bool, typer.Option("--every", help="Show every score, not only those that differ.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="FILE",
            help="Write the scores of STORE, for others to expect. Replicates that FILE has and STORE lacks stay in "
            "it, if they are of the same runs.",
        ),
    ] = None,
) -> None:
    """Lay two stores of a grid side by side, cell by cell: identical, within the spread, or off.

    Exit code: 0 if every cell is identical or within the spread, 1 if not.
    """
    from analysis.kept import expected_file, lost, read_scores, scores_of, with_earlier, write_scores
    from analysis.loading import load
    from analysis.side_by_side import compare, damaged_cells
    from bench.store.store import Store

    if keep is not None:
        check_writable("--keep", keep.parent)
    loaded = load(grid, store, scale)
    scores, path = scores_of(loaded), expected_file(grid, scale)
    if other is not None:
        theirs = scores_of(load(grid, other, scale))
    elif path.exists():
        theirs = read_scores(path)
    elif keep is not None:
        theirs = None
    else:
        raise UserError(f"{path}: no such file: nothing is expected of {grid.stem} at scale {scale}; give OTHER")
    if keep is not None:
        kept = scores
        if keep.exists():
            earlier = read_scores(keep)
            kept = with_earlier(scores, earlier, loaded.plan)
            if gone := lost(earlier, kept):
                print(f"no longer in {keep}, since they are of other runs: {', '.join(gone)}", file=sys.stderr)
        write_scores(kept, keep)
        print(keep)
    if theirs is not None:
        _print_beside(
            compare(scores, theirs, loaded.results.metrics, damaged_cells(loaded, Store(store))), theirs, every=every
        )


def _print_beside(beside: "SideBySide", theirs: "Scores", *, every: bool) -> None:
    """Print what the cells come to; exit code 1 unless all are as expected."""
    from analysis.side_by_side import EXPECTED

    print(beside.sentence)
    print(f"Compared with: {'; '.join(theirs.made_with) or 'results without provenance'}.")
    for cell, word in beside.words.items():
        if every or word not in EXPECTED:
            print(f"{cell}: {word}")
        for comparison in beside.comparisons if every else beside.others:
            if comparison.cell == cell and (every or word != "not run"):
                metric, left, right, found = comparison.texts
                print(f"  {metric}: {left or 'none'}, the other {right}: {found}")
    raise typer.Exit(int(not beside.as_expected))


def _finish(loaded: "Loaded", written: Path) -> None:
    """Say where things are and what was left out; exit code 1 if something was."""
    print(written)
    for sentence in loaded.not_exported:
        print(sentence, file=sys.stderr)
    for problem in loaded.problems:
        print(f"left out: {problem}", file=sys.stderr)
    raise typer.Exit(int(bool(loaded.problems)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
