"""Calibration errors against torchmetrics and slow loops, and by hand at the edges of bins."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from bench.metrics import (
    Reliability,
    adaptive_expected_calibration_error,
    expected_calibration_error,
    expected_calibration_error_released,
    reliability,
)

seeds = st.integers(0, 2**32)


def predictions(seed, images, classes):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.3), size=images), rng.integers(0, classes, images)


def two_classes(confidences):
    """Predictions of class 0 with the given confidences (at least 1/2)."""
    return np.array([[c, 1 - c] for c in confidences])


def slow_ece(probabilities, labels, edges):
    """Guo et al. 2017: bins (low, high], here one image at a time."""
    sums = {}
    for row, label in zip(probabilities, labels, strict=True):
        confidence, correct = max(row), float(list(row).index(max(row)) == label)
        index = next((k for k in range(len(edges) - 1) if edges[k] < confidence <= edges[k + 1]), 0)
        total, gap = sums.get(index, (0, 0.0))
        sums[index] = (total + 1, gap + correct - confidence)
    return sum(abs(gap) for _, gap in sums.values()) / len(labels)


@given(seeds, st.integers(1, 80), st.integers(1, 8), st.integers(1, 40))
def test_ece_equals_a_slow_loop(seed, images, classes, bins):
    probabilities, labels = predictions(seed, images, classes)
    expected = slow_ece(probabilities, labels, np.linspace(0, 1, bins + 1))
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 2, 10, 15, 30])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_ece_equals_torchmetrics_away_from_the_edges(bins, classes):
    probabilities, labels = predictions(bins * classes, 3000, classes)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=classes, n_bins=bins, norm="l1"
    )
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(
        expected.item(), abs=1e-5
    )  # float32


@given(seeds, st.integers(1, 80), st.integers(2, 8))
def test_released_ece_equals_the_released_algorithm(seed, images, classes):
    probabilities, labels = predictions(seed, images, classes)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bin_of = np.digitize(confidence, np.linspace(0, 1, 15), right=True)
    gaps = [abs((correct[bin_of == b].astype(float) - confidence[bin_of == b]).sum()) for b in range(15)]
    expected = sum(gaps) / images
    assert expected_calibration_error_released(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_the_two_definitions_differ():
    # 0.93 and 0.95 share a bin of 14 (13/14 = 0.929) and are parted at 14/15 = 0.933 of 15.
    probabilities, labels = two_classes([0.93, 0.95]), np.array([0, 1])
    assert expected_calibration_error_released(probabilities, labels) == pytest.approx(abs(1 - 0.93 - 0.95) / 2)
    assert expected_calibration_error(probabilities, labels) == pytest.approx((0.07 + 0.95) / 2)


def test_confidence_of_exactly_one_is_in_the_last_bin_with_its_neighbours():
    # In one bin a right and a wrong answer cancel: |(1 - 0.95) + (0 - 1.0)| / 2, not (0.05 + 1.0) / 2.
    probabilities, labels = two_classes([0.95, 1.0]), np.array([0, 1])
    assert reliability(probabilities, labels).counts.tolist() == [0] * 14 + [2]
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.475)


def test_confidence_above_one_by_rounding_is_in_the_last_bin():
    probabilities = np.array([[1.0000001, 0.0]], dtype=np.float32)
    assert reliability(probabilities, np.array([0])).counts[-1] == 1


def test_confidence_zero_is_in_the_first_bin():
    thirds = np.full((100, 3), 1 / 3)  # the sums of later rows are not looked at
    counts = reliability(np.vstack([thirds, np.zeros((1, 3))]), np.zeros(101, int)).counts
    assert counts.tolist() == [1, 0, 0, 0, 100, *[0] * 10]


@pytest.mark.parametrize(("confidence", "index"), [(0.5, 1), (0.75, 2), (0.500001, 2), (0.7499999, 2), (1.0, 3)])
def test_a_bin_holds_its_upper_edge(confidence, index):
    counts = reliability(two_classes([confidence]), np.array([0]), bins=4).counts
    assert counts.nonzero()[0].tolist() == [index]


def test_one_class_is_perfectly_calibrated():
    assert expected_calibration_error(np.ones((5, 1)), np.zeros(5, dtype=int)) == 0.0
    assert adaptive_expected_calibration_error(np.ones((5, 1)), np.zeros(5, dtype=int)) == 0.0


def test_one_image_has_the_distance_of_its_confidence():
    wrong = (np.array([[0.7, 0.2, 0.1]]), np.array([2]))
    for error in (expected_calibration_error, adaptive_expected_calibration_error, expected_calibration_error_released):
        assert error(*wrong) == pytest.approx(0.7)


def test_equal_probabilities_count_as_the_lowest_class():
    assert expected_calibration_error(np.array([[0.5, 0.5]]), np.array([0])) == pytest.approx(0.5)
    assert expected_calibration_error(np.array([[0.4, 0.4, 0.2]]), np.array([1])) == pytest.approx(0.4)


def test_reliability_curve_by_hand():
    curve = reliability(two_classes([0.6, 0.7, 0.9]), np.array([0, 1, 0]), bins=4)
    assert curve.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.counts.tolist() == [0, 0, 2, 1]
    np.testing.assert_allclose(curve.confidence, [np.nan, np.nan, 0.65, 0.9])
    np.testing.assert_allclose(curve.accuracy, [np.nan, np.nan, 0.5, 1.0])
    assert curve.calibration_error == pytest.approx((2 * 0.15 + 0.1) / 3)


def test_adaptive_ece_by_hand_with_a_remainder():
    # Five images in two bins: the three least confident, then two.
    probabilities = two_classes([0.9, 0.5, 0.6, 0.8, 0.7])
    labels = np.array([0, 1, 0, 1, 0])
    low, high = (0 - 0.5) + (1 - 0.6) + (1 - 0.7), (0 - 0.8) + (1 - 0.9)
    expected = (abs(low) + abs(high)) / 5
    assert adaptive_expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(expected)


@given(seeds, st.integers(1, 90), st.integers(2, 6), st.integers(1, 20))
def test_adaptive_ece_equals_a_slow_loop(seed, images, classes, bins):
    probabilities, labels = predictions(seed, images, classes)
    order = sorted(range(images), key=lambda i: probabilities[i].max())
    expected = 0.0
    for part in np.array_split(order, min(bins, images)):
        expected += abs(sum(float(probabilities[i].argmax() == labels[i]) - probabilities[i].max() for i in part))
    actual = adaptive_expected_calibration_error(probabilities, labels, bins)
    assert actual == pytest.approx(expected / images, abs=1e-12)


@given(seeds, st.integers(2, 60), st.integers(1, 7))
def test_adaptive_ece_does_not_depend_on_the_order_of_images_with_equal_confidence(seed, images, bins):
    rng = np.random.default_rng(seed)
    probabilities = two_classes(rng.choice([0.6, 0.8, 1.0], size=images))
    labels = rng.integers(0, 2, images)
    order = rng.permutation(images)
    shuffled = adaptive_expected_calibration_error(probabilities[order], labels[order], bins)
    assert adaptive_expected_calibration_error(probabilities, labels, bins) == pytest.approx(shuffled, abs=1e-12)


@given(seeds, st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 20))
def test_pooled_curves_are_the_curve_of_all_images(seed, sizes, bins):
    sets = [predictions(seed + number, size, 4) for number, size in enumerate(sizes)]
    whole = reliability(np.concatenate([p for p, _ in sets]), np.concatenate([y for _, y in sets]), bins)
    pooled = Reliability.pool(reliability(p, y, bins) for p, y in sets)
    assert pooled.counts.tolist() == whole.counts.tolist()
    np.testing.assert_allclose(pooled.confidence, whole.confidence, rtol=1e-13)
    np.testing.assert_allclose(pooled.accuracy, whole.accuracy, rtol=1e-13)
    assert pooled.calibration_error == pytest.approx(whole.calibration_error, abs=1e-14)


def test_pooling_lets_errors_of_opposite_sign_cancel():
    over, under = (two_classes([0.75, 0.75]), np.array([0, 1])), (two_classes([0.75, 0.75]), np.array([0, 0]))
    curves = [reliability(*over), reliability(*under)]
    assert [curve.calibration_error for curve in curves] == [0.25, 0.25]
    assert Reliability.pool(curves).calibration_error == 0.0


def test_what_can_not_be_pooled_is_refused():
    image = two_classes([0.7]), np.array([0])
    with pytest.raises(ValueError, match="no curve"):
        Reliability.pool([])
    with pytest.raises(ValueError, match="same bins"):
        Reliability.pool([reliability(*image, bins=14), reliability(*image, bins=15)])


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="bins"):
        expected_calibration_error(np.ones((1, 1)), np.array([0]), bins=0)
    with pytest.raises(ValueError, match="bins"):
        adaptive_expected_calibration_error(np.ones((1, 1)), np.array([0]), bins=0)
