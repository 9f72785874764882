"""Do the measurements bear out what the paper says? Claims as data, judged by paired differences over replicates.

A claim (paper_configs/published/claims.yaml) compares a metric of two cells of a grid that names the file. Replicate r
of one is paired with replicate r of the other, and the Student-t interval of the mean difference decides; costs come
from the plan and are exact. What the published values say of the same claim stands beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, model_validator

from analysis.columns import Metric
from analysis.paper.published import NOTHING
from analysis.results import Results
from analysis.statistics import MOST_REPLICATES, Estimate, enough_replicates, estimate, holm, p_of_difference
from analysis.table import Table, members_of, shown, shown_estimate, stated
from bench.errors import UserError, did_you_mean
from bench.grid.text import read_record
from bench.spec.record import Record

Decision = Literal["holds", "fails", "undecided", "not run"]
Direction = Literal["higher", "lower", "level"]
Cells = Annotated[list[str], Field(min_length=1)]
ALPHA = 0.05
NOTES = (
    "The difference is positive where it favours the claim; ± is half the 95% interval of Student's t over replicates "
    "paired by their number. Holds: all of the interval is above the claim's margin (0 unless the claim says "
    "otherwise). Fails: all of it is below. Level: the 90% interval lies within the margin on both sides (two "
    "one-sided tests); it fails where the 95% interval lies outside. Undecided: neither, or fewer than two replicates "
    "can be paired; the number in brackets is how many would decide if mean and spread stayed as they are. Costs come "
    "from the plan and are exact. Published: what the published values say, without an interval. The wording is that "
    "of the file that the grid names, after the passage named."
)
SCALE_NOTE = "These verdicts are about this grid at this scale and on these images; they say nothing about others."


class Side(Record):
    """A metric of a cell, or of each of several."""

    cell: str | None = None
    cells: Cells | None = None
    metric: str

    @model_validator(mode="after")
    def _one_or_several(self) -> "Side":
        if (self.cell is None) == (self.cells is None):
            raise ValueError("allowed: cell, or cells")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The cells."""
        return tuple(self.cells or [str(self.cell)])


class ClaimEntry(Record):
    """`left` is higher than, lower than, or level with `right`, a cell or a number, in the units of the tables.

    text     the claim as a sentence; {left} and {right} stand for the cells, each pair of which makes a claim
    where    the passage that says so
    margin   by how much: a claim of less than that is no claim; of "level", how far apart may still be called so
    data     the data set that the claim is about; of any without it
    """

    id: str
    text: str
    where: str
    left: Side
    right: Side | float
    direction: Direction
    margin: float = 0.0
    data: str | None = None

    @model_validator(mode="after")
    def _level_needs_a_margin(self) -> "ClaimEntry":
        if self.direction == "level" and self.margin <= 0:
            raise ValueError("level: margin must be above 0")
        return self


class ClaimsFile(Record):
    """The claims of a file, in the order of the table; `about` is whose claims they are, such as a paper."""

    about: str = ""
    claims: list[ClaimEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Claim:
    """A claim about one pair of cells, or a cell and a number; `about` is whose it is."""

    id: str
    text: str
    where: str
    left: tuple[str, str]
    right: tuple[str, str] | float
    direction: Direction
    margin: float
    data: str | None = None
    about: str = ""

    @property
    def sides(self) -> list[tuple[str, str]]:
        """The cells and metrics."""
        return [self.left] if isinstance(self.right, float) else [self.left, self.right]


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


def read_claims(path: Path, metrics: Mapping[str, Metric]) -> list[Claim]:
    """Return the claims of a YAML file, one a pair of cells; UserError that names file and key of a mistake."""
    file = read_record(ClaimsFile, path)
    for entry in file.claims:
        sides = [side for side in (entry.left, entry.right) if isinstance(side, Side)]
        for side in sides:
            if side.metric not in metrics:
                hint = did_you_mean(side.metric, metrics)
                raise UserError(f"{path}: claim {entry.id!r}: metric {side.metric!r}{hint}")
        if len({(metrics[side.metric].factor, metrics[side.metric].better) for side in sides}) > 1:
            both = " and ".join(metrics[side.metric].head for side in sides)
            raise UserError(f"{path}: claim {entry.id!r}: {both} cannot be compared: not of one unit and direction")
    return [claim for entry in file.claims for claim in _pairs(entry, file.about)]


def _pairs(entry: ClaimEntry, about: str) -> list[Claim]:
    rights = entry.right.names if isinstance(entry.right, Side) else ("",)
    several = len(entry.left.names) * len(rights) > 1
    return [
        Claim(
            id=f"{entry.id}: {left}{f' / {right}' if right else ''}" if several else entry.id,
            text=entry.text.replace("{left}", left).replace("{right}", right),
            where=entry.where,
            left=(left, entry.left.metric),
            right=(right, entry.right.metric) if isinstance(entry.right, Side) else entry.right,
            direction=entry.direction,
            margin=entry.margin,
            data=entry.data,
            about=about,
        )
        for left, right in product(entry.left.names, rights)
    ]


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


def verdict_table(
    verdicts: Sequence[Verdict], left_out: Sequence[Claim], results: Results, topic_notes: Sequence[str] = ()
) -> Table:
    """Return the verdicts as a table.

    left_out      claims about cells or data that the grid does not have
    topic_notes   what a reader has to know about the metrics of topics
    """
    context = results.context
    head = ("Claim", "Where", "Metric", "Left", "Right", "Difference", "n", "Verdict", "Holm", "Published")
    rows, numbers = [], []
    for verdict in verdicts:
        claim, difference = verdict.claim, verdict.difference
        metric = results.metrics[claim.left[1]]
        left = _side_text(claim.left, verdict.left, metric, results)
        right = _side_text(claim.right, verdict.right, metric, results)
        favour, n = shown_estimate(difference, metric.digits), str(difference.n or "")
        decision = f"{verdict.decision} ({needed_text(verdict.needed)})" if verdict.needed else verdict.decision
        texts = (favour, n, decision, verdict.adjusted, _published_text(verdict, metric))
        rows.append((claim.text, claim.where, metric.head, left, right, *texts))
        numbers.append(
            {
                "claim": claim.id,
                "metric": claim.left[1],
                "left": verdict.left,
                "right": verdict.right,
                "difference": difference.mean,
                "difference_half_width": difference.half_width,
                "margin": claim.margin,
                "n": difference.n,
                "verdict": verdict.decision,
                "p": verdict.p,
                "holm": verdict.adjusted,
                "needed": verdict.needed,
                "published": verdict.published,
                "published_difference": verdict.published_difference,
            }
        )
    tested = sum(verdict.p is not None for verdict in verdicts)
    about = next((verdict.claim.about for verdict in verdicts), "")
    notes = [f"Claims of {about}. {NOTES}" if about else NOTES]
    notes += [*([SCALE_NOTE] if about and not context.comparable else []), *topic_notes]
    if tested:
        chance = f"{tested * ALPHA:.1f} of them would be decided by chance alone if no claim were true or false"
        notes.append(f"{tested} claims are tested at once: {chance}. Holm: decisions after Holm's correction for that.")
    if left_out:
        known = set(results.cells["cell"])
        cells = dict.fromkeys(cell for claim in left_out for cell, _ in claim.sides if cell not in known)
        without = f"; it has no cell {', '.join(cells)}" if cells else ""
        notes.append(f"Left out, as about cells or data that this grid does not have: {len(left_out)} claims{without}.")
    frame = stated(pd.DataFrame(numbers), context)
    return Table(f"{context.grid}_claims", "Claims", head, tuple(rows), tuple(notes), frame)


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


def _side_text(side: tuple[str, str] | float, value: float, metric: Metric, results: Results) -> str:
    """Return "cell: value", with the name of the metric where the other side has another, and missing members."""
    if isinstance(side, float):
        return shown(value, metric.digits)
    cell, key = side
    name = named_side(cell, results)
    name = name if key == metric.key else f"{name}, {results.metrics[key].head}"
    return f"{name}: {shown(value, metric.digits) or 'not run'}"


def named_side(cell: str, results: Results) -> str:
    """Return the name of a cell, and how many members it has where a run left fewer tickets than that says."""
    planned = int(results.cells.loc[results.cells["cell"] == cell, "members"].iloc[0])
    members = members_of(cell, planned, results.replicates)
    return cell if members == str(planned) else f"{cell} [members: {members}]"


def _published_text(verdict: Verdict, metric: Metric) -> str:
    if verdict.published is None or verdict.published_difference is None:
        return ""
    return f"{verdict.published} ({verdict.published_difference:+.{metric.digits}f})"


def needed_text(count: int) -> str:
    """Return how many replicates would decide, in words."""
    return f"more than {MOST_REPLICATES:,} would decide" if count > MOST_REPLICATES else f"{count} would decide"


def claims_of(path: Path | None, metrics: Mapping[str, Metric]) -> tuple[Claim, ...]:
    """Return the claims of the file that a grid names; none where it names none."""
    return () if path is None else tuple(read_claims(path, metrics))
