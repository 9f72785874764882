"""The sections of a report: for every topic its figures and tables together, each with links to its files."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from analysis.context import Context
from analysis.formats import WRITERS, to_html
from analysis.links import Links
from analysis.loading import Loaded
from analysis.page import Group, Item
from analysis.table import Table
from analysis.topic import FigureEntry


class Drawn(NamedTuple):
    """A figure that was written: its size in pixels, the names of its frames of numbers, and what it shows in words."""

    entry: FigureEntry
    size: tuple[int, int]
    frames: tuple[str, ...]
    alt: str


class Tables(NamedTuple):
    """The tables of a report, those of topics by the topic's name."""

    main: Table
    verdicts: tuple[Table, ...]
    by_topic: Mapping[str, tuple[Table, ...]]

    @property
    def all(self) -> list[Table]:
        """All of them, in the order of the report."""
        return [self.main, *self.verdicts, *chain.from_iterable(self.by_topic.values())]


def groups(loaded: Loaded, tables: Tables, figures: Sequence[Drawn], links: Links) -> list[Group]:
    """Return the sections: the main table, verdicts, topic by topic, files."""
    context = loaded.results.context
    drawn = {figure.entry.name: figure for figure in figures}
    pictured = {figure.entry.title for figure in figures}

    def shown(numbers: Iterable[Table]) -> tuple[Item, ...]:
        # A figure and a table of one title are told apart.
        named = [
            replace(table, title=f"{table.title}: table") if table.title in pictured else table for table in numbers
        ]
        return tuple(Item(table.name, table.title, _table(table, context, links)) for table in named)

    found = [Group("at-results", "Results", shown([tables.main]))]
    if tables.verdicts:
        found.append(Group("at-verdicts", "Verdicts", shown(tables.verdicts)))
    for topic, numbers in loaded.topics:
        entries = [entry.name for entry in topic.figures(numbers, loaded.results) if entry.name in drawn]
        pictures = [Item(name, drawn[name].entry.title, _figure(drawn[name], links)) for name in entries]
        if items := (*pictures, *shown(tables.by_topic[topic.name])):
            found.append(Group(f"at-{topic.name}", topic.heading, items))
    found.append(Group("at-files", "Files", (Item("files", "Files of the whole report", _index(links)),)))
    return found


def _figure(drawn: Drawn, links: Links) -> str:
    entry, (width, height), source = drawn.entry, drawn.size, f"figures/{drawn.entry.name}"
    image = (
        f'<img src="{links.source(f"{source}.png")}" alt="{html.escape(drawn.alt)}" width="{width}" height="{height}" '
        'loading="lazy" decoding="async">'
    )
    files = {"PNG": f"{source}.png", "PDF": f"{source}.pdf"}
    files |= {f"numbers: {frame} (CSV)": f"{source}.{frame}.csv" for frame in drawn.frames}
    caption = f"<p>{html.escape(entry.caption)}</p>{links.of('Files of this figure', files)}"
    picture = links.around(f"{source}.png", image)
    return f'<figure class="picture">{picture}<figcaption>{caption}</figcaption></figure>'


def _table(table: Table, context: Context, links: Links) -> str:
    names = {".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX"}
    files = {names[suffix]: f"tables/{table.name}{suffix}" for suffix in WRITERS}
    return to_html(table, context, links.of("Files of this table", files, small=True))


def _index(links: Links) -> str:
    verdicts = {"Verdicts, for programs": "verdicts.json", "Report for the ML Reproducibility Challenge": "mlrc.md"}
    captions = links.of("", {"Captions of the figures": "figures/captions.md"})
    return links.of("", verdicts, small=True) + captions
