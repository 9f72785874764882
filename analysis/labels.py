"""Names written beside marks: each where it touches no other name and no mark, with a line to its mark if it is far.

Marks that would hide others are moved aside by a few points. Both need a figure whose limits and sizes are final.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation, Transform

Doubles = npt.NDArray[np.float64]

SIZE = 7.0
# In points: how far from its mark a name may be, where a line leads to it, and room around marks and names.
DISTANCES = (5.0, 9.0, 15.0, 22.0, 30.0, 40.0, 52.0, 66.0, 82.0, 100.0, 125.0, 150.0)
LED = 10.0
AROUND_MARK, AROUND_NAME = 3.5, 1.0
ANGLES = 24
HALO = [withStroke(linewidth=1.8, foreground="white")]
# A name finds its place early, the more marks are within this many points.
CROWD = 90.0
# Costs, beside the area of names and marks that are covered: a line to a name that goes through another name or through
# a mark, a name on a line of the figure, a point of distance.
CROSSED, STRUCK, FAR = 40.0, 6.0, 0.3
# Marks nearer than this hide each other; where they are moved to.
HIDDEN = 4.5
SHIFTS = [
    radius * np.array([math.cos(angle), math.sin(angle)])
    for radius in (0.0, 5.0, 8.0, 11.0, 14.0)
    for angle in (0, math.pi, math.pi / 2, 3 * math.pi / 2, math.pi / 4, 5 * math.pi / 4)
]


class Mark(NamedTuple):
    """A mark at (x, y), in the units of the axes, moved by (dx, dy) points, and its name."""

    x: float
    y: float
    name: str
    dx: float = 0.0
    dy: float = 0.0

    def transform(self, axes: Axes) -> Transform:
        """Return what brings the units of the axes to where the mark is."""
        return axes.transData + ScaledTranslation(self.dx / 72, self.dy / 72, axes.figure.dpi_scale_trans)


@dataclass(frozen=True)
class _Taken:
    """What names must keep clear of, in points: boxes [n, 4] of marks and names, lines [n, 4] that lead to names.

    drawn   lines of the figure, intervals above all, which a name had better not cover either
    """

    boxes: Doubles
    lines: Doubles
    drawn: Doubles

    def cost(self, box: Doubles, line: Doubles | None) -> float:
        """Return how much a name covers and its line crosses."""
        shared = _overlap(self.boxes, box)
        cost = float(shared.sum()) + CROSSED * float(_crossed(self.lines, box).sum())
        cost += STRUCK * float(_crossed(self.drawn, box).sum())
        if line is not None:
            cost += CROSSED * float(_crossed(line[None], self.boxes).sum()) + CROSSED * float(
                _cross(self.lines, line).sum()
            )
        return cost

    def with_name(self, box: Doubles, line: Doubles | None) -> "_Taken":
        """Return the same with one name more."""
        taken = replace(self, boxes=np.vstack([self.boxes, box]))
        return taken if line is None else replace(taken, lines=np.vstack([self.lines, line]))


def apart(axes: Axes, marks: Sequence[Mark]) -> list[Mark]:
    """Return marks none of which lies on another: the earlier ones stay, those that would hide them are moved aside."""
    _lay_out(axes)
    moved: list[Mark] = []
    placed = np.empty((0, 2))
    for mark, center in zip(marks, _centers(axes, marks), strict=True):
        shift = next((shift for shift in SHIFTS if _clear(center + shift, placed)), SHIFTS[0])
        moved.append(mark._replace(dx=float(shift[0]), dy=float(shift[1])))
        placed = np.vstack([placed, center + shift])
    return moved


def name_marks(axes: Axes, marks: Sequence[Mark], size: float = SIZE) -> None:
    """Write the name of each mark near it; those that have the least room find their place first."""
    _lay_out(axes)
    scale = 72 / axes.figure.dpi
    inside = np.array(axes.get_window_extent().extents) * scale
    centers = _centers(axes, marks)
    texts = [axes.annotate(mark.name, (mark.x, mark.y), fontsize=size) for mark in marks]
    sizes = [np.array(text.get_window_extent().size) * scale for text in texts]
    for text in texts:
        text.remove()
    marked = np.hstack([centers - AROUND_MARK, centers + AROUND_MARK])
    taken = _Taken(marked, np.empty((0, 4)), _drawn_lines(axes) * scale)
    crowd = (np.linalg.norm(centers[:, None] - centers[None], axis=-1) < CROWD).sum(axis=1)
    arrow = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.45", "shrinkA": 0, "shrinkB": 2.5}
    for index in sorted(range(len(marks)), key=lambda index: (-crowd[index], index)):
        mark = marks[index]
        offset, taken = _place(centers[index], sizes[index], inside, taken, index)
        far = _line(centers[index], offset, sizes[index]) is not None
        axes.annotate(
            mark.name, (mark.x, mark.y), xycoords=mark.transform(axes), xytext=tuple(offset),
            textcoords="offset points", fontsize=size, color="black", ha="center", va="center", zorder=6,
            arrowprops=arrow if far else None, path_effects=HALO,
        )  # fmt: skip


def _lay_out(axes: Axes) -> None:
    """Give a panel the place that it will have."""
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.draw_without_rendering()


def _centers(axes: Axes, marks: Sequence[Mark]) -> Doubles:
    """Return where marks are on the figure, in points."""
    places: Doubles = axes.transData.transform([(mark.x, mark.y) for mark in marks]) * 72 / axes.figure.dpi
    shifted: Doubles = places + np.array([(mark.dx, mark.dy) for mark in marks])
    return shifted


def _drawn_lines(axes: Axes) -> Doubles:
    """Return the parts of all intervals and lines of a panel [n, 4], in pixels."""
    paths = [(line.get_xydata(), line.get_transform()) for line in axes.lines]
    for bars in axes.collections:
        if isinstance(bars, LineCollection):
            paths += [(segment, bars.get_transform()) for segment in bars.get_segments()]
    lines = [np.hstack([(at := move.transform(points))[:-1], at[1:]]) for points, move in paths]
    return np.vstack([np.empty((0, 4)), *lines])


def _clear(place: Doubles, placed: Doubles) -> bool:
    return bool((np.linalg.norm(placed - place, axis=1) >= HIDDEN).all())


def _place(center: Doubles, size: Doubles, inside: Doubles, taken: _Taken, own: int) -> tuple[Doubles, _Taken]:
    """Return where the middle of a name of this size comes to stand, from its mark, and what is taken then."""
    best: tuple[float, Doubles, Doubles, Doubles | None] | None = None
    others = replace(taken, boxes=np.delete(taken.boxes, own, axis=0))
    for distance in DISTANCES:
        for step in range(ANGLES):
            angle = 2 * math.pi * step / ANGLES
            direction = np.array([math.cos(angle), math.sin(angle)])
            # The box of the name begins `distance` from the mark.
            offset = direction * distance + np.sign(np.round(direction, 6)) * size / 2 * np.abs(direction) ** 0.5
            box = np.hstack([center + offset - size / 2 - AROUND_NAME, center + offset + size / 2 + AROUND_NAME])
            if (box[:2] < inside[:2]).any() or (box[2:] > inside[2:]).any():
                continue
            line = _line(center, offset, size)
            cost = others.cost(box, line) + float(_overlap(taken.boxes[own : own + 1], box).sum())
            cost += FAR * (distance - DISTANCES[0])
            if best is None or cost < best[0]:
                best = (cost, offset, box, line)
        if best is not None and best[0] <= FAR * (distance - DISTANCES[0]):
            break  # all that is further costs more
    if best is None:  # wider than the axes
        offset = np.array([0.0, DISTANCES[0] + size[1] / 2])
        return offset, taken
    return best[1], taken.with_name(best[2], best[3])


def _line(center: Doubles, offset: Doubles, size: Doubles) -> Doubles | None:
    """Return the line from a mark to the middle of its name, up to the edge of the name; None if it is near."""
    outside = np.maximum(np.abs(offset) - size / 2, 0)
    length = float(np.linalg.norm(outside))
    if length < LED:
        return None
    part = 1 - min(size[0] / 2 / max(abs(offset[0]), 1e-9), size[1] / 2 / max(abs(offset[1]), 1e-9))
    return np.hstack([center, center + offset * max(part, 0.0)])


def _overlap(boxes: Doubles, box: Doubles) -> Doubles:
    """Return the area that a box shares with each of others [n, 4]."""
    wide = np.minimum(boxes[:, 2], box[2]) - np.maximum(boxes[:, 0], box[0])
    high = np.minimum(boxes[:, 3], box[3]) - np.maximum(boxes[:, 1], box[1])
    area: Doubles = np.clip(wide, 0, None) * np.clip(high, 0, None)
    return area


def _crossed(lines: Doubles, boxes: Doubles) -> Doubles:
    """Return which of the lines [n, 4] goes through any of the boxes [4] or [m, 4]: by points along it."""
    boxes = np.atleast_2d(boxes)
    share = np.linspace(0.15, 1, 24)[:, None, None]
    points = lines[None, :, :2] + share * (lines[None, :, 2:] - lines[None, :, :2])
    inside = (points[:, :, None] > boxes[:, :2]).all(-1) & (points[:, :, None] < boxes[:, 2:]).all(-1)
    crossed: Doubles = inside.sum(axis=(0, 2)).clip(max=1).astype(np.float64)
    return crossed


def _cross(lines: Doubles, line: Doubles) -> Doubles:
    """Return which of the lines [n, 4] crosses another one."""

    def side(a: Doubles, b: Doubles, c: Doubles) -> Doubles:
        return np.sign(
            (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
        )

    start, end, first, last = lines[:, :2], lines[:, 2:], line[:2], line[2:]
    apart = side(start, end, first) * side(start, end, last) < 0
    return (apart & (side(first, last, start) * side(first, last, end) < 0)).astype(float)
