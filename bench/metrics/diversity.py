"""How differently the members of an ensemble predict: prediction disagreement and KL divergence, member by member.

Paper, section on the diversity of free tickets; released code, ensemble_freetickets.py, modes `disagreement` (which
adds 0.001 to every pair; not done here) and `KD`.
"""

import numpy as np

from bench.metrics.accuracy import SMALLEST_PROBABILITY
from bench.metrics.probabilities import Doubles, Floats, check_members

# Images a step: keeps the float64 copies of a large evaluation set within a few hundred MB.
CHUNK = 1 << 16


def disagreement_matrix(members: Floats) -> Doubles:
    """Return the share of images on which members i and j predict different classes, float64 [members, members].

    members float [members, images, classes]; symmetric, zero on the diagonal.
    """
    check_members(members)
    predictions = members.argmax(axis=2)
    return np.array([[np.mean(one != other) for other in predictions] for one in predictions])


def kl_matrix(members: Floats) -> Doubles:
    """Return KL(p_j || p_i) at [i, j], mean over images, in nats, float64 [members, members].

    members float [members, images, classes]; zero on the diagonal. A class of probability 0 in p_j adds nothing; one of
    probability 0 in p_i counts as the least positive normal float64, so that the result is finite.
    """
    check_members(members)
    count, images, _ = members.shape
    cross_entropy = np.zeros((count, count))
    for start in range(0, images, CHUNK):
        part = members[:, start : start + CHUNK].astype(np.float64).reshape(count, -1)
        cross_entropy -= np.log(part.clip(SMALLEST_PROBABILITY, None)) @ part.T
    # A divergence is never negative: what rounding leaves below 0 is 0.
    return np.asarray(np.maximum((cross_entropy - cross_entropy.diagonal()) / images, 0.0))


def disagreement(members: Floats) -> float:
    """Return the share of images whose predicted class differs, mean over pairs of members, in [0, 1].

    members float [members, images, classes]; NaN for a single member, which has no pair.
    """
    return _mean_of_pairs(disagreement_matrix(members))


def kl_divergence(members: Floats) -> float:
    """Return KL(p_j || p_i), mean over images and over ordered pairs of members, in nats.

    members float [members, images, classes]; NaN for a single member, which has no pair.
    """
    return _mean_of_pairs(kl_matrix(members))


def _mean_of_pairs(matrix: Doubles) -> float:
    """Return the mean off the diagonal, NaN for a 1 x 1 matrix."""
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    return float(pairs.mean()) if pairs.size else float("nan")
