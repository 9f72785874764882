"""The report: one static page with every table, figure and verdict, and an index of the files behind them.

Made from whatever results exist, so it grows while a grid is trained. No scripts, no network: it can be opened from a
disk, archived, or served as it is.
"""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from analysis.context import Context
from analysis.formats import WRITERS, frame_to_csv, markdown_text, to_html, write_table
from analysis.loading import Loaded
from analysis.overview import main_table
from analysis.page import page
from analysis.paper.findings import Findings
from analysis.paper.mlrc import mlrc_report
from analysis.style import alike, save, with_foot
from analysis.table import Table, stated
from analysis.topic import FigureEntry
from bench.errors import counted
from bench.store.files import write_json, write_text


def all_tables(loaded: Loaded) -> list[Table]:
    """Return the main table, the verdicts on claims and published values, and the tables of every topic."""
    return [main_table(loaded.results), *loaded.findings().tables(loaded.claims_notes()), *loaded.tables()]


def write_tables(tables: Sequence[Table], context: Context, folder: Path) -> None:
    """Write each table in every format."""
    for table in tables:
        write_table(table, context, folder)


def write_figures(loaded: Loaded, folder: Path) -> list[FigureEntry]:
    """Draw every figure as PNG and PDF with the context at its foot; return what was drawn.

    Beside them: the captions, and the numbers that are drawn as CSV.
    """
    sentence = f"{loaded.results.context.sentence} {alike(loaded.results.cells)}".strip()
    drawn = []
    captions = [f"# Figures\n\n{markdown_text(sentence)}\n"]
    for entry in _followed(tuple(loaded.figures())):
        save(with_foot(entry.draw(), sentence), folder, entry.name)
        for frame, numbers in entry.numbers().items():
            write_text(
                folder / f"{entry.name}.{frame}.csv", frame_to_csv(stated(numbers.copy(), loaded.results.context))
            )
        title, caption = markdown_text(entry.title), markdown_text(entry.caption)
        captions.append(f"## {markdown_text(entry.name)}: {title}\n\n{caption}\n")
        drawn.append(entry)
    write_text(folder / "captions.md", "\n".join(captions))
    return drawn


def _followed(entries: Sequence[FigureEntry]) -> Iterable[FigureEntry]:
    """Return figures one after the other, with a bar where a person looks on: drawing takes minutes."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(entries, "drawing figures", console=console, transient=True, disable=not console.is_terminal)


def write_report(loaded: Loaded, out: Path) -> Path:
    """Write index.html, tables/, figures/, verdicts.json and mlrc.md into `out`; return the page."""
    tables = all_tables(loaded)
    write_tables(tables, loaded.results.context, out / "tables")
    figures = write_figures(loaded, out / "figures")
    first, *rest = tables
    findings = loaded.findings()
    write_json(out / "verdicts.json", findings.as_json())
    write_text(out / "mlrc.md", mlrc_report(loaded, findings, first))
    sections = [
        (first.name, first.title, to_html(first, loaded.results.context)),
        *((entry.name, entry.title, _figure(entry)) for entry in figures),
        *((table.name, table.title, to_html(table, loaded.results.context)) for table in rest),
        ("files", "Files", _index(tables, figures)),
    ]
    index = out / "index.html"
    write_text(index, page(loaded.plan.title or loaded.plan.grid, _introduction(loaded, findings), sections))
    return index


def _introduction(loaded: Loaded, findings: Findings) -> str:
    context, counts = loaded.results.context, loaded.plan.counts()
    plan = loaded.plan
    sets = f" {plan.sets - plan.sets_left:,} of {counted(plan.sets, 'evaluation set')} are there." if plan.sets else ""
    runs = ", ".join(f"{count} {status}" for status, count in counts.items())
    caveats = "".join(f"<li>{html.escape(caveat)}</li>" for caveat in context.caveats)
    problems = "".join(f"<li>{html.escape(problem)}</li>" for problem in loaded.problems)
    absent = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in loaded.not_exported)
    answer = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in findings.sentences)
    surprises = "".join(f"<li>{html.escape(text)}</li>" for text in findings.surprises())
    work = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in findings.work.sentences)
    return (
        (f'<div class="answer">{answer}' if answer else "")
        + (f"<p>Most surprising:</p><ul>{surprises}</ul>" if surprises else "")
        + ("</div>" if answer else "")
        + f"<p>{html.escape(context.title[0].upper() + context.title[1:])}. {counted(len(plan.cells), 'cell')}, "
        f"{counted(len(plan.runs), 'run')}: {html.escape(runs)}.{sets} {html.escape(context.replicates)}</p>"
        + (f'<div class="work">{work}</div>' if work else "")
        + (f'<ul class="caveats">{caveats}</ul>' if caveats else "")
        + absent
        + (f'<div class="problems"><p>Left out:</p><ul>{problems}</ul></div>' if problems else "")
    )


def _figure(entry: FigureEntry) -> str:
    source = f"figures/{entry.name}"
    return (
        f'<figure><a href="{source}.pdf"><img src="{source}.png" alt="{html.escape(entry.title)}"></a>'
        f"<figcaption><p>{html.escape(entry.caption)}</p></figcaption></figure>"
    )


def _index(tables: Sequence[Table], figures: Sequence[FigureEntry]) -> str:
    def links(folder: str, name: str, suffixes: Sequence[str]) -> str:
        return ", ".join(f'<a href="{folder}/{name}{suffix}">{suffix[1:]}</a>' for suffix in suffixes)

    entries = [(table.title, links("tables", table.name, list(WRITERS))) for table in tables]
    entries += [
        (entry.title, links("figures", entry.name, [".png", ".pdf", *(f".{frame}.csv" for frame in entry.numbers())]))
        for entry in figures
    ]
    entries.append(("Captions of the figures", '<a href="figures/captions.md">md</a>'))
    entries.append(("Verdicts, for programs", '<a href="verdicts.json">json</a>'))
    entries.append(("Report for the ML Reproducibility Challenge", '<a href="mlrc.md">md</a>'))
    return "<ul>" + "".join(f"<li>{html.escape(title)}: {where}</li>" for title, where in entries) + "</ul>"
