"""Scales that one cell far from all others, or one wide interval, does not squeeze."""

import math
from collections.abc import Iterable

import numpy as np

from analysis.columns import ACCURACY, Metric
from analysis.statistics import Estimate

# Tukey's outer fences: so many distances between the quartiles from the nearer quartile.
FENCE = 3.0
# A scale is cut if that leaves at most this share of it.
LEFT = 0.5
# Fewer values than these have no outlier.
FEWEST = 5
# Room at the ends of a scale, as a share of it.
MARGIN = 0.12


def scale_of(
    values: Iterable[float],
    ends: Iterable[float],
    metric: Metric,
    beside: Iterable[float] = (),
    keep: Iterable[float] = (),
) -> tuple[float, float]:
    """Return the limits of a scale: of all values but those far from all others, and not beyond what is possible.

    values   what is drawn as marks; those beyond the limits are to be written at the edge
    ends     of intervals: they widen the scale to at most three times the range of the values
    keep     values that are within whatever the others are: what cells are compared with
    beside   smaller marks: they widen it to at most seven times the range, and are left out beyond
    """
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return 0.0, 1.0
    low, high = without_outliers(known)
    kept = [value for value in keep if not math.isnan(value)]
    low, high = min([low, *kept]), max([high, *kept])
    span = high - low or max(abs(high) * 0.02, 1e-6)
    within = [min(max(end, low - span), high + span) for end in ends if not math.isnan(end)]
    within += [value for value in beside if low - 3 * span <= value <= high + 3 * span]
    bottom, top = min([low, *within]), max([high, *within])
    room = MARGIN * (top - bottom or span)
    least, most = possible(metric)
    # A mark at the last possible value needs some room.
    return max(bottom - room, least - room / 3), min(top + room, most + room / 3)


def possible(metric: Metric) -> tuple[float, float]:
    """Return the least and the highest value that a metric of the test images can have, as it is shown."""
    return 0.0, 100.0 if metric.factor == ACCURACY.factor else math.inf


def bar_of(measured: Estimate, bounds: tuple[float, float]) -> list[list[float]] | None:
    """Return the two arms of an interval as error bars take them, cut at what is possible; None without an interval.

    Student's t does not know that an accuracy ends at 100%.
    """
    if measured.error_bar is None:
        return None
    least, most = min(bounds[0], measured.mean), max(bounds[1], measured.mean)
    return [[measured.mean - max(measured.low, least)], [min(measured.high, most) - measured.mean]]


def without_outliers(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float]:
    """Return the ends of values, known ones and at least one, but those far from all others."""
    low, high = float(values.min()), float(values.max())
    first, third = np.quantile(values, (0.25, 0.75))
    reach = FENCE * (third - first)
    kept = values[(values >= first - reach) & (values <= third + reach)]
    if len(values) < FEWEST or not reach or kept.max() - kept.min() > LEFT * (high - low):
        return low, high
    return float(kept.min()), float(kept.max())
