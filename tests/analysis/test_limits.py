"""Scales by hand: one far cell or one wide interval does not squeeze the others, and no scale shows the impossible."""

import math

import pytest

from analysis.columns import ACCURACY, NLL
from analysis.limits import MARGIN, bar_of, scale_of
from analysis.statistics import Estimate

NEAR = [95.0, 95.5, 96.0, 96.5, 97.0, 96.2]


def test_a_scale_holds_all_values_with_room():
    assert scale_of(NEAR, [], ACCURACY) == (pytest.approx(95 - 2 * MARGIN), pytest.approx(97 + 2 * MARGIN))


def test_a_value_far_from_all_others_is_not_in_the_scale():
    assert scale_of([*NEAR, 77.0], [], ACCURACY) == scale_of(NEAR, [], ACCURACY)
    assert scale_of([*NEAR, 93.0], [], ACCURACY)[0] < 93  # outside a fence perhaps, yet it squeezes nothing


def test_what_cells_are_compared_with_is_in_the_scale():
    assert scale_of([*NEAR, 77.0], [], ACCURACY, keep=[77.0])[0] < 77
    assert scale_of(NEAR, [], ACCURACY, keep=[math.nan]) == scale_of(NEAR, [], ACCURACY)


def test_of_few_values_none_is_far():
    assert scale_of([95.0, 96.0, 96.5, 50.0], [], ACCURACY)[0] < 50


def test_a_wide_interval_widens_a_scale_only_so_far():
    low, high = scale_of(NEAR, [20.0, 97.5], ACCURACY)
    assert low == pytest.approx(93 - MARGIN * 4.5)
    assert high == pytest.approx(97.5 + MARGIN * 4.5)


def test_no_scale_goes_far_beyond_what_is_possible():
    assert scale_of([99.0, 100.0, 97.0], [], ACCURACY)[1] == pytest.approx(100 + 3 * MARGIN / 3)
    assert scale_of([0.01, 0.02, 0.3], [], NLL)[0] == pytest.approx(-0.29 * MARGIN / 3, abs=0.002)


def test_without_values_there_is_still_a_scale():
    assert scale_of([math.nan], [], ACCURACY) == (0, 1)
    low, high = scale_of([95.0], [], ACCURACY)
    assert low < 95 < high


def test_an_interval_ends_where_values_do():
    assert bar_of(Estimate(99.0, 3.0, 3), (0, 100)) == [[3.0], [1.0]]
    assert bar_of(Estimate(0.1, 0.5, 3), (0, math.inf)) == [[pytest.approx(0.1)], [0.5]]
    assert bar_of(Estimate(99.0, math.nan, 1), (0, 100)) is None
