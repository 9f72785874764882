"""How differently the members of an ensemble predict, member by member, whatever the labels.

Prediction disagreement and KL divergence: paper, section on the diversity of free tickets; released code,
ensemble_freetickets.py, modes `disagreement` (which adds 0.001 to every pair; not done here) and `KD`. Cosine and
Jensen-Shannon distance are those of scipy.spatial.distance, of each image's probabilities, mean over images. All
matrices in one pass: `pair_matrices` of bench.metrics.agreement.
"""

import numpy as np

from bench.metrics.probabilities import Doubles, Floats, check_members, in_parts, logarithm


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
    total = sum(cross_entropy_sums(part, logarithm(part)) for part in in_parts(members))
    return kl_from_sums(np.asarray(total), members.shape[1])


def cosine_distance_matrix(members: Floats) -> Doubles:
    """Return 1 - cosine of the probability vectors of members i and j, mean over images, float64 [members, members].

    members float [members, images, classes]; in [0, 1], symmetric, zero on the diagonal.
    """
    check_members(members)
    total = sum(cosine_sums(part) for part in in_parts(members))
    return cosine_from_sums(np.asarray(total), members.shape[1])


def jensen_shannon_matrix(members: Floats) -> Doubles:
    """Return the Jensen-Shannon distance of members i and j, mean over images, float64 [members, members].

    members float [members, images, classes]; the root of the divergence in nats, so in [0, sqrt(ln 2) = 0.833], each
    image's exact to about 1e-8; symmetric, zero on the diagonal.
    """
    check_members(members)
    total = sum(jensen_shannon_sums(part, logarithm(part)) for part in in_parts(members))
    return np.asarray(total / members.shape[1])


def disagreement(members: Floats) -> float:
    """Return the share of images whose predicted class differs, mean over pairs of members, in [0, 1].

    members float [members, images, classes]; NaN for a single member, which has no pair.
    """
    return mean_of_pairs(disagreement_matrix(members))


def kl_divergence(members: Floats) -> float:
    """Return KL(p_j || p_i), mean over images and over ordered pairs of members, in nats.

    members float [members, images, classes]; NaN for a single member, which has no pair.
    """
    return mean_of_pairs(kl_matrix(members))


def cosine_distance(members: Floats) -> float:
    """Return the mean over pairs of members of cosine_distance_matrix; NaN for a single member, which has no pair."""
    return mean_of_pairs(cosine_distance_matrix(members))


def jensen_shannon_distance(members: Floats) -> float:
    """Return the mean over pairs of members of jensen_shannon_matrix; NaN for a single member, which has no pair."""
    return mean_of_pairs(jensen_shannon_matrix(members))


def mean_of_pairs(matrix: Doubles) -> float:
    """Return the mean off the diagonal of a matrix [members, members]; NaN if it is 1 x 1, or if one of them is NaN."""
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    return float(pairs.mean()) if pairs.size else float("nan")


def cross_entropy_sums(part: Doubles, logs: Doubles) -> Doubles:
    """Return the sum over images of -p_j log p_i at [i, j]; part, logs: p and log p, [members, images, classes]."""
    count = len(part)
    return np.asarray(-(logs.reshape(count, -1) @ part.reshape(count, -1).T))


def kl_from_sums(cross_entropy: Doubles, images: int) -> Doubles:
    """Return kl_matrix from cross_entropy_sums over all images."""
    # A divergence is never negative: what rounding leaves below 0 is 0.
    return np.asarray(np.maximum((cross_entropy - cross_entropy.diagonal()) / images, 0.0))


def cosine_sums(part: Doubles) -> Doubles:
    """Return the sum over images of the cosine of p_i and p_j; part: p, [members, images, classes]."""
    lengths = np.sqrt(np.einsum("mic,mic->mi", part, part))
    directions = (part / lengths[..., None]).reshape(len(part), -1)
    return np.asarray(directions @ directions.T)


def cosine_from_sums(cosine: Doubles, images: int) -> Doubles:
    """Return cosine_distance_matrix from cosine_sums over all images."""
    distance = np.maximum(1 - cosine / images, 0.0)
    np.fill_diagonal(distance, 0.0)
    return distance


def jensen_shannon_sums(part: Doubles, logs: Doubles) -> Doubles:
    """Return the sum over images of the distance of p_i and p_j; arguments as cross_entropy_sums."""
    entropies = -np.einsum("mic,mic->mi", part, logs)
    sums = np.zeros((len(part), len(part)))
    for i, j in zip(*np.triu_indices(len(part), k=1), strict=True):
        middle = (part[i] + part[j]) / 2
        divergence = -np.einsum("ic,ic->i", middle, logarithm(middle)) - (entropies[i] + entropies[j]) / 2
        sums[i, j] = sums[j, i] = np.sqrt(np.maximum(divergence, 0.0)).sum()
    return sums
