"""Cells as marks in a plane of two quantities, each named beside its mark, the paper's own methods on top."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from analysis.labels import Mark, apart, name_marks
from analysis.limits import bar_of
from analysis.statistics import Estimate
from analysis.style import Look

Bounds = tuple[float, float]
ANY: Bounds = (-math.inf, math.inf)
# Where a mark beyond the scale is drawn, as a share of the scale from its end.
EDGE = 0.02


@dataclass(frozen=True)
class Point:
    """A cell, and what was measured of it."""

    name: str
    x: Estimate
    y: Estimate
    look: Look


def exact(value: float) -> Estimate:
    """Return a quantity that has no interval."""
    return Estimate(value, math.nan, 1)


def draw_points(axes: Axes, points: Sequence[Point], bounds: Bounds = ANY, heights: Bounds = ANY) -> None:
    """Draw each point with its intervals and its name; limits, labels and size must be final.

    A point beyond the limits lies at the edge, its value in its name. bounds, heights: what x and y can be, beyond
    which no interval goes.
    """
    first = sorted(points, key=lambda point: -point.look.zorder)
    marks = dict(
        zip((point.name for point in first), apart(axes, [_mark(axes, point) for point in first]), strict=True)
    )
    for point in points:
        mark, look = marks[point.name], point.look
        beyond = mark.name != point.name
        bars = (None, None) if beyond else (bar_of(point.x, bounds), bar_of(point.y, heights))
        axes.errorbar(
            mark.x, mark.y, xerr=bars[0], yerr=bars[1],
            fmt=look.marker, color=look.color, markersize=look.size(6.5), markeredgecolor="white", markeredgewidth=0.6,
            capsize=2, elinewidth=0.9, zorder=look.zorder, transform=mark.transform(axes), clip_on=not beyond,
        )  # fmt: skip
    name_marks(axes, list(marks.values()))


def _mark(axes: Axes, point: Point) -> Mark:
    """Return where a point is drawn, and what is written there."""
    places, words = [], []
    for estimated, (low, high), arrows in zip(
        (point.x, point.y), (axes.get_xlim(), axes.get_ylim()), (("←", "→"), ("↓", "↑")), strict=True
    ):
        value, room = estimated.mean, EDGE * (high - low)
        places.append(min(max(value, low + room), high - room) if not low <= value <= high else value)
        if not low <= value <= high:
            words.append(f"{arrows[int(value > high)]} {value:.4g}")
    return Mark(places[0], places[1], " ".join([point.name, *words]))


def front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Return the points of the Pareto front, from the cheapest: no other costs as little and is as good or better."""
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -values[index], index))
    found: list[int] = []
    for index in order:
        if not found or values[index] > values[found[-1]]:
            found.append(index)
    return found


def draw_front(axes: Axes, costs: Sequence[float], values: Sequence[float]) -> None:
    """Draw the steps from one point of the Pareto front to the next, on to the end of the scale."""
    indices = front(costs, values)
    x = [*np.array(costs)[indices], axes.get_xlim()[1]]
    y = [*np.array(values)[indices], values[indices[-1]]]
    axes.plot(x, y, drawstyle="steps-post", color="0.6", linewidth=2, alpha=0.6, zorder=1.4, gid="front")
