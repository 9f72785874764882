"""Published values in a table of ours: a column each behind it, where any of its cells has one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.columns import Metric
from analysis.paper.published import NOTHING
from analysis.results import Results
from analysis.table import Table

NOTE = "Published values are those of the grid's cells at scale paper, each from its source."
REFERENCE_ONLY = " They are for reference only: the numbers of this table were not made under the same conditions."
UNKNOWN = (
    "Published calibration errors without a stated definition stand beside both of ours; which of the two compares is "
    "not known."
)


def with_published(
    table: Table,
    results: Results,
    metrics: Sequence[Metric],
    keys: Sequence[Mapping[str, str]] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Return a table with columns of published values, their source, and what is to know of them.

    keys   of each row, metric of the table -> key of the published one; by default a row's values are of these metrics
    notes  what a reader of published values of this table has to know, if there are any
    """
    cells = [row[0] for row in table.rows]
    names = keys or [{metric.key: metric.key for metric in metrics}] * len(cells)
    beside = [
        {key: value for key, name in known.items() if (value := results.published.get(cell, NOTHING).get(name))}
        for cell, known in zip(cells, names, strict=True)
    ]
    shown = [metric for metric in metrics if any(metric.key in values for values in beside)]
    if not shown:
        return table
    numbers = table.numbers.copy()
    columns = []
    for metric in shown:
        columns.append([values[metric.key].text if metric.key in values else "" for values in beside])
        numbers[f"published_{metric.key}"] = [
            values[metric.key].value if metric.key in values else None for values in beside
        ]
    sources = ["; ".join(dict.fromkeys(value.source for value in values.values())) for values in beside]
    numbers["published_source"] = sources
    said = dict.fromkeys(
        f"{cell}: {value.note}."
        for cell, values in zip(cells, beside, strict=True)
        for value in values.values()
        if value.note
    )
    unknown = any("ece" in key and value.definition == "unknown" for values in beside for key, value in values.items())
    first = NOTE + ("" if results.context.comparable else REFERENCE_ONLY)
    return replace(
        table,
        head=(*table.head, *(f"Published {_lower(metric.head)}" for metric in shown), "Published source"),
        rows=tuple((*row, *more) for row, more in zip(table.rows, zip(*columns, sources, strict=True), strict=True)),
        notes=(*table.notes, first, *notes, *([UNKNOWN] if unknown else []), *said),
        numbers=numbers,
    )


def _lower(head: str) -> str:
    """Return a head within a sentence: "Accuracy (%)" becomes "accuracy (%)", and NLL stays."""
    return head if head[:2].isupper() else head[:1].lower() + head[1:]
