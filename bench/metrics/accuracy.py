"""Scores of predicted probabilities against labels: accuracy, negative log-likelihood, Brier score."""

import numpy as np

from bench.metrics.probabilities import SMALLEST_PROBABILITY, Floats, Labels, check_members, check_probabilities


def accuracy(probabilities: Floats, labels: Labels) -> float:
    """Return the share of images whose most probable class is the label, in [0, 1].

    probabilities float [images, classes], labels int [images]; of equal probabilities the lowest class counts.
    """
    check_probabilities(probabilities, labels)
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def judged_labels(probabilities: Floats, pairs: Labels) -> tuple[Labels, Labels]:
    """Return the images that have labels, and the one that each is judged by: the predicted class where it is a label.

    probabilities float [images, classes], pairs int [K, 2] of image and label. `accuracy` and calibration errors of
    those images with those labels count a prediction among the labels as right (ReaL, Beyer et al. 2020). ValueError
    for a pair of no image or no class.
    """
    check_members(probabilities[None])
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"pairs must be [K, 2] integers, not {pairs.dtype} {pairs.shape}")
    if ((pairs < 0) | (pairs >= probabilities.shape)).any():
        raise ValueError(f"pairs must be of images and classes below {probabilities.shape}")
    predicted = probabilities.argmax(axis=1)
    places, first = np.unique(pairs[:, 0], return_index=True)
    hits = pairs[predicted[pairs[:, 0]] == pairs[:, 1], 0]
    return places, np.where(np.isin(places, hits), predicted[places], pairs[first, 1])


def negative_log_likelihood(probabilities: Floats, labels: Labels) -> float:
    """Return the mean of -log p(label), in nats, at least 0; lower is better.

    probabilities float [images, classes], labels int [images]. A label of probability 0 would make the mean infinite;
    it counts as the least positive normal float64, that is 708.4 nats for that image.
    """
    check_probabilities(probabilities, labels)
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # The logarithms are never positive; abs, unlike a minus sign, makes no -0.0 of a perfect prediction.
    return abs(float(np.mean(np.log(likelihood.clip(SMALLEST_PROBABILITY, 1.0)))))


def brier(probabilities: Floats, labels: Labels) -> float:
    """Return the mean over images of the squared distance to the one-hot label, summed over classes, in [0, 2].

    probabilities float [images, classes], labels int [images]; lower is better. Source: Brier 1950 (his definition:
    summed over classes, neither halved nor divided by their number).
    """
    check_probabilities(probabilities, labels)
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return float(np.vdot(distance, distance)) / len(labels)
