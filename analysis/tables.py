"""The tables of a grid: one row a cell, mean and interval of each metric over replicates, published numbers beside.

A table is a DataFrame of numbers; what readers see (CSV, Markdown, LaTeX, HTML) is made from it by analysis.formats.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.columns import (
    CALIBRATION,
    DIVERSITY,
    ECE,
    INFERENCE_FLOPS,
    MAIN,
    MEASURED,
    MEMBER,
    NLL,
    PLANNED,
    SCALED,
    SELECTIVE,
    TRAIN_FLOPS,
    Metric,
)
from analysis.context import Context
from analysis.published import Published
from analysis.results import Results
from analysis.statistics import Estimate, estimate
from bench.plan.cost import GLOBAL_FLOPS

NOTES = (
    "± is half the 95% interval of Student's t over replicates; a single replicate has none. Ensembles average the "
    "softmax probabilities of their members. NLL and KL are in nats; disagreement is the share of test images on which "
    "two members differ, mean over pairs; KL is the mean over ordered pairs."
)
PUBLISHED_NOTE = "Published numbers are those of the grid's cells at scale paper, each from its source."
REFERENCE_ONLY = " They are for reference only: the numbers of this table were not made under the same conditions."
ASSUMED_FLOPS = (
    f"FLOPs of {{}} are assumed: a network pruned by global magnitude is priced at {GLOBAL_FLOPS} x density of the "
    "dense FLOPs; what was left in each layer is drawn in the figure of densities."
)
NO_PUBLISHED = "No published number with a source exists for these cells."


@dataclass(frozen=True)
class Table:
    """A table to write: rows of cells of text as people read them, and the same as numbers for programs."""

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    numbers: pd.DataFrame


def estimates(results: Results, metrics: Sequence[Metric]) -> dict[str, dict[str, Estimate]]:
    """Return cell -> metric key -> mean and interval over the replicates that are done, in the units of the tables."""
    by_cell = dict(list(results.replicates.groupby("cell", sort=False)))
    none = results.replicates.iloc[:0]
    return {
        cell: {metric.key: estimate(by_cell.get(cell, none)[metric.key] * metric.factor) for metric in metrics}
        for cell in results.cells["cell"]
    }


def main_table(results: Results, published: Mapping[str, Published], context: Context) -> Table:
    """Return the table of a grid; `published` by cell."""
    metrics = (*MAIN, TRAIN_FLOPS, INFERENCE_FLOPS)
    beside = [published.get(cell) for cell in results.cells["cell"]]
    columns: list[tuple[str, Callable[[Published], str]]] = [
        ("Published accuracy (%)", lambda row: shown(row.accuracy, 2)),
        ("Published NLL", lambda row: shown(row.nll, 4)),
        (f"Published {ECE.head}", lambda row: shown(row.ece, 4)),
        ("Published source", lambda row: row.source),
    ]
    head = ["Cell", "Members", "Sparsity", "Replicates", *(metric.head for metric in metrics), "Runs"]
    rows = [[*row, str(runs)] for row, runs in zip(_cell_texts(results, metrics), results.cells["runs"], strict=True)]
    if any(beside):
        head += [name for name, _ in columns]
        rows = [
            [*row, *(text(one) if one else "" for _, text in columns)] for row, one in zip(rows, beside, strict=True)
        ]
        notes: tuple[str, ...] = (NOTES, PUBLISHED_NOTE + ("" if context.comparable else REFERENCE_ONLY))
    else:
        notes = (NOTES, NO_PUBLISHED)
    assumed = list(results.cells.loc[results.cells["flops_assumed"], "cell"])
    if assumed:
        notes = (*notes, ASSUMED_FLOPS.format(", ".join(assumed)))
    numbers = _numbers(results, metrics, context)
    numbers["runs"] = results.cells["runs"]
    numbers["flops_assumed"] = results.cells["flops_assumed"]
    for field in ("accuracy", "nll", "ece", "source"):
        numbers[f"published_{field}"] = [getattr(one, field) if one else None for one in beside]
    return Table(context.grid, "Results", tuple(head), tuple(map(tuple, rows)), notes, numbers)


def calibration_table(results: Results, context: Context) -> Table:
    """Return NLL, Brier score and the three definitions of ECE, whose values are not comparable with one another."""
    notes = (
        "The definitions of ECE give different values for the same predictions: compare within a column.",
        "AURC is the error rate on the most confident images, mean over all shares of them.",
    )
    return cells_table("calibration", "Calibration", results, (*CALIBRATION, *SELECTIVE), notes, context)


def scaling_table(results: Results, context: Context) -> Table:
    """Return what temperature scaling makes of calibration, one temperature for the ensemble or one for each member."""
    notes = (
        "Temperatures have the least NLL on the validation images, which also chose the epoch of each ticket; rows "
        "without validation images have none. Ensemble scaled: one temperature for the mean probabilities, the one "
        "shown. Members scaled: one for each member before averaging. A temperature of 0.01 or 100 is the bound of the "
        "search: the validation images are predicted without error, or at random.",
    )
    return cells_table("scaling", "Calibration after temperature scaling", results, (NLL, ECE, *SCALED), notes, context)


def diversity_table(results: Results, context: Context) -> Table:
    """Return how differently members predict, by every measure in use."""
    notes = (
        "All but ambiguity are means over pairs of members. Disagreement / error: the share of images on which two "
        "members differ over their mean error rate. Distances are of their probabilities: 1 - cosine, and "
        "Jensen-Shannon (root of the divergence in nats). Q statistic: Yule's Q of being right, 1 where members are "
        "right together. Ambiguity: mean NLL of members less NLL of the ensemble, in nats; what averaging gains.",
    )
    return cells_table("diversity", "Diversity of members", results, DIVERSITY, notes, context)


def cells_table(
    name: str, title: str, results: Results, metrics: Sequence[Metric], notes: Sequence[str], context: Context
) -> Table:
    """Return a row a cell with these metrics of its replicates."""
    head = ("Cell", "Members", "Sparsity", "Replicates", *(metric.head for metric in metrics))
    rows = tuple(map(tuple, _cell_texts(results, metrics)))
    numbers = _numbers(results, metrics, context)
    return Table(f"{context.grid}_{name}", title, head, rows, (NOTES, *notes), numbers)


def replicates_table(results: Results, context: Context) -> Table:
    """Return every replicate on a row of its own, without means."""
    keys = {"cell": "Cell", "replicate": "Replicate", "members": "Members"}
    return _listing("replicates", "Replicates", results.replicates, keys, tuple(MEASURED.values()), context)


def members_table(results: Results, context: Context) -> Table:
    """Return every member of every replicate on a row of its own."""
    keys = {"cell": "Cell", "replicate": "Replicate", "member": "Member"}
    return _listing("members", "Members", results.members, keys, MEMBER, context)


def shown(value: float, digits: int) -> str:
    """Return a number with so many decimals, nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def shown_estimate(one: Estimate, digits: int) -> str:
    """Return "96.03 ± 0.12"; without an interval where n is 1 or the mean is exact, nothing without a value."""
    mean = shown(one.mean, digits)
    return mean if one.n < 2 else f"{mean} ± {shown(one.half_width, digits)}"


def _value(metric: Metric, value: float) -> str:
    return shown(value * metric.factor, metric.digits)


def _cell_texts(results: Results, metrics: Sequence[Metric]) -> list[list[str]]:
    """Return name, members, sparsity, replicates and metrics of each cell as text."""
    measured = estimates(results, [metric for metric in metrics if metric.key not in PLANNED])
    return [
        [
            cell["cell"],
            _members(cell["cell"], cell["members"], results.replicates),
            f"{cell['sparsity']:g}",
            f"{cell['replicates_done']} of {cell['replicates']}",
            *(
                shown_estimate(measured[cell["cell"]][metric.key], metric.digits)
                if metric.key not in PLANNED
                else _value(metric, cell[metric.key])
                for metric in metrics
            ),
        ]
        for cell in results.cells.to_dict("records")
    ]


def _listing(
    name: str, title: str, frame: pd.DataFrame, keys: Mapping[str, str], metrics: Sequence[Metric], context: Context
) -> Table:
    """Return a table with the rows of a DataFrame as they are; keys: column -> head."""
    rows = tuple(
        (*(str(row[key]) for key in keys), *(_value(metric, row[metric.key]) for metric in metrics))
        for row in frame.to_dict("records")
    )
    numbers = frame[list(keys)].copy()
    for metric in metrics:
        numbers[metric.csv_name] = frame[metric.key] * metric.factor
    head = (*keys.values(), *(metric.head for metric in metrics))
    return Table(f"{context.grid}_{name}", title, head, rows, (), stated(numbers, context))


def _members(cell: str, planned: int, replicates: pd.DataFrame) -> str:
    """Return the number of members, and of what replicates it is another because a run left fewer tickets."""
    own = replicates[replicates["cell"] == cell]
    fewer = own[own["members"] != planned]
    found = [f"{row['members']} in replicate {row['replicate']}" for row in fewer.to_dict("records")]
    return f"{planned} ({', '.join(found)})" if found else str(planned)


def _numbers(results: Results, metrics: Sequence[Metric], context: Context) -> pd.DataFrame:
    """Return the numbers of a table, in the units of its heads; of each metric the mean and half the interval."""
    cells = results.cells
    measured = estimates(results, [metric for metric in metrics if metric.key not in PLANNED])
    numbers = cells[["cell", "method", "members", "sparsity", "replicates_done", "replicates"]].copy()
    actual = results.replicates.groupby("cell")["members"].min()
    numbers.insert(3, "members_least", cells["cell"].map(actual))
    for metric in metrics:
        if metric.key not in PLANNED:
            own = [measured[cell][metric.key] for cell in cells["cell"]]
            numbers[metric.csv_name] = [one.mean for one in own]
            numbers[f"{metric.csv_name}_half_width"] = [one.half_width for one in own]
        else:
            numbers[metric.csv_name] = cells[metric.key] * metric.factor
    return stated(numbers, context)


def stated(numbers: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Return the numbers with the grid, the scale and the caveats on each row: a CSV file has no caption."""
    numbers.insert(0, "grid", context.grid)
    numbers.insert(1, "scale", context.scale)
    numbers["caveats"] = " ".join(context.caveats)
    return numbers
