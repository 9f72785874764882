"""Which classes are recognised, and which are not."""

import numpy as np

from bench.metrics.probabilities import Doubles, Floats, Labels, check_probabilities


def class_accuracy(probabilities: Floats, labels: Labels) -> Doubles:
    """Return the share of the images of each class that are predicted as it, float64 [classes], in [0, 1].

    probabilities float [images, classes], labels int [images]; NaN for a class without images. Of equal probabilities
    the lowest class counts.
    """
    check_probabilities(probabilities, labels)
    classes = probabilities.shape[1]
    images = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels, weights=probabilities.argmax(axis=1) == labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(correct / images)
