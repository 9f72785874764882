"""Can an ensemble tell images of none of its classes? Scores on the test images against those out of distribution."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import Metric
from analysis.reading import StoreView, tidy
from bench import metrics
from bench.evaluation.sets import OodSet
from bench.metrics.probabilities import Doubles

DETECTION = "cell replicate ood_set score auroc aupr fpr95"
HISTOGRAMS = "cell replicate set score low high count"
CURVES = "cell replicate ood_set score fpr tpr"
BINS = 60
SCORES: dict[str, Callable[[Doubles], Doubles]] = {
    "max_probability": metrics.one_minus_max_probability,
    "entropy": metrics.predictive_entropy,
    "mutual_information": metrics.mutual_information,
}
SCORE_NAMES = {
    "max_probability": "1 - max probability",
    "entropy": "entropy of the mean",
    "mutual_information": "mutual information",
}


# The sets whose AUROC, by the largest probability, is a score of a replicate: those of which some were published.
AUROCS = {
    name: Metric(f"auroc_{name}", f"AUROC against {title} (%)", 2, "higher", 100)
    for name, title in {"svhn": "SVHN", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}.items()
}


@dataclass(frozen=True)
class Ood:
    """Detection of images out of distribution, as tidy DataFrames; scores are higher where an image seems to be so.

    detection    one row a replicate, set out of distribution and score: AUROC, AUPR, FPR at 95% TPR, as shares
    histograms   one row a bin of a score on the test images ("test") or a set out of distribution
    curves       one row a point of a ROC curve
    """

    detection: pd.DataFrame
    histograms: pd.DataFrame
    curves: pd.DataFrame

    @property
    def scores(self) -> pd.DataFrame:
        """The AUROCS by cell and replicate."""
        frame = self.detection[self.detection["score"] == "max_probability"]
        wide = frame.pivot(index=["cell", "replicate"], columns="ood_set", values="auroc")
        return wide.reindex(columns=list(AUROCS)).add_prefix("auroc_").reset_index()


def load_ood(view: StoreView) -> Ood:
    """Return the scores on every set out of distribution that the plan asks for and the store holds."""
    detection: list[dict[str, Any]] = []
    histograms: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for replicate in view.replicates():
        inside: dict[str, Doubles] = {}
        for ood_set in view.sets(replicate, OodSet):
            with view.noting():
                if not inside:
                    members, _ = replicate.members("test")
                    inside = _scores(members)
                    histograms += _histogram({**replicate.key, "set": "test"}, inside, members.shape[2])
                members, _ = replicate.members(ood_set.name)
                outside = _scores(members)
                histograms += _histogram({**replicate.key, "set": ood_set.source}, outside, members.shape[2])
                for score, values in outside.items():
                    head = {**replicate.key, "ood_set": ood_set.source, "score": score}
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
    return Ood(tidy(detection, DETECTION), tidy(histograms, HISTOGRAMS), tidy(curves, CURVES))


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
