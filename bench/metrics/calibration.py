"""Is a confidence of 90% right nine times in ten? Reliability curves and expected calibration errors (ECE).

The confidence of a prediction is its largest probability. There are several definitions of ECE, whose values are not
comparable, so each has its own name here: 15 equal bins (Guo et al. 2017, section 2; uncertainty-baselines), the
released code's 14 bins (ensemble_freetickets.py), and bins of equal mass (Nguyen and O'Connor 2015).
"""

from dataclasses import dataclass

import numpy as np

from bench.metrics.probabilities import Doubles, Floats, Labels, check_probabilities


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: float64 arrays [bins], and edges [bins + 1]; an empty bin has NaN means."""

    edges: Doubles
    counts: Doubles
    confidence: Doubles
    accuracy: Doubles

    @property
    def calibration_error(self) -> float:
        """The mean over images of |accuracy - confidence| of their bin."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gaps, weights=self.counts[filled]))


def reliability(probabilities: Floats, labels: Labels, bins: int = 15) -> Reliability:
    """Return counts, mean confidence and accuracy in `bins` equal bins of confidence.

    probabilities float [images, classes], labels int [images]. A bin holds its upper edge and not its lower one (Guo et
    al. 2017), so a confidence of exactly 1 is in the last bin; one of exactly 0 is in the first.
    """
    confidence, correct = _confidence(probabilities, labels, bins)
    edges = np.linspace(0, 1, bins + 1)
    # Clipping puts 0 into the first bin, and 1 + rounding of a float32 softmax into the last.
    index = np.searchsorted(edges, confidence, side="left").clip(1, bins) - 1
    counts = np.bincount(index, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges=edges,
            counts=counts,
            confidence=np.bincount(index, weights=confidence, minlength=bins) / counts,
            accuracy=np.bincount(index, weights=correct, minlength=bins) / counts,
        )


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """Return the ECE over `bins` equal bins of confidence, in [0, 1]; lower is better.

    probabilities float [images, classes], labels int [images]; bins as in `reliability`.
    """
    return reliability(probabilities, labels, bins).calibration_error


def expected_calibration_error_released(probabilities: Floats, labels: Labels) -> float:
    """Return the ECE of the released code, which asks for 15 bins and gets 14: its edges are linspace(0, 1, 15).

    Arguments as expected_calibration_error. The released code gives a confidence of exactly 0 a bin of its own, which
    changes nothing: no largest probability is 0.
    """
    return expected_calibration_error(probabilities, labels, bins=14)


def adaptive_expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """Return the ECE over `bins` bins of equally many images in order of confidence, in [0, 1]; lower is better.

    probabilities float [images, classes], labels int [images]. Where the number of images is no multiple of `bins`,
    the first bins hold one more; with fewer images than bins, an image is a bin. Images of equal confidence (many have
    exactly 1) may fall on both sides of an edge: each counts with the mean correctness of its equals, so that the order
    of the images doesn't matter.
    """
    confidence, correct = _confidence(probabilities, labels, bins)
    values, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    mean_correct = np.bincount(group, weights=correct) / size
    gaps = np.repeat(mean_correct - values, size)
    images, bins = len(gaps), min(bins, len(gaps))
    starts = np.arange(bins) * (images // bins) + np.minimum(np.arange(bins), images % bins)
    return float(np.abs(np.add.reduceat(gaps, starts)).sum()) / images


def _confidence(probabilities: Floats, labels: Labels, bins: int) -> tuple[Doubles, Doubles]:
    """Return the largest probability of each image, and 1 where its class is the label, else 0."""
    check_probabilities(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    prediction = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), prediction].astype(np.float64)
    return confidence, (prediction == labels).astype(np.float64)
