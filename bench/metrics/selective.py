"""If a network may decline to predict where it is least sure, how many errors remain? Risk against coverage.

Geifman et al. 2018 (Bias-reduced uncertainty estimation for deep neural classifiers), with the largest probability as
confidence.
"""

import numpy as np

from bench.metrics.confidence import confidence_and_correctness, sorted_by_confidence
from bench.metrics.probabilities import Doubles, Floats, Labels


def area_under_risk_coverage(probabilities: Floats, labels: Labels) -> float:
    """Return the AURC: the mean over k = 1..images of the error rate on the k most confident images, in [0, 1].

    probabilities float [images, classes], labels int [images]; lower is better. Images of equal confidence count with
    the expected value over random orders of them, so the order of the images doesn't matter.
    """
    _, correct = sorted_by_confidence(*confidence_and_correctness(probabilities, labels))
    return _mean_risk((1 - correct)[::-1])


def excess_area_under_risk_coverage(probabilities: Floats, labels: Labels) -> float:
    """Return the E-AURC: the AURC less that of the best order of the same predictions, all errors last; at least 0.

    Arguments as area_under_risk_coverage. The best AURC is exact here; Geifman et al. 2018 print its limit for many
    images, r + (1 - r) ln(1 - r) at an error rate of r.
    """
    _, correct = sorted_by_confidence(*confidence_and_correctness(probabilities, labels))
    errors = (1 - correct)[::-1]
    # Rounded because a sum of mean errors of ties is a whole number only nearly.
    right = len(errors) - round(float(errors.sum()))
    best = (np.arange(len(errors)) >= right).astype(np.float64)
    return max(_mean_risk(errors) - _mean_risk(best), 0.0)


def _mean_risk(errors: Doubles) -> float:
    return float(np.mean(np.cumsum(errors) / np.arange(1, len(errors) + 1)))
