"""Corrupted ECE and mCE from the results of each set: against all images at once, slow loops, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.corruptions.catalog import COMMON_15, CORRUPTIONS
from bench.metrics import (
    adaptive_expected_calibration_error,
    confidence_and_correctness,
    corrupted_ece_names,
    corruption_errors,
    expected_calibration_error,
    expected_calibration_error_released,
    mean_corrupted_adaptive_ece,
    mean_corrupted_ece,
    mean_corruption_error,
    pooled_corrupted_adaptive_ece,
    pooled_corrupted_ece,
    reliability,
)

EXTRA_TYPES = ("gaussian_blur", "saturate", "spatter", "speckle_noise")


def corrupted_sets(seed, types, severities=(1, 2, 3, 4, 5), images=40):
    """Predictions of ten classes that get worse with severity, by (type, severity)."""
    rng = np.random.default_rng(seed)
    sets = {}
    for kind in types:
        for severity in severities:
            probabilities = rng.dirichlet(np.full(10, 0.2), size=images)
            guesses = rng.integers(0, 10, images)
            labels = np.where(rng.random(images) < 1 - severity / 6, probabilities.argmax(axis=1), guesses)
            sets[kind, severity] = probabilities, labels
    return sets


def curves(sets, bins):
    return {key: reliability(*images, bins=bins) for key, images in sets.items()}


def test_the_pooled_ece_is_the_released_one_of_all_images_together():
    sets = corrupted_sets(0, (*COMMON_15, *EXTRA_TYPES))
    probabilities, labels = (np.concatenate(parts) for parts in zip(*sets.values(), strict=True))
    expected = expected_calibration_error_released(probabilities, labels)
    assert pooled_corrupted_ece(curves(sets, 14)) == pytest.approx(expected, abs=1e-14)


def test_the_mean_ece_is_over_the_sets_of_the_common_types():
    sets = corrupted_sets(1, (*COMMON_15, *EXTRA_TYPES))
    counted = [expected_calibration_error(*sets[kind, s]) for kind in COMMON_15 for s in range(1, 6)]
    others = [expected_calibration_error(*sets[kind, s]) for kind in EXTRA_TYPES for s in range(1, 6)]
    assert mean_corrupted_ece(curves(sets, 15)) == pytest.approx(np.mean(counted), rel=1e-13)
    assert np.mean(counted) != pytest.approx(np.mean(counted + others), rel=1e-6)


@given(st.integers(0, 2**32))
def test_pooling_the_same_sets_in_the_same_bins_never_gives_more_than_the_mean(seed):
    sets = corrupted_sets(seed, COMMON_15[:3], (1, 5), images=15)
    mean = np.mean([expected_calibration_error_released(*images) for images in sets.values()])
    assert pooled_corrupted_ece(curves(sets, 14)) <= mean + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_adaptive_errors_under_both_definitions_are_those_of_the_images(seed):
    sets = corrupted_sets(seed, (*COMMON_15[:2], *EXTRA_TYPES[:1]), (1, 3))
    predictions = {key: confidence_and_correctness(*images) for key, images in sets.items()}
    together = [np.concatenate(parts) for parts in zip(*sets.values(), strict=True)]
    assert pooled_corrupted_adaptive_ece(predictions) == pytest.approx(
        adaptive_expected_calibration_error(*together, bins=14), abs=1e-12
    )
    common = [adaptive_expected_calibration_error(*sets[kind, s]) for kind in COMMON_15[:2] for s in (1, 3)]
    assert mean_corrupted_adaptive_ece(predictions) == pytest.approx(np.mean(common), abs=1e-12)
    # narrow floats are widened before they are summed
    narrow = {key: (sure.astype(np.float32), right.astype(np.float32)) for key, (sure, right) in predictions.items()}
    assert pooled_corrupted_adaptive_ece(narrow) == pytest.approx(pooled_corrupted_adaptive_ece(predictions), abs=1e-7)


def test_adaptive_errors_need_whole_sets_and_a_common_type():
    predictions = {("gaussian_blur", 1): (np.array([0.5]), np.array([1.0]))}
    with pytest.raises(ValueError, match="none of the common types"):
        mean_corrupted_adaptive_ece(predictions)
    with pytest.raises(ValueError, match="at least"):
        pooled_corrupted_adaptive_ece({})
    uneven = {**predictions, ("fog", 1): predictions["gaussian_blur", 1], ("fog", 2): predictions["gaussian_blur", 1]}
    with pytest.raises(ValueError, match="same severities"):
        pooled_corrupted_adaptive_ece(uneven)


def test_the_common_types_are_the_fifteen_of_the_catalog():
    assert len(set(COMMON_15)) == 15
    assert {*COMMON_15, *EXTRA_TYPES} == set(CORRUPTIONS)


def test_names_say_how_many_types_count():
    assert corrupted_ece_names((*COMMON_15, *EXTRA_TYPES)) == ("pooled-19-14bins", "mean-15-15bins")
    assert corrupted_ece_names(["fog", "fog", "snow", "saturate"]) == ("pooled-3-14bins", "mean-2-15bins")


def test_curves_of_other_bins_are_refused():
    sets = corrupted_sets(2, ["fog"])
    with pytest.raises(ValueError, match="14 bins, found 15"):
        pooled_corrupted_ece(curves(sets, 15))
    with pytest.raises(ValueError, match="15 bins, found 14"):
        mean_corrupted_ece(curves(sets, 14))


@pytest.mark.parametrize(("score", "bins"), [(pooled_corrupted_ece, 14), (mean_corrupted_ece, 15)])
def test_a_missing_set_is_no_smaller_mean(score, bins):
    sets = corrupted_sets(3, ["fog", "snow"])
    del sets["fog", 5]
    with pytest.raises(ValueError, match="found 9 sets of 2 types and severities 1, 2, 3, 4, 5"):
        score(curves(sets, bins))
    with pytest.raises(ValueError, match="found 0 sets"):
        score({})


def test_no_mean_is_taken_over_other_types_alone():
    with pytest.raises(ValueError, match="none of the common types"):
        mean_corrupted_ece(curves(corrupted_sets(4, ["saturate"]), 15))


def test_mce_by_hand():
    errors = {("fog", 1): 0.1, ("fog", 2): 0.3, ("snow", 1): 0.2, ("snow", 2): 0.2}
    reference = {("fog", 1): 0.2, ("fog", 2): 0.2, ("snow", 1): 0.1, ("snow", 2): 0.1}
    # The sum over severities is divided, and not each severity: fog 0.4 / 0.4, snow 0.4 / 0.2.
    assert corruption_errors(errors, reference) == pytest.approx({"fog": 1.0, "snow": 2.0})
    assert mean_corruption_error(errors, reference) == pytest.approx(1.5)


@given(st.integers(0, 2**32))
def test_mce_equals_a_loop_over_arrays_and_is_one_for_the_reference(seed):
    own, others = np.random.default_rng(seed).uniform(0.01, 1, (2, 15, 5))
    errors, reference = (
        {(kind, s + 1): float(table[t, s]) for t, kind in enumerate(COMMON_15) for s in range(5)}
        for table in (own, others)
    )
    expected = np.mean(own.sum(axis=1) / others.sum(axis=1))
    assert mean_corruption_error(errors, reference) == pytest.approx(expected, rel=1e-13)
    assert mean_corruption_error(reference, reference) == 1.0


def test_a_reference_without_error_leaves_the_ratio_undefined():
    errors, reference = {("fog", 1): 0.5, ("snow", 1): 0.5}, {("fog", 1): 0.0, ("snow", 1): 0.5}
    assert math.isnan(corruption_errors(errors, reference)["fog"])
    assert corruption_errors(errors, reference)["snow"] == 1.0
    assert math.isnan(mean_corruption_error(errors, reference))


@pytest.mark.parametrize("other", [{("fog", 1): 0.1}, {("fog", 1): 0.1, ("snow", 2): 0.1}, {}])
def test_a_reference_of_other_sets_is_refused(other):
    with pytest.raises(ValueError, match="snow 1"):
        mean_corruption_error({("fog", 1): 0.1, ("snow", 1): 0.1}, other)


def test_no_errors_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        mean_corruption_error({}, {})
