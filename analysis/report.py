"""The report: one static page with every table, figure and verdict, and an index of the files behind them.

Made from whatever results exist, so it grows while a grid is trained. No scripts, no network: it can be opened from a
disk, archived, or served as it is.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from analysis.formats import WRITERS, to_html
from analysis.gallery import write_pictures
from analysis.page import page
from analysis.picture import Picture
from analysis.sheets import all_tables, write_tables
from analysis.sources import Sources
from analysis.tables import Table
from bench.store.files import write_text


def write_report(sources: Sources, out: Path) -> Path:
    """Write index.html, tables/ and figures/ into `out`; return the page."""
    tables = all_tables(sources)
    write_tables(tables, sources.context, out / "tables")
    pictures = write_pictures(sources, out / "figures")
    first, *rest = tables
    sections = [
        (first.name, first.title, to_html(first, sources.context)),
        *((picture.name, picture.title, _figure(picture)) for picture in pictures),
        *((table.name, table.title, to_html(table, sources.context)) for table in rest),
        ("files", "Files", _index(tables, pictures)),
    ]
    index = out / "index.html"
    write_text(index, page(sources.plan.title or sources.plan.grid, _introduction(sources), sections))
    return index


def _introduction(sources: Sources) -> str:
    context, counts = sources.context, sources.plan.counts()
    plan = sources.plan
    sets = f" {plan.sets - plan.sets_left:,} of {plan.sets:,} evaluation sets are there." if plan.sets else ""
    runs = ", ".join(f"{count} {status}" for status, count in counts.items())
    caveats = "".join(f"<li>{html.escape(caveat)}</li>" for caveat in context.caveats)
    problems = "".join(f"<li>{html.escape(problem)}</li>" for problem in sources.problems)
    return (
        f"<p>{html.escape(context.title[0].upper() + context.title[1:])}. {len(plan.cells)} cells, "
        f"{len(plan.runs)} runs: {html.escape(runs)}.{sets} {html.escape(context.replicates)}</p>"
        + (f'<ul class="caveats">{caveats}</ul>' if caveats else "")
        + (f'<div class="problems"><p>Left out:</p><ul>{problems}</ul></div>' if problems else "")
    )


def _figure(picture: Picture) -> str:
    source = f"figures/{picture.name}"
    return (
        f'<figure><a href="{source}.pdf"><img src="{source}.png" alt="{html.escape(picture.title)}"></a>'
        f"<figcaption><p>{html.escape(picture.caption)}</p></figcaption></figure>"
    )


def _index(tables: Sequence[Table], pictures: Sequence[Picture]) -> str:
    def links(folder: str, name: str, suffixes: Sequence[str]) -> str:
        return ", ".join(f'<a href="{folder}/{name}{suffix}">{suffix[1:]}</a>' for suffix in suffixes)

    entries = [(table.title, links("tables", table.name, list(WRITERS))) for table in tables]
    entries += [(picture.title, links("figures", picture.name, [".png", ".pdf"])) for picture in pictures]
    entries.append(("Captions of the figures", '<a href="figures/captions.md">md</a>'))
    return "<ul>" + "".join(f"<li>{html.escape(title)}: {where}</li>" for title, where in entries) + "</ul>"
