"""Results on corrupted images: a row a set, and scores over a family of sets, such as local-c or CIFAR-10-C.

A family's scores are over the types that have every severity, the same types for all replicates; a replicate that lacks
a set has no scores. The name of a corrupted ECE says how it is defined and over how many types.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.calibration.numbers import BINS as CLEAN_BINS
from analysis.calibration.numbers import bin_rows
from analysis.columns import Metric
from analysis.corruption.sheet import Samples, load_samples
from analysis.reading import Replicate, StoreView, tidy
from bench import metrics
from bench.data.corruptions.catalog import COMMON_15
from bench.evaluation.sets import LOCAL, CorruptedSet
from bench.metrics.calibration import RELEASED_BINS, Reliability
from bench.metrics.probabilities import Floats

_corrupted = partial(Metric, measured_on="corrupted")
ACCURACY = _corrupted("corrupted_accuracy", "Corrupted accuracy (%)", 2, "higher", 100)
NLL = _corrupted("corrupted_nll", "Corrupted NLL", 4, "lower")
BRIER = _corrupted("corrupted_brier", "Corrupted Brier", 4, "lower")
ECE_MEAN = _corrupted("corrupted_ece_mean", "Corrupted ECE (mean over sets, 15 bins)", 4, "lower")
ECE_POOLED = _corrupted("corrupted_ece_pooled", "Corrupted ECE (pooled, 14 bins)", 4, "lower")
ADAPTIVE_ECE_MEAN = _corrupted(
    "corrupted_adaptive_ece_mean", "Corrupted ECE of equal mass (mean over sets, 15 bins)", 4, "lower"
)
ADAPTIVE_ECE_POOLED = _corrupted(
    "corrupted_adaptive_ece_pooled", "Corrupted ECE of equal mass (pooled, 14 bins)", 4, "lower"
)
MCE = _corrupted("mce", "mCE (% of dense)", 1, "lower", 100)
MEMBER_ACCURACY = _corrupted("corrupted_member_accuracy", "Corrupted member accuracy (%)", 2, "higher", 100)
DISAGREEMENT = _corrupted("corrupted_disagreement", "Corrupted disagreement", 4, None)
METRICS = (
    ACCURACY,
    NLL,
    BRIER,
    ECE_MEAN,
    ECE_POOLED,
    ADAPTIVE_ECE_MEAN,
    ADAPTIVE_ECE_POOLED,
    MCE,
    MEMBER_ACCURACY,
    DISAGREEMENT,
)

SETS = "cell replicate family type severity images accuracy nll ece brier member_accuracy disagreement"
BINS = "cell replicate family bin low high count confidence accuracy"
SCORES = " ".join(("cell replicate family", *(metric.key for metric in METRICS)))
ReplicateKey = tuple[str, int]
SetKey = tuple[str, int]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Corruption:
    """What the plan's finished replicates showed on corrupted images, as tidy DataFrames (shares, nats).

    sets         one row a replicate and set
    bins         one row a replicate, family and bin of confidence, images of all its types and severities together
    clean_bins   the same on the clean test images, without a family
    by_family    one row a replicate and family that has all its sets: METRICS; mCE is relative to the dense cell of the
                 same data
    types        by family, the types that its scores are over
    ece_names    by family, what its pooled and its mean corrupted ECE are called
    samples      by family, one image under each corruption
    """

    sets: pd.DataFrame
    bins: pd.DataFrame
    clean_bins: pd.DataFrame
    by_family: pd.DataFrame
    types: Mapping[str, tuple[str, ...]]
    ece_names: Mapping[str, tuple[str, str]]
    samples: Mapping[str, Samples]

    @property
    def scores(self) -> pd.DataFrame:
        """METRICS by cell and replicate.

        In a grid with several families those of the released sets count; a cell's data set has at most one.
        """
        released = [name for name in self.ece_names if name != LOCAL]
        chosen = self.by_family[self.by_family["family"].isin(released or [LOCAL])]
        return chosen.drop(columns="family")


class _Measured(NamedTuple):
    """A replicate on a set: its row, reliability in 15 and in 14 bins, confidence and correctness of each image."""

    row: dict[str, Any]
    curve: Reliability
    released: Reliability
    images: tuple[Floats, Floats]


_Family = dict[ReplicateKey, dict[SetKey, _Measured]]


def load_corruption(view: StoreView) -> Corruption:
    """Return the results on every corrupted set that the plan asks for and the store holds."""
    families: dict[str, _Family] = {}
    for replicate in view.replicates():
        for corrupted in view.sets(replicate, CorruptedSet):
            family = families.setdefault(corrupted.family, {})
            with view.noting():
                measured = _measure(replicate, corrupted)
                family.setdefault((replicate.cell.name, replicate.number), {})[corrupted.type, corrupted.severity] = (
                    measured
                )
    references = view.plan.references()
    rows: Rows = []
    bins: Rows = []
    scores: Rows = []
    types = {}
    for name, family in families.items():
        types[name] = tuple(_whole_types(family.values()))
        left_out = {kind for sets in family.values() for kind, _ in sets} - set(types[name])
        if left_out:
            view.note(f"{name}: some severities of {', '.join(sorted(left_out))} are missing; its scores are without")
        keys = sorted({key for sets in family.values() for key in sets if key[0] in types[name]})
        errors = {reference: _errors(family, reference, keys) for reference in set(references.values())}
        for (cell, number), sets in family.items():
            rows += [measured.row for measured in sets.values()]
            if keys and sets.keys() >= set(keys):
                head = {"cell": cell, "replicate": number, "family": name}
                counted = {key: sets[key] for key in keys}
                scores.append({**head, **_scores(counted, errors.get(references.get(cell, "")))})
                whole = Reliability.pool(measured.curve for measured in counted.values())
                bins += [{**head, **row} for row in bin_rows(whole)]
    return Corruption(
        sets=tidy(rows, SETS),
        bins=tidy(bins, BINS),
        clean_bins=tidy(_clean_bins(view) if bins else [], CLEAN_BINS),
        by_family=tidy(scores, SCORES),
        types=types,
        ece_names={name: metrics.corrupted_ece_names(kinds) for name, kinds in types.items()},
        samples=load_samples(view),
    )


def claims_note(corruption: Corruption) -> str:
    """Return in words which corrupted images claims are judged by: those of the families that `scores` takes."""
    names = list(corruption.ece_names)
    parts = []
    for name in [name for name in names if name != LOCAL] or names:
        sets = corruption.sets[corruption.sets["family"] == name]
        severities = ", ".join(str(severity) for severity in sorted(set(sets["severity"])))
        images = " or ".join(f"{count:,}" for count in sorted(set(sets["images"])))
        parts.append(
            f"{name}, {len(corruption.types[name])} of 19 types at severities {severities}, {images} images a set"
        )
    return f"Corrupted images are {'; '.join(parts)}." if parts else ""


def _measure(replicate: Replicate, corrupted: CorruptedSet) -> _Measured:
    members, labels = replicate.members(corrupted.name)
    ensemble = metrics.ensemble_mean(members)
    curve = metrics.reliability(ensemble, labels)
    confidence, correct = metrics.confidence_and_correctness(ensemble, labels)
    row = {
        **replicate.key,
        "family": corrupted.family,
        "type": corrupted.type,
        "severity": corrupted.severity,
        "images": len(labels),
        "accuracy": metrics.accuracy(ensemble, labels),
        "nll": metrics.negative_log_likelihood(ensemble, labels),
        "ece": curve.calibration_error,
        "brier": metrics.brier(ensemble, labels),
        "member_accuracy": float((members.argmax(axis=2) == labels).mean()),
        "disagreement": metrics.disagreement(members),
    }
    released = metrics.reliability(ensemble, labels, bins=RELEASED_BINS)
    # In half the space: all replicates and sets of a table are a hundred million.
    return _Measured(row, curve, released, (confidence.astype(np.float32), correct.astype(np.float32)))


def _clean_bins(view: StoreView) -> Rows:
    rows: Rows = []
    for replicate in view.replicates():
        with view.noting():
            members, labels = replicate.members("test")
            curve = metrics.reliability(metrics.ensemble_mean(members), labels)
            rows += [{**replicate.key, **row} for row in bin_rows(curve)]
    return rows


def _whole_types(replicates: Iterable[Mapping[SetKey, Any]]) -> list[str]:
    """Return the types that have in some replicate every severity that any type has."""
    keys = {key for sets in replicates for key in sets}
    severities = {severity for _, severity in keys}
    types = dict.fromkeys(kind for kind, _ in sorted(keys))
    return [kind for kind in types if all((kind, severity) in keys for severity in severities)]


def _scores(sets: Mapping[SetKey, _Measured], reference: Mapping[SetKey, float] | None) -> dict[str, float]:
    """Return METRICS over these sets; `reference` are the error rates of the dense network on the same."""

    def mean(column: str) -> float:
        return float(np.mean([measured.row[column] for measured in sets.values()]))

    images = {key: measured.images for key, measured in sets.items()}
    curves = {key: measured.curve for key, measured in sets.items()}
    errors = {key: 1 - measured.row["accuracy"] for key, measured in sets.items()}
    common = any(kind in COMMON_15 for kind, _ in sets)
    return {
        "corrupted_accuracy": mean("accuracy"),
        "corrupted_nll": mean("nll"),
        "corrupted_brier": mean("brier"),
        "corrupted_ece_mean": metrics.mean_corrupted_ece(curves) if common else float("nan"),
        "corrupted_ece_pooled": metrics.pooled_corrupted_ece(
            {key: measured.released for key, measured in sets.items()}
        ),
        "corrupted_adaptive_ece_mean": metrics.mean_corrupted_adaptive_ece(images) if common else float("nan"),
        "corrupted_adaptive_ece_pooled": metrics.pooled_corrupted_adaptive_ece(images),
        "corrupted_member_accuracy": mean("member_accuracy"),
        "corrupted_disagreement": mean("disagreement"),
        "mce": metrics.mean_corruption_error(errors, reference) if reference else float("nan"),
    }


def _errors(family: _Family, reference: str, keys: Iterable[SetKey]) -> dict[SetKey, float] | None:
    """Return the reference's error rate on each set, mean over its replicates that have all; None without any."""
    complete = [sets for (cell, _), sets in family.items() if cell == reference and sets.keys() >= set(keys)]
    if not complete:
        return None
    return {key: float(np.mean([1 - sets[key].row["accuracy"] for sets in complete])) for key in keys}
