"""From logits to the probabilities that every metric takes: softmax, and the mean of an ensemble's members.

An ensemble is the arithmetic mean of its members' softmax probabilities (paper, section 3; released code,
ensemble_freetickets.py). Everything is accumulated in float64, whatever the precision of the logits.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer[Any]]

# A float32 softmax may sum to a little more than 1; anything further off is not a probability.
TOLERANCE = 1e-6


def softmax(logits: Floats) -> Doubles:
    """Return softmax over the last axis as float64, same shape; ValueError for logits that are not finite."""
    values = np.asarray(logits).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("logits that are not finite have no softmax")
    values -= values.max(axis=-1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=-1, keepdims=True)
    return values


def ensemble_mean(members: Floats) -> Doubles:
    """Return the mean over members of probabilities [members, images, classes], as float64 [images, classes]."""
    check_members(members)
    return np.asarray(members.mean(axis=0, dtype=np.float64))


def check_probabilities(probabilities: Floats, labels: Labels) -> None:
    """ValueError unless probabilities [images, classes] in [0, 1] and integer labels [images] fit each other."""
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities must be [images, classes] with at least one of each, not {probabilities.shape}"
        )
    if labels.shape != probabilities.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {probabilities.shape[0]} integers, not {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels must lie in 0..{probabilities.shape[1] - 1}, found {labels.min()} to {labels.max()}")
    _check_range(probabilities)


def check_members(members: Floats) -> None:
    """ValueError unless members are probabilities [members, images, classes] in [0, 1], at least one of each."""
    if members.ndim != 3 or 0 in members.shape:
        raise ValueError(f"members must be [members, images, classes] with at least one of each, not {members.shape}")
    _check_range(members)


def _check_range(probabilities: Floats) -> None:
    low, high = probabilities.min(), probabilities.max()
    # Written so that NaN, which compares false with everything, is refused too.
    if not (low >= 0 and high <= 1 + TOLERANCE):
        raise ValueError(f"probabilities must lie in [0, 1], found {low} to {high}: are these logits?")
