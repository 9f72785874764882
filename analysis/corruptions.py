"""Results on corrupted images: a row a set, and scores over a family of sets, such as local-c or CIFAR-10-C.

A family's scores are over the types of which every severity is there, the same for all replicates; a replicate that
lacks a set has none. The definition of a corrupted ECE is in its name, with the number of types it is over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from analysis.members import Replicate, replicates_of, tidy
from bench import metrics
from bench.data.corruptions.catalog import COMMON_15
from bench.errors import UserError
from bench.evaluation.sets import LOCAL, CorruptedSet
from bench.metrics.calibration import RELEASED_BINS, Reliability
from bench.metrics.probabilities import Floats
from bench.plan import CellPlan, Plan
from bench.store.folders import Store

SETS = "cell replicate family type severity images accuracy nll ece brier member_accuracy disagreement"
BINS = "cell replicate family bin low high count confidence accuracy"
SCORES = (
    "cell replicate family corrupted_accuracy corrupted_nll corrupted_brier corrupted_ece_mean corrupted_ece_pooled "
    "corrupted_adaptive_ece_mean corrupted_adaptive_ece_pooled corrupted_member_accuracy corrupted_disagreement mce"
)
Key = tuple[str, int]
Rows = list[dict[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class Corruptions:
    """What the plan's finished replicates showed on corrupted images, as tidy DataFrames (shares, nats).

    sets      one row a replicate and set
    bins      one row a replicate, family and bin of confidence, images of all its types and severities together
    scores    one row a replicate and family that has all its sets; mCE is relative to the dense cell of the same data
    types     of each family, those that its scores are over
    ece_names of each family, what its pooled and its mean corrupted ECE are called
    problems  a sentence for each file that can not be used, and for each family of which types are left out
    """

    sets: pd.DataFrame
    bins: pd.DataFrame
    scores: pd.DataFrame
    types: Mapping[str, tuple[str, ...]]
    ece_names: Mapping[str, tuple[str, str]]
    problems: tuple[str, ...]


@dataclass
class _Family:
    """What is known of one family while it is read; by (cell, replicate), then by (type, severity)."""

    rows: dict[tuple[str, int], dict[Key, dict[str, Any]]] = field(default_factory=dict)
    curves: dict[tuple[str, int], dict[Key, Reliability]] = field(default_factory=dict)
    sure: dict[tuple[str, int], dict[Key, tuple[Floats, Floats]]] = field(default_factory=dict)
    released: dict[tuple[str, int], dict[Key, Reliability]] = field(default_factory=dict)


def load_corruptions(plan: Plan, store: Store) -> Corruptions:
    """Return the results on every corrupted set that the plan asks for and the store holds."""
    asked = {run.id: [one for one in run.evaluations if isinstance(one, CorruptedSet)] for run in plan.runs}
    families: dict[str, _Family] = {}
    problems: list[str] = []
    for replicate in replicates_of(plan, store):
        sets = asked[replicate.runs[0]]
        for one in sets:
            try:
                if replicate.has(one.name):
                    _read(families.setdefault(one.family, _Family()), replicate, one)
            except UserError as error:
                problems.append(str(error))
    references = _references(plan)
    rows: Rows = []
    bins: Rows = []
    scores: Rows = []
    scored = {}
    for name, family in families.items():
        types = _whole_types(family.rows.values())
        left_out = {kind for own in family.rows.values() for kind, _ in own} - set(types)
        if left_out:
            problems.append(
                f"{name}: some severities of {', '.join(sorted(left_out))} are missing; its scores are without"
            )
        scored[name] = tuple(types)
        keys = {key for own in family.rows.values() for key in own if key[0] in types}
        errors = {reference: _errors(family, reference, keys) for reference in set(references.values())}
        for key, own in family.rows.items():
            rows += own.values()
            if keys and keys <= own.keys():
                head = {"cell": key[0], "replicate": key[1], "family": name}
                scores.append({**head, **_scores(family, key, keys, errors.get(references.get(key[0], "")))})
                bins += [
                    {**head, **row} for row in bin_rows(Reliability.pool(family.curves[key][k] for k in sorted(keys)))
                ]
    return Corruptions(
        sets=tidy(rows, SETS),
        bins=tidy(bins, BINS),
        scores=tidy(scores, SCORES),
        types=scored,
        ece_names={name: metrics.corrupted_ece_names(types) for name, types in scored.items()},
        problems=tuple(dict.fromkeys(problems)),
    )


def claimed(corruptions: Corruptions) -> str:
    """Return in words which corrupted images claims are judged by: those whose scores with_corruptions takes."""
    names = list(corruptions.ece_names)
    parts = []
    for name in [name for name in names if name != LOCAL] or names:
        own = corruptions.sets[corruptions.sets["family"] == name]
        severities = ", ".join(str(severity) for severity in sorted(set(own["severity"])))
        images = " or ".join(f"{count:,}" for count in sorted(set(own["images"])))
        parts.append(
            f"{name}, {len(corruptions.types[name])} of 19 types at severities {severities}, {images} images a set"
        )
    return "; ".join(parts)


def with_corruptions(replicates: pd.DataFrame, corruptions: Corruptions) -> pd.DataFrame:
    """Return replicates with their scores on corrupted images, by which claims can be judged; NaN where there are none.

    Of a grid with several families those of the released sets count, of which a cell's data has one at most.
    """
    scores = corruptions.scores
    released = [name for name in corruptions.ece_names if name != LOCAL]
    scores = scores[scores["family"].isin(released or [LOCAL])]
    return replicates.merge(scores.drop(columns="family"), on=["cell", "replicate"], how="left")


def bin_rows(curve: Reliability) -> Iterable[dict[str, Any]]:
    """Yield the bins of a reliability curve as rows: bin, low, high, count, confidence, accuracy."""
    columns = (curve.edges[:-1], curve.edges[1:], curve.counts, curve.confidence, curve.accuracy)
    for index, values in enumerate(zip(*columns, strict=True)):
        yield {"bin": index, **dict(zip(("low", "high", "count", "confidence", "accuracy"), values, strict=True))}


def _read(family: _Family, replicate: Replicate, one: CorruptedSet) -> None:
    members, labels = replicate.members(one.name)
    ensemble = metrics.ensemble_mean(members)
    key, set_key = (replicate.cell, replicate.number), (one.type, one.severity)
    curve = metrics.reliability(ensemble, labels)
    family.curves.setdefault(key, {})[set_key] = curve
    family.released.setdefault(key, {})[set_key] = metrics.reliability(ensemble, labels, bins=RELEASED_BINS)
    confidence, correct = metrics.confidence_and_correctness(ensemble, labels)
    # In half the space: all replicates and sets of a table are a hundred million.
    sure = (confidence.astype(np.float32), correct.astype(np.float32))
    family.sure.setdefault(key, {})[set_key] = sure
    family.rows.setdefault(key, {})[set_key] = {
        "cell": replicate.cell,
        "replicate": replicate.number,
        "family": one.family,
        "type": one.type,
        "severity": one.severity,
        "images": len(labels),
        "accuracy": metrics.accuracy(ensemble, labels),
        "nll": metrics.negative_log_likelihood(ensemble, labels),
        "ece": curve.calibration_error,
        "brier": metrics.brier(ensemble, labels),
        "member_accuracy": float((members.argmax(axis=2) == labels).mean()),
        "disagreement": metrics.disagreement(members),
    }


def _whole_types(replicates: Iterable[Mapping[Key, Any]]) -> list[str]:
    """Return the types of which every severity that any type has is there in some replicate."""
    keys = {key for own in replicates for key in own}
    severities = {severity for _, severity in keys}
    types = dict.fromkeys(kind for own in [sorted(keys)] for kind, _ in own)
    return [kind for kind in types if all((kind, severity) in keys for severity in severities)]


def _scores(
    family: _Family, key: tuple[str, int], keys: set[Key], reference: Mapping[Key, float] | None
) -> dict[str, float]:
    rows = [family.rows[key][one] for one in sorted(keys)]

    def mean(column: str) -> float:
        return float(np.mean([row[column] for row in rows]))

    def chosen(by_set: Mapping[Key, T]) -> dict[Key, T]:
        return {one: by_set[one] for one in sorted(keys)}

    sure = chosen(family.sure[key])
    common = any(kind in COMMON_15 for kind, _ in keys)
    errors = {one: 1 - family.rows[key][one]["accuracy"] for one in keys}
    return {
        "corrupted_accuracy": mean("accuracy"),
        "corrupted_nll": mean("nll"),
        "corrupted_brier": mean("brier"),
        "corrupted_ece_mean": metrics.mean_corrupted_ece(chosen(family.curves[key])) if common else float("nan"),
        "corrupted_ece_pooled": metrics.pooled_corrupted_ece(chosen(family.released[key])),
        "corrupted_adaptive_ece_mean": metrics.mean_corrupted_adaptive_ece(sure) if common else float("nan"),
        "corrupted_adaptive_ece_pooled": metrics.pooled_corrupted_adaptive_ece(sure),
        "corrupted_member_accuracy": mean("member_accuracy"),
        "corrupted_disagreement": mean("disagreement"),
        "mce": metrics.mean_corruption_error(errors, reference) if reference else float("nan"),
    }


def _references(plan: Plan) -> dict[str, str]:
    """Return by cell the one that its mCE is relative to: the single dense network of the same kind, if any."""

    def key(cell: CellPlan) -> tuple[object, ...]:
        return cell.data.name, cell.model.name, tuple(sorted(cell.model.arguments.items()))

    dense: dict[tuple[object, ...], str] = {}
    for cell in plan.cells:
        if cell.method == "dense" and cell.members == 1:
            dense.setdefault(key(cell), cell.name)
    return {cell.name: dense[key(cell)] for cell in plan.cells if key(cell) in dense}


def _errors(family: _Family, reference: str, keys: set[Key]) -> dict[Key, float] | None:
    """Return the reference's error rate on each set, mean over its replicates that have all; None without any."""
    own = [rows for (cell, _), rows in family.rows.items() if cell == reference and keys <= rows.keys()]
    if not own:
        return None
    return {key: float(np.mean([1 - rows[key]["accuracy"] for rows in own])) for key in keys}
