"""Does an ensemble notice images that show none of its classes? Scores of images, and how well they tell the two apart.

Scores are float64 [images], higher for what looks more out of distribution. Out of distribution is the positive class
of AUROC, AUPR and ROC curve; fpr_at_95_tpr turns that round, as is the custom (ODIN, Liang et al. 2018).
"""

import numpy as np
import numpy.typing as npt

from bench.metrics.probabilities import Doubles, Floats, check_members, check_range, in_parts, logarithm


def one_minus_max_probability(members: Floats) -> Doubles:
    """Return 1 - largest probability of the members' mean, float64 [images], in [0, 1].

    members float [members, images, classes]. Source: Hendrycks and Gimpel 2017.
    """
    check_members(members)
    # Clipped because a float32 softmax may exceed 1 by rounding.
    return np.concatenate([(1 - part.mean(axis=0).max(axis=1)).clip(0) for part in in_parts(members)])


def predictive_entropy(members: Floats) -> Doubles:
    """Return the entropy of the members' mean, in nats, float64 [images]; members float [members, images, classes]."""
    check_members(members)
    return np.concatenate([_entropy(part.mean(axis=0)) for part in in_parts(members)])


def mutual_information(members: Floats) -> Doubles:
    """Return the entropy of the mean less the members' mean entropy, in nats, float64 [images], at least 0.

    members float [members, images, classes]; exactly 0 for a single member. What members disagree on, as opposed to
    what each is unsure of. Source: Houlsby et al. 2011; Lakshminarayanan et al. 2017.
    """
    check_members(members)
    gains = [_entropy(part.mean(axis=0)) - _entropy(part).mean(axis=0) for part in in_parts(members)]
    return np.asarray(np.maximum(np.concatenate(gains), 0.0))


def entropy(probabilities: Floats) -> Doubles:
    """Return the entropy over the last axis, in nats, float64, at least 0; a probability of 0 adds nothing.

    probabilities float of any shape, in [0, 1], else ValueError.
    """
    check_range(probabilities)
    return _entropy(probabilities)


def _entropy(probabilities: Floats) -> Doubles:
    # Logarithms of what rounding leaves above 1 are 0, and abs makes no -0.0 of a certain prediction.
    logs = np.minimum(logarithm(probabilities), 0.0)
    return np.asarray(np.abs(np.einsum("...c,...c->...", probabilities, logs)))


def auroc(inside: Floats, outside: Floats) -> float:
    """Return the probability that an image out of distribution has the higher score, a tie counting half, in [0, 1].

    inside, outside: scores float [images] of images in and out of distribution, at least one each, without NaN, else
    ValueError; 0.5 is chance, higher is better.
    """
    low, high = _sorted(inside), _sorted(outside)
    below, up_to = np.searchsorted(low, high, side="left"), np.searchsorted(low, high, side="right")
    return float((below + up_to).sum()) / (2 * len(low) * len(high))


def aupr(inside: Floats, outside: Floats) -> float:
    """Return the average precision with out of distribution as the positive class, in (0, 1]; higher is better.

    Scores as auroc. The mean over images out of distribution of the precision at a threshold of their own score, equal
    scores on the same side. Chance is the share of images out of distribution, so values are comparable for the same
    numbers of images only.
    """
    low, high = _sorted(inside), _sorted(outside)
    found = len(high) - np.searchsorted(high, high, side="left")
    false = len(low) - np.searchsorted(low, high, side="left")
    return float(np.mean(found / (found + false)))


def fpr_at_95_tpr(inside: Floats, outside: Floats) -> float:
    """Return the share of images out of distribution that are taken for in distribution, in [0, 1]; lower is better.

    Scores as auroc. Here in distribution is the positive class: the threshold is the lowest score at or below which 95%
    of the images in distribution (at least, for equal scores are on the same side) lie. Source: Liang et al. 2018.
    """
    low, high = _sorted(inside), _sorted(outside)
    # In whole numbers, since 0.95 n may be rounded to either side of one.
    threshold = low[-(-95 * len(low) // 100) - 1]
    return float(np.searchsorted(high, threshold, side="right")) / len(high)


def roc_curve(inside: Floats, outside: Floats, points: int = 201) -> tuple[Doubles, Doubles]:
    """Return false-positive rates, `points` evenly spaced in [0, 1], and the true-positive rates there, float64.

    Scores as auroc; points at least 2. A false positive is an image in distribution that is taken for one out of it.
    Where equal scores leave no threshold in between, the curve is a straight line; where it rises vertically, its upper
    end counts.
    """
    low, high = _sorted(inside), _sorted(outside)
    if points < 2:
        raise ValueError(f"points must be at least 2, not {points}")
    # Rates in units of 1 / (images * steps), so that a rate that is a threshold's is known to be.
    steps, images = points - 1, len(low)
    wanted = np.arange(points) * images
    threshold = low[np.maximum(images - 1 - wanted // steps, 0)]
    above_in, from_in = _above_and_from(low, threshold)
    above_out, from_out = _above_and_from(high, threshold)
    along = (wanted - above_in * steps) / ((from_in - above_in) * steps)
    true = (above_out + along * (from_out - above_out)) / len(high)
    true[-1] = 1.0  # below the lowest score in distribution, too
    return wanted / (images * steps), true


def _above_and_from(scores: Doubles, threshold: Doubles) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return how many of the sorted scores are above each threshold, and how many at least equal to it."""
    return (
        len(scores) - np.searchsorted(scores, threshold, side="right"),
        len(scores) - np.searchsorted(scores, threshold, side="left"),
    )


def _sorted(scores: Floats) -> Doubles:
    if scores.ndim != 1 or not scores.size or np.isnan(scores).any():
        raise ValueError(f"scores must be [images], at least one and none of them NaN, not {scores.shape}")
    return np.sort(scores.astype(np.float64))
