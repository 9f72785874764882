"""A table, and the ways to make one: a row a cell, a row a group, or the rows of a DataFrame as they are.

A table is a DataFrame of numbers; what readers see (CSV, Markdown, LaTeX, HTML) is made from it by analysis.formats.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import pandas as pd

from analysis.columns import Metric
from analysis.comparison import NONE, REFERENCE, mark, places_of
from analysis.context import Context
from analysis.results import Results
from analysis.statistics import Estimate, estimate

NOTES = (
    "± is half the 95% interval of Student's t over replicates; a single replicate has none. Ensembles average the "
    "softmax probabilities of their members. NLL and KL are in nats; disagreement is the share of test images on which "
    "two members differ, mean over pairs; KL is the mean over ordered pairs."
)
BEST = "Bold: the best mean of the cells of the same network on the same data; intervals may overlap."
SAME = "A mean without ± of several replicates: all have the same value, which tells no spread."


@dataclass(frozen=True)
class Table:
    """A table to write: rows of cells of text as people read them, and the same as numbers for programs.

    groups        of each column, what it shares with its neighbours; empty where there are no groups
    better        by column, which direction is better
    best          row and column of each cell of text that is the best one of what it is compared with
    differences   by row and column, the difference to the dense network in words, where there is one
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    numbers: pd.DataFrame
    groups: tuple[str, ...] = ()
    better: Mapping[int, str] = field(default_factory=dict)
    best: frozenset[tuple[int, int]] = frozenset()
    differences: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @property
    def spans(self) -> list[tuple[str, int]]:
        """The groups of columns, each with how many columns it has; none where there are no groups."""
        return [(group, len(list(columns))) for group, columns in groupby(self.groups)]

    @property
    def full_head(self) -> tuple[str, ...]:
        """The heads with their groups: of a format whose tables have a single line of heads."""
        groups = self.groups or [""] * len(self.head)
        return tuple(f"{group}: {head}" if group else head for group, head in zip(groups, self.head, strict=True))


def cells_table(name: str, title: str, results: Results, metrics: Sequence[Metric], notes: Sequence[str]) -> Table:
    """Return a row a cell: mean and interval over replicates of each metric; costs, which are exact, as they are."""
    head = ("Cell", "Members", "Sparsity", "Replicates", *(metric.head for metric in metrics))
    numbers = results.cells[["cell", "method", "members", "sparsity", "replicates_done", "replicates"]].copy()
    numbers.insert(3, "members_least", results.cells["cell"].map(results.replicates.groupby("cell")["members"].min()))
    by_cell = dict(list(results.replicates.groupby("cell", sort=False)))
    none = results.replicates.iloc[:0]
    texts = [
        [
            cell["cell"],
            members_of(cell["cell"], cell["members"], results.replicates),
            f"{cell['sparsity']:g}",
            f"{cell['replicates_done']} of {cell['replicates']}",
        ]
        for cell in results.cells.to_dict("records")
    ]
    columns = []
    for metric in metrics:
        if metric.measured_on == "plan":
            columns.append([pd.Series([value]) for value in results.cells[metric.key] * metric.factor])
            numbers[metric.csv_name] = results.cells[metric.key] * metric.factor
        else:
            measured = [by_cell.get(cell, none).set_index("replicate") for cell in results.cells["cell"]]
            columns.append([rows[metric.key] * metric.factor for rows in measured])
            numbers[metric.csv_name] = [estimate(values).mean for values in columns[-1]]
            numbers[f"{metric.csv_name}_half_width"] = [estimate(values).half_width for values in columns[-1]]
    rows = [(cell, None) for cell in results.cells["cell"]]
    table = Table(f"{results.context.grid}_{name}", title, head, (), (NOTES,), stated(numbers, results.context))
    return with_columns(table, texts, rows, metrics, columns, notes, results)


def with_columns(
    table: Table,
    texts: Sequence[Sequence[str]],
    rows: Sequence[tuple[str, Hashable]],
    metrics: Sequence[Metric],
    columns: "Sequence[Sequence[pd.Series[float]]]",
    notes: Sequence[str],
    results: Results,
) -> Table:
    """Return a table with its rows: the first cells of text of each, then a column a metric, with what is marked.

    rows      of what cell each row is, and of what else
    columns   by metric, the values of each row by replicate
    """
    places = places_of(rows, results)
    found = [mark(places, values, metric) for metric, values in zip(metrics, columns, strict=True)]
    estimates = [[estimate(values) for values in column] for column in columns]
    shown = [
        [shown_estimate(measured, metric.digits) for measured in column]
        for metric, column in zip(metrics, estimates, strict=True)
    ]
    first = len(texts[0]) if texts else 0
    best = frozenset((row, first + column) for column, marks in enumerate(found) for row in marks.best)
    differences = {
        (row, first + column): text for column, marks in enumerate(found) for row, text in marks.differences.items()
    }
    equal = any(measured.n > 1 and measured.error_bar is None for column in estimates for measured in column)
    return replace(
        table,
        rows=tuple((*words, *row) for words, row in zip(texts, zip(*shown, strict=True), strict=True)),
        notes=(*table.notes, *([BEST] if best else []), *([SAME] if equal else []), *notes),
        better={first + column: metric.better for column, metric in enumerate(metrics) if metric.better},
        best=best,
        differences=differences if set(differences.values()) - {NONE, REFERENCE} else {},
    )


def grouped_table(
    name: str,
    title: str,
    frame: pd.DataFrame,
    keys: Mapping[str, str],
    metrics: Sequence[Metric],
    notes: Sequence[str],
    results: Results,
) -> Table:
    """Return a row for each value of the keys (column -> head), "cell" the first: estimates over replicates."""
    rows, texts, numbers = [], [], []
    columns: list[list[pd.Series[float]]] = [[] for _ in metrics]
    for values, group in frame.groupby(list(keys), sort=False):
        rows.append((str(values[0]), values[1:]))
        texts.append([f"{value:g}" if isinstance(value, float) else str(value) for value in values])
        numbers.append({**dict(zip(keys, values, strict=True)), "replicates": group["replicate"].nunique()})
        for metric, column in zip(metrics, columns, strict=True):
            column.append(group.set_index("replicate")[metric.key] * metric.factor)
            measured = estimate(column[-1])
            numbers[-1] |= {metric.csv_name: measured.mean, f"{metric.csv_name}_half_width": measured.half_width}
    head = (*keys.values(), *(metric.head for metric in metrics))
    frame = stated(pd.DataFrame(numbers), results.context)
    table = Table(f"{results.context.grid}_{name}", title, head, (), (), frame)
    return with_columns(table, texts, rows, metrics, columns, notes, results)


def listing_table(
    name: str,
    title: str,
    frame: pd.DataFrame,
    keys: Mapping[str, str],
    metrics: Sequence[Metric],
    context: Context,
    notes: Sequence[str] = (),
) -> Table:
    """Return a table with the rows of a DataFrame as they are, without means; keys: column -> head."""
    rows = tuple(
        (
            *(str(row[key]) for key in keys),
            *(shown(row[metric.key] * metric.factor, metric.digits) for metric in metrics),
        )
        for row in frame.to_dict("records")
    )
    numbers = frame[list(keys)].copy()
    for metric in metrics:
        numbers[metric.csv_name] = frame[metric.key] * metric.factor
    head = (*keys.values(), *(metric.head for metric in metrics))
    return Table(f"{context.grid}_{name}", title, head, rows, tuple(notes), stated(numbers, context))


def shown(value: float, digits: int) -> str:
    """Return a number with so many decimals, nothing for NaN; what is 0 as shown has no sign."""
    if math.isnan(value):
        return ""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def shown_estimate(measured: Estimate, digits: int) -> str:
    """Return "96.03 ± 0.12"; no interval where there is none or the mean is exact, nothing without a value."""
    mean = shown(measured.mean, digits)
    return mean if measured.n < 2 or measured.error_bar is None else f"{mean} ± {shown(measured.half_width, digits)}"


def stated(numbers: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Return the numbers with the grid, the scale and the caveats on each row: a CSV file has no caption."""
    numbers.insert(0, "grid", context.grid)
    numbers.insert(1, "scale", context.scale)
    numbers["caveats"] = " ".join(context.caveats)
    return numbers


def members_of(cell: str, planned: int, replicates: pd.DataFrame) -> str:
    """Return the number of members, and of what replicates it is another because a run left fewer tickets."""
    fewer = replicates[(replicates["cell"] == cell) & (replicates["members"] != planned)]
    found = [f"{row['members']} in replicate {row['replicate']}" for row in fewer.to_dict("records")]
    return f"{planned} ({', '.join(found)})" if found else str(planned)
