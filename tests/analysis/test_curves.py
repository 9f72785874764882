"""Curves of many cells: rows of few, family by family, with the dense network and all others behind."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.corruption.figures import severity_curves
from analysis.curves import MOST_TOGETHER, PAGE, height_of_rows, together
from tests.analysis.test_corruption_figures import assert_legible, frames

METHODS = ["dense", "dense", "mc_dropout", "mimo", "edst", "edst", "tree_net", "lottery_rewinding", "static", "dst"]


def cells_of(methods):
    names = [f"{method} M={index} S=0.8" for index, method in enumerate(methods)]
    return pd.DataFrame({"cell": names, "method": methods, "reference": names[0]})


def test_few_cells_stand_together():
    cells = cells_of(METHODS[:MOST_TOGETHER])
    assert together(cells, list(cells["cell"])) == [list(cells["cell"])]


def test_many_stand_family_by_family_in_the_order_of_the_grid():
    cells = cells_of(METHODS)
    rows = together(cells, list(cells["cell"]))
    numbers = [[int(name.split("M=")[1].split()[0]) for name in row] for row in rows]
    assert numbers == [[0, 1, 2, 3, 6], [4, 5, 7, 8, 9]]
    assert max(map(len, together(cells_of(["edst"] * 25), list(cells_of(["edst"] * 25)["cell"])))) == MOST_TOGETHER


def test_each_row_has_its_cells_in_colour_the_dense_network_and_all_others_behind():
    cells = cells_of(METHODS)
    clean, corrupted = frames(cells, replicates=1, types=["fog"], severities=(1, 3))
    figure = severity_curves(cells, clean, corrupted)
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 6
    for axes, own in ((panels[0], 5), (panels[3], 5)):
        behind = [line for line in axes.lines if line.get_gid() == "behind"]
        assert len(axes.lines) - len(behind) == own
        assert len(behind) == 10 - own
    dense = [line for line in panels[3].lines if line.get_linestyle() == "--"]
    assert len(dense) == 1
    assert dense[0].get_ydata() == pytest.approx(panels[0].lines[-5].get_ydata())
    assert not [line for line in panels[0].lines if line.get_linestyle() == "--"]  # it is in the row itself
    names = [[text.get_text() for text in axes.get_legend().texts] for axes in figure.axes if axes.get_legend()]
    assert [len(row) for row in names] == [5, 5]


def test_twenty_cells_fit_on_a_page():
    cells = cells_of(METHODS * 2)
    clean, corrupted = frames(cells, replicates=2)
    figure = severity_curves(cells, clean, corrupted)
    assert isinstance(figure, Figure)
    assert figure.get_size_inches()[1] <= 10
    assert_legible(figure)
    assert height_of_rows(7) * 7 <= PAGE


def test_names_beside_a_row_stay_in_the_figure():
    cells = cells_of(METHODS)
    cells["cell"] = [f"batch ensemble M={number} S=0.8" for number in range(len(cells))]
    clean, corrupted = frames(cells.drop(columns="reference"), replicates=1)
    figure = severity_curves(cells.drop(columns="reference"), clean, corrupted)
    figure.draw_without_rendering()
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert len(legends) == 2
    assert all(legend.get_window_extent().x1 <= figure.bbox.x1 for legend in legends)
