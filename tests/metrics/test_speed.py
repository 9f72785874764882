"""A million images with ten classes: every metric of the main table takes less than a second on two cores."""

from time import perf_counter

import numpy as np
import pytest

from bench import metrics


@pytest.fixture(scope="module")
def predictions():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 1_000_000, 10)).astype(np.float32)
    return metrics.softmax(logits), rng.integers(0, 10, 1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "metric", [metrics.accuracy, metrics.negative_log_likelihood, metrics.expected_calibration_error, metrics.brier]
)
def test_a_million_images_are_scored_within_a_second(predictions, metric):
    members, labels = predictions
    start = perf_counter()
    metric(members[0], labels)
    assert perf_counter() - start < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("metric", [metrics.disagreement, metrics.kl_divergence, metrics.ensemble_mean])
def test_three_members_are_compared_within_a_second(predictions, metric):
    members, _ = predictions
    start = perf_counter()
    metric(members)
    assert perf_counter() - start < 1.0
