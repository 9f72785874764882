"""Which values of a column are the best, and how far each is from the dense network: only among what can be compared.

What compares are cells of the same network on the same data; in tables of several rows a cell, on the same set too.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import pandas as pd

from analysis.columns import Metric
from analysis.results import Results
from analysis.statistics import Estimate, estimate

REFERENCE = "reference"
NONE = ""


class Place(NamedTuple):
    """What a row of a table is compared with.

    kind        rows of one kind are compared with each other
    reference   the row of the dense network of that kind, None where there is none
    """

    kind: Hashable
    reference: int | None


class Marks(NamedTuple):
    """What is marked in a column: the rows of the best values, and the difference of each row to its dense network."""

    best: frozenset[int]
    differences: dict[int, str]


def places_of(rows: Sequence[tuple[str, Hashable]], results: Results) -> list[Place]:
    """Return what rows are compared with; each is of a cell and of something else, such as a set of images."""
    cells = {str(cell["cell"]): cell for cell in results.cells.to_dict("records")}
    index = {row: position for position, row in enumerate(rows)}
    places = []
    for name, other in rows:
        cell = cells.get(name, {})
        kind = (cell.get("dataset"), cell.get("variant"), cell.get("network"), other)
        places.append(Place(kind, index.get((str(cell.get("reference", "")), other))))
    return places


def mark(places: Sequence[Place], values: Sequence["pd.Series[float]"], metric: Metric) -> Marks:
    """Return the marks of a column.

    values   of each row by replicate, in the unit of the table; replicate r is paired with replicate r of the reference
    """
    means = [estimate(row).mean for row in values]
    differences = {
        row: NONE if place.reference is None else _difference(values, row, place.reference, metric)
        for row, place in enumerate(places)
    }
    return Marks(_best([place.kind for place in places], means, metric), differences)


def signed(measured: Estimate, digits: int) -> str:
    """Return "+0.31 ± 0.12"; a mean that is 0 as shown has no sign."""
    if math.isnan(measured.mean):
        return NONE
    mean = f"{measured.mean:+.{digits}f}"
    mean = mean[1:] if float(mean) == 0 else mean
    return mean if measured.error_bar is None else f"{mean} ± {measured.half_width:.{digits}f}"


def _difference(values: Sequence["pd.Series[float]"], row: int, reference: int, metric: Metric) -> str:
    text = signed(estimate(values[row] - values[reference]), metric.digits)
    return REFERENCE if text and row == reference else text


def _best(kinds: Sequence[Hashable], means: Sequence[float], metric: Metric) -> frozenset[int]:
    """Return the rows with the best mean of their kind, as it is shown; none where all are alike."""
    if metric.better is None:
        return frozenset()
    best: set[int] = set()
    for kind in dict.fromkeys(kinds):
        shown = {
            row: round(mean, metric.digits)
            for row, mean in enumerate(means)
            if kinds[row] == kind and not math.isnan(mean)
        }
        if len(set(shown.values())) > 1:
            first = (max if metric.better == "higher" else min)(shown.values())
            best |= {row for row, value in shown.items() if value == first}
    return frozenset(best)
