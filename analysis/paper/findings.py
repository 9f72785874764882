"""What a reviewer reads first: how many published values and claims reproduce, and which results surprise most."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from analysis.paper.agreement import Agreement, Value, agreement_table, compare
from analysis.paper.claims import Claim
from analysis.paper.claims_table import verdict_table
from analysis.paper.judging import Decision, Verdict, judge
from analysis.paper.work import Work
from analysis.results import Results
from analysis.table import Table, shown, shown_estimate
from bench.errors import counted

MOST_SURPRISES = 3
SCHEMA = 1


@dataclass(frozen=True)
class Findings:
    """The verdicts of a grid.

    values     published values beside ours; none where the results are not comparable with them
    verdicts   on the claims that the grid names; those `left_out` are about cells or data that it does not have
    work       what it took; None where only scores were kept
    """

    results: Results
    values: tuple[Value, ...]
    verdicts: tuple[Verdict, ...]
    left_out: tuple[Claim, ...]
    work: Work | None

    def tables(self, notes: Sequence[str]) -> list[Table]:
        """Return the tables of claims and of values that have a row; `notes` are the topics' on their metrics."""
        claims = [verdict_table(self.verdicts, self.left_out, self.results, notes)] if self.verdicts else []
        return claims + ([agreement_table(self.values, self.results)] if self.values else [])

    @property
    def value_counts(self) -> dict[Agreement, int]:
        """How many values agree, differ, are undecided, were not run."""
        counts = Counter(value.agreement for value in self.values)
        return {word: counts[word] for word in get_args(Agreement)}

    @property
    def claim_counts(self) -> dict[Decision, int]:
        """How many claims hold, fail, are undecided, were not run."""
        counts = Counter(verdict.decision for verdict in self.verdicts)
        return {word: counts[word] for word in get_args(Decision)}

    @property
    def sentences(self) -> list[str]:
        """The answer in some sentences; empty for a grid that is beside nothing of the paper."""
        found = []
        if self.values:
            found.append(f"Of {counted(len(self.values), 'published value')} {_counted(self.value_counts)}.")
        elif self.results.published:
            why = " ".join(self.results.context.caveats)
            found.append(f"Published values stand beside ours for reference; none is judged. {why}".strip())
        if self.verdicts:
            holm = sum(verdict.adjusted not in ("undecided", "not run") for verdict in self.verdicts)
            found.append(
                f"Of {counted(len(self.verdicts), 'claim')} {_counted(self.claim_counts)}; after Holm's correction "
                f"{holm} stay decided."
            )
        if short := self.deciding:
            found.append(f"Undecided ones: {short}.")
        return found

    @property
    def deciding(self) -> str:
        """What would decide what is undecided."""
        judged = (*self.verdicts, *(value.verdict for value in self.values))
        open_ones = [verdict for verdict in judged if verdict.decision == "undecided"]
        if not open_ones:
            return ""
        needed = sorted(verdict.needed for verdict in open_ones if verdict.needed)
        single = len(open_ones) - len(needed)
        parts = []
        if needed:
            middle = needed[(len(needed) - 1) // 2]
            which = f"half of {len(needed)}" if len(needed) > 1 else "one"
            parts.append(f"{which} would be decided by {counted(middle, 'replicate')} or fewer at the present spread")
        if single:
            parts.append(f"{single} need another replicate before their spread is known")
        return "; ".join(parts)

    def surprises(self) -> list[str]:
        """Return the most surprising results: decided against what was published, furthest from it first."""
        ranked: list[tuple[float, str]] = []
        for verdict in self.verdicts:
            expected = verdict.published or "holds"
            if verdict.decision in ("holds", "fails") and verdict.decision != expected:
                metric = self.results.metrics[verdict.claim.left[1]]
                width = verdict.difference.half_width or 1.0
                whose = "the published values say" if verdict.published else f"{verdict.claim.where} says"
                favour = shown_estimate(verdict.difference, metric.digits)
                text = f"“{verdict.claim.text}” {verdict.decision} ({metric.head}: {favour}); {whose} it {expected}."
                ranked.append((abs(verdict.difference.mean - verdict.claim.margin) / width, text))
        for value in self.values:
            if value.agreement == "differs":
                mean = value.verdict.difference.mean
                text = (
                    f"{value.cell}, {value.metric.head}: {shown(value.verdict.left, value.metric.digits)} where "
                    f"{value.published.text} was published (tolerance {value.tolerance:g})."
                )
                ranked.append((abs(mean) / value.tolerance, text))
        return [text for _, text in sorted(ranked, key=lambda entry: -entry[0])[:MOST_SURPRISES]]

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs; a number that there is not is null."""
        context = self.results.context
        return {
            "schema_version": SCHEMA,
            "grid": context.grid,
            "scale": context.scale,
            "comparable": context.comparable,
            "caveats": list(context.caveats),
            "work": None if self.work is None else asdict(self.work),
            "value_counts": self.value_counts,
            "claim_counts": self.claim_counts,
            "values": [_value_json(value) for value in self.values],
            "claims": [_claim_json(verdict) for verdict in self.verdicts],
        }


def find(
    results: Results, claims: Sequence[Claim], tolerances: Mapping[tuple[str, str], float], work: Work | None
) -> Findings:
    """Return the verdicts on the claims that a grid names, and on published values if ours compare with them."""
    verdicts = judge(claims, results)
    values = compare(tolerances, results) if results.context.comparable else []
    judged = {verdict.claim for verdict in verdicts}
    left_out = tuple(claim for claim in claims if claim not in judged)
    return Findings(results, tuple(values), tuple(verdicts), left_out, work)


def _counted(counts: dict[Any, int]) -> str:
    """Return "3 agree, 1 differs, 1 undecided", without those that are none."""
    several = {"agrees": "agree", "differs": "differ", "holds": "hold", "fails": "fail"}
    return ", ".join(f"{n} {word if n == 1 else several.get(word, word)}" for word, n in counts.items() if n)


def _value_json(value: Value) -> dict[str, Any]:
    difference = value.verdict.difference
    return {
        "cell": value.cell,
        "metric": value.metric.key,
        "published": value.published.value,
        "source": value.published.source,
        "definition": value.published.definition,
        "tolerance": value.tolerance,
        "ours": _number(value.verdict.left),
        "half_width": _number(difference.half_width),
        "n": difference.n,
        "verdict": value.agreement,
        "needed": value.verdict.needed,
    }


def _claim_json(verdict: Verdict) -> dict[str, Any]:
    claim, difference = verdict.claim, verdict.difference
    return {
        "id": claim.id,
        "text": claim.text,
        "where": claim.where,
        "metric": claim.left[1],
        "direction": claim.direction,
        "margin": claim.margin,
        "left": _number(verdict.left),
        "right": _number(verdict.right),
        "difference": _number(difference.mean),
        "half_width": _number(difference.half_width),
        "n": difference.n,
        "p": verdict.p,
        "verdict": verdict.decision,
        "holm": verdict.adjusted,
        "needed": verdict.needed,
        "published": verdict.published,
    }


def _number(value: float) -> float | None:
    return None if value != value else value
