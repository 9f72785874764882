"""What users call things is shown as they wrote it: in every format of a table, on the page, and in figures."""

import io
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.text import Text as DrawnText

from analysis.context import Context
from analysis.efficiency import TRAIN_FLOPS, accuracy_against
from analysis.formats import LATEX, to_csv, to_html, to_latex, to_markdown
from analysis.page import Group, Item, page
from analysis.style import save, styled
from analysis.table import Table

# What means something in LaTeX, Markdown, HTML or matplotlib, and letters that fonts lack.
SPECIAL = "\\$%&#_^~{}<>|`*[]()!+-.:;=\"'/@ä±→∞漢😀aB1 "
names = st.text(SPECIAL, min_size=1, max_size=40).map(str.strip).filter(bool)
CONTEXT = Context("a grid", "paper", (), "n = 1 replicate a cell.")


def table_of(name: str) -> Table:
    return Table("t", "A title", ("Cell", "A"), ((name, "1.0"),), (), pd.DataFrame({"cell": [name], "a": [1.0]}))


class Parsed(HTMLParser):
    """The text of each cell of a table, and the names of all elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.elements: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.elements.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@given(names)
@example("price $5 and $6")
def test_html_shows_a_name_as_it_is(name: str) -> None:
    shown = Parsed(to_html(table_of(name), CONTEXT))
    assert shown.cells[2] == name
    assert shown.elements == {"figure", "div", "table", "thead", "tbody", "tr", "th", "td"} | {
        "caption",
        "figcaption",
        "p",
    }
    whole, plain = (
        page(text, text, [Item(text, text, "")], [Group(f"{text} 2", text, (Item(text, f"{text} 3", ""),))])
        for text in (name, "plain")
    )
    assert Parsed(whole).elements == Parsed(plain).elements


@given(names)
@example("a|b `code` *bold* [link](x) <b> &amp; $x$ ~~no~~")
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown = Parsed(markdown.render(to_markdown(table_of(name), CONTEXT)))
    assert shown.cells[2].split() == name.split()
    assert shown.elements == {"h1", "p", "table", "thead", "tbody", "tr", "th", "td"}


@given(names)
def test_latex_says_a_name_as_it_is(name: str) -> None:
    """Read back by the inverse of the table of escapes: nothing else in it means anything to LaTeX."""
    end = r" & 1.0 \\"
    (line,) = [line for line in to_latex(table_of(name), CONTEXT).splitlines() if line.endswith(end)]
    letters = {command: letter for letter, command in LATEX.items()}
    commands = re.compile("|".join(sorted(map(re.escape, letters), key=len, reverse=True)))
    assert commands.sub(lambda found: letters[found.group()], line.removesuffix(end)) == name
    assert not set(commands.sub("", line.removesuffix(end))) & set("\\$%&#_^~{}<>")


@given(names)
def test_csv_reads_back_as_it_was(name: str) -> None:
    read = pd.read_csv(io.StringIO(to_csv(table_of(name), CONTEXT)), keep_default_na=False, dtype=str)
    assert read["cell"].tolist() == [name]


@pytest.mark.parametrize("name", ["price $5 and $6", "$\\frac{", "a_b^c", "漢字 😀", "100% & more", "\\$x$"])
def test_a_figure_draws_a_name_as_it_is(name: str, tmp_path: Path) -> None:
    cells = pd.DataFrame({"cell": [name], "method": "dst", "train_flops_ratio": [0.5]})
    replicates = pd.DataFrame({"cell": [name] * 2, "accuracy": [0.5, 0.6]})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        figure = accuracy_against(TRAIN_FLOPS, cells, replicates)
        save(figure, tmp_path, "figure")
    texts = [text for text in figure.findobj(DrawnText) if name in text.get_text()]
    assert texts
    assert not any(text.get_parse_math() for text in texts)


def test_no_figure_is_drawn_with_mathematics() -> None:
    @styled
    def figure() -> Figure:
        assert mpl.rcParams["text.parse_math"] is False
        return Figure()

    figure()
