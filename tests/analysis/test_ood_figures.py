"""Figures of images from other data sets by what is drawn: shares in bins, mean curves, areas and their intervals."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import StepPatch

from analysis.ood.figures import AXIS_LABELS, roc_curves, score_histograms
from tests.analysis.stores import of
from tests.analysis.test_corruption_figures import assert_legible, cells_of

SETS = ("SVHN", "CIFAR-100", "MNIST", "Gaussian noise", "uniform noise")
GRID = np.linspace(0, 1, 101)


def frames(cells, replicates=3, ood_set=SETS):
    """Areas, and curves tpr = fpr ** power, whose area is 1 / (1 + power)."""
    rng = np.random.default_rng(3)
    areas, curves = [], []
    for cell in cells["cell"]:
        for replicate in range(1, replicates + 1):
            for name in ood_set:
                key = {"cell": cell, "replicate": replicate, "ood_set": name, "score": "entropy"}
                power = rng.uniform(0.02, 0.2)
                areas.append({**key, "auroc": 1 / (1 + power), "aupr": 0.5, "fpr95": 0.95 ** (1 / power)})
                curves += [{**key, "fpr": fpr, "tpr": fpr**power} for fpr in GRID]
    ood, ood_curves = pd.DataFrame(areas), pd.DataFrame(curves)
    other = ood.assign(score="max_probability", auroc=0.1)
    return pd.concat([ood, other]), pd.concat([ood_curves, ood_curves.assign(score="max_probability", tpr=0.1)])


def histograms(cells, replicates=2, ood_set=SETS, score="entropy"):
    """Four bins of 0.5 nats; the counts of replicate r are r times those of the first."""
    counts = {"test": (80, 15, 5, 0)} | {name: (10, 20, 30, 40 + index) for index, name in enumerate(ood_set)}
    return pd.DataFrame(
        {"cell": cell, "replicate": replicate, "set": name, "score": score}
        | {"low": 0.5 * bin, "high": 0.5 * bin + 0.5, "count": count * replicate}
        for cell in cells["cell"]
        for replicate in range(1, replicates + 1)
        for name, rows in counts.items()
        for bin, count in enumerate(rows)
    )


def intervals(axes):
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def test_histograms_show_shares_of_the_images_of_all_replicates():
    cells = cells_of(2)
    frame = histograms(cells, ood_set=["SVHN"])
    # The second replicate has three times as many images, all of them in the last bin.
    frame.loc[(frame["set"] == "SVHN") & (frame["replicate"] == 2), "count"] = [0, 0, 0, 300] * 2
    axes = score_histograms(cells, frame, "entropy").axes[0]
    test, ood_set = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    assert list(test.get_data().values) == pytest.approx([80, 15, 5, 0])
    assert list(ood_set.get_data().values) == pytest.approx([2.5, 5, 7.5, 85])
    assert list(ood_set.get_data().edges) == [0, 0.5, 1, 1.5, 2]
    assert test.get_fill()
    assert not ood_set.get_fill()


def test_histograms_have_a_panel_a_cell_that_was_run_and_one_scale():
    cells = cells_of(3)
    frame = pd.concat([histograms(cells[1:]), histograms(cells, score="max_probability")])
    figure = score_histograms(cells, frame, "entropy")
    assert [axes.get_title() for axes in figure.axes if axes.axison] == list(cells["cell"][1:])
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert figure.axes[0].get_ylim()[0] == 0
    assert [text.get_text() for text in figure.legends[0].texts] == ["test images", *SETS]


def test_no_two_sets_look_the_same():
    names = [f"folder {index}" for index in range(7)]
    axes = score_histograms(cells_of(1), histograms(cells_of(1), ood_set=names), "entropy").axes[0]
    looks = {(patch.get_edgecolor(), str(patch.get_linestyle())) for patch in axes.patches[1:]}
    assert len(looks) == 7


def test_scores_are_named_with_their_unit():
    cells = cells_of(1)
    for score, label in AXIS_LABELS.items():
        axes = score_histograms(cells, histograms(cells, score=score), score).axes[0]
        assert axes.get_xlabel() == label
    assert AXIS_LABELS["mutual_information"].endswith("(nats)")


def test_curves_are_means_over_replicates():
    cells = cells_of(2)
    ood, curves = frames(cells, ood_set=["SVHN", "MNIST"])
    figure = roc_curves(cells, ood, curves, "entropy")
    panel = figure.axes[1]
    assert panel.get_title() == "MNIST"
    chance, first, second = panel.lines
    assert list(chance.get_ydata()) == pytest.approx(list(100 * GRID[1:]))
    for line, cell in ((first, cells["cell"][0]), (second, cells["cell"][1])):
        rows = of(curves, cell=cell, ood_set="MNIST", score="entropy")
        by_hand = np.mean([of(rows, replicate=replicate)["tpr"] for replicate in (1, 2, 3)], axis=0)
        assert list(line.get_xdata()) == pytest.approx(list(100 * GRID[1:]))
        assert list(line.get_ydata()) == pytest.approx(list(100 * by_hand[1:]))


def test_areas_have_mean_interval_and_replicates():
    cells = cells_of(2)
    ood, curves = frames(cells, ood_set=["SVHN", "MNIST"])
    lower = roc_curves(cells, ood, curves, "entropy").axes[2:]
    for axes, name in zip(lower, ("SVHN", "MNIST"), strict=True):
        for interval, dots, cell in zip(intervals(axes), axes.lines[3::4], cells["cell"], strict=True):
            values = 100 * of(ood, cell=cell, ood_set=name, score="entropy")["auroc"].to_numpy()
            half_width = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(values)
            assert interval.lines[0].get_xdata()[0] == pytest.approx(values.mean())
            (segment,) = interval.lines[2][0].get_segments()
            assert segment[:, 0] == pytest.approx([values.mean() - half_width, values.mean() + half_width])
            assert list(dots.get_xdata()) == pytest.approx(list(values))


def test_one_replicate_has_no_interval():
    cells = cells_of(2)
    axes = roc_curves(cells, *frames(cells, replicates=1, ood_set=["SVHN"]), "entropy").axes[1]
    assert len(intervals(axes)) == 2
    assert not any(interval.has_xerr for interval in intervals(axes))


def test_a_cell_without_one_of_the_sets_says_so_there():
    cells = cells_of(3)
    ood, curves = frames(cells[:2], ood_set=["SVHN", "MNIST"])
    missing = cells["cell"][0]
    ood, curves = (frame[(frame["cell"] != missing) | (frame["ood_set"] != "MNIST")] for frame in (ood, curves))
    figure = roc_curves(cells, ood, curves, "entropy")
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes[2:]] == [[], ["not run"]]
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == list(cells["cell"][:2])


def test_areas_say_their_unit_and_direction_and_stay_within_what_is_possible():
    cells = cells_of(1)
    ood, curves = frames(cells, replicates=2, ood_set=["SVHN"])
    ood["auroc"] = [0.9, 1.0] * 2
    figure = roc_curves(cells, ood, curves, "entropy")
    assert figure.axes[1].get_xlabel() == "AUROC (%)\nhigher is better →"
    assert "higher is better" in figure.axes[0].get_ylabel()
    assert 100 < figure.axes[1].get_xlim()[1] < 104
    assert AXIS_LABELS["entropy"] in figure.legends[0].get_title().get_text()


@pytest.mark.parametrize(("count", "ood_set"), [(1, SETS[:1]), (13, SETS[:3]), (20, SETS)])
def test_nothing_overlaps(count, ood_set):
    cells = cells_of(count)
    assert_legible(score_histograms(cells, histograms(cells, ood_set=ood_set), "entropy"))
    assert_legible(roc_curves(cells, *frames(cells, replicates=2, ood_set=ood_set), "entropy"))
