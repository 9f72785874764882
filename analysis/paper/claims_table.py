"""The verdicts on claims as a table, and the words that other tables of verdicts share with it."""

from collections.abc import Sequence

import pandas as pd

from analysis.columns import Metric
from analysis.paper.claims import Claim
from analysis.paper.judging import ALPHA, Verdict
from analysis.results import Results
from analysis.statistics import MOST_REPLICATES
from analysis.table import Table, members_of, shown, shown_estimate, stated
from bench.errors import counted

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


def verdict_table(
    verdicts: Sequence[Verdict], left_out: Sequence[Claim], results: Results, topic_notes: Sequence[str] = ()
) -> Table:
    """Return the verdicts as a table.

    left_out      claims about cells or data that the grid does not have
    topic_notes   what a reader has to know about the metrics of topics
    """
    context = results.context
    head = ("Claim", "Verdict", "Holm", "Difference", "n", "Metric", "Left", "Right", "Published", "Where")
    rows, numbers = [], []
    for verdict in verdicts:
        claim, difference = verdict.claim, verdict.difference
        metric = results.metrics[claim.left[1]]
        left = _side_text(claim.left, verdict.left, metric, results)
        right = _side_text(claim.right, verdict.right, metric, results)
        favour, n = shown_estimate(difference, metric.digits), str(difference.n or "")
        decision = f"{verdict.decision} ({needed_text(verdict.needed)})" if verdict.needed else verdict.decision
        found = (decision, verdict.adjusted, favour, n, metric.head, left, right)
        rows.append((claim.text, *found, _published_text(verdict, metric), claim.where))
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
        notes.append(
            f"{counted(tested, 'claim')} tested at once: {chance}. Holm: decisions after Holm's correction for that."
        )
    if left_out:
        known = set(results.cells["cell"])
        cells = dict.fromkeys(cell for claim in left_out for cell, _ in claim.sides if cell not in known)
        without = f"; it has no cell {', '.join(cells)}" if cells else ""
        notes.append(
            "Left out, as about cells or data that this grid does not have: "
            f"{counted(len(left_out), 'claim')}{without}."
        )
    frame = stated(pd.DataFrame(numbers), context)
    return Table(f"{context.grid}_claims", "Claims", head, tuple(rows), tuple(notes), frame)


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
