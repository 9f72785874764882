"""Accuracy, NLL, Brier and softmax against scikit-learn, SciPy and torch, and by hand where random inputs never go."""

import math

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss
from torch.nn.functional import nll_loss

from bench.metrics import accuracy, brier, ensemble_mean, judged_labels, negative_log_likelihood, softmax

shapes = st.tuples(st.integers(2, 60), st.integers(2, 12))


def predictions(seed, shape, sharpness=2.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=shape) * sharpness
    return scipy.special.softmax(logits, axis=-1), rng.integers(0, shape[-1], shape[-2])


@given(st.integers(0, 2**32), shapes, st.floats(0.01, 20))
def test_scores_equal_those_of_scikit_learn(seed, shape, sharpness):
    probabilities, labels = predictions(seed, shape, sharpness)
    classes = np.arange(shape[1])
    assert accuracy(probabilities, labels) == accuracy_score(labels, probabilities.argmax(axis=1))
    # scikit-learn clips at 2.2e-16, which ours must not: compare where no clipping happens.
    if probabilities[np.arange(len(labels)), labels].min() > 1e-15:
        expected = log_loss(labels, probabilities, labels=classes)
        assert negative_log_likelihood(probabilities, labels) == pytest.approx(expected, rel=1e-12)
    one_hot = np.eye(shape[1])[labels]
    assert brier(probabilities, labels) == pytest.approx(
        ((probabilities - one_hot) ** 2).sum() / len(labels), rel=1e-12
    )


def test_brier_of_two_classes_is_twice_that_of_scikit_learn():
    probabilities, labels = predictions(0, (500, 2))
    assert brier(probabilities, labels) == pytest.approx(2 * brier_score_loss(labels, probabilities[:, 1]), rel=1e-12)


def test_nll_of_float32_is_accumulated_in_float64():
    probabilities, labels = predictions(1, (200_000, 10))
    single = probabilities.astype(np.float32)
    expected = nll_loss(torch.from_numpy(single).double().log(), torch.from_numpy(labels)).item()
    assert negative_log_likelihood(single, labels) == pytest.approx(expected, rel=1e-13)


def test_of_equal_probabilities_the_lowest_class_is_predicted():
    probabilities = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1 / 3, 1 / 3, 1 / 3]])
    assert accuracy(probabilities, np.array([0, 1, 0])) == 1.0
    assert accuracy(probabilities, np.array([1, 2, 2])) == 0.0


def test_one_image_and_one_class_have_perfect_scores():
    certain, label = np.array([[1.0]]), np.array([0])
    assert accuracy(certain, label) == 1.0
    assert brier(certain, label) == 0.0
    nll = negative_log_likelihood(certain, label)
    assert nll == 0.0
    assert math.copysign(1, nll) == 1  # tables would print -0.000


def test_probability_zero_costs_the_documented_708_nats_and_no_more():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]])
    worst = -math.log(np.finfo(np.float64).tiny)
    assert worst == pytest.approx(708.396, abs=1e-3)
    assert negative_log_likelihood(probabilities, np.array([1, 0])) == pytest.approx((worst + math.log(2)) / 2)


def test_the_smallest_normal_probabilities_are_not_altered_by_the_guard():
    probabilities = np.array([[1.0, 1e-300]])
    assert negative_log_likelihood(probabilities, np.array([1])) == pytest.approx(300 * math.log(10), rel=1e-12)


def test_worst_prediction_has_brier_score_two():
    assert brier(np.array([[1.0, 0.0, 0.0]]), np.array([2])) == 2.0


@given(st.integers(0, 2**32), st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 7)), st.floats(0, 1e4))
def test_softmax_equals_scipy_also_for_huge_logits(seed, shape, scale):
    logits = np.random.default_rng(seed).normal(size=shape) * scale
    np.testing.assert_allclose(softmax(logits), scipy.special.softmax(logits, axis=-1), rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(softmax(logits).sum(axis=-1), 1, rtol=1e-12)


def test_softmax_leaves_its_argument_alone():
    logits = np.array([[1.0, 2.0]])
    softmax(logits)
    assert logits.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        softmax(np.array([[0.0, bad]]))


def test_ensemble_is_the_mean_of_probabilities_and_not_of_logits():
    logits = np.array([[[0.0, 0.0]], [[0.0, 4.0]]])
    first, second = 0.5, 1 / (1 + math.exp(4))
    np.testing.assert_allclose(ensemble_mean(softmax(logits))[0, 0], (first + second) / 2, rtol=1e-12)


@pytest.mark.parametrize("metric", [accuracy, negative_log_likelihood, brier])
@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.array([[3.0, -1.0]]), np.array([0]), "are these logits"),
        (np.array([[np.nan, 0.5]]), np.array([0]), "are these logits"),
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "at least one"),
        (np.ones((2, 2, 2)) / 2, np.array([0, 1]), "must be"),
        (np.ones((2, 2)) / 2, np.array([0]), "must be 2 integers"),
        (np.ones((2, 2)) / 2, np.array([0.0, 1.0]), "integers"),
        (np.ones((2, 2)) / 2, np.array([0, 2]), "0..1"),
        (np.ones((2, 2)) / 2, np.array([0, -1]), "0..1"),
    ],
)
def test_what_is_no_set_of_predictions_is_refused(metric, probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(probabilities, labels)


def test_a_prediction_among_several_labels_is_right_and_an_image_without_one_is_left_out():
    probabilities = np.eye(4)[[0, 1, 2, 3]]
    pairs = np.array([[0, 2], [0, 0], [2, 1], [3, 3]])
    places, labels = judged_labels(probabilities, pairs)
    assert (places.tolist(), labels.tolist()) == ([0, 2, 3], [0, 1, 3])
    assert accuracy(probabilities[places], labels) == pytest.approx(2 / 3)
    # In another order of the pairs the same images are right.
    assert accuracy(probabilities[places], judged_labels(probabilities, pairs[::-1])[1]) == pytest.approx(2 / 3)
