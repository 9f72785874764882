"""Temperature scaling against a minimiser of SciPy, and by hand where the least is beyond a bound."""

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from bench.metrics import (
    ensemble_mean,
    fit_ensemble_temperature,
    fit_temperature,
    negative_log_likelihood,
    scale_logits,
    scale_probabilities,
    softmax,
    temperature,
)


def draw(seed, images, classes, true_temperature):
    """Logits whose labels are drawn from softmax(logits / true_temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, classes)) * 3
    # The largest logit plus Gumbel noise is a draw from the softmax.
    return logits, (logits / true_temperature + rng.gumbel(size=logits.shape)).argmax(axis=1)


@given(st.integers(0, 2**32), st.integers(50, 200), st.integers(2, 8), st.floats(0.3, 5))
def test_the_fit_equals_that_of_a_general_minimiser(seed, images, classes, true_temperature):
    logits, labels = draw(seed, images, classes, true_temperature)

    def loss(log_temperature):
        scaled = scipy.special.log_softmax(logits / math.exp(log_temperature), axis=1)
        return -scaled[np.arange(images), labels].mean()

    expected = minimize_scalar(loss, bounds=(math.log(0.01), math.log(100)), method="bounded", options={"xatol": 1e-9})
    fitted = fit_temperature(logits, labels)
    assert loss(math.log(fitted)) <= expected.fun + 1e-12
    if 0.05 < fitted < 20:  # further out the loss is so flat that a minimiser of it stops early
        assert fitted == pytest.approx(math.exp(expected.x), rel=1e-3)


def test_the_temperature_that_labels_were_drawn_at_is_found():
    logits, labels = draw(0, 200_000, 10, 2.5)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(2.5, rel=0.02)


@given(st.integers(0, 2**32), st.floats(0.1, 8))
def test_logits_that_are_scaled_by_a_factor_need_a_temperature_scaled_by_it(seed, factor):
    logits, labels = draw(seed, 200, 4, 1.0)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-6)


def test_two_classes_by_hand():
    # Three of four labels have the larger logit, by 6: calibrated where sigmoid(6 / T) = 3/4, so T = 6 / ln 3.
    logits, labels = np.tile([6.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    assert fit_temperature(logits, labels) == pytest.approx(6 / math.log(3), rel=1e-8)
    np.testing.assert_allclose(scale_logits(logits, 6 / math.log(3)), np.tile([0.75, 0.25], (4, 1)))


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_perfect_separation_has_the_lowest_temperature_and_not_zero(size):
    assert fit_temperature(np.eye(3) * size, np.arange(3)) == 0.01
    assert fit_temperature(np.array([[0.0, 0.0, -1.0]]), np.array([0])) == 0.01  # one of the largest


def test_logits_worse_than_chance_have_the_highest_temperature_and_not_infinity():
    assert fit_temperature(-np.eye(3), np.arange(3)) == 100.0


def test_where_no_temperature_changes_anything_it_is_one():
    assert fit_temperature(np.full((4, 3), 7.0), np.array([0, 1, 2, 0])) == 1.0
    assert fit_temperature(np.array([[5.0], [2.0]]), np.array([0, 0])) == 1.0  # a single class


def test_a_temperature_near_a_bound_is_still_found():
    logits, labels = np.tile([1.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    for factor in (0.02, 50.0):
        expected = factor / math.log(3)
        assert fit_temperature(logits * factor, labels) == pytest.approx(expected, rel=1e-8)
    assert fit_temperature(logits * 0.005, labels) == 0.01
    assert fit_temperature(logits * 500.0, labels) == 100.0


def test_the_ensemble_is_scaled_after_pooling():
    rng = np.random.default_rng(1)
    logits, labels = draw(2, 4000, 5, 3.0)
    mean = ensemble_mean(softmax(logits + rng.normal(size=(3, *logits.shape))))
    fitted = fit_ensemble_temperature(mean, labels)
    scaled = scale_probabilities(mean, fitted)
    expected = mean ** (1 / fitted)
    np.testing.assert_allclose(scaled, expected / expected.sum(axis=1, keepdims=True), rtol=1e-10)
    assert negative_log_likelihood(scaled, labels) == pytest.approx(log_loss(labels, scaled), rel=1e-10)
    for other in (fitted * 0.99, fitted * 1.01, 1.0):
        assert negative_log_likelihood(scale_probabilities(mean, other), labels) > log_loss(labels, scaled)


def test_a_network_is_an_ensemble_of_one():
    logits, labels = draw(3, 2000, 6, 0.7)
    fitted = fit_temperature(logits, labels)
    assert fit_ensemble_temperature(softmax(logits), labels) == pytest.approx(fitted, rel=1e-7)
    np.testing.assert_allclose(scale_probabilities(softmax(logits), fitted), scale_logits(logits, fitted), rtol=1e-10)


def test_a_temperature_of_one_changes_nothing():
    probabilities = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(scale_probabilities(probabilities, 1.0), probabilities, atol=1e-300)


def test_probabilities_of_zero_give_a_finite_temperature():
    probabilities, labels = np.tile([1.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    # log 0 counts as -708.4, so as by hand 708.4 / ln 3 would be best: beyond the bound.
    assert fit_ensemble_temperature(probabilities, labels) == 100.0
    assert np.isfinite(scale_probabilities(probabilities, 100.0)).all()


def test_many_images_are_summed_over_all_parts(monkeypatch):
    logits, labels = draw(4, 50, 4, 2.0)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr(temperature, "PART", 7 * 4)  # parts of 7 images, and one of 1
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-8)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_temperature_is_refused(bad):
    for scale in (scale_logits, scale_probabilities):
        with pytest.raises(ValueError, match="positive and finite"):
            scale(np.array([[0.5, 0.5]]), bad)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.array([[0.0, math.inf]]), np.array([0]), "not finite"),
        (np.zeros((2, 2, 2)), np.array([0, 1]), "logits must be"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "at least one"),
        (np.zeros((2, 2)), np.array([0]), "must be 2 integers"),
        (np.zeros((1, 2)), np.array([2]), "0..1"),
    ],
)
def test_what_is_no_set_of_logits_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)
