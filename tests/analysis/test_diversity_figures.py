"""Figures of diversity, topology and classes by what is drawn in them, from small frames made by hand."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.container import ErrorbarContainer

from analysis.accuracy.classes import class_maps
from analysis.diversity.figures import disagreement_maps, diversity_against_accuracy
from analysis.diversity.overlap import overlap_by_layer, overlap_maps
from analysis.maps import spelled, symmetric
from analysis.style import contrast, looks
from bench.metrics.weights import OVERALL
from tests.analysis.layout import assert_laid_out

CELLS = pd.DataFrame({"cell": ["dense", "EDST", "DST"], "method": ["dense", "edst", "dst"]})
# Quantile of Student's t at 97.5% with two degrees of freedom, from a printed table.
T2 = 4.303


def many_cells(count=20):
    """Cells with names of 25 letters."""
    names = [f"ResNet-50 EDST M={1 + i % 7} S=.{i:02}0" for i in range(count)]
    assert {len(name) for name in names} == {25}
    return pd.DataFrame({"cell": names, "method": [f"method {i % 6}" for i in range(count)]})


def replicate_rows(cell, accuracies, disagreements):
    return [
        {
            "cell": cell,
            "replicate": i + 1,
            "member_accuracy": a,
            "disagreement": d,
            "normalised_disagreement": d / (1 - a),
        }
        for i, (a, d) in enumerate(zip(accuracies, disagreements, strict=True))
    ]


REPLICATES = pd.DataFrame(
    replicate_rows("dense", [0.9, 0.92], [np.nan, np.nan])
    + replicate_rows("EDST", [0.90, 0.92, 0.94], [0.05, 0.04, 0.06])
    + replicate_rows("DST", [0.95], [0.08])
)


def pair_rows(cell, members, value, replicate=1):
    return [
        {"cell": cell, "replicate": replicate, "first": i, "second": j, "disagreement": value(i, j)}
        for i in range(1, members + 1)
        for j in range(1, members + 1)
        if i != j
    ]


def overlap_rows(cell, replicate, pair, values):
    layers = (OVERALL, "conv1.weight", "fc.weight")
    return [
        {"cell": cell, "replicate": replicate, "first": pair[0], "second": pair[1], "layer": layer, "iou": value}
        for layer, value in zip(layers, values, strict=True)
    ]


OVERLAP = pd.DataFrame(
    overlap_rows("dense", 1, (1, 2), [np.nan] * 3)
    + overlap_rows("EDST", 1, (1, 2), [0.3, 0.2, 1.0])
    + overlap_rows("EDST", 1, (1, 3), [0.5, 0.4, 1.0])
    + overlap_rows("EDST", 1, (2, 3), [0.1, 0.3, 1.0])
    + overlap_rows("EDST", 2, (1, 2), [0.4, 0.5, 1.0])
    + overlap_rows("EDST", 2, (1, 3), [0.5, 0.5, 1.0])
    + overlap_rows("EDST", 2, (2, 3), [0.2, 0.5, 1.0])
    + overlap_rows("DST", 1, (1, 2), [0.1, 0.15, 0.6])
)


def class_rows(cell, replicate, accuracies, names=None):
    """Rows of accuracies [classes][member], member 0 the ensemble."""
    return [
        {
            "cell": cell,
            "replicate": replicate,
            "label": label,
            "name": names[label] if names else f"class {label}",
            "member": member,
            "accuracy": value,
        }
        for label, shares in enumerate(accuracies)
        for member, value in enumerate(shares)
    ]


def errorbars(axes):
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def means(axes):
    return [(float(bar.lines[0].get_xdata()[0]), float(bar.lines[0].get_ydata()[0])) for bar in errorbars(axes)]


def legend_names(figure):
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].texts]


def titled(figure):
    return {axes.get_title().splitlines()[0]: axes for axes in figure.axes if axes.get_title()}


def matrix(axes):
    values = axes.collections[0].get_array().filled(np.nan)
    count = round(values.size**0.5)
    return values.reshape(count, count)


# --- Diversity against accuracy


def test_a_cell_stands_at_its_mean_accuracy_and_diversity():
    plain, normalised = diversity_against_accuracy(CELLS, REPLICATES).axes
    assert means(plain) == [pytest.approx((92, 5)), pytest.approx((95, 8))]
    # 0.05/0.10, 0.04/0.08 and 0.06/0.06: the mean of the ratios, not the ratio of the means.
    assert means(normalised) == [pytest.approx((92, (0.5 + 0.5 + 1) / 3)), pytest.approx((95, 1.6))]


def test_intervals_are_students_and_a_single_replicate_has_none():
    plain, _ = diversity_against_accuracy(CELLS, REPLICATES).axes
    edst, dst = errorbars(plain)
    horizontal, vertical = (bar.get_segments()[0] for bar in edst.lines[2])
    half = T2 * 2 / 3**0.5
    assert horizontal[:, 0] == pytest.approx([92 - half, 92 + half], rel=1e-4)
    half = T2 * 1 / 3**0.5
    assert vertical[:, 1] == pytest.approx([5 - half, 5 + half], rel=1e-4)
    assert not dst.has_xerr
    assert not dst.has_yerr


def test_every_replicate_is_a_dot_in_the_colour_of_its_cell():
    plain, _ = diversity_against_accuracy(CELLS, REPLICATES).axes
    dots = [line for line in plain.lines if line.get_gid() == "replicates"]
    assert dots[0].get_xdata() == pytest.approx([90, 92, 94])
    assert dots[0].get_ydata() == pytest.approx([5, 4, 6])
    assert to_rgba(dots[0].get_color()) == to_rgba(looks(CELLS)["EDST"].color)


def test_cells_of_one_member_have_no_place_among_diversities():
    for axes in diversity_against_accuracy(CELLS, REPLICATES).axes:
        assert sorted(text.get_text() for text in axes.texts) == ["DST", "EDST"]


def test_axes_of_diversity_name_unit_and_direction():
    for axes in diversity_against_accuracy(CELLS, REPLICATES).axes:
        assert "(%)" in axes.get_xlabel()
        assert "higher is better" in axes.get_xlabel()
        assert "more diverse" in axes.get_ylabel()


# --- Heat maps of pairs


def test_disagreement_of_few_and_of_many_members_share_a_scale_and_only_few_have_numbers():
    pairs = pd.DataFrame(
        pair_rows("dense", 30, lambda i, j: abs(i - j) / 200)
        + pair_rows("EDST", 7, lambda i, j: 0.01)  # noqa: ARG005
        + pair_rows("DST", 2, lambda i, j: 0.123)  # noqa: ARG005
    )
    panels = titled(disagreement_maps(CELLS, pairs))
    assert [axes.collections[0].get_clim() for axes in panels.values()] == [pytest.approx((0, 14.5))] * 3
    assert matrix(panels["dense"])[28, 0] == pytest.approx(14.5)
    assert [len(panels[cell].texts) for cell in CELLS["cell"]] == [0, 21, 1]
    assert panels["DST"].texts[0].get_text() == "12.3"
    ticks = [label.get_text() for label in panels["dense"].get_xticklabels()]
    assert [tick for tick in ticks if tick] == ["5", "10", "15", "20", "25"]
    assert ticks.index("5") == 4


def test_titles_have_the_mean_and_a_single_pair_is_no_giant_square():
    pairs = pd.DataFrame(pair_rows("DST", 2, lambda i, j: 0.123) + pair_rows("EDST", 7, lambda i, j: 0.2))  # noqa: ARG005
    figure = disagreement_maps(CELLS, pairs)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["EDST\nmean 20.0", "DST\nmean 12.3"]
    one = titled(figure)["DST"]
    figure.draw_without_rendering()
    width = abs(one.transData.transform((1, 0))[0] - one.transData.transform((0, 0))[0]) / figure.dpi
    assert width < 0.8


def test_small_disagreements_have_one_more_digit():
    figure = disagreement_maps(CELLS, pd.DataFrame(pair_rows("DST", 2, lambda i, j: 0.0123)))  # noqa: ARG005
    assert {text.get_text() for text in titled(figure)["DST"].texts} == {"1.23"}


def test_overlap_of_each_pair_once_is_the_mean_over_replicates_of_all_layers():
    panels = titled(overlap_maps(CELLS, OVERLAP))
    assert list(panels) == ["EDST", "DST"]  # dense networks have no masks
    # Tickets 2 and 3 below each other, 1 and 2 beside: above the diagonal would be the same pairs.
    assert matrix(panels["EDST"]) == pytest.approx(np.array([[0.35, np.nan], [0.5, 0.15]]), nan_ok=True)
    assert matrix(panels["DST"]) == pytest.approx(np.array([[0.1]]))
    assert [axes.collections[0].get_clim() for axes in panels.values()] == [pytest.approx((0, 0.5))] * 2


# --- Overlap by layer


def test_overlap_by_layer_is_the_mean_over_pairs_then_over_replicates():
    (axes,) = overlap_by_layer(CELLS, OVERLAP).axes
    edst, dst = errorbars(axes)
    assert edst.lines[0].get_ydata() == pytest.approx([(0.3 + 0.5) / 2, 1.0])
    assert dst.lines[0].get_ydata() == pytest.approx([0.15, 0.6])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["conv1", "fc"]
    assert [text.get_text() for text in axes.get_legend().texts] == ["EDST", "DST"]


def test_overlap_by_layer_has_intervals_over_replicates_not_over_pairs():
    (axes,) = overlap_by_layer(CELLS, OVERLAP).axes
    edst, dst = errorbars(axes)
    segment = edst.lines[2][0].get_segments()[0]
    # Replicates 0.3 and 0.5; Student's t at 97.5% with one degree of freedom is 12.706.
    half = 12.706 * (0.2 / 2**0.5) / 2**0.5
    assert segment[:, 1] == pytest.approx([0.4 - half, 0.4 + half], rel=1e-4)
    assert not dst.has_yerr


def test_lines_pass_by_layers_without_a_choice():
    (axes,) = overlap_by_layer(CELLS, OVERLAP).axes
    lines = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "-"]
    assert lines == [pytest.approx([0.4]), pytest.approx([0.15, 0.6])]


def test_networks_of_other_layers_have_a_panel_of_their_own():
    other = OVERLAP[OVERLAP["cell"] == "DST"].replace({"layer": {"fc.weight": "head.weight"}})
    figure = overlap_by_layer(CELLS, pd.concat([OVERLAP[OVERLAP["cell"] == "EDST"], other]))
    assert [axes.get_xticklabels()[1].get_text() for axes in figure.axes] == ["fc", "head"]


@pytest.mark.filterwarnings("error:constrained_layout")
def test_a_panel_is_as_high_as_its_legend_of_many_long_names():
    names = [f"{number} of cells with a name that takes two lines, or three" for number in range(20)]
    cells = pd.DataFrame({"cell": names, "method": "dst"})
    rows = [OVERLAP[OVERLAP["cell"] == "DST"].assign(cell=name) for name in names]
    figure = overlap_by_layer(cells, pd.concat(rows))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_position().height * figure.get_size_inches()[1] > 3
    assert axes.get_legend().get_window_extent().y1 <= figure.bbox.y1


# --- Classes


REFERRED = CELLS.assign(reference="dense")


def squares(axes):
    """The values of a heat map, rows x columns, NaN where it is grey."""
    mesh = axes.collections[0]
    return np.ma.filled(mesh.get_array(), np.nan).reshape(len(axes.get_yticks()) or -1, len(axes.get_xticks()))


def numbers(axes):
    """The texts on squares by (row, column)."""
    return {tuple(int(place) for place in text.get_position()[::-1]): text for text in axes.texts}


def class_frame():
    return pd.DataFrame(
        class_rows("dense", 1, [[0.9, 0.9], [0.8, 0.8]])
        + class_rows("EDST", 1, [[0.92, 0.8, 0.85], [0.95, 0.9, 0.96]])
        + class_rows("EDST", 2, [[0.94, 0.82, 0.89], [0.99, 0.92, 0.98]])
    )


def test_ensembles_are_compared_with_the_dense_network_and_with_their_members():
    against, gain = class_maps(REFERRED, class_frame()).axes[:2]
    assert [label.get_text() for label in against.get_yticklabels()] == ["dense", "EDST"]
    assert squares(against)[1] == pytest.approx([93 - 90, 97 - 80])
    assert {place: text.get_text() for place, text in numbers(against).items()} == {
        (0, 0): "90.0", (0, 1): "80.0", (1, 0): "+3.0", (1, 1): "+17"
    }  # fmt: skip
    # The means of the members are 84 and 94; a single network has no members to compare with.
    values = np.ma.filled(gain.collections[0].get_array(), np.nan).reshape(2, 2)
    assert values[1] == pytest.approx([93 - 84, 97 - 94])
    assert np.isnan(values[0]).all()


def test_without_a_dense_network_accuracies_are_drawn_and_an_absent_class_is_grey():
    rows = class_rows("EDST", 1, [[0.9, 0.8, 0.85], [np.nan] * 3, [0.7, 0.6, 0.65]])
    figure = class_maps(CELLS, pd.DataFrame(rows))
    assert squares(figure.axes[0])[0] == pytest.approx([90, np.nan, 70], nan_ok=True)
    assert {text.get_text() for text in figure.axes[0].texts} == {"90.0", "70.0"}


def test_numbers_are_read_on_their_squares():
    for axes in class_maps(REFERRED, class_frame()).axes[:2]:
        mesh = axes.collections[0]
        mesh.update_scalarmappable()
        colors = mesh.get_facecolor().reshape(2, 2, 4)
        for (row, column), text in numbers(axes).items():
            if text.get_fontweight() != "bold":  # the row of the dense network is white
                assert contrast(text.get_color(), tuple(colors[row, column, :3])) >= 4.5


def test_no_number_has_a_sign_or_decimals_that_say_nothing():
    assert [spelled(value, "+.1f") for value in (-0.04, 0.0, 1.25, -3.0)] == ["0", "0", "+1.2", "-3.0"]
    # Five letters are wider than a square.
    assert [spelled(value, "+.1f") for value in (9.94, 9.96, -31.7)] == ["+9.9", "+10", "-32"]
    assert spelled(100.0, ".1f") == "100"


def test_one_cell_far_below_does_not_take_all_colours():
    values = pd.DataFrame(np.r_[np.linspace(-2, 2, 39), -40].reshape(4, 10))
    low, high = symmetric(values)
    assert -low == high
    assert high < 3


def hundred_classes(cell, replicate=1):
    """Classes whose gain from member to ensemble is (label - 50) / 1000."""
    rows = [[0.7 + (label - 50) / 1000, 0.72, 0.68] for label in range(100)]
    return class_rows(cell, replicate, rows, [f"a class with a name {label}" for label in range(100)])


def test_of_a_hundred_classes_the_extremes_are_drawn_and_the_title_says_so():
    figure = class_maps(CELLS, pd.DataFrame(hundred_classes("EDST") + hundred_classes("DST")))
    for axes in figure.axes[:2]:
        labels = [label.get_text().split()[-1] for label in axes.get_xticklabels()]
        assert labels == [str(label) for label in [*range(99, 89, -1), *range(9, -1, -1)]]
    assert squares(figure.axes[0])[0, [0, -1]] == pytest.approx([74.9, 65.0])
    title = " ".join(figure.get_suptitle().split())
    assert "20 of 100 classes" in title
    assert "gain most" in title
    assert "least or lose" in title


def test_of_a_hundred_classes_few_of_which_have_images_those_are_drawn():
    frame = pd.DataFrame(hundred_classes("EDST"))
    frame.loc[~frame["label"].isin([3, 50, 97]), "accuracy"] = np.nan
    figure = class_maps(CELLS, frame)
    assert [label.get_text().split()[-1] for label in figure.axes[0].get_xticklabels()] == ["3", "50", "97"]
    assert "3 of 100 classes that have images" in figure.get_suptitle()


def test_twenty_classes_are_all_drawn_in_the_order_of_their_labels():
    rows = class_rows("EDST", 1, [[0.5 + label / 100, 0.5] for label in range(20)])
    figure = class_maps(CELLS, pd.DataFrame(rows[::-1]))
    assert squares(figure.axes[0])[0] == pytest.approx([50 + label for label in range(20)])


# --- Layout


def layouts():
    """Every figure with 20 cells of long names, several members and replicates."""
    cells = many_cells()
    rng = np.random.default_rng(0)
    replicates, pairs, overlaps, classes = [], [], [], []
    layers = [OVERALL, *(f"block{i // 8}.{i % 8}.conv2.weight" for i in range(28))]
    for index, cell in enumerate(cells["cell"]):
        members = 2 + index % 6
        for replicate in (1, 2, 3):
            values = 0.9 + 0.01 * rng.normal(size=2)
            replicates += replicate_rows(cell, values[:1], 1 - values[1:])
            pairs += pair_rows(cell, members, lambda *_: rng.uniform(0.1, 0.3), replicate)
            overlaps += [
                {"cell": cell, "replicate": replicate, "first": 1, "second": 2, "layer": layer, "iou": rng.uniform()}
                for layer in layers
            ]
            classes += hundred_classes(cell, replicate)
    return cells, *map(pd.DataFrame, (replicates, pairs, overlaps, classes))


@pytest.fixture(scope="module")
def crowded():
    return layouts()


@pytest.mark.parametrize("name", ["members", "disagreement", "maps", "layers", "classes"])
def test_twenty_cells_with_long_names_are_laid_out_without_overlap(crowded, name):
    cells, replicates, pairs, overlaps, classes = crowded
    figure = {
        "members": lambda: diversity_against_accuracy(cells, replicates),
        "disagreement": lambda: disagreement_maps(cells, pairs),
        "maps": lambda: overlap_maps(cells, overlaps),
        "layers": lambda: overlap_by_layer(cells, overlaps),
        "classes": lambda: class_maps(cells, classes),
    }[name]()
    assert_laid_out(figure)


def test_one_cell_of_two_members_and_one_replicate_is_laid_out():
    cells = CELLS[CELLS["cell"] == "DST"]
    rows = [frame[frame["cell"] == "DST"] for frame in (REPLICATES, OVERLAP)]
    assert_laid_out(diversity_against_accuracy(cells, rows[0]))
    assert_laid_out(disagreement_maps(cells, pd.DataFrame(pair_rows("DST", 2, lambda i, j: 0.1))))  # noqa: ARG005
    assert_laid_out(overlap_maps(cells, rows[1]))
    assert_laid_out(overlap_by_layer(cells, rows[1]))
    assert_laid_out(class_maps(cells, pd.DataFrame(class_rows("DST", 1, [[0.9, 0.8, 0.85]]))))


def test_drawing_leaves_global_settings_alone():
    before = dict(mpl.rcParams)
    overlap_maps(CELLS, OVERLAP)
    class_maps(CELLS, pd.DataFrame(class_rows("DST", 1, [[0.9, 0.8]])))
    assert dict(mpl.rcParams) == before
