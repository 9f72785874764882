"""The figure of selective prediction: what is drawn, on which scale, with few and with many cells."""

import numpy as np
import pandas as pd
import pytest

from analysis.calibration.selective import differences_to_dense, risk_curves
from bench.metrics import risk_coverage_curve
from tests.analysis.layout import assert_laid_out
from tests.analysis.lookup import IMAGES, mean_and_half_width, probabilities
from tests.analysis.stores import of
from tests.analysis.synthetic import labels_of
from tests.analysis.test_curves import METHODS, cells_of

COVERAGES = np.arange(1, 101) / 100


def risks_of(cells, replicates=2, **heights):
    """Straight lines from 0: a replicate r of a cell errs r points more than its height at full coverage."""
    rows = [
        (cell, r, coverage, (heights.get(cell, 20 + index) + r) / 100 * coverage)
        for index, cell in enumerate(cells["cell"])
        for r in range(1, replicates + 1)
        for coverage in COVERAGES
    ]
    return pd.DataFrame(rows, columns=["cell", "replicate", "coverage", "risk"])


def test_risks_are_those_of_the_predictions_and_their_mean_is_the_aurc(loaded):
    numbers = loaded.numbers("calibration")
    rows = of(numbers.risks, cell="DST M=2 S=0.8", replicate=2)
    members = probabilities(loaded.plan, "DST M=2 S=0.8", 2)
    assert rows["risk"].to_numpy() == pytest.approx(risk_coverage_curve(members.mean(axis=0), labels_of(IMAGES))[1])
    scores = of(numbers.scores, cell="DST M=2 S=0.8", replicate=2).iloc[0]
    accuracy = of(loaded.results.replicates, cell="DST M=2 S=0.8", replicate=2)["accuracy"].item()
    assert rows["risk"].iloc[-1] == pytest.approx(1 - accuracy)
    # 300 images on a grid of a hundred shares.
    assert rows["risk"].mean() == pytest.approx(scores["aurc"], abs=0.01)


def test_differences_are_of_the_same_replicate():
    cells = cells_of(METHODS[:3])
    dense, other = cells["cell"][:2]
    risks = risks_of(cells)
    risks = risks[~((risks["cell"] == dense) & (risks["replicate"] == 2))]
    less = differences_to_dense(cells, risks)
    assert set(less["cell"]) == set(cells["cell"][1:])
    assert set(less["replicate"]) == {1}
    assert of(less, cell=other)["risk"].to_numpy() == pytest.approx(COVERAGES / 100)


def test_curves_show_mean_and_interval_and_on_the_right_the_difference():
    cells = cells_of(METHODS[:3])
    left, right = risk_curves(cells, risks_of(cells)).axes[:2]
    mean, half_width = mean_and_half_width([22.0, 23.0])
    assert left.lines[1].get_ydata()[-1] == pytest.approx(mean)
    band = left.collections[1].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(mean + half_width)
    assert [line.get_ydata()[-1] for line in right.lines] == pytest.approx([0, 1, 2])
    assert right.lines[0].get_linestyle() == "--"
    assert left.get_xlim() == (0, 100)


def test_without_a_dense_network_there_is_one_panel_of_errors():
    cells = cells_of(METHODS[:3]).assign(reference="")
    risks = risks_of(cells)
    assert differences_to_dense(cells, risks).empty
    assert len(risk_curves(cells, risks).axes) == 1


def test_a_cell_far_from_all_others_does_not_squeeze_them():
    cells = cells_of(METHODS)
    far = cells["cell"].iloc[-1]
    left, right = risk_curves(cells, risks_of(cells, **{far: 90})).axes[:2]
    assert left.get_ylim()[1] < 40
    assert right.get_ylim()[1] < 15


@pytest.mark.parametrize(("count", "replicates"), [(1, 1), (5, 3), (20, 2)])
def test_one_five_and_twenty_cells_can_be_read(count, replicates):
    cells = cells_of((METHODS * 2)[:count])
    figure = risk_curves(cells, risks_of(cells, replicates))
    assert_laid_out(figure)
    assert figure.get_size_inches()[1] <= 10.5


def test_the_figure_and_its_numbers_and_the_area_in_the_caption(loaded, drawn):
    entry, _ = drawn["risk_coverage"]
    frames = entry.numbers()
    assert set(frames) == {"curves", "differences", "aurc"}
    assert set(frames["curves"]["cell"]) == set(loaded.results.cells["cell"])
    means = loaded.results.replicates.groupby("cell")["aurc"].mean()
    for cell in (means.idxmin(), means.idxmax()):
        assert f"{means[cell]:.4f} of {cell}" in entry.caption
