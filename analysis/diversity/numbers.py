"""How differently members of an ensemble predict on the test images, as a mean and pair by pair."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import Metric
from analysis.diversity.weights import load_overlap
from analysis.reading import StoreView, tidy
from bench import metrics

DISAGREEMENT = Metric("disagreement", "Disagreement", 4, None)
NORMALISED_DISAGREEMENT = Metric("normalised_disagreement", "Disagreement / error", 4, None)
KL = Metric("kl", "KL", 4, None)
COSINE = Metric("cosine", "Cosine distance", 4, None)
JENSEN_SHANNON = Metric("jensen_shannon", "Jensen-Shannon distance", 4, None)
Q_STATISTIC = Metric("q_statistic", "Q statistic", 4, None)
AMBIGUITY = Metric("ambiguity", "Ambiguity (member NLL less ensemble NLL)", 4, None)

OF_PAIRS = (DISAGREEMENT, NORMALISED_DISAGREEMENT, KL, COSINE, JENSEN_SHANNON, Q_STATISTIC)
METRICS = (*OF_PAIRS, AMBIGUITY)


@dataclass(frozen=True)
class Diversity:
    """How members differ, as tidy DataFrames.

    scores    one row a replicate: METRICS, those of pairs NaN for a single member
    pairs     one row an ordered pair of members, from 1: OF_PAIRS, of which KL is KL(p_second || p_first)
    overlap   one row a pair of tickets and layer, as in analysis.diversity.weights
    """

    scores: pd.DataFrame
    pairs: pd.DataFrame
    overlap: pd.DataFrame


def load_diversity(view: StoreView) -> Diversity:
    """Return the diversity of all finished replicates, in what they predict and in their weights."""
    scores: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for replicate in view.replicates():
        with view.noting():
            members, labels = replicate.members("test")
            matrices = metrics.pair_matrices(members, labels)
            means = {name: metrics.mean_of_pairs(matrix) for name, matrix in matrices.items()}
            scores.append({**replicate.key, **means, "ambiguity": metrics.ambiguity(members, labels)})
            pairs += [
                {
                    **replicate.key,
                    "first": i + 1,
                    "second": j + 1,
                    **{name: matrix[i, j] for name, matrix in matrices.items()},
                }
                for i, j in np.ndindex(len(members), len(members))
                if i != j
            ]
    of_pairs = [metric.key for metric in OF_PAIRS]
    return Diversity(
        scores=tidy(scores, " ".join(("cell replicate", *(metric.key for metric in METRICS)))),
        pairs=tidy(pairs, " ".join(("cell replicate first second", *of_pairs))),
        overlap=load_overlap(view),
    )
