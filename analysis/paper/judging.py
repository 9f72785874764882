"""Do the measurements bear out what a paper says? Claims judged by paired differences over replicates.

Replicate r of one cell is paired with replicate r of the other, and the Student-t interval of the mean difference
decides; costs come from the plan and are exact. What the published values say of the same claim stands beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from analysis.paper.claims import Claim
from analysis.paper.published import NOTHING
from analysis.results import Results
from analysis.statistics import Estimate, enough_replicates, estimate, holm, p_of_difference

Decision = Literal["holds", "fails", "undecided", "not run"]
ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """A claim, the means of both sides over paired replicates, and the difference in the claim's favour.

    p            of the test that decides, None of exact costs and where there is no interval
    adjusted     the decision after Holm's correction for all claims judged together
    needed       replicates that would decide an undecided one, None where that is not known
    published    what the published values say, and the difference between them in the claim's favour
    """

    claim: Claim
    left: float
    right: float
    difference: Estimate
    decision: Decision
    p: float | None = None
    adjusted: Decision = "not run"
    needed: int | None = None
    published: Decision | None = None
    published_difference: float | None = None


def judge(claims: Sequence[Claim], results: Results) -> list[Verdict]:
    """Return a verdict on each claim about the data and the cells of the grid, adjusted for all of them together."""
    known = dict(zip(results.cells["cell"], results.cells["dataset"], strict=True))
    asked = [
        claim for claim in claims if all(cell in known and claim.data in (None, known[cell]) for cell, _ in claim.sides)
    ]
    verdicts = [judge_claim(claim, results) for claim in asked]
    adjusted = iter(holm([verdict.p for verdict in verdicts if verdict.p is not None]))
    return [
        replace(verdict, adjusted=verdict.decision if verdict.p is None or next(adjusted) <= ALPHA else "undecided")
        for verdict in verdicts
    ]


def judge_claim(claim: Claim, results: Results) -> Verdict:
    """Return the verdict on a claim about cells of the grid, by itself."""
    left, right = _values(claim.left, results), _values(claim.right, results)
    favour = right - left if claim.direction == "lower" else left - right
    published, distance = _published(claim, results)
    if isinstance(favour, float):
        exact = Estimate(mean=favour, half_width=0.0, n=0)
        decision = _decided(favour, favour, favour, favour, claim)
        return Verdict(claim, _mean(left), _mean(right), exact, decision, None, decision, None, published, distance)
    paired = favour.dropna()
    if paired.empty:
        return Verdict(
            claim,
            _mean(left),
            _mean(right),
            estimate([]),
            "not run",
            published=published,
            published_difference=distance,
        )
    difference, narrow = estimate(paired), estimate(paired, 1 - 2 * ALPHA)
    left, right = (side if isinstance(side, float) else side[paired.index] for side in (left, right))
    decision = _decided(difference.low, difference.high, narrow.low, narrow.high, claim)
    return Verdict(
        claim,
        _mean(left),
        _mean(right),
        difference,
        decision,
        p_of_difference(paired, claim.margin, level=claim.direction == "level"),
        needed=enough_replicates(paired, claim.margin, level=claim.direction == "level")
        if decision == "undecided"
        else None,
        published=published,
        published_difference=distance,
    )


def _decided(low: float, high: float, narrow_low: float, narrow_high: float, claim: Claim) -> Decision:
    # With one replicate the ends are NaN, and all comparisons false.
    if claim.direction == "level":
        if -claim.margin < narrow_low and narrow_high < claim.margin:
            return "holds"
        return "fails" if low > claim.margin or high < -claim.margin else "undecided"
    if low > claim.margin:
        return "holds"
    # A cost that is exactly the margin is not beyond it.
    return "fails" if high < claim.margin or low == high == claim.margin else "undecided"


def _published(claim: Claim, results: Results) -> tuple[Decision | None, float | None]:
    """Return what published values say, and by how much; Nones where one of them is not published."""
    values = []
    for side in (claim.left, claim.right):
        if isinstance(side, float):
            values.append(side)
        elif (value := results.published.get(side[0], NOTHING).get(side[1])) is not None:
            values.append(value.value)
        else:
            return None, None
    left, right = values
    favour = round(right - left if claim.direction == "lower" else left - right, 9)  # of decimals: 96.3 - 96.0 is 0.3
    # What is equal in print may differ either way.
    decision = "undecided" if favour == claim.margin else _decided(favour, favour, favour, favour, claim)
    return decision, favour


def _values(side: tuple[str, str] | float, results: Results) -> "float | pd.Series[float]":
    """Return a number, or what was measured by replicate, in the units of the tables."""
    if isinstance(side, float):
        return side
    cell, key = side
    metric = results.metrics[key]
    if metric.measured_on == "plan":
        return float(results.cells.loc[results.cells["cell"] == cell, metric.key].iloc[0]) * metric.factor
    measured = results.replicates[results.replicates["cell"] == cell]
    return measured.set_index("replicate")[metric.key] * metric.factor


def _mean(values: "float | pd.Series[float]") -> float:
    return values if isinstance(values, float) else float(values.mean())
