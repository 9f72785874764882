"""Do the published values reproduce? Each beside ours, with a test of equivalence within a stated tolerance.

Ours agrees with a published value if two one-sided tests put the mean of our replicates within the tolerance of it
(the 90% interval lies within), and differs if its 95% interval lies outside; else nothing is decided.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from analysis.columns import Metric
from analysis.paper.claims import Claim
from analysis.paper.claims_table import named_side, needed_text
from analysis.paper.judging import Decision, Verdict, judge_claim
from analysis.paper.published import NOTHING, Published
from analysis.results import Results
from analysis.statistics import estimate
from analysis.table import Table, shown_estimate, stated
from bench.errors import UserError, did_you_mean
from bench.grid.text import read_record
from bench.spec.record import Record

Agreement = Literal["agrees", "differs", "undecided", "not run"]
WORDS: Mapping[Decision, Agreement] = {
    "holds": "agrees", "fails": "differs", "undecided": "undecided", "not run": "not run",
}  # fmt: skip
NOTES = (
    "Agrees: two one-sided tests at 5% put the mean of our replicates within the tolerance of the published value (the "
    "90% interval lies within). Differs: the 95% interval lies outside. Undecided: neither, or fewer than two "
    "replicates; the number in brackets is how many would decide if our mean and spread stayed as they are. The spread "
    "of the published values is not known: most are of one to four runs.",
    "Where a published calibration error has no stated definition, both of ours are tried; at most one of the two can "
    "be the one that was meant.",
)


class Tolerance(Record):
    """How far apart values of metrics may lie and still be called the same, in the units of the tables, and why."""

    data: str
    metrics: dict[str, float] = Field(min_length=1)
    why: str = Field(min_length=1)


class TolerancesFile(Record):
    """The tolerances of a folder of published values."""

    tolerances: list[Tolerance]


@dataclass(frozen=True)
class Value:
    """A published value of a cell, and whether ours agrees with it within a tolerance."""

    cell: str
    metric: Metric
    published: Published
    tolerance: float
    verdict: Verdict

    @property
    def agreement(self) -> Agreement:
        """The verdict in a word."""
        return WORDS[self.verdict.decision]


def read_tolerances(path: Path, metrics: Collection[str]) -> dict[tuple[str, str], float]:
    """Return tolerances by data set and metric; UserError that names file and key of a mistake. None without a file."""
    if not path.exists():
        return {}
    entries = read_record(TolerancesFile, path).tolerances
    found: dict[tuple[str, str], float] = {}
    for entry in entries:
        for metric, tolerance in entry.metrics.items():
            if metric not in metrics:
                raise UserError(f"{path}: {entry.data}: metric {metric!r}{did_you_mean(metric, metrics)}")
            if not tolerance > 0 or (entry.data, metric) in found:
                raise UserError(f"{path}: {entry.data}: {metric}: found {tolerance:g}; one number above 0 is allowed")
            found[entry.data, metric] = tolerance
    return found


def compare(tolerances: Mapping[tuple[str, str], float], results: Results) -> list[Value]:
    """Return each published value that has a tolerance beside ours, in the order of cells and of metrics."""
    dataset = dict(zip(results.cells["cell"], results.cells["dataset"], strict=True))
    found = []
    for cell in results.cells["cell"]:
        beside = results.published.get(cell, NOTHING)
        for key, metric in results.metrics.items():  # a value of a metric that is not measured here has no verdict
            published, tolerance = beside.get(key), tolerances.get((dataset[cell], key))
            if published is not None and tolerance is not None:
                claim = Claim(key, "", "", (cell, key), published.value, "level", tolerance)
                found.append(Value(cell, metric, published, tolerance, judge_claim(claim, results)))
    return found


def agreement_table(values: Sequence[Value], results: Results) -> Table:
    """Return a row a published value: ours with its interval, the difference, and the verdict."""
    head = ("Cell", "Metric", "Verdict", "Published", "Ours", "Ours less published", "Tolerance", "n", "Source")
    rows, numbers = [], []
    for value in values:
        metric, verdict = value.metric, value.verdict
        measured = results.replicates.loc[results.replicates["cell"] == value.cell, metric.key] * metric.factor
        ours = estimate(measured)
        needed = f" ({needed_text(verdict.needed)})" if verdict.needed else ""
        rows.append(
            (
                named_side(value.cell, results),
                metric.head,
                f"{value.agreement}{needed}",
                value.published.text,
                shown_estimate(ours, metric.digits),
                shown_estimate(verdict.difference, metric.digits),
                f"{value.tolerance:g}",
                str(ours.n or ""),
                value.published.source,
            )
        )
        numbers.append(
            {
                "cell": value.cell,
                "metric": metric.key,
                "published": value.published.value,
                "ours": ours.mean,
                "ours_half_width": ours.half_width,
                "tolerance": value.tolerance,
                "n": ours.n,
                "verdict": value.agreement,
                "needed": verdict.needed,
                "definition": value.published.definition,
                "note": value.published.note,
                "source": value.published.source,
            }
        )
    said = dict.fromkeys(f"{value.cell}: {value.published.note}." for value in values if value.published.note)
    frame = stated(pd.DataFrame(numbers), results.context)
    return Table(f"{results.context.grid}_values", "Published values", head, tuple(rows), (*NOTES, *said), frame)
