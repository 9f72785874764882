"""Names beside marks: none lies on another or leaves the panel, and no mark hides another."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.labels import HIDDEN, Mark, apart, name_marks
from analysis.scatter import front
from tests.analysis.layout import box_of, overlapping


def panel():
    figure = Figure(figsize=(7.2, 6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 4), ylim=(90, 100))
    return axes


def centers(axes, marks):
    return np.array([mark.transform(axes).transform((mark.x, mark.y)) for mark in marks]) * 72 / axes.figure.dpi


def crowd(count, seed=0):
    """Cells as they lie: most of a cost of 1 or 3, within a percent of each other, several of exactly the same."""
    rng = np.random.default_rng(seed)
    return [
        Mark(float(rng.choice([0.6, 1.0, 3.0])), float(98 + rng.integers(0, 8) / 8), f"DST ensemble M={index} S=0.8")
        for index in range(count)
    ]


@pytest.mark.parametrize("count", [1, 5, 20])
def test_names_touch_neither_each_other_nor_marks_and_stay_inside(count):
    axes = panel()
    marks = apart(axes, crowd(count))
    name_marks(axes, marks)
    axes.figure.draw_without_rendering()
    assert len(axes.texts) == count
    assert not overlapping(axes.texts)
    box = axes.get_window_extent()
    for text in axes.texts:
        extent = box_of(text)
        assert box.x0 <= extent.x0
        assert extent.x1 <= box.x1
        inside = (centers(axes, marks) * axes.figure.dpi / 72 > extent.p0) & (
            centers(axes, marks) * axes.figure.dpi / 72 < extent.p1
        )
        assert not inside.all(axis=1).any()


def test_marks_of_one_place_are_drawn_beside_each_other_and_the_first_stays():
    axes = panel()
    marks = apart(axes, [Mark(1, 98, str(index)) for index in range(7)])
    places = centers(axes, marks)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(7, 1)]
    assert gaps.min() >= HIDDEN
    assert (marks[0].dx, marks[0].dy) == (0, 0)


def test_marks_that_hide_nothing_stay():
    axes = panel()
    assert all(mark.dx == mark.dy == 0 for mark in apart(axes, [Mark(1, 95, "a"), Mark(2, 95, "b"), Mark(1, 97, "c")]))


def test_a_far_name_has_a_line_to_its_mark():
    axes = panel()
    marks = [
        Mark(2 + 0.02 * (index % 6), 95 + 0.1 * (index // 6), f"a cell of a long name {index}") for index in range(12)
    ]
    name_marks(axes, marks)
    assert any(text.arrow_patch is not None for text in axes.texts)


def test_the_front_is_of_what_no_other_beats():
    costs, values = [1.0, 0.5, 1.0, 3.0, 2.0, 0.5], [96.0, 95.0, 96.5, 97.0, 96.5, 94.0]
    assert front(costs, values) == [1, 2, 3]
    assert front([1.0], [0.5]) == [0]
