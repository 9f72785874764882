"""Rows of cells: the dense network as a line, cells beyond the scale in words, no more ink than there is to say."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.accuracy.figures import scores_by_cell
from analysis.columns import ACCURACY
from analysis.reference import blocks, only_reference
from analysis.rows import draw_rows, row_handles
from analysis.set_titles import set_title
from analysis.style import looks, styled
from tests.analysis.drawing import bars_with_errors, means
from tests.analysis.layout import assert_laid_out

VALUES = {"dense": [95.0, 96.0], "a": [96.0, 96.4], "b": [95.2, 95.6], "c": [96.5, 96.1], "d": [77.0, 78.0]}


def cells_of(names, reference="dense"):
    return pd.DataFrame({"cell": list(names), "method": "dst", "reference": reference})


def drawn(values=VALUES, cells=None):
    cells = cells_of(values) if cells is None else cells
    figure = Figure()
    axes = figure.subplots()
    frames = {name: pd.Series(found, dtype=float) for name, found in values.items()}
    styled(lambda: draw_rows(axes, cells, frames, ACCURACY, looks(cells)) or figure)()
    return axes


def dense_lines(axes):
    return [line for line in axes.lines if line.get_label() == "dense"]


def test_the_dense_network_is_a_line_through_all_rows():
    (line,) = dense_lines(drawn())
    assert list(line.get_xdata()) == [95.5, 95.5]
    assert list(line.get_ydata()) == [-0.5, 4.5]


def test_rows_have_the_line_of_the_dense_network_of_their_kind():
    cells = cells_of(VALUES).assign(reference=["dense", "dense", "", "c", "c"])
    assert [tuple(block) for block in blocks(cells)] == [("dense", 0, 1), ("c", 3, 4)]
    lines = dense_lines(drawn(cells=cells))
    assert [(line.get_xdata()[0], *line.get_ydata()) for line in lines] == [
        (95.5, -0.5, 1.5),
        (pytest.approx(96.3), 2.5, 4.5),
    ]
    assert only_reference(cells) is None
    assert only_reference(cells_of("ab")) == "dense"
    assert only_reference(cells_of("ab").drop(columns="reference")) is None


def test_without_a_dense_network_that_was_run_there_is_no_line():
    assert not dense_lines(drawn({name: found for name, found in VALUES.items() if name != "dense"}))
    assert not dense_lines(drawn(cells=cells_of(VALUES, reference="")))


def test_a_cell_far_from_all_others_is_an_arrow_with_its_mean():
    axes = drawn()
    assert [(text.get_text(), text.xy[1]) for text in axes.texts] == [("← 77.50", 4)]
    assert axes.get_xlim()[0] > 90
    assert [position for _, position in means(axes)] == [0, 1, 2, 3]


def test_the_dense_network_is_never_beyond_the_scale_and_ticks_are_whole_numbers():
    values = {"dense": [99.60, 99.68], **{name: [99.99 + 0.001 * index] * 2 for index, name in enumerate("abcd")}}
    axes = drawn(values)
    assert not axes.texts
    axes.figure.draw_without_rendering()
    assert axes.xaxis.get_major_formatter().get_offset() == ""


def test_a_single_replicate_is_one_mark():
    axes = drawn({"dense": [95.0], "a": [96.0]})
    assert len(bars_with_errors(axes)) == 2
    assert [handle.get_label() for handle in row_handles(axes)] == ["mean and 95% interval", "dense network"]
    assert "replicate" in [handle.get_label() for handle in row_handles(drawn())]


@pytest.mark.parametrize("count", [5, 20])
def test_scores_of_few_and_of_many_cells_are_legible_on_a_page(count):
    names = [f"ResNet-50 EDST M=3 S=0.{index:02}" for index in range(count)]
    rows = [
        {
            "cell": name,
            "accuracy": 0.9 + 0.001 * index,
            "member_accuracy": 0.89,
            "nll": 0.3,
            "ece": 0.02 + 0.001 * index,
        }
        for index, name in enumerate(names)
    ]
    figure = scores_by_cell(cells_of(names, names[0]), pd.DataFrame([*rows, *rows]))
    assert figure.get_size_inches()[1] <= 9
    assert_laid_out(figure)


def test_a_cell_beyond_the_scale_has_no_tick_of_its_members_on_its_number():
    accuracies = {"a": 0.50, "b": 0.51, "c": 0.52, "d": 0.53, "e": 0.54, "far": 0.90}
    rows = [
        {
            "cell": name,
            "accuracy": value,
            "member_accuracy": 0.60 if name == "far" else value - 0.01,
            "nll": 1,
            "ece": 0.1,
        }
        for name, value in accuracies.items()
    ]
    axes = scores_by_cell(cells_of(accuracies, ""), pd.DataFrame(rows)).axes[0]
    assert [text.get_text() for text in axes.texts] == ["90.00 →"]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "|"] == [0, 1, 2, 3, 4]


def test_sets_are_called_as_readers_call_them():
    assert set_title("imagenet_v2") == "ImageNet-V2"
    assert set_title("mypackage.birds:BIRDS") == "mypackage.birds:BIRDS"
