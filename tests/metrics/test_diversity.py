"""Disagreement and KL divergence against SciPy and slow loops, and by hand at the boundaries."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics import disagreement, disagreement_matrix, diversity, kl_divergence, kl_matrix

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


def test_kl_of_many_images_is_summed_over_all_parts(monkeypatch):
    p = members(3, (3, 50, 4)).clip(1e-9)
    whole = kl_matrix(p)
    monkeypatch.setattr(diversity, "CHUNK", 7)
    np.testing.assert_allclose(kl_matrix(p), whole, rtol=1e-10)


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


def test_one_member_has_no_pair():
    p = members(0, (1, 4, 3))
    assert math.isnan(disagreement(p))
    assert math.isnan(kl_divergence(p))
    assert disagreement_matrix(p).tolist() == [[0.0]]
    assert kl_matrix(p).tolist() == [[0.0]]


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
