"""Distances between members against SciPy and slow loops, and by hand at the boundaries."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance

from bench.metrics import (
    cosine_distance,
    cosine_distance_matrix,
    disagreement,
    disagreement_matrix,
    jensen_shannon_distance,
    jensen_shannon_matrix,
    kl_divergence,
    kl_matrix,
    mean_of_pairs,
    probabilities,
)

shapes = st.tuples(st.integers(2, 5), st.integers(1, 30), st.integers(1, 6))


def members(seed, shape):
    return np.random.default_rng(seed).dirichlet(np.full(shape[2], 0.4), size=shape[:2])


@given(st.integers(0, 2**32), shapes)
def test_disagreement_equals_a_slow_loop_over_pairs(seed, shape):
    p = members(seed, shape)
    pairs = itertools.combinations(range(shape[0]), 2)
    expected = [np.mean([np.argmax(a) != np.argmax(b) for a, b in zip(p[i], p[j], strict=True)]) for i, j in pairs]
    assert disagreement(p) == pytest.approx(np.mean(expected), abs=1e-14)


@given(st.integers(0, 2**32), shapes)
def test_kl_equals_scipy_over_ordered_pairs(seed, shape):
    p = members(seed, shape).clip(1e-12)
    p /= p.sum(axis=-1, keepdims=True)
    matrix = kl_matrix(p)
    for i, j in itertools.permutations(range(shape[0]), 2):
        assert matrix[i, j] == pytest.approx(np.mean(scipy.stats.entropy(p[j], p[i], axis=-1)), rel=1e-9, abs=1e-12)
    expected = np.mean([matrix[i, j] for i, j in itertools.permutations(range(shape[0]), 2)])
    assert kl_divergence(p) == pytest.approx(expected)


@given(st.integers(0, 2**32), shapes)
def test_cosine_and_jensen_shannon_distance_equal_those_of_scipy(seed, shape):
    p = members(seed, shape)
    cosine, jensen_shannon = cosine_distance_matrix(p), jensen_shannon_matrix(p)
    for i, j in itertools.product(range(shape[0]), repeat=2):
        pairs = list(zip(p[i], p[j], strict=True))
        assert cosine[i, j] == pytest.approx(np.mean([distance.cosine(a, b) for a, b in pairs]), abs=1e-12)
        # Both are roots of a difference that rounding leaves at about 1e-16 where two members agree.
        expected = np.mean([max(0.0, np.nan_to_num(distance.jensenshannon(a, b))) for a, b in pairs])
        assert jensen_shannon[i, j] == pytest.approx(expected, abs=1e-7)
    assert cosine_distance(p) == mean_of_pairs(cosine)
    assert jensen_shannon_distance(p) == mean_of_pairs(jensen_shannon)


def test_members_that_exclude_each_other_have_the_largest_distance():
    p = np.array([[[1.0, 0.0, 0.0]], [[0.0, 0.25, 0.75]]])
    assert cosine_distance(p) == 1.0
    assert jensen_shannon_distance(p) == pytest.approx(math.sqrt(math.log(2)), rel=1e-15)


def test_cosine_and_jensen_shannon_distance_by_hand():
    p = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]])
    assert cosine_distance(p) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    divergence = math.log(4 / 3) / 2 + (math.log(2 / 3) / 2 + math.log(2) / 2) / 2
    assert jensen_shannon_distance(p) == pytest.approx(math.sqrt(divergence) / 2)


@pytest.mark.parametrize("matrix", [kl_matrix, cosine_distance_matrix, jensen_shannon_matrix])
def test_many_images_are_summed_over_all_parts(monkeypatch, matrix):
    p = members(3, (3, 50, 4)).clip(1e-9)
    whole = matrix(p)
    monkeypatch.setattr(probabilities, "PART", 7 * 3 * 4)  # parts of 7 images, and one of 1
    np.testing.assert_allclose(matrix(p), whole, rtol=1e-10, atol=1e-14)


def test_float32_probabilities_give_the_same_distances_but_for_their_rounding():
    p = members(4, (3, 500, 10))
    for distance_of in (cosine_distance, jensen_shannon_distance, kl_divergence):
        assert distance_of(p.astype(np.float32)) == pytest.approx(distance_of(p), rel=1e-5)


def test_kl_has_the_direction_of_the_protocol():
    certain, unsure = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    matrix = kl_matrix(np.stack([unsure, certain]))
    assert matrix[0, 1] == pytest.approx(math.log(2))  # KL(p_1 || p_0): the certain one seen from the unsure one
    assert matrix[1, 0] > 100  # the unsure one gives mass to a class that the certain one excludes: finite, and huge


def test_members_that_agree_have_no_distance():
    p = np.repeat(members(0, (1, 20, 5)), 3, axis=0)
    assert disagreement(p) == 0.0
    assert kl_divergence(p) == pytest.approx(0, abs=1e-12)
    assert (kl_matrix(p) >= 0).all()
    assert cosine_distance(p) == pytest.approx(0, abs=1e-15)
    assert (cosine_distance_matrix(p) >= 0).all()
    assert jensen_shannon_distance(p) == 0.0


def test_one_member_has_no_pair():
    p = members(0, (1, 4, 3))
    assert math.isnan(disagreement(p))
    assert math.isnan(kl_divergence(p))
    assert disagreement_matrix(p).tolist() == [[0.0]]
    assert kl_matrix(p).tolist() == [[0.0]]
    for distance_of, matrix in (
        (cosine_distance, cosine_distance_matrix),
        (jensen_shannon_distance, jensen_shannon_matrix),
    ):
        assert math.isnan(distance_of(p))
        assert matrix(p).tolist() == [[0.0]]


def test_disagreement_matrix_by_hand():
    p = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.2, 0.8], [0.6, 0.4]], [[0.3, 0.7], [0.1, 0.9]]])
    assert disagreement_matrix(p).tolist() == [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
    assert disagreement(p) == pytest.approx(2 / 3)


def test_ties_go_to_the_lowest_class():
    assert disagreement(np.array([[[0.5, 0.5]], [[0.6, 0.4]]])) == 0.0
    assert disagreement(np.array([[[0.5, 0.5]], [[0.4, 0.6]]])) == 1.0


def test_one_class_leaves_nothing_to_disagree_on():
    assert disagreement(np.ones((2, 3, 1))) == 0.0
    assert kl_divergence(np.ones((2, 3, 1))) == 0.0


@pytest.mark.parametrize(
    "bad", [np.ones((2, 2)), np.ones((0, 2, 2)), np.full((2, 1, 1), 7.0), np.full((1, 1, 1), np.nan)]
)
def test_what_is_no_ensemble_is_refused(bad):
    with pytest.raises(ValueError, match=r"members must be|probabilities must lie"):
        disagreement(bad)
