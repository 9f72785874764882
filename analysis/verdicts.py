"""Do the measurements bear out what the paper says? Claims as data, judged by paired differences over replicates.

A claim (paper_configs/published/claims.yaml) compares a metric of two cells of a grid. Replicate r of one is paired
with replicate r of the other, and the Student-t interval of the mean difference decides; costs come from the plan and
are exact. The paper's own numbers are not needed for that.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml
from pydantic import Field, ValidationError

from analysis.columns import Metric
from analysis.results import Results
from analysis.statistics import Estimate, estimate
from analysis.table import Table, shown, shown_estimate, stated
from bench.errors import UserError, did_you_mean
from bench.spec.record import Record

Decision = Literal["supported", "contradicted", "undecided", "not run"]
NOTES = (
    "The difference is positive where it favours the claim; ± is half the 95% interval of Student's t over replicates "
    "paired by their number. Supported: all of the interval is above the claim's margin (0 unless the claim says "
    "otherwise). Contradicted: all of it is below. Undecided: the interval holds the margin, or fewer than two "
    "replicates can be paired. Costs come from the plan and are exact. The wording is this suite's, after the passage "
    "named."
)
SCALE_NOTE = "These verdicts are about this grid at this scale and on these images; they say nothing about the paper's."


class Side(Record):
    """A metric of a cell."""

    cell: str
    metric: str


class Claim(Record):
    """`left` is higher (lower) than `right`, a cell or a number, by more than `margin`, in the units of the tables."""

    id: str
    text: str
    where: str
    left: Side
    right: Side | float
    direction: Literal["higher", "lower"]
    margin: float = 0.0


class ClaimsFile(Record):
    """The claims of a file, in the order of the table."""

    claims: list[Claim] = Field(min_length=1)


@dataclass(frozen=True)
class Verdict:
    """A claim, the means of both sides over paired replicates, and the difference in the claim's favour."""

    claim: Claim
    left: float
    right: float
    difference: Estimate
    decision: Decision


def read_claims(path: Path, metrics: Collection[str]) -> list[Claim]:
    """Return the claims of a YAML file about these metrics; UserError that names file and key of a mistake.

    None if there is no file.
    """
    if not path.exists():
        return []
    try:
        claims = ClaimsFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).claims
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for claim in claims:
        for side in _sides(claim):
            if side.metric not in metrics:
                hint = did_you_mean(side.metric, metrics)
                raise UserError(f"{path}: claim {claim.id!r}: metric {side.metric!r}{hint}")
    return claims


def judge(claims: Sequence[Claim], results: Results) -> list[Verdict]:
    """Return a verdict on each claim whose cells the grid has."""
    known = set(results.cells["cell"])
    return [_verdict(claim, results) for claim in claims if {side.cell for side in _sides(claim)} <= known]


def verdict_table(
    verdicts: Sequence[Verdict], left_out: int, results: Results, topic_notes: Sequence[str] = ()
) -> Table:
    """Return the verdicts as a table; `left_out` claims are about cells that the grid does not have.

    topic_notes   what a reader has to know about the metrics of topics
    """
    context = results.context
    head = ("Claim", "Where", "Metric", "Left", "Right", "Difference", "n", "Verdict")
    rows, numbers = [], []
    for verdict in verdicts:
        claim, difference = verdict.claim, verdict.difference
        metric = results.metrics[claim.left.metric]
        left = _side_text(claim.left, verdict.left, metric, results.metrics)
        right = _side_text(claim.right, verdict.right, metric, results.metrics)
        favour, n = shown_estimate(difference, metric.digits), str(difference.n or "")
        rows.append((claim.text, claim.where, metric.head, left, right, favour, n, verdict.decision))
        numbers.append(
            {
                "claim": claim.id,
                "metric": claim.left.metric,
                "left": verdict.left,
                "right": verdict.right,
                "difference": difference.mean,
                "difference_half_width": difference.half_width,
                "margin": claim.margin,
                "n": difference.n,
                "verdict": verdict.decision,
            }
        )
    notes = [NOTES, *([] if context.comparable else [SCALE_NOTE]), *topic_notes]
    if left_out:
        notes.append(f"{left_out} more claims are about cells that this grid does not have.")
    frame = stated(pd.DataFrame(numbers), context)
    return Table(f"{context.grid}_verdicts", "Claims of the paper", head, tuple(rows), tuple(notes), frame)


def _verdict(claim: Claim, results: Results) -> Verdict:
    left, right = _values(claim.left, results), _values(claim.right, results)
    favour = left - right if claim.direction == "higher" else right - left
    if isinstance(favour, float):
        exact = Estimate(mean=favour, half_width=0.0, n=0)
        return Verdict(
            claim, _mean(left), _mean(right), exact, "supported" if favour > claim.margin else "contradicted"
        )
    paired = favour.dropna()
    if paired.empty:
        return Verdict(claim, _mean(left), _mean(right), estimate([]), "not run")
    difference = estimate(paired)
    left, right = (side if isinstance(side, float) else side[paired.index] for side in (left, right))
    return Verdict(claim, _mean(left), _mean(right), difference, _decide(difference, claim.margin))


def _decide(difference: Estimate, margin: float) -> Decision:
    # With one replicate the ends are NaN, and both comparisons false.
    if difference.low > margin:
        return "supported"
    return "contradicted" if difference.high < margin else "undecided"


def _values(side: Side | float, results: Results) -> "float | pd.Series[float]":
    """Return a number, or what was measured by replicate, in the units of the tables."""
    if isinstance(side, float):
        return side
    metric = results.metrics[side.metric]
    if metric.measured_on == "plan":
        return float(results.cells.loc[results.cells["cell"] == side.cell, metric.key].iloc[0]) * metric.factor
    measured = results.replicates[results.replicates["cell"] == side.cell]
    return measured.set_index("replicate")[metric.key] * metric.factor


def _mean(values: "float | pd.Series[float]") -> float:
    return values if isinstance(values, float) else float(values.mean())


def _sides(claim: Claim) -> list[Side]:
    return [side for side in (claim.left, claim.right) if isinstance(side, Side)]


def _side_text(side: Side | float, value: float, metric: Metric, metrics: Mapping[str, Metric]) -> str:
    """Return "cell: value", with the name of the metric where the other side has another."""
    if isinstance(side, float):
        return shown(value, metric.digits)
    name = side.cell if side.metric == metric.key else f"{side.cell}, {metrics[side.metric].head}"
    return f"{name}: {shown(value, metric.digits) or 'not run'}"
