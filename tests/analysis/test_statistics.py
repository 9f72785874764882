"""Intervals against SciPy and against the quantiles every textbook prints."""

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from analysis.statistics import MOST_REPLICATES, enough_replicates, estimate, holm, p_of_difference


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_interval_equals_that_of_scipy(n):
    sample = np.random.default_rng(n).normal(size=n)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=sample.mean(), scale=scipy.stats.sem(sample))
    measured = estimate(sample)
    assert (measured.low, measured.high, measured.n) == (pytest.approx(low), pytest.approx(high), n)


def test_interval_of_two_and_three_values_by_hand():
    # Quantiles of t with 1 and 2 degrees of freedom: 12.706 and 4.303.
    assert estimate([1.0, 3.0]).half_width == pytest.approx(12.706, abs=1e-3)
    assert estimate([1.0, 2.0, 3.0]).half_width == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)


def test_one_replicate_has_a_mean_and_no_interval():
    measured = estimate([0.7])
    assert (measured.mean, measured.n) == (0.7, 1)
    assert math.isnan(measured.half_width)


def test_no_replicate_has_nothing():
    nothing = estimate([])
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_values_that_do_not_exist_are_not_counted():
    assert estimate([float("nan"), 1.0, 2.0]).n == 2


def test_student_t_covers_95_percent_for_three_seeds():
    rng = np.random.default_rng(0)
    inside = [abs((measured := estimate(rng.normal(size=3))).mean) <= measured.half_width for _ in range(2000)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_holm_equals_statsmodels():
    found = np.random.default_rng(3).uniform(size=40) ** 3
    expected = multipletests(found, method="holm")[1]
    np.testing.assert_allclose(holm(found), expected, rtol=1e-12)
    assert holm([]) == []


def test_values_that_are_all_alike_tell_no_spread():
    """Three replicates may have the same count of 360 images: that is no interval of width 0."""
    for values in ([1.0, 1.0], [0.9639] * 3, [0.0, 0.0], [0.3, 0.1 + 0.2]):
        assert p_of_difference(values, 0.5) is None
        assert enough_replicates(values, 0.5) is None
        assert (estimate(values).mean, estimate(values).n) == (pytest.approx(values[0]), len(values))
        assert estimate(values).error_bar is None
    assert estimate([1.0, 1.0 + 1e-9]).half_width > 0
    assert p_of_difference([1.0], 0.5) is None
    assert enough_replicates([0.5, 0.7], 0.6) == MOST_REPLICATES + 1
    assert enough_replicates([0.5], 0.6) is None
