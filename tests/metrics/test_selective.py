"""AURC against slow loops over all orders of ties, scikit-learn's error rates, and by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import zero_one_loss

from bench.metrics import area_under_risk_coverage, excess_area_under_risk_coverage, risk_coverage_curve

seeds = st.integers(0, 2**32)


def two_classes(confidences):
    """Predictions of class 0 with the given confidences (at least 1/2)."""
    return np.array([[c, 1 - c] for c in confidences])


def aurc_in_order(errors):
    return np.mean([np.mean(errors[: k + 1]) for k in range(len(errors))])


@given(seeds, st.integers(1, 60), st.integers(2, 8))
def test_aurc_is_the_mean_error_rate_over_coverages(seed, images, classes):
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.full(classes, 0.5), size=images), rng.integers(0, classes, images)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    predicted = probabilities.argmax(axis=1)
    risks = [zero_one_loss(labels[order[:k]], predicted[order[:k]]) for k in range(1, images + 1)]
    assert area_under_risk_coverage(probabilities, labels) == pytest.approx(np.mean(risks), abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from([0.6, 0.8, 1.0]), st.integers(0, 1)), min_size=1, max_size=6))
def test_ties_count_with_the_mean_over_all_their_orders(images):
    confidences, labels = zip(*images, strict=True)
    orders = [
        [label for _, label in order]
        for order in itertools.permutations(images)
        if [c for c, _ in order] == sorted(confidences, reverse=True)
    ]
    expected = np.mean([aurc_in_order(errors) for errors in orders])
    assert area_under_risk_coverage(two_classes(confidences), np.array(labels)) == pytest.approx(expected, abs=1e-12)


@given(seeds, st.integers(2, 60))
def test_the_order_of_images_does_not_matter(seed, images):
    rng = np.random.default_rng(seed)
    probabilities, labels = two_classes(rng.choice([0.6, 0.8, 1.0], size=images)), rng.integers(0, 2, images)
    order = rng.permutation(images)
    for score in (area_under_risk_coverage, excess_area_under_risk_coverage):
        assert score(probabilities[order], labels[order]) == pytest.approx(score(probabilities, labels), abs=1e-12)


def test_aurc_by_hand():
    probabilities = two_classes([0.9, 0.8, 0.7])
    assert area_under_risk_coverage(probabilities, np.array([0, 0, 0])) == 0.0
    assert area_under_risk_coverage(probabilities, np.array([1, 1, 1])) == 1.0
    assert area_under_risk_coverage(probabilities, np.array([0, 1, 0])) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert area_under_risk_coverage(two_classes([1.0, 1.0]), np.array([0, 1])) == pytest.approx(0.5)


def test_the_excess_is_none_where_errors_come_last():
    probabilities = two_classes([0.9, 0.8, 0.7])
    for labels in ([0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]):
        assert excess_area_under_risk_coverage(probabilities, np.array(labels)) == 0.0
    wrong_order = excess_area_under_risk_coverage(probabilities, np.array([0, 1, 0]))
    assert wrong_order == pytest.approx((1 / 2 + 1 / 3) / 3 - (1 / 3) / 3)


def test_the_excess_approaches_the_printed_formula():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(4), size=20_000), rng.integers(0, 4, 20_000)
    risk = np.mean(probabilities.argmax(axis=1) != labels)
    best = risk + (1 - risk) * np.log(1 - risk)
    expected = area_under_risk_coverage(probabilities, labels) - best
    assert excess_area_under_risk_coverage(probabilities, labels) == pytest.approx(expected, abs=1e-4)


@given(seeds, st.integers(1, 60))
def test_the_curve_has_the_error_rate_of_every_number_of_images(seed, images):
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.full(3, 0.5), size=images), rng.integers(0, 3, images)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    predicted = probabilities.argmax(axis=1)
    coverage, risk = risk_coverage_curve(probabilities, labels, points=images)
    risks = [zero_one_loss(labels[order[:k]], predicted[order[:k]]) for k in range(1, images + 1)]
    assert risk == pytest.approx(risks, abs=1e-12)
    assert coverage == pytest.approx(np.arange(1, images + 1) / images)
    assert risk.mean() == pytest.approx(area_under_risk_coverage(probabilities, labels), abs=1e-12)


def test_the_curve_by_hand():
    probabilities, labels = two_classes([0.9, 0.8, 0.8, 0.7]), np.array([0, 1, 0, 1])
    coverage, risk = risk_coverage_curve(probabilities, labels, points=2)
    assert (list(coverage), list(risk)) == ([0.5, 1.0], [0.25, 0.5])  # the tie counts half
    # A share of less than an image keeps one, and 7/100 of 100 are 7, not 8.
    assert risk_coverage_curve(probabilities, labels, points=40)[1][:10] == pytest.approx([0.0] * 10)
    sure = two_classes(np.linspace(0.99, 0.6, 100))
    wrong = (np.arange(100) == 7).astype(int)
    assert risk_coverage_curve(sure, wrong)[1][[6, 7]] == pytest.approx([0, 1 / 8])
    with pytest.raises(ValueError, match="at least 1, not 0"):
        risk_coverage_curve(sure, wrong, points=0)


def test_logits_are_refused():
    with pytest.raises(ValueError, match="are these logits"):
        area_under_risk_coverage(np.array([[3.0, -1.0]]), np.array([0]))
