"""Mask overlap, topological distance and cosine of weights against scikit-learn, SciPy and loops, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance
from sklearn.metrics import jaccard_score

from bench.metrics import mask_overlap, topological_distance, weight_cosine

SHAPES = {"first.weight": (4, 3, 3, 3), "second.weight": (5, 4, 1, 1), "last.weight": (3, 20)}
seeds = st.integers(0, 2**32)


def draw(seed, density):
    rng = np.random.default_rng(seed)
    return {layer: rng.random(shape) < density for layer, shape in SHAPES.items()}


def flat(layers):
    return np.concatenate([values.ravel() for values in layers.values()])


@given(seeds, st.floats(0.05, 0.95))
def test_overlap_is_the_jaccard_index_of_a_layer_and_of_all(seed, density):
    first, second = draw(seed, density), draw(seed + 1, density)
    overlap = mask_overlap(first, second)
    assert list(overlap) == [*SHAPES, "overall"]
    pairs = {layer: (first[layer].ravel(), second[layer].ravel()) for layer in SHAPES}
    pairs["overall"] = flat(first), flat(second)
    for layer, (a, b) in pairs.items():
        expected = jaccard_score(a, b) if (a | b).any() else math.nan
        assert overlap[layer] == pytest.approx(expected, nan_ok=True)


@given(seeds, st.floats(0, 1))
def test_topological_distance_is_the_mean_jaccard_distance_of_neurons(seed, density):
    first, second = draw(seed, density), draw(seed + 1, density)
    distances = topological_distance(first, second)
    for layer in SHAPES:
        neurons = [distance.jaccard(a.ravel(), b.ravel()) for a, b in zip(first[layer], second[layer], strict=True)]
        assert distances[layer] == pytest.approx(np.mean(neurons), abs=1e-14)
    assert distances["overall"] == pytest.approx(np.mean([distances[layer] for layer in SHAPES]))


def test_equal_masks_overlap_wholly_and_have_no_distance():
    masks = draw(0, 0.3)
    assert set(mask_overlap(masks, masks).values()) == {1.0}
    assert set(topological_distance(masks, masks).values()) == {0.0}


def test_masks_that_share_nothing_are_furthest_apart():
    masks = draw(0, 0.5)
    inverse = {layer: ~mask for layer, mask in masks.items()}
    assert set(mask_overlap(masks, inverse).values()) == {0.0}
    assert set(topological_distance(masks, inverse).values()) == {1.0}


def test_masks_by_hand():
    first = {"a": np.array([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool), "b": np.array([[1]], dtype=bool)}
    second = {"a": np.array([[0, 1, 1, 0], [1, 0, 0, 0]], dtype=bool), "b": np.array([[1]], dtype=bool)}
    assert mask_overlap(first, second) == pytest.approx({"a": 2 / 4, "b": 1, "overall": 3 / 5})
    # Neurons of a: two of three connections differ, none of one does.
    assert topological_distance(first, second) == pytest.approx({"a": 1 / 3, "b": 0, "overall": 1 / 6})


def test_swapped_neurons_count_as_different():
    mask = np.array([[1, 0], [0, 1]], dtype=bool)
    assert topological_distance({"a": mask}, {"a": mask[::-1]})["a"] == 1.0


def test_masks_of_numbers_are_active_where_they_are_not_zero():
    first, second = {"a": np.array([[1.0, 0.0, 1.0]])}, {"a": np.array([[1, 1, 0]], dtype=np.uint8)}
    assert mask_overlap(first, second)["a"] == pytest.approx(1 / 3)
    assert topological_distance(first, second)["a"] == pytest.approx(2 / 3)


def test_a_layer_without_active_weights_has_no_overlap():
    first = {"a": np.zeros((2, 2), dtype=bool), "b": np.ones((1, 2), dtype=bool)}
    overlap = mask_overlap(first, first)
    assert math.isnan(overlap["a"])
    assert overlap["overall"] == 1.0
    assert topological_distance(first, first)["a"] == 0.0


@given(seeds)
def test_cosine_equals_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    first, second = ({layer: rng.normal(size=shape).astype("f4") for layer, shape in SHAPES.items()} for _ in range(2))
    cosines = weight_cosine(first, second)
    assert list(cosines) == [*SHAPES, "overall"]
    for layer in SHAPES:
        a, b = (weights[layer].ravel().astype(np.float64) for weights in (first, second))
        assert cosines[layer] == pytest.approx(1 - distance.cosine(a, b), abs=1e-12)
    both = flat(first).astype(np.float64), flat(second).astype(np.float64)
    assert cosines["overall"] == pytest.approx(1 - distance.cosine(*both), abs=1e-12)


def test_cosine_by_hand():
    one = {"a": np.array([[3.0, 4.0]])}
    for factor in (2.0, 1e-30, -1e30):
        assert weight_cosine(one, {"a": one["a"] * factor})["a"] == pytest.approx(math.copysign(1, factor))
    assert weight_cosine(one, {"a": np.array([[4.0, -3.0]])})["overall"] == 0.0
    assert math.isnan(weight_cosine(one, {"a": np.zeros((1, 2))})["a"])


@pytest.mark.parametrize("compare", [mask_overlap, topological_distance, weight_cosine])
def test_tickets_of_other_layers_are_refused(compare):
    one = {"a": np.ones((2, 2))}
    for other, message in (({"b": np.ones((2, 2))}, "differing: a, b"), ({"a": np.ones((2, 3))}, "a: shapes")):
        with pytest.raises(ValueError, match=message):
            compare(one, other)
    with pytest.raises(ValueError, match="at least one"):
        compare({}, {})  # dense tickets have no masks
