"""Costs are those of the plan, in frames and as they are drawn."""

import pytest

from tests.analysis.drawing import means
from tests.analysis.stores import of


def test_cells_carry_what_the_plan_knows(loaded):
    for cell, row in zip(loaded.plan.cells, loaded.results.cells.to_dict("records"), strict=True):
        assert row["train_flops_ratio"] == cell.train_flops_ratio
        assert row["runs"] == len({run for runs in cell.runs for run in runs})
        assert row["parameters_ratio"] == pytest.approx(cell.members * (1 - cell.sparsity))


def test_accuracy_stands_over_the_cost_of_the_plan(loaded, drawn):
    axes = drawn["accuracy_against_cost"][1].axes[0]
    expected = [
        (row["train_flops_ratio"], 100 * of(loaded.results.replicates, cell=row["cell"])["accuracy"].mean())
        for row in loaded.results.cells.to_dict("records")
    ]
    assert means(axes) == [pytest.approx(point) for point in expected]


def test_the_legend_of_costs_names_every_cell_beside_the_data(loaded, drawn):
    figure = drawn["accuracy_against_cost"][1]
    names = " ".join(text.get_text().replace("\n", " ") for text in figure.legends[0].texts)
    assert all(cell in names for cell in loaded.results.cells["cell"])
    assert not figure.axes[0].get_legend()
