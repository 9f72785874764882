"""Accuracy by hand: over all classes and class by class, and as it is drawn."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
from sklearn.metrics import recall_score

from analysis.accuracy.figures import scores_by_cell
from analysis.accuracy.numbers import load_accuracy
from tests.analysis.conftest import GRID
from tests.analysis.drawing import bars_with_errors, means
from tests.analysis.lookup import IMAGES, probabilities
from tests.analysis.stores import make, numbers_of, of
from tests.analysis.synthetic import labels_of

METRICS = [("accuracy", 100), ("nll", 1), ("ece", 1)]


def test_classes_are_recalled_by_the_ensemble_and_by_each_member(loaded):
    name = "EDST M=3 S=0.9"
    members, labels = probabilities(loaded.plan, name, 1), labels_of(IMAGES)
    for number, predicted in enumerate((members.mean(axis=0), *members)):
        rows = of(loaded.numbers("accuracy").classes, cell=name, replicate=1, member=number)
        assert list(rows["label"]) == list(range(10))
        recall = recall_score(labels, predicted.argmax(axis=1), average=None, labels=range(10))
        assert list(rows["accuracy"]) == pytest.approx(list(recall))
    assert set(of(loaded.numbers("accuracy").classes, cell=name)["member"]) == {0, 1, 2, 3}


@pytest.mark.parametrize(("data", "third"), [("digits", "2"), ("cifar10", "bird")])
def test_classes_have_their_names_or_their_numbers(tmp_path, data, third):
    made = make(tmp_path, GRID.replace("data: digits", f"data: {data}"), images=30)
    classes = numbers_of(load_accuracy, made.plan, made.store)[0].classes
    assert set(of(classes, label=2)["name"]) == {third}
    assert classes["name"].notna().all()


def test_several_data_sets_name_their_own_classes(tmp_path):
    head = GRID.split("cells:")[0].replace("  data: digits\n", "")
    cells = ", ".join(f"{{name: {d}, data: {d}, method: dense, recipe: {{epochs: 8}}}}" for d in ("cifar10", "digits"))
    made = make(tmp_path, f"{head}cells: [{cells}]\n", images=30)
    classes = numbers_of(load_accuracy, made.plan, made.store)[0].classes
    assert set(of(classes, cell="cifar10", label=9)["name"]) == {"truck"}
    assert set(of(classes, cell="digits", label=9)["name"]) == {"9"}


@pytest.mark.parametrize("panel", range(3))
def test_scores_show_mean_interval_and_every_replicate(loaded, drawn, panel):
    results, axes = loaded.results, drawn["scores_by_cell"][1].axes[panel]
    key, factor = METRICS[panel]
    for position, cell in enumerate(results.cells["cell"]):
        values = of(results.replicates, cell=cell)[key].to_numpy() * factor
        assert means(axes)[position] == (pytest.approx(values.mean()), position)
        (segment,) = bars_with_errors(axes)[position].lines[2][0].get_segments()
        half_width = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        # No accuracy is above 100%, and no score below 0.
        ends = max(values.mean() - half_width, 0), min(values.mean() + half_width, factor if factor > 1 else math.inf)
        assert segment[:, 0] == pytest.approx(ends)
        dots = [line for line in axes.lines if len(line.get_xdata()) == len(values) > 1]
        (drawn_dots,) = (
            line for line in dots if np.allclose(line.get_xdata(), values) and abs(line.get_ydata()[0] - position) < 0.5
        )
        assert (drawn_dots.get_ydata() > position).all()  # beside the interval, not on it


def test_a_single_replicate_is_drawn_without_an_interval(loaded):
    replicates = of(loaded.results.replicates, replicate=1)
    axes = scores_by_cell(loaded.results.cells, replicates).axes[0]
    assert len(means(axes)) == 4
    assert not any(bar.has_xerr for bar in bars_with_errors(axes))


def test_a_cell_that_was_not_run_says_so(loaded):
    replicates = loaded.results.replicates[loaded.results.replicates["cell"] != "dense"]
    axes = scores_by_cell(loaded.results.cells, replicates).axes[0]
    assert [text.get_text() for text in axes.texts] == ["not run"]
    assert len(means(axes)) == 3


def test_the_mean_member_of_every_ensemble_is_on_the_scale():
    cells = pd.DataFrame({"cell": list("abc"), "method": ["dense", "dst", "edst"], "reference": "a"})
    replicates = pd.DataFrame(
        {
            "cell": list("abc"),
            "replicate": 1,
            "accuracy": [0.757, 0.760, 0.768],
            "member_accuracy": [0.757, 0.741, 0.745],
        }
    ).assign(nll=1.0, ece=0.1)
    panel = scores_by_cell(cells, replicates).axes[0]
    ticks = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "|"]
    assert ticks == pytest.approx([75.7, 74.1, 74.5])
