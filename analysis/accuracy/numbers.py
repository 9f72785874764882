"""How often ensembles and their members are right on the test images, over all classes and class by class."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import Metric
from analysis.reading import StoreView, tidy
from bench import metrics
from bench.data.catalog import class_names

MEMBER_ACCURACY = Metric("member_accuracy", "Member accuracy (%)", 2, "higher", 100)
SCORES = "cell replicate accuracy member_accuracy"
CLASSES = "cell replicate label name member accuracy"


@dataclass(frozen=True)
class Accuracy:
    """Accuracies on the test images, as tidy DataFrames (shares).

    scores    one row a replicate: accuracy of its ensemble, and mean accuracy of its members
    classes   one row a replicate, class and member, 0 being the ensemble: the share of the class predicted as it
    """

    scores: pd.DataFrame
    classes: pd.DataFrame


def load_accuracy(view: StoreView) -> Accuracy:
    """Return the accuracies of all finished replicates."""
    scores: list[dict[str, Any]] = []
    classes: list[dict[str, Any]] = []
    for replicate in view.replicates():
        with view.noting():
            members, labels = replicate.members("test")
            ensemble = metrics.ensemble_mean(members)
            mean = float(np.mean([metrics.accuracy(member, labels) for member in members]))
            scores.append({**replicate.key, "accuracy": metrics.accuracy(ensemble, labels), "member_accuracy": mean})
            names = class_names(replicate.cell.data.name)
            classes += [
                {
                    **replicate.key,
                    "label": label,
                    # An unnamed class is called by its number.
                    "name": names[label] if label < len(names) else str(label),
                    "member": number,
                    "accuracy": share,
                }
                for number, predicted in enumerate((ensemble, *members))
                for label, share in enumerate(metrics.class_accuracy(predicted, labels))
            ]
    return Accuracy(tidy(scores, SCORES), tidy(classes, CLASSES))
