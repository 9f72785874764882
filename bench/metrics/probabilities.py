"""From logits to the probabilities that every metric takes: softmax, and the mean of an ensemble's members.

An ensemble is the arithmetic mean of its members' softmax probabilities (paper, section 3; released code,
ensemble_freetickets.py). Everything is accumulated in float64, whatever the precision of the logits.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer[Any]]

# A float32 softmax may sum to a little more than 1; anything further off is not a probability.
TOLERANCE = 1e-6

# So many images are looked at, and so far off is no rounding.
SUMMED, FAR = 100, 0.02

# The least positive normal float64: no probability it can represent is altered, and log 0 becomes -708.4.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).tiny)

# Numbers in a part of a large array (2 MB of float64): few enough that what is computed from a part stays in cache.
PART = 1 << 18


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


def logarithm(probabilities: Floats) -> Doubles:
    """Return the natural logarithm as float64, same shape; 0 counts as the least positive normal float64 (-708.4)."""
    return np.asarray(np.log(np.maximum(probabilities, SMALLEST_PROBABILITY, dtype=np.float64)))


def in_parts(members: Floats) -> Iterator[Doubles]:
    """Yield [members, images, classes] as float64, some images at a time, in order: a large set is never copied."""
    count, images, classes = members.shape
    step = max(1, PART // (count * classes))
    for start in range(0, images, step):
        yield members[:, start : start + step].astype(np.float64)


def check_probabilities(probabilities: Floats, labels: Labels) -> None:
    """ValueError unless probabilities [images, classes] in [0, 1] and integer labels [images] fit each other."""
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities must be [images, classes] with at least one of each, not {probabilities.shape}"
        )
    check_labels(labels, *probabilities.shape)
    check_range(probabilities)
    _check_sums(probabilities)


def check_labels(labels: Labels, images: int, classes: int) -> None:
    """ValueError unless labels are `images` integers in 0..classes - 1."""
    if labels.shape != (images,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {images} integers, not {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, found {labels.min()} to {labels.max()}")


def check_members(members: Floats) -> None:
    """ValueError unless members are probabilities [members, images, classes] in [0, 1], at least one of each."""
    if members.ndim != 3 or 0 in members.shape:
        raise ValueError(f"members must be [members, images, classes] with at least one of each, not {members.shape}")
    check_range(members)
    for member in members:
        _check_sums(member)


def check_range(probabilities: Floats) -> None:
    """ValueError unless probabilities, of any shape, at least one of them, lie in [0, 1]."""
    if not np.size(probabilities):
        raise ValueError(f"probabilities must be at least one, not {np.shape(probabilities)}")
    low, high = probabilities.min(), probabilities.max()
    # Written so that NaN, which compares false with everything, is refused too.
    if not (low >= 0 and high <= 1 + TOLERANCE):
        raise ValueError(f"probabilities must lie in [0, 1], found {low} to {high}: are these logits?")


def _check_sums(probabilities: Floats) -> None:
    """ValueError if the first rows do not sum to 1, as sigmoids do not; half precision and rounding are let pass."""
    sums = probabilities[:SUMMED].sum(axis=-1, dtype=np.float64)
    if (np.abs(sums - 1) > FAR).any():
        raise ValueError(f"probabilities of an image must sum to 1, found {sums[np.abs(sums - 1).argmax()]:.4g}")
