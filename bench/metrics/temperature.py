"""Temperature scaling: one number, fitted on validation images, that softens or sharpens all predictions.

A network's logits are divided by the temperature (Guo et al. 2017, section 4.2); an ensemble is calibrated after
pooling, by dividing the logarithm of the mean probabilities (Rahaman and Thiery 2021, "pool-then-calibrate").
"""

import numpy as np
from scipy.optimize import brentq

from bench.metrics.probabilities import (
    PART,
    Doubles,
    Floats,
    Labels,
    check_labels,
    check_probabilities,
    check_range,
    logarithm,
    softmax,
)

LOWEST, HIGHEST = 0.01, 100.0


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Return the T in [0.01, 100] with the least NLL of softmax(logits / T).

    logits float [images, classes], finite, labels int [images]; ValueError otherwise. The NLL is convex in 1 / T, so
    the least is unique, unless no T changes anything (all logits of each image are equal): then 1. Where it lies beyond
    a bound, the bound is returned: 0.01 if every label has the largest logit, say (perfect separation: T would go to
    0), and 100 if logits are no better than chance (to infinity).
    """
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must be [images, classes] with at least one of each, not {logits.shape}")
    check_labels(labels, *logits.shape)
    if not np.isfinite(logits).all():
        raise ValueError("logits that are not finite can't be scaled")

    def slope(log_inverse: float) -> float:
        return _nll_slope(logits, labels, float(np.exp(log_inverse)))

    low, high = -float(np.log(HIGHEST)), -float(np.log(LOWEST))
    if slope(low) >= 0:
        return 1.0 if bool((logits == logits[:, :1]).all()) else HIGHEST
    if slope(high) <= 0:
        return LOWEST
    return float(np.exp(-brentq(slope, low, high, xtol=1e-9)))


def fit_ensemble_temperature(probabilities: Floats, labels: Labels) -> float:
    """Return the T in [0.01, 100] with the least NLL of scale_probabilities(probabilities, T).

    probabilities float [images, classes], the mean of the members', labels int [images]; as fit_temperature.
    """
    check_probabilities(probabilities, labels)
    return fit_temperature(logarithm(probabilities), labels)


def scale_logits(logits: Floats, temperature: float) -> Doubles:
    """Return softmax(logits / T) over the last axis, float64, same shape; ValueError unless T > 0 and finite."""
    return softmax(np.asarray(logits, dtype=np.float64) / _checked(temperature))


def scale_probabilities(probabilities: Floats, temperature: float) -> Doubles:
    """Return p^(1 / T), normalised over the last axis, float64, same shape; ValueError unless T > 0 and finite.

    probabilities in [0, 1], else ValueError. The same as scale_logits of the logits where the probabilities are a
    softmax. A probability of 0 counts as the least positive normal float64.
    """
    check_range(probabilities)
    return softmax(logarithm(probabilities) / _checked(temperature))


def _nll_slope(logits: Floats, labels: Labels, inverse: float) -> float:
    """Return the derivative by 1 / T of the NLL, summed over images: the expected logit less that of the label."""
    images, classes = logits.shape
    step, total = max(1, PART // classes), 0.0
    for start in range(0, images, step):
        part = logits[start : start + step].astype(np.float64)
        part -= part.max(axis=1, keepdims=True)
        weights = np.exp(inverse * part)
        expected = np.einsum("ic,ic->i", weights, part) / weights.sum(axis=1)
        total += float((expected - part[np.arange(len(part)), labels[start : start + step]]).sum())
    return total


def _checked(temperature: float) -> float:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"a temperature must be positive and finite, not {temperature}")
    return temperature
