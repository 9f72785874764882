"""A table as CSV, Markdown, LaTeX and HTML; each carries the sentences that its numbers must not be seen without."""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path

import pandas as pd

from analysis.context import Context
from analysis.table import Table
from bench.store.files import write_text

NUMBER = re.compile(r"[-+.\d]")
# Characters from which on a LaTeX column of words is broken into lines, and rows from which on a page scrolls them.
LONG, MANY = 30, 25
# Verdicts are told apart by a sign, not by colour alone.
SIGNS = {"agrees": "✓", "holds": "✓", "differs": "✗", "fails": "✗", "undecided": "?", "not run": "○"}
VERDICT_HEADS = ("Verdict", "Holm")
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}


def to_csv(table: Table, _: Context) -> str:
    """Return the numbers, one head line; the caveats are a column."""
    return frame_to_csv(table.numbers)


def frame_to_csv(frame: pd.DataFrame) -> str:
    """Return the rows of a DataFrame without its index, numbers with ten digits."""
    return str(frame.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def to_markdown(table: Table, context: Context) -> str:
    """Return a pipe table under a heading, with context and notes around it."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    alignment = "|" + "|".join(":--" if text else "--:" for text in _text_columns(table)) + "|"
    lines = [line(map(markdown_text, table.full_head)), alignment]
    lines += [line(cells) for cells in _bold(table, markdown_text, "**{}**")]
    title, sentence, *notes = map(markdown_text, (table.title, context.sentence, *table.notes))
    return "\n\n".join([f"# {title}", sentence, "\n".join(lines), *notes]) + "\n"


def to_latex(table: Table, context: Context) -> str:
    """Return a table environment for the packages booktabs and graphicx; context and notes are its caption."""

    def line(cells: Iterable[str]) -> str:
        return " & ".join(cells) + r" \\"

    columns = [_latex_column(table, index) if text else "r" for index, text in enumerate(_text_columns(table))]
    caption = " ".join([f"{table.title}.", context.sentence, *table.notes])
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(caption)}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{''.join(columns)}}}",
            r"\toprule",
            *_latex_groups(table),
            line(map(_latex, table.head)),
            r"\midrule",
            *map(line, _bold(table, _latex, r"\textbf{{{}}}")),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _latex_groups(table: Table) -> Iterator[str]:
    """Yield a line with the groups of columns and one with a rule below each, if there are any."""
    if not table.groups:
        return
    cells, rules, column = [], [], 1
    for group, count in table.spans:
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{_latex(group)}}}" if group else " & ".join([""] * count))
        rules += [rf"\cmidrule(lr){{{column}-{column + count - 1}}}"] if group else []
        column += count
    yield " & ".join(cells) + r" \\"
    yield " ".join(rules)


def to_html(table: Table, context: Context, files: str = "") -> str:
    """Return a figure element with the table, its context and its notes; `files` is HTML on where its files are."""
    words = _text_columns(table)
    firsts = _firsts(table)
    kinds = [
        " ".join(["text"] * text + ["long-text"] * (text and _is_long(table, index)) + ["first"] * (index in firsts))
        for index, text in enumerate(words)
    ]
    heads = "".join(
        f'<th scope="col"{_attributes(**{"class": kind, "data-better": table.better.get(index, "")})}>'
        f"{html.escape(head)}</th>"
        for index, (kind, head) in enumerate(zip(kinds, table.head, strict=True))
    )
    groups = "".join(
        f'<th scope="colgroup" colspan="{count}"><span>{html.escape(group)}</span></th>'
        if group
        else "<td></td>" * count
        for group, count in table.spans
    )
    groups = f"<tr>{groups}</tr>\n" if groups else ""
    rows = "\n".join(_html_row(table, index, kinds) for index in range(len(table.rows)))
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in (context.sentence, *table.notes))
    scroll = "scroll long" if len(table.rows) > MANY else "scroll"
    title = html.escape(table.title)
    return (
        f'<figure class="table"><div class="{scroll}" role="region" tabindex="0" aria-label="Table: {title}">'
        f'<table><caption class="unseen">{title}</caption>\n<thead>{groups}<tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>\n<figcaption>{notes}{files}</figcaption></figure>"
    )


def _firsts(table: Table) -> set[int]:
    """Return the columns that begin a group: a line stands before each."""
    ends = list(accumulate(count for _, count in table.spans))
    return set(ends[:-1])


def _html_row(table: Table, index: int, kinds: list[str]) -> str:
    name, *cells = table.rows[index]
    columns = []
    for column, cell in enumerate(cells, start=1):
        difference = table.differences.get((index, column))
        attributes = _attributes(**{"class": kinds[column]})
        attributes += "" if difference is None else f' data-difference="{html.escape(difference)}"'
        text = _html_cell(cell, verdict=table.head[column] in VERDICT_HEADS)
        text = f"<strong>{text}</strong>" if (index, column) in table.best else text
        columns.append(f"<td{attributes}>{text}</td>")
    return f'<tr><th scope="row">{html.escape(name)}</th>{"".join(columns)}</tr>'


def _html_cell(cell: str, *, verdict: bool) -> str:
    """Return a cell's text, its interval on a line of its own, or a verdict with its sign."""
    word = next((word for word in SIGNS if cell.startswith(word)), None) if verdict else None
    if word is not None:
        sign = f'<span aria-hidden="true">{SIGNS[word]}</span>'
        more = html.escape(cell.removeprefix(word))
        return f'<span class="verdict {word.replace(" ", "-")}">{sign} {word}</span>{more}'
    mean, plus_minus, width = html.escape(cell).partition("± ")
    if plus_minus and NUMBER.match(mean) and NUMBER.match(width):
        return f'{mean}<span class="interval">± {width}</span>'
    return html.escape(cell)


def _attributes(**values: str) -> str:
    return "".join(f' {name}="{value}"' for name, value in values.items() if value)


def _bold(table: Table, escape: Callable[[str], str], bold: str) -> Iterator[list[str]]:
    """Yield the rows with their text escaped, the best values in bold."""
    for index, row in enumerate(table.rows):
        cells = list(map(escape, row))
        for column in range(len(row)):
            if (index, column) in table.best:
                cells[column] = bold.format(cells[column])
        yield cells


WRITERS: dict[str, Callable[[Table, Context], str]] = {".csv": to_csv, ".md": to_markdown, ".tex": to_latex}


def write_table(table: Table, context: Context, folder: Path) -> None:
    """Write a table as CSV, Markdown and LaTeX."""
    for suffix, text in WRITERS.items():
        write_text(folder / f"{table.name}{suffix}", text(table, context))


def _text_columns(table: Table) -> list[bool]:
    """Return which columns hold words, and are aligned left: the first, and those with a cell that is no number."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.head)
    return [index == 0 or any(cell and not NUMBER.match(cell) for cell in cells) for index, cells in enumerate(columns)]


def _latex_column(table: Table, index: int) -> str:
    """Return the kind of a column of words: long ones are broken into lines."""
    return r"p{0.22\linewidth}" if _is_long(table, index) else "l"


def _is_long(table: Table, index: int) -> bool:
    """Return whether a column of words is broken into lines."""
    return max((len(row[index]) for row in table.rows), default=0) > LONG


def markdown_text(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"[\\`*_\[\]<>&|~$]", r"\\\g<0>", text)


def _latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found.group()], text)
