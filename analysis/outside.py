"""Can an ensemble tell images of none of its classes? Scores on the test images against those out of distribution."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.members import replicates_of, tidy
from bench import metrics
from bench.errors import UserError
from bench.evaluation.sets import OutsideSet
from bench.metrics.probabilities import Doubles
from bench.plan import Plan
from bench.store.folders import Store

DETECTION = "cell replicate outside score auroc aupr fpr95"
HISTOGRAMS = "cell replicate set score low high count"
CURVES = "cell replicate outside score fpr tpr"
BINS = 60
SCORES: dict[str, Callable[[Doubles], Doubles]] = {
    "max_probability": metrics.one_minus_max_probability,
    "entropy": metrics.predictive_entropy,
    "mutual_information": metrics.mutual_information,
}


@dataclass(frozen=True)
class Outside:
    """Detection of images out of distribution, as tidy DataFrames; scores are higher where an image seems outside.

    detection    one row a replicate, outside set and score: AUROC, AUPR, FPR at 95% TPR, as shares
    histograms   one row a bin of a score on the test images ("test") or an outside set
    curves       one row a point of a ROC curve
    problems     a sentence for each file that can not be used
    """

    detection: pd.DataFrame
    histograms: pd.DataFrame
    curves: pd.DataFrame
    problems: tuple[str, ...]


def load_outside(plan: Plan, store: Store) -> Outside:
    """Return the scores on every set out of distribution that the plan asks for and the store holds."""
    asked = {run.id: [one for one in run.evaluations if isinstance(one, OutsideSet)] for run in plan.runs}
    detection: list[dict[str, Any]] = []
    histograms: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    problems: list[str] = []
    for replicate in replicates_of(plan, store):
        key = {"cell": replicate.cell, "replicate": replicate.number}
        inside: dict[str, Doubles] = {}
        for one in asked[replicate.runs[0]]:
            try:
                if not replicate.has(one.name):
                    continue
                if not inside:
                    members, _ = replicate.members("test")
                    inside = _scores(members)
                    histograms += _histogram({**key, "set": "test"}, inside, members.shape[2])
                members, _ = replicate.members(one.name)
            except UserError as error:
                problems.append(str(error))
                continue
            outside = _scores(members)
            histograms += _histogram({**key, "set": one.source}, outside, members.shape[2])
            for score, values in outside.items():
                head = {**key, "outside": one.source, "score": score}
                pair = (inside[score], values)
                detection.append(
                    {
                        **head,
                        "auroc": metrics.auroc(*pair),
                        "aupr": metrics.aupr(*pair),
                        "fpr95": metrics.fpr_at_95_tpr(*pair),
                    }
                )
                points = zip(*metrics.roc_curve(*pair), strict=True)
                curves += [{**head, "fpr": fpr, "tpr": tpr} for fpr, tpr in points]
    return Outside(
        tidy(detection, DETECTION), tidy(histograms, HISTOGRAMS), tidy(curves, CURVES), tuple(dict.fromkeys(problems))
    )


def _scores(members: Doubles) -> dict[str, Doubles]:
    """Return each score of each image; a single member has no mutual information with others."""
    return {name: score(members) for name, score in SCORES.items() if name != "mutual_information" or len(members) > 1}


def _histogram(key: dict[str, Any], scores: dict[str, Doubles], classes: int) -> list[dict[str, Any]]:
    rows = []
    for name, values in scores.items():
        highest = 1.0 if name == "max_probability" else math.log(classes)
        counts, edges = np.histogram(values.clip(0, highest), BINS, (0, highest))
        rows += [
            {**key, "score": name, "low": low, "high": high, "count": int(count)}
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
    return rows
