"""Where networks are in function space: t-SNE of the predictions along trajectories (Fort et al. 2019, figure 2).

The paper draws the trajectories of its tickets so. What a network predicts on a fixed set of images, flattened, is a
point; in the plane, distances mean something between neighbours alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.metrics.probabilities import Doubles, Floats

PATHS = "trajectory run epoch phase ticket x y"
# Beyond this t-SNE takes more than seconds and a picture is full.
MOST_POINTS = 1500
# van der Maaten & Hinton 2008 use 5 to 50; with few points every one would be a neighbour of all.
PERPLEXITY = 30
FEWEST_POINTS = 4
# Probabilities that differ by less are the same.
SAME = 1e-6


class Prediction(NamedTuple):
    """What a run predicted after an epoch: probabilities float [images, classes]; `ticket` if it became one."""

    trajectory: str
    run: str
    epoch: int
    phase: str
    ticket: bool
    probabilities: Floats


def embed(predictions: Sequence[Prediction], *, most: int = MOST_POINTS) -> pd.DataFrame:
    """Return a point of the plane for each prediction, one t-SNE over all: the columns of PATHS, epochs in order.

    All must be of the same images in the same order, since only such predictions can be compared. Of more than `most`,
    every second, third ... epoch of each run is embedded, with its first, its last and its tickets always. Predictions
    that are not finite (a run that diverged) are left out. The same predictions in the same order give the same points
    whatever the number of cores. Fewer than 4 points are laid out by their principal components, equal ones on one
    spot. ValueError if shapes differ.
    """
    if len({prediction.probabilities.shape for prediction in predictions}) > 1:
        raise ValueError("predictions of different images or classes have no distance")
    finite = [prediction for prediction in predictions if np.isfinite(prediction.probabilities).all()]
    kept = _thinned(finite, most)
    points = np.array([prediction.probabilities.ravel() for prediction in kept], dtype=np.float32)
    frame = pd.DataFrame([prediction[:-1] for prediction in kept], columns=PATHS.split()[:-2])
    frame[["x", "y"]] = _plane(points) if kept else np.empty((0, 2))
    return frame


def _thinned(predictions: Sequence[Prediction], most: int) -> list[Prediction]:
    """Return at most `most` predictions, evenly along each run, runs in their order and epochs from first to last.

    What must be kept is kept even if it is more.
    """
    runs: dict[tuple[str, str], list[Prediction]] = {}
    for prediction in predictions:
        runs.setdefault((prediction.trajectory, prediction.run), []).append(prediction)
    ordered = [sorted(run, key=lambda prediction: prediction.epoch) for run in runs.values()]
    longest = max(map(len, ordered), default=1)
    for step in range(1, longest + 1):
        kept = [
            prediction
            for run in ordered
            for index, prediction in enumerate(run)
            if index % step == 0 or index == len(run) - 1 or prediction.ticket
        ]
        if len(kept) <= most:
            break
    return kept


def _plane(points: Floats) -> Doubles:
    """Return t-SNE of points [points, features], float64 [points, 2], about the origin."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Without any variance scikit-learn's t-SNE divides 0 by 0 and crashes the interpreter.
    if np.allclose(points, points[0], rtol=0, atol=SAME):
        return np.zeros((len(points), 2))
    if len(points) < FEWEST_POINTS:
        return _principal_components(points)
    tsne = TSNE(init="pca", perplexity=min(PERPLEXITY, (len(points) - 1) / 3), random_state=0)
    # A sum over threads depends on their number, and t-SNE makes much of the last bit.
    with threadpool_limits(1):
        return np.asarray(tsne.fit_transform(points), dtype=np.float64)


def _principal_components(points: Floats) -> Doubles:
    from sklearn.decomposition import PCA

    plane = np.zeros((len(points), 2))
    count = min(2, *points.shape)
    plane[:, :count] = PCA(count, svd_solver="full").fit_transform(points)
    return plane
