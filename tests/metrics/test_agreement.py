"""Normalised disagreement, Q statistic and ambiguity against slow loops and SciPy, and by hand where a ratio is 0/0."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix

from bench.metrics import (
    ambiguity,
    cosine_distance_matrix,
    disagreement_matrix,
    ensemble_mean,
    jensen_shannon_matrix,
    kl_matrix,
    negative_log_likelihood,
    normalised_disagreement,
    normalised_disagreement_matrix,
    pair_matrices,
    q_statistic,
    q_statistic_matrix,
)

shapes = st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 6))
seeds = st.integers(0, 2**32)
SMALLEST = np.finfo(np.float64).tiny


def draw(seed, shape):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(shape[2], 0.4), size=shape[:2]), rng.integers(0, shape[2], shape[1])


def of_classes(*predictions, classes=3):
    """Members that are certain of the given classes."""
    return np.eye(classes)[np.array(predictions)]


@given(seeds, shapes)
def test_normalised_disagreement_equals_a_loop_over_pairs(seed, shape):
    p, labels = draw(seed, shape)
    matrix = normalised_disagreement_matrix(p, labels)
    predicted = p.argmax(axis=2)
    for i, j in itertools.product(range(shape[0]), repeat=2):
        error = (2 - accuracy_score(labels, predicted[i]) - accuracy_score(labels, predicted[j])) / 2
        expected = np.mean(predicted[i] != predicted[j]) / error if error > 1e-9 else math.nan
        assert matrix[i, j] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(seeds, shapes)
def test_q_equals_yules_of_the_table_of_correctness(seed, shape):
    p, labels = draw(seed, shape)
    matrix = q_statistic_matrix(p, labels)
    correct = p.argmax(axis=2) == labels
    for i, j in itertools.product(range(shape[0]), repeat=2):
        (n00, n01), (n10, n11) = confusion_matrix(correct[i], correct[j], labels=[False, True]).tolist()
        below = n11 * n00 + n10 * n01
        expected = (n11 * n00 - n10 * n01) / below if below else math.nan
        assert matrix[i, j] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_normalised_disagreement_by_hand():
    labels = np.array([0, 0, 0, 0])
    p = of_classes([0, 0, 0, 1], [0, 0, 1, 2], [0, 0, 0, 0])
    matrix = normalised_disagreement_matrix(p, labels)
    # Errors 1/4, 2/4 and 0; they differ on 2, 1 and 2 of four images.
    assert matrix[0].tolist() == pytest.approx([0, (2 / 4) / (3 / 8), (1 / 4) / (1 / 8)])
    assert matrix[1, 2] == pytest.approx((2 / 4) / (2 / 8))
    assert math.isnan(matrix[2, 2])  # a member without error, with itself
    assert normalised_disagreement(p, labels) == pytest.approx((4 / 3 + 2 + 2) / 3)


def test_two_members_without_error_have_no_normalised_disagreement():
    assert math.isnan(normalised_disagreement(of_classes([0, 1], [0, 1]), np.array([0, 1])))


def test_q_by_hand():
    labels = np.zeros(4, dtype=int)
    same, half, opposite = [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0]
    matrix = q_statistic_matrix(of_classes(same, half, opposite), labels)
    assert matrix.tolist() == [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]
    # Kuncheva and Whitaker: N11 = 2, N00 = 1, N10 = 1, N01 = 1 gives 1/3.
    assert q_statistic(of_classes([0, 0, 1, 0, 1], [0, 0, 1, 1, 0]), np.zeros(5, dtype=int)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("constant", [[0, 0, 0], [1, 1, 1]])
def test_a_member_that_is_always_right_or_always_wrong_has_no_q(constant):
    matrix = q_statistic_matrix(of_classes(constant, [0, 1, 0]), np.zeros(3, dtype=int))
    assert np.isnan(matrix[0]).all()
    assert matrix[1, 1] == 1.0
    assert math.isnan(q_statistic(of_classes(constant, [0, 1, 0]), np.zeros(3, dtype=int)))


@given(seeds, shapes)
def test_the_matrices_of_one_pass_are_those_of_each_function(seed, shape):
    p, labels = draw(seed, shape)
    expected = {
        "disagreement": disagreement_matrix(p),
        "normalised_disagreement": normalised_disagreement_matrix(p, labels),
        "kl": kl_matrix(p),
        "cosine": cosine_distance_matrix(p),
        "jensen_shannon": jensen_shannon_matrix(p),
        "q_statistic": q_statistic_matrix(p, labels),
    }
    matrices = pair_matrices(p, labels)
    assert list(matrices) == list(expected)
    for name, matrix in expected.items():
        np.testing.assert_allclose(matrices[name], matrix, rtol=1e-12, atol=1e-15, err_msg=name)


@given(seeds, shapes)
def test_ambiguity_is_the_mean_loss_of_members_less_that_of_the_ensemble(seed, shape):
    p, labels = draw(seed, shape)
    members_nll = np.mean([negative_log_likelihood(member, labels) for member in p])
    gain = ambiguity(p, labels)
    assert gain >= 0
    assert negative_log_likelihood(ensemble_mean(p), labels) == pytest.approx(members_nll - gain, abs=1e-11)


def test_ambiguity_by_hand():
    p = np.array([[[0.9, 0.1]], [[0.1, 0.9]]])
    assert ambiguity(p, np.array([0])) == pytest.approx(math.log(0.5) - (math.log(0.9) + math.log(0.1)) / 2)
    lopsided = np.array([[[0.9, 0.1]], [[0.6, 0.4]]])
    on_first, on_second = (ambiguity(lopsided, np.array([label])) for label in (0, 1))
    assert on_first == pytest.approx(math.log(0.75) - (math.log(0.9) + math.log(0.6)) / 2)
    assert on_second == pytest.approx(math.log(0.25) - (math.log(0.1) + math.log(0.4)) / 2)
    assert on_first != pytest.approx(on_second)


def test_ambiguity_guards_the_logarithm_as_the_loss_does():
    p, label = np.array([[[1.0, 0.0]], [[0.5, 0.5]]]), np.array([1])
    assert ambiguity(p, label) == pytest.approx(math.log(0.25) - (math.log(SMALLEST) + math.log(0.5)) / 2)


def test_one_member_has_no_pair_and_no_ambiguity():
    p, labels = draw(0, (1, 20, 3))
    assert ambiguity(p, labels) == 0.0
    assert math.isnan(q_statistic(p, labels))
    assert math.isnan(normalised_disagreement(p, labels))
    assert all(matrix.shape == (1, 1) for matrix in pair_matrices(p, labels).values())


@pytest.mark.parametrize("metric", [normalised_disagreement, q_statistic, pair_matrices, ambiguity])
def test_labels_of_other_images_are_refused(metric):
    with pytest.raises(ValueError, match="labels must be 2 integers"):
        metric(np.full((2, 2, 2), 0.5), np.array([0]))
    with pytest.raises(ValueError, match="members must be"):
        metric(np.full((2, 2), 0.5), np.array([0, 1]))
