"""A table as CSV, Markdown, LaTeX and HTML; each carries the sentences that its numbers must not be seen without."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from analysis.context import Context
from analysis.table import Table
from bench.store.files import write_text

NUMBER = re.compile(r"[-+.\d]")
# Characters from which on a LaTeX column of words is broken into lines.
LONG = 30
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

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(map(markdown_text, cells)) + " |"

    alignment = "|" + "|".join(":--" if text else "--:" for text in _text_columns(table)) + "|"
    lines = [line(table.head), alignment, *map(line, table.rows)]
    title, sentence, *notes = map(markdown_text, (table.title, context.sentence, *table.notes))
    return "\n\n".join([f"# {title}", sentence, "\n".join(lines), *notes]) + "\n"


def to_latex(table: Table, context: Context) -> str:
    """Return a table environment for the packages booktabs and graphicx; context and notes are its caption."""

    def line(cells: tuple[str, ...]) -> str:
        return " & ".join(_latex(cell) for cell in cells) + r" \\"

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
            line(table.head),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def to_html(table: Table, context: Context) -> str:
    """Return a figure element with the table, its context and its notes."""
    classes = [' class="text"' if text else "" for text in _text_columns(table)]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(cell)}</th>' for kind, cell in zip(classes, table.head, strict=True)
    )
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td{kind}>{html.escape(cell)}</td>" for kind, cell in zip(classes[1:], row[1:], strict=True))
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in (context.sentence, *table.notes))
    return (
        f'<figure class="table"><div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>'
        f"</table></div><figcaption>{notes}</figcaption></figure>"
    )


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
    longest = max((len(row[index]) for row in table.rows), default=0)
    return r"p{0.22\linewidth}" if longest > LONG else "l"


def markdown_text(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"[\\`*_\[\]<>&|~$]", r"\\\g<0>", text)


def _latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found.group()], text)
