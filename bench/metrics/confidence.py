"""How sure a prediction is and whether it is right: what calibration and selective prediction are computed from.

The confidence of a prediction is its largest probability; of equal probabilities the lowest class is predicted.
"""

import numpy as np

from bench.metrics.probabilities import Doubles, Floats, Labels, check_probabilities


def confidence_and_correctness(probabilities: Floats, labels: Labels) -> tuple[Doubles, Doubles]:
    """Return the largest probability of each image, and 1 where its class is the label, else 0; float64 [images] each.

    probabilities float [images, classes], labels int [images]; ValueError if they don't fit each other.
    """
    check_probabilities(probabilities, labels)
    prediction = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), prediction].astype(np.float64)
    return confidence, (prediction == labels).astype(np.float64)


def sorted_by_confidence(confidence: Floats, correct: Floats) -> tuple[Doubles, Doubles]:
    """Return what confidence_and_correctness gave in ascending order of confidence, float64 [images] each.

    Images of equal confidence (many have exactly 1) have no order: each gets the mean correctness of its equals, which
    is its expected value in a random order, so that the order of the images doesn't matter.
    """
    values, group, size = np.unique(confidence.astype(np.float64), return_inverse=True, return_counts=True)
    mean_correct = np.bincount(group, weights=correct) / size
    return np.repeat(values, size), np.repeat(mean_correct, size)
