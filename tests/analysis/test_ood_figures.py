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
    assert list(chance.get_xdata()) == list(chance.get_ydata()) == [0, 100]
    for line, cell in ((first, cells["cell"][0]), (second, cells["cell"][1])):
        rows = of(curves, cell=cell, ood_set="MNIST", score="entropy")
        by_hand = np.mean([of(rows, replicate=replicate)["tpr"] for replicate in (1, 2, 3)], axis=0)
        assert list(line.get_xdata()) == pytest.approx(list(100 * GRID))
        assert list(line.get_ydata()) == pytest.approx(list(100 * by_hand))


def test_areas_have_mean_interval_and_replicates():
    cells = cells_of(2)
    ood, curves = frames(cells, ood_set=["SVHN", "MNIST"])
    lower = roc_curves(cells, ood, curves, "entropy").axes[2:]
    for axes, name in zip(lower, ("SVHN", "MNIST"), strict=True):
        for interval, dots, cell in zip(
            intervals(axes), [line for line in axes.lines if line.get_gid() == "replicates"], cells["cell"], strict=True
        ):
            values = 100 * of(ood, cell=cell, ood_set=name, score="entropy")["auroc"].to_numpy()
            half_width = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(values)
            assert interval.lines[0].get_xdata()[0] == pytest.approx(values.mean())
            (segment,) = interval.lines[2][0].get_segments()
            # No area is above 100%.
            assert segment[:, 0] == pytest.approx([values.mean() - half_width, min(values.mean() + half_width, 100)])
            assert list(dots.get_xdata()) == pytest.approx(list(values))


def chance_lines(axes):
    return [line for line in axes.lines if line.get_gid() == "chance"]


def test_areas_near_or_below_chance_have_its_line_and_others_keep_their_scale():
    cells = cells_of(3)
    ood, curves = frames(cells, ood_set=["SVHN", "uniform"])
    ood.loc[ood["ood_set"] == "uniform", "auroc"] *= 0.1
    upper, _, high, low = roc_curves(cells, ood, curves, "entropy").axes
    assert len(chance_lines(upper)) == 1
    assert not chance_lines(high)
    assert high.get_xlim()[0] > 60
    (line,) = chance_lines(low)
    assert set(line.get_xdata()) == {50}
    assert low.get_xlim()[1] > 50


def test_the_dense_network_is_a_line_among_the_areas():
    cells = cells_of(3)
    ood, curves = frames(cells, ood_set=["SVHN"])
    axes = roc_curves(cells.assign(reference=cells["cell"][0]), ood, curves, "entropy").axes[1]
    (line,) = [line for line in axes.lines if line.get_label() == "dense"]
    mean = of(ood, cell=cells["cell"][0], score="entropy")["auroc"].mean()
    assert line.get_xdata()[0] == pytest.approx(100 * mean)


def test_curves_have_the_colours_of_families_and_the_legend_names_those():
    cells = cells_of(3).assign(method=["edst", "dst", "superposed_edst"])
    ood, curves = frames(cells, ood_set=["SVHN"])
    figure = roc_curves(cells, ood, curves, "entropy")
    colors = [line.get_color() for line in figure.axes[0].lines[1:]]
    assert colors[0] == colors[2] != colors[1]
    assert [text.get_text() for text in figure.legends[0].texts][:2] == ["EDST", "DST"]


def test_twenty_cells_fit_on_a_page():
    cells = cells_of(20)
    assert roc_curves(cells, *frames(cells, ood_set=SETS[:3]), "entropy").get_size_inches()[1] <= 9
    assert score_histograms(cells, histograms(cells), "entropy").get_size_inches()[1] <= 9


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
