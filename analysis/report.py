"""The report: one static page with every table, figure and verdict, and the files behind them.

Made from whatever results exist, so it grows while a grid is trained. No network: it can be opened from a disk,
archived, or served as it is.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from analysis.accuracy.figures import scores_figure
from analysis.alt import alt_text
from analysis.context import Context
from analysis.formats import frame_to_csv, markdown_text, write_table
from analysis.kept import Kept
from analysis.lead import grid_texts, lead
from analysis.links import Links
from analysis.loading import Loaded
from analysis.overview import main_table
from analysis.page import page
from analysis.paper.mlrc import mlrc_report
from analysis.results import Results
from analysis.sections import Drawn, Tables, groups
from analysis.style import alike, save, with_foot
from analysis.table import Table, stated
from analysis.topic import FigureEntry
from bench.store.files import write_json, write_text


def tables_of(loaded: Loaded) -> Tables:
    """Return the main table, the verdicts on claims and published values, and the tables of every topic."""
    return Tables(
        main_table(loaded.results),
        tuple(loaded.findings().tables(loaded.claims_notes())),
        {topic.name: tuple(topic.tables(numbers, loaded.results)) for topic, numbers in loaded.topics},
    )


def all_tables(loaded: Loaded) -> list[Table]:
    """Return all tables in the order of the report, the main one first."""
    return tables_of(loaded).all


def write_tables(tables: Sequence[Table], context: Context, folder: Path) -> None:
    """Write each table in every format."""
    for table in tables:
        write_table(table, context, folder)


def write_figures(loaded: Loaded, folder: Path) -> list[Drawn]:
    """Draw every figure as PNG and PDF with the context at its foot; return what was drawn.

    Beside them: the captions, and the numbers that are drawn as CSV.
    """
    return _draw(_followed(tuple(loaded.figures())), loaded.results, folder)


def _draw(entries: Iterable[FigureEntry], results: Results, folder: Path) -> list[Drawn]:
    sentence = f"{results.context.sentence} {alike(results.cells)}".strip()
    foot = f"{results.context.foot} {alike(results.cells)}".strip()
    drawn = []
    captions = [f"# Figures\n\n{markdown_text(sentence)}\n"]
    for entry in entries:
        save(with_foot(entry.draw(), foot), folder, entry.name)
        frames = entry.numbers()
        for name, frame in frames.items():
            write_text(folder / f"{entry.name}.{name}.csv", frame_to_csv(stated(frame.copy(), results.context)))
        title, caption = markdown_text(entry.title), markdown_text(entry.caption)
        captions.append(f"## {markdown_text(entry.name)}: {title}\n\n{caption}\n")
        with Image.open(folder / f"{entry.name}.png") as image:
            drawn.append(Drawn(entry, image.size, tuple(frames), alt_text(entry, frames, results)))
    write_text(folder / "captions.md", "\n".join(captions))
    return drawn


def _followed(entries: Sequence[FigureEntry]) -> Iterable[FigureEntry]:
    """Return figures one after the other, with a bar where a person looks on: drawing takes minutes."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(entries, "drawing figures", console=console, transient=True, disable=not console.is_terminal)


def write_kept(kept: Kept, out: Path) -> None:
    """Write what scores alone can tell: tables/, figures/ and verdicts.json."""
    write_tables(kept.tables, kept.results.context, out / "tables")
    _draw(scores_figure(kept.results), kept.results, out / "figures")
    write_json(out / "verdicts.json", kept.findings.as_json())


def write_report(loaded: Loaded, out: Path, *, single_file: bool = False) -> Path:
    """Write index.html, tables/, figures/, grid/, verdicts.json and mlrc.md into `out`; return the page.

    single_file   also write, and return, a page GRID-SCALE.html that has its pictures and tables within
    """
    tables, context, findings = tables_of(loaded), loaded.results.context, loaded.findings()
    write_tables(tables.all, context, out / "tables")
    figures = write_figures(loaded, out / "figures")
    write_json(out / "verdicts.json", findings.as_json())
    write_text(out / "mlrc.md", mlrc_report(loaded, findings, tables.main))
    for name, text in grid_texts(loaded.path).items():
        write_text(out / "grid" / name, text)
    title = loaded.plan.title or loaded.plan.grid
    subtitle = f"{context.title[0].upper()}{context.title[1:]}"
    pages = {"index.html": Links(out)}
    if single_file:
        pages[f"{context.grid}-{context.scale}.html"] = Links(out, within=True)
    for name, links in pages.items():
        text = page(title, subtitle, lead(loaded, findings, links), groups(loaded, tables, figures, links))
        write_text(out / name, text)
    return out / name
