"""Probe predictions: those on the same few images after every epoch, as text in the history of a run.

They show how a network moves in function space: t-SNE along training trajectories is made of them (paper, figure of
the trajectories; Fort et al. 2019). The probe images are the first validation images, not augmented.
"""

import base64
import binascii
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

MOST_IMAGES = 128
# A line of the history stays below 35 kB, however many classes there are.
MOST_NUMBERS = 12_800


def probe_images(classes: int, available: int) -> int:
    """Return how many of the validation images the history records predictions on."""
    return min(MOST_IMAGES, max(1, MOST_NUMBERS // classes), available)


def encode(probabilities: Array) -> str:
    """Return probabilities [images, classes] as base64 of float16."""
    return base64.b64encode(np.ascontiguousarray(probabilities, "<f2").tobytes()).decode("ascii")


def decode(text: str, classes: int) -> Array:
    """Return float32 [images, classes]; ValueError for what `encode` never wrote."""
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f2")
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
    return numbers.reshape(-1, classes).astype(np.float32)
