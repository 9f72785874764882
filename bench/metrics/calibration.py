"""Is a confidence of 90% right nine times in ten? Reliability curves and expected calibration errors (ECE).

The confidence of a prediction is its largest probability. There are several definitions of ECE, whose values are not
comparable, so each has its own name here: 15 equal bins (Guo et al. 2017, section 2; uncertainty-baselines), the
released code's 14 bins (ensemble_freetickets.py), and bins of equal mass (Nguyen and O'Connor 2015).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from bench.metrics.confidence import confidence_and_correctness, sorted_by_confidence
from bench.metrics.probabilities import Doubles, Floats, Labels

RELEASED_BINS = 14


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: float64 arrays [bins], and edges [bins + 1]; an empty bin has NaN means."""

    edges: Doubles
    counts: Doubles
    confidence: Doubles
    accuracy: Doubles

    @classmethod
    def from_sums(cls, edges: Doubles, counts: Doubles, confidence: Doubles, correct: Doubles) -> Self:
        """Return the curve of bins with these numbers of images, sums of confidence and numbers of correct images."""
        with np.errstate(invalid="ignore"):
            return cls(edges=edges, counts=counts, confidence=confidence / counts, accuracy=correct / counts)

    @classmethod
    def pool(cls, curves: Iterable[Self]) -> Self:
        """Return the curve of all images of the given curves together, up to rounding; they need not be in memory.

        ValueError without a curve, or if the curves have different bins.
        """
        parts = list(curves)
        if not parts:
            raise ValueError("no curve to pool")
        if any(not np.array_equal(part.edges, parts[0].edges) for part in parts):
            raise ValueError("only curves of the same bins can be pooled")
        counts = np.stack([part.counts for part in parts])
        filled = counts > 0
        # The sum of an empty bin is 0, which its NaN mean doesn't tell.
        confidence, correct = (
            np.where(filled, counts * np.stack(means), 0.0).sum(axis=0)
            for means in ([part.confidence for part in parts], [part.accuracy for part in parts])
        )
        return cls.from_sums(parts[0].edges, counts.sum(axis=0), confidence, correct)

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
    _check_bins(bins)
    confidence, correct = confidence_and_correctness(probabilities, labels)
    edges = np.linspace(0, 1, bins + 1)
    # Clipping puts 0 into the first bin, and 1 + rounding of a float32 softmax into the last.
    index = np.searchsorted(edges, confidence, side="left").clip(1, bins) - 1
    sums = [np.bincount(index, weights=each, minlength=bins).astype(np.float64) for each in (None, confidence, correct)]
    return Reliability.from_sums(edges, *sums)


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
    return expected_calibration_error(probabilities, labels, bins=RELEASED_BINS)


def adaptive_expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """Return the ECE over `bins` bins of equally many images in order of confidence, in [0, 1]; lower is better.

    probabilities float [images, classes], labels int [images]. Where the number of images is no multiple of `bins`,
    the first bins hold one more; with fewer images than bins, an image is a bin. Images of equal confidence may fall on
    both sides of an edge: each counts with the mean correctness of its equals, as in sorted_by_confidence.
    """
    return adaptive_calibration_error(*confidence_and_correctness(probabilities, labels), bins)


def adaptive_calibration_error(confidence: Floats, correct: Floats, bins: int = 15) -> float:
    """Return the same from confidences in [0, 1] and whether each is right (1 or 0), float [images] each."""
    _check_bins(bins)
    confidence, correct = sorted_by_confidence(confidence, correct)
    images, bins = len(confidence), min(bins, len(confidence))
    starts = np.arange(bins) * (images // bins) + np.minimum(np.arange(bins), images % bins)
    return float(np.abs(np.add.reduceat(correct - confidence, starts)).sum()) / images


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
