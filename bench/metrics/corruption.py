"""Scores over a family of corrupted sets (19 types x 5 severities) from the results of each set.

A set is named by (type, severity). Nothing here needs the images of two sets at once: the 950,000 of CIFAR-10-C are
seen one set at a time, as reliability curves and error rates. Two definitions of corrupted ECE are in use:
`pooled-19-14bins` (released code) and `mean-15-15bins` (uncertainty-baselines). Their values are not comparable, since
pooling the same sets in the same bins never gives more than the mean; corrupted_ece_names has the name a value carries.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from bench.data.corruptions.catalog import COMMON_15
from bench.metrics.calibration import RELEASED_BINS, Reliability, adaptive_calibration_error
from bench.metrics.probabilities import Floats

# Of the mean over sets, as uncertainty-baselines has it.
MEAN_BINS = 15

TypeAndSeverity = tuple[str, int]
Predictions = tuple[Floats, Floats]


def corrupted_ece_names(types: Collection[str]) -> tuple[str, str]:
    """Return the names of pooled_corrupted_ece and mean_corrupted_ece over sets of these types.

    ("pooled-19-14bins", "mean-15-15bins") for all 19; with fewer types the names say how many count.
    """
    common = len(set(types) & set(COMMON_15))
    return f"pooled-{len(set(types))}-{RELEASED_BINS}bins", f"mean-{common}-{MEAN_BINS}bins"


def pooled_corrupted_ece(curves: Mapping[TypeAndSeverity, Reliability]) -> float:
    """Return the ECE of the images of all sets together, in [0, 1]; lower is better.

    curves: a curve of 14 bins (the released definition) for each (type, severity); every type that is given counts, and
    all must have the same severities, else ValueError. Source: released code, ensemble_freetickets.py.
    """
    _check(curves, RELEASED_BINS)
    return Reliability.pool(curves.values()).calibration_error


def mean_corrupted_ece(curves: Mapping[TypeAndSeverity, Reliability]) -> float:
    """Return the mean over sets of their ECE, in [0, 1]; lower is better.

    curves: a curve of 15 bins for each (type, severity); only COMMON_15 count, ValueError if there are none of them,
    or if types have different severities. Source: uncertainty-baselines, baselines/cifar.
    """
    _check(curves, MEAN_BINS)
    return _mean_of_common({key: curve.calibration_error for key, curve in curves.items() if key[0] in COMMON_15})


def pooled_corrupted_adaptive_ece(predictions: Mapping[TypeAndSeverity, Predictions]) -> float:
    """Return the adaptive ECE of the images of all sets together, in [0, 1], in 14 bins of equally many images.

    predictions: confidence and correctness of each image, float [images] each, for each (type, severity), as
    confidence_and_correctness returns them; conditions as in pooled_corrupted_ece.
    """
    _check_whole(predictions)
    confidence, correct = (np.concatenate(parts) for parts in zip(*predictions.values(), strict=True))
    return adaptive_calibration_error(confidence, correct, RELEASED_BINS)


def mean_corrupted_adaptive_ece(predictions: Mapping[TypeAndSeverity, Predictions]) -> float:
    """Return the mean over sets of their adaptive ECE in 15 bins, in [0, 1]; conditions as in mean_corrupted_ece."""
    _check_whole(predictions)
    return _mean_of_common(
        {key: adaptive_calibration_error(*both, MEAN_BINS) for key, both in predictions.items() if key[0] in COMMON_15}
    )


def corruption_errors(
    errors: Mapping[TypeAndSeverity, float], reference: Mapping[TypeAndSeverity, float]
) -> dict[str, float]:
    """Return the corruption error (CE) of each type: the sum of errors over severities, divided by the reference's.

    errors, reference: error rates (1 - accuracy) in [0, 1] by (type, severity), of the same sets, else ValueError. A
    share: 1 is as many errors as the reference; published tables print it times 100. NaN where the reference makes no
    error. Source: Hendrycks and Dietterich 2019 (their reference is AlexNet).
    """
    if not errors or errors.keys() != reference.keys():
        differing = ", ".join(f"{kind} {severity}" for kind, severity in sorted(errors.keys() ^ reference.keys()))
        raise ValueError(f"errors and reference must be of the same sets, at least one; differing: {differing or '-'}")
    own, others = _sums(errors), _sums(reference)
    return {kind: own[kind] / others[kind] if others[kind] > 0 else float("nan") for kind in own}


def mean_corruption_error(errors: Mapping[TypeAndSeverity, float], reference: Mapping[TypeAndSeverity, float]) -> float:
    """Return the mCE: the mean over the types given of corruption_errors, a share; lower is better.

    NaN if the reference makes no error on one of the types.
    """
    return float(np.mean(list(corruption_errors(errors, reference).values())))


def _sums(errors: Mapping[TypeAndSeverity, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for (kind, _), error in errors.items():
        sums[kind] = sums.get(kind, 0.0) + error
    return sums


def _check(curves: Mapping[TypeAndSeverity, Reliability], bins: int) -> None:
    """ValueError unless there are curves, all of `bins` bins, and each type has the same severities."""
    if any(len(curve.counts) != bins for curve in curves.values()):
        raise ValueError(f"curves must have {bins} bins, found {_listed(len(c.counts) for c in curves.values())}")
    _check_whole(curves)


def _check_whole(sets: Collection[TypeAndSeverity]) -> None:
    """ValueError unless there are sets, and each type has the same severities."""
    types, severities = {kind for kind, _ in sets}, {severity for _, severity in sets}
    if not sets or len(sets) != len(types) * len(severities):
        raise ValueError(
            f"each type needs the same severities, and there must be one set at least: found {len(sets)} sets of "
            f"{len(types)} types and severities {_listed(severities)}"
        )


def _mean_of_common(errors: Mapping[TypeAndSeverity, float]) -> float:
    if not errors:
        raise ValueError(f"none of the common types of corruption: {', '.join(COMMON_15)}")
    return float(np.mean(list(errors.values())))


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(numbers)))) or "none"
