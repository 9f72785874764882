"""Scores of images and of their separation against SciPy, scikit-learn and slow loops, and by hand at ties."""

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.metrics import (
    aupr,
    auroc,
    entropy,
    fpr_at_95_tpr,
    mutual_information,
    one_minus_max_probability,
    predictive_entropy,
    probabilities,
    roc_curve,
)

shapes = st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 6))
# Few different values, so that ties within and between the two sets are common.
scores = arrays(np.float64, st.integers(1, 40), elements=st.integers(0, 9).map(lambda n: n / 8))


def members(seed, shape):
    return np.random.default_rng(seed).dirichlet(np.full(shape[2], 0.4), size=shape[:2])


def labelled(inside, outside):
    return np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside])


@given(st.integers(0, 2**32), shapes)
def test_scores_of_images_equal_those_of_scipy(seed, shape):
    p = members(seed, shape)
    mean = p.mean(axis=0)
    np.testing.assert_allclose(one_minus_max_probability(p), 1 - mean.max(axis=1), atol=1e-15)
    np.testing.assert_allclose(predictive_entropy(p), scipy.stats.entropy(mean, axis=1), atol=1e-13)
    np.testing.assert_allclose(entropy(p), scipy.stats.entropy(p, axis=2), atol=1e-13)
    # Mutual information is also the mean divergence of members from their mean.
    expected = np.mean([scipy.stats.entropy(member, mean, axis=1) for member in p], axis=0)
    np.testing.assert_allclose(mutual_information(p), expected, atol=1e-13)
    assert (mutual_information(p) >= 0).all()


def test_scores_of_images_by_hand():
    p = np.array([[[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]])
    assert one_minus_max_probability(p).tolist() == [0.0, 0.5, 0.5]
    np.testing.assert_allclose(predictive_entropy(p), [0, math.log(2), math.log(2)], rtol=1e-15)
    np.testing.assert_allclose(mutual_information(p), [0, 0, math.log(2)], rtol=1e-15)
    assert math.copysign(1, predictive_entropy(p)[0]) == 1


def test_a_single_member_has_no_mutual_information_at_all():
    p = members(0, (1, 1000, 10))
    assert (mutual_information(p) == 0).all()
    assert (mutual_information(p.astype(np.float32)) == 0).all()


def test_float32_that_exceeds_one_by_rounding_has_no_negative_score():
    p = np.array([[[np.nextafter(np.float32(1), np.float32(2)), 0.0]]], dtype=np.float32)
    for score in (one_minus_max_probability, predictive_entropy, mutual_information):
        assert score(p).tolist() == [0.0]


@pytest.mark.parametrize("score", [one_minus_max_probability, predictive_entropy, mutual_information])
def test_images_keep_their_order_over_all_parts(monkeypatch, score):
    p = members(1, (3, 50, 4))
    whole = score(p)
    monkeypatch.setattr(probabilities, "PART", 7 * 3 * 4)  # parts of 7 images, and one of 1
    np.testing.assert_allclose(score(p), whole, atol=1e-15)
    assert score(p).dtype == np.float64


@given(scores, scores)
def test_separation_equals_that_of_scikit_learn_with_ties(inside, outside):
    positive, both = labelled(inside, outside)
    assert auroc(inside, outside) == pytest.approx(sklearn.metrics.roc_auc_score(positive, both), abs=1e-12)
    assert aupr(inside, outside) == pytest.approx(sklearn.metrics.average_precision_score(positive, both), abs=1e-12)
    # In distribution as the positive class, which has the lower scores.
    false, true, _ = sklearn.metrics.roc_curve(1 - positive, -both, drop_intermediate=False)
    expected = false[np.flatnonzero(true >= 0.95 - 1e-12)[0]]
    assert fpr_at_95_tpr(inside, outside) == pytest.approx(expected, abs=1e-12)


@given(scores, scores, st.integers(2, 60))
def test_the_curve_runs_through_the_corners_of_scikit_learn(inside, outside, points):
    false, true, _ = sklearn.metrics.roc_curve(*labelled(inside, outside), drop_intermediate=False)
    grid, curve = roc_curve(inside, outside, points)
    np.testing.assert_allclose(grid, np.linspace(0, 1, points), atol=1e-15)
    for rate, actual in zip(grid, curve, strict=True):
        reached = true[np.isclose(false, rate, rtol=0, atol=1e-12)]
        expected = reached.max() if reached.size else np.interp(rate, false, true)
        assert actual == pytest.approx(expected, abs=1e-12)
    assert (np.diff(curve) >= -1e-15).all()


def test_the_area_under_the_curve_is_the_auroc():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=5000), rng.normal(size=3000) + 1
    assert np.trapezoid(*roc_curve(inside, outside, 20_001)[::-1]) == pytest.approx(auroc(inside, outside), abs=1e-4)


def test_separation_by_hand():
    low, high = np.array([0.0, 0.1, 0.2]), np.array([0.5, 0.9])
    assert (auroc(low, high), aupr(low, high), fpr_at_95_tpr(low, high)) == (1.0, 1.0, 0.0)
    assert (auroc(high, low), fpr_at_95_tpr(high, low)) == (0.0, 1.0)
    assert aupr(high, low) == pytest.approx((1 / 3 + 2 / 4 + 3 / 5) / 3)
    same = np.full(4, 0.3)
    assert (auroc(same, same), aupr(same, same), fpr_at_95_tpr(same, same)) == (0.5, 0.5, 1.0)
    assert roc_curve(same, same, 3)[1].tolist() == [0.0, 0.5, 1.0]
    assert roc_curve(low, high, 3)[1].tolist() == [1.0, 1.0, 1.0]
    assert roc_curve(high, low, 3)[1].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(("images", "accepted"), [(20, 19), (21, 20), (100, 95), (1, 1), (1000, 950)])
def test_exactly_95_percent_of_the_images_are_accepted(images, accepted):
    inside = np.arange(images, dtype=np.float64)
    # Of images out of distribution that lie just beyond each of those in distribution, the ones up to the threshold.
    assert fpr_at_95_tpr(inside, inside + 0.5) == pytest.approx((accepted - 1) / images)


@pytest.mark.parametrize("measure", [auroc, aupr, fpr_at_95_tpr, roc_curve])
@pytest.mark.parametrize("bad", [np.zeros(0), np.array([0.5, np.nan]), np.zeros((2, 2))])
def test_what_is_no_list_of_scores_is_refused(measure, bad):
    for pair in ((bad, np.ones(2)), (np.ones(2), bad)):
        with pytest.raises(ValueError, match="scores must be"):
            measure(*pair)


def test_a_curve_of_one_point_is_refused():
    with pytest.raises(ValueError, match="points"):
        roc_curve(np.zeros(2), np.ones(2), 1)
