"""A table, and the ways to make one: a row a cell, a row a group, or the rows of a DataFrame as they are.

A table is a DataFrame of numbers; what readers see (CSV, Markdown, LaTeX, HTML) is made from it by analysis.formats.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.columns import Metric
from analysis.context import Context
from analysis.results import Results
from analysis.statistics import Estimate, estimate

NOTES = (
    "± is half the 95% interval of Student's t over replicates; a single replicate has none. Ensembles average the "
    "softmax probabilities of their members. NLL and KL are in nats; disagreement is the share of test images on which "
    "two members differ, mean over pairs; KL is the mean over ordered pairs."
)


@dataclass(frozen=True)
class Table:
    """A table to write: rows of cells of text as people read them, and the same as numbers for programs."""

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    numbers: pd.DataFrame


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
    for metric in metrics:
        if metric.measured_on == "plan":
            values = results.cells[metric.key] * metric.factor
            numbers[metric.csv_name] = values
            column = [shown(value, metric.digits) for value in values]
        else:
            found = [estimate(by_cell.get(cell, none)[metric.key] * metric.factor) for cell in results.cells["cell"]]
            numbers[metric.csv_name] = [measured.mean for measured in found]
            numbers[f"{metric.csv_name}_half_width"] = [measured.half_width for measured in found]
            column = [shown_estimate(measured, metric.digits) for measured in found]
        for row, text in zip(texts, column, strict=True):
            row.append(text)
    rows = tuple(map(tuple, texts))
    return Table(f"{results.context.grid}_{name}", title, head, rows, (NOTES, *notes), stated(numbers, results.context))


def grouped_table(
    name: str,
    title: str,
    frame: pd.DataFrame,
    keys: Mapping[str, str],
    metrics: Sequence[Metric],
    notes: Sequence[str],
    context: Context,
) -> Table:
    """Return a row for each value of the keys (column -> head), in their order: estimates over replicates."""
    rows, numbers = [], []
    for values, group in frame.groupby(list(keys), sort=False):
        found = {metric: estimate(group[metric.key] * metric.factor) for metric in metrics}
        texts = [shown_estimate(measured, metric.digits) for metric, measured in found.items()]
        rows.append((*(f"{v:g}" if isinstance(v, float) else str(v) for v in values), *texts))
        numbers.append({**dict(zip(keys, values, strict=True)), "replicates": group["replicate"].nunique()})
        for metric, measured in found.items():
            numbers[-1] |= {metric.csv_name: measured.mean, f"{metric.csv_name}_half_width": measured.half_width}
    head = (*keys.values(), *(metric.head for metric in metrics))
    return Table(
        f"{context.grid}_{name}", title, head, tuple(rows), tuple(notes), stated(pd.DataFrame(numbers), context)
    )


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
    """Return a number with so many decimals, nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def shown_estimate(measured: Estimate, digits: int) -> str:
    """Return "96.03 ± 0.12"; without an interval where n is 1 or the mean is exact, nothing without a value."""
    mean = shown(measured.mean, digits)
    return mean if measured.n < 2 else f"{mean} ± {shown(measured.half_width, digits)}"


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
