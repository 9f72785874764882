"""How differently the members of an ensemble err: diversity that depends on the labels, and all pair matrices at once.

Where a ratio is 0/0 the result is NaN, as undefined, and so is a mean over pairs that holds one.
"""

import numpy as np

from bench.metrics import diversity
from bench.metrics.diversity import mean_of_pairs
from bench.metrics.probabilities import Doubles, Floats, Labels, check_labels, check_members, in_parts, logarithm


def normalised_disagreement_matrix(members: Floats, labels: Labels) -> Doubles:
    """Return the disagreement of members i and j divided by the mean of their error rates, float64 [members, members].

    members float [members, images, classes], labels int [images]; in [0, 2], symmetric, zero on the diagonal; NaN
    where neither of the two errs. Source: Fort et al. 2019 (Deep ensembles: a loss landscape perspective), who divide
    by the error rate of one of the two.
    """
    _check(members, labels)
    return _normalised(diversity.disagreement_matrix(members), _correct(members, labels))


def q_statistic_matrix(members: Floats, labels: Labels) -> Doubles:
    """Return Yule's Q of the correctness of members i and j, float64 [members, members], in [-1, 1].

    members float [members, images, classes], labels int [images]. With N11 images on which both are right, N00 on which
    both are wrong, and N10, N01 on which one is: (N11 N00 - N10 N01) / (N11 N00 + N10 N01). 1: right on the same
    images; 0: independent; -1: never wrong together, or never right. Symmetric; NaN where one of the two is always
    right or always wrong. Source: Kuncheva and Whitaker 2003.
    """
    _check(members, labels)
    return _q_statistic(_correct(members, labels))


def normalised_disagreement(members: Floats, labels: Labels) -> float:
    """Return the mean over pairs of members of normalised_disagreement_matrix; NaN for a single member."""
    return mean_of_pairs(normalised_disagreement_matrix(members, labels))


def q_statistic(members: Floats, labels: Labels) -> float:
    """Return the mean over pairs of members of q_statistic_matrix; NaN for a single member."""
    return mean_of_pairs(q_statistic_matrix(members, labels))


def pair_matrices(members: Floats, labels: Labels) -> dict[str, Doubles]:
    """Return all matrices float64 [members, members] of how members i and j differ, in one pass over the predictions.

    members float [members, images, classes], labels int [images]. Keys: disagreement, normalised_disagreement, kl,
    cosine, jensen_shannon, q_statistic, each as the function of that name and `_matrix` says; mean_of_pairs gives the
    mean of each over pairs.
    """
    _check(members, labels)
    images, shape = len(labels), (len(members), len(members))
    cross_entropy, cosine, jensen_shannon = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for part in in_parts(members):
        logs = logarithm(part)
        cross_entropy += diversity.cross_entropy_sums(part, logs)
        cosine += diversity.cosine_sums(part)
        jensen_shannon += diversity.jensen_shannon_sums(part, logs)
    disagreement, correct = diversity.disagreement_matrix(members), _correct(members, labels)
    return {
        "disagreement": disagreement,
        "normalised_disagreement": _normalised(disagreement, correct),
        "kl": diversity.kl_from_sums(cross_entropy, images),
        "cosine": diversity.cosine_from_sums(cosine, images),
        "jensen_shannon": jensen_shannon / images,
        "q_statistic": _q_statistic(correct),
    }


def ambiguity(members: Floats, labels: Labels) -> float:
    """Return the mean NLL of the members less the NLL of their mean, in nats: what averaging gains, at least 0.

    members float [members, images, classes], labels int [images]; 0 for a single member. An exact decomposition: NLL of
    the ensemble = mean NLL of the members - ambiguity, each as negative_log_likelihood, whose guard against log 0 is
    used here too. For the arithmetic mean of probabilities the ambiguity depends on the labels; it doesn't for their
    normalised geometric mean (Heskes 1998). Source: Wood et al. 2023 (A unified theory of diversity in ensemble
    learning).
    """
    _check(members, labels)
    likelihoods = members[:, np.arange(len(labels)), labels].astype(np.float64)
    gain = np.minimum(logarithm(likelihoods.mean(axis=0)), 0) - np.minimum(logarithm(likelihoods), 0).mean(axis=0)
    return max(float(np.mean(gain)), 0.0)


def _check(members: Floats, labels: Labels) -> None:
    check_members(members)
    check_labels(labels, *members.shape[1:])


def _correct(members: Floats, labels: Labels) -> Doubles:
    return np.asarray(members.argmax(axis=2) == labels, dtype=np.float64)


def _normalised(disagreement: Doubles, correct: Doubles) -> Doubles:
    errors = 1 - correct.mean(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * disagreement / (errors[:, None] + errors))


def _q_statistic(correct: Doubles) -> Doubles:
    wrong = 1 - correct
    same = (correct @ correct.T) * (wrong @ wrong.T)
    other = correct @ wrong.T
    with np.errstate(invalid="ignore"):
        return np.asarray((same - other * other.T) / (same + other * other.T))
