"""Metrics as functions on NumPy arrays: probabilities float [images, classes], labels int [images]."""

from bench.metrics.accuracy import accuracy, brier, negative_log_likelihood
from bench.metrics.calibration import (
    Reliability,
    adaptive_expected_calibration_error,
    expected_calibration_error,
    expected_calibration_error_released,
    reliability,
)
from bench.metrics.diversity import disagreement, disagreement_matrix, kl_divergence, kl_matrix
from bench.metrics.probabilities import ensemble_mean, softmax

__all__ = [
    "Reliability",
    "accuracy",
    "adaptive_expected_calibration_error",
    "brier",
    "disagreement",
    "disagreement_matrix",
    "ensemble_mean",
    "expected_calibration_error",
    "expected_calibration_error_released",
    "kl_divergence",
    "kl_matrix",
    "negative_log_likelihood",
    "reliability",
    "softmax",
]
