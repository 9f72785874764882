"""Metrics as functions on arrays: probabilities float [images, classes], labels int [images].

Arrays are NumPy's; the functions take tensors of torch, on any device, and nested lists as well (bench.metrics.arrays).
"""

from inspect import isfunction

from bench.metrics.accuracy import accuracy, brier, judged_labels, negative_log_likelihood
from bench.metrics.agreement import (
    ambiguity,
    normalised_disagreement,
    normalised_disagreement_matrix,
    pair_matrices,
    q_statistic,
    q_statistic_matrix,
)
from bench.metrics.arrays import takes_arrays
from bench.metrics.calibration import (
    Reliability,
    adaptive_expected_calibration_error,
    expected_calibration_error,
    expected_calibration_error_released,
    reliability,
)
from bench.metrics.classes import class_accuracy
from bench.metrics.confidence import confidence_and_correctness
from bench.metrics.corruption import (
    corrupted_ece_names,
    corruption_errors,
    mean_corrupted_adaptive_ece,
    mean_corrupted_ece,
    mean_corruption_error,
    pooled_corrupted_adaptive_ece,
    pooled_corrupted_ece,
)
from bench.metrics.diversity import (
    cosine_distance,
    cosine_distance_matrix,
    disagreement,
    disagreement_matrix,
    jensen_shannon_distance,
    jensen_shannon_matrix,
    kl_divergence,
    kl_matrix,
    mean_of_pairs,
)
from bench.metrics.ood import (
    aupr,
    auroc,
    entropy,
    fpr_at_95_tpr,
    mutual_information,
    one_minus_max_probability,
    predictive_entropy,
    roc_curve,
)
from bench.metrics.probabilities import ensemble_mean, softmax
from bench.metrics.selective import (
    area_under_risk_coverage,
    excess_area_under_risk_coverage,
    risk_coverage_curve,
)
from bench.metrics.temperature import (
    fit_ensemble_temperature,
    fit_temperature,
    scale_logits,
    scale_probabilities,
)
from bench.metrics.weights import mask_overlap, topological_distance, weight_cosine

__all__ = [
    "Reliability",
    "accuracy",
    "adaptive_expected_calibration_error",
    "ambiguity",
    "area_under_risk_coverage",
    "aupr",
    "auroc",
    "brier",
    "class_accuracy",
    "confidence_and_correctness",
    "corrupted_ece_names",
    "corruption_errors",
    "cosine_distance",
    "cosine_distance_matrix",
    "disagreement",
    "disagreement_matrix",
    "ensemble_mean",
    "entropy",
    "excess_area_under_risk_coverage",
    "expected_calibration_error",
    "expected_calibration_error_released",
    "fit_ensemble_temperature",
    "fit_temperature",
    "fpr_at_95_tpr",
    "jensen_shannon_distance",
    "jensen_shannon_matrix",
    "judged_labels",
    "kl_divergence",
    "kl_matrix",
    "mask_overlap",
    "mean_corrupted_adaptive_ece",
    "mean_corrupted_ece",
    "mean_corruption_error",
    "mean_of_pairs",
    "mutual_information",
    "negative_log_likelihood",
    "normalised_disagreement",
    "normalised_disagreement_matrix",
    "one_minus_max_probability",
    "pair_matrices",
    "pooled_corrupted_adaptive_ece",
    "pooled_corrupted_ece",
    "predictive_entropy",
    "q_statistic",
    "q_statistic_matrix",
    "reliability",
    "risk_coverage_curve",
    "roc_curve",
    "scale_logits",
    "scale_probabilities",
    "softmax",
    "topological_distance",
    "weight_cosine",
]

for _name in __all__:
    if isfunction(globals()[_name]):
        globals()[_name] = takes_arrays(globals()[_name])
