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


def risk_coverage_curve(probabilities: Floats, labels: Labels, points: int = 100) -> tuple[Doubles, Doubles]:
    """Return coverages, `points` evenly spaced up to 1, and the error rate on that share of most confident images.

    probabilities float [images, classes], labels int [images]; points at least 1. A share that is no whole number of
    images is rounded up. Ties count as in area_under_risk_coverage.
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, not {points}")
    _, correct = sorted_by_confidence(*confidence_and_correctness(probabilities, labels))
    steps = np.arange(1, points + 1)
    # In whole numbers, since a product with a share may be rounded to either side of one.
    kept = -(-steps * len(correct) // points)
    return steps / points, np.cumsum((1 - correct)[::-1])[kept - 1] / kept


def _mean_risk(errors: Doubles) -> float:
    return float(np.mean(np.cumsum(errors) / np.arange(1, len(errors) + 1)))
