"""Figures by what is drawn in them, never by their pixels: positions, intervals, colour scales, marks, the foot."""

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from analysis.accuracy.figures import scores_by_cell
from analysis.calibration.figures import reliability_diagrams
from analysis.diversity.figures import disagreement_maps
from analysis.efficiency import TRAIN_FLOPS, accuracy_against
from analysis.style import alike, looks, save, with_foot
from tests.analysis.stores import of


def test_every_topic_has_its_figures_in_the_order_of_the_report(drawn):
    assert list(drawn) == [
        "scores_by_cell",
        "classes",
        "accuracy_against_cost",
        "accuracy_against_inference",
        "accuracy_against_time",
        "counted_and_measured",
        "reliability",
        "risk_coverage",
        "disagreement",
        "diversity_against_accuracy",
        "mask_overlap",
        "mask_overlap_by_layer",
        "training_curves",
        "density_by_layer",
    ]


def test_axes_name_unit_and_direction(drawn):
    scores = [axes.get_xlabel() for axes in drawn["scores_by_cell"][1].axes]
    assert ["higher is better" in label for label in scores] == [True, False, False]
    assert ["lower is better" in label for label in scores] == [False, True, True]
    assert "(%)" in scores[0]
    for name, (_, figure) in drawn.items():
        visible = [axes for axes in figure.axes if axes.get_visible()]
        assert any(axes.get_xlabel() for axes in visible)
        rows_of_cells = ("scores_by_cell", "counted_and_measured", "classes")
        assert any(axes.get_ylabel() for axes in visible) or name in rows_of_cells


def test_a_method_has_one_colour_and_a_cell_its_own_marker():
    cells = pd.DataFrame({"cell": list("abcd"), "method": ["dense", "dst", "dst", "edst"]})
    chosen = looks(cells)
    assert chosen["b"].color == chosen["c"].color != chosen["d"].color
    assert len({look.marker for look in chosen.values()}) == 4


def test_no_two_of_many_cells_look_the_same():
    cells = pd.DataFrame({"cell": [f"cell {i}" for i in range(60)], "method": [f"method {i % 23}" for i in range(60)]})
    chosen = looks(cells)
    assert len({(look.color, look.marker) for look in chosen.values()}) == 60


def test_every_figure_carries_the_context_below_what_is_drawn(loaded):
    sentence = "Grid g, scale tiny. Scale tiny: not comparable with published numbers. " + "Data: substitute. " * 12
    for entry in loaded.figures():
        figure = with_foot(entry.draw(), sentence.strip())
        figure.draw_without_rendering()
        foot = figure.texts[-1]
        assert " ".join(foot.get_text().split()) == sentence.strip()
        box = foot.get_window_extent()
        assert box.x1 <= figure.bbox.x1
        for axes in figure.axes:
            if axes.get_visible():
                assert axes.get_tightbbox().y0 >= box.y1 - 1


def test_captions_state_n(drawn):
    for entry, _ in drawn.values():
        assert "n = " in entry.caption


def test_drawing_leaves_global_settings_alone(loaded):
    before = dict(mpl.rcParams)
    accuracy_against(TRAIN_FLOPS, loaded.results.cells, loaded.results.replicates)
    disagreement_maps(loaded.results.cells, loaded.numbers("diversity").pairs)
    assert dict(mpl.rcParams) == before


def test_saving_writes_png_and_pdf_of_the_same_bytes_each_time(loaded, tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        save(accuracy_against(TRAIN_FLOPS, loaded.results.cells, loaded.results.replicates), folder, "figure")
    for suffix, magic in ((".png", b"\x89PNG"), (".pdf", b"%PDF")):
        content = [(tmp_path / folder / f"figure{suffix}").read_bytes() for folder in ("one", "two")]
        assert content[0].startswith(magic)
        assert content[0] == content[1]


def test_long_names_are_wrapped(loaded):
    name = "a cell with a name that is much too long for a single line of any figure"
    cells = of(loaded.results.cells, cell="dense").assign(cell=name)
    replicates = of(loaded.results.replicates, cell="dense").assign(cell=name)
    labels = scores_by_cell(cells, replicates).axes[0].get_yticklabels()
    assert max(len(line) for line in labels[0].get_text().splitlines()) <= 22
    reliability = of(loaded.numbers("calibration").bins, cell="dense").assign(cell=name)
    assert reliability_diagrams(cells, replicates, reliability).axes[0].get_title().count("\n") > 1


def test_colours_are_distinguishable_by_luminance_or_marker(loaded):
    chosen = list(looks(loaded.results.cells).values())
    assert len({(to_rgb(look.color), look.marker) for look in chosen}) == len(chosen)


def test_cells_that_look_like_others_are_counted():
    cells = pd.DataFrame({"cell": [f"cell {number}" for number in range(63)], "method": "dst"})
    assert alike(cells[:60]) == ""
    assert alike(cells).startswith("6 of the cells have the colour and marker of another")


@pytest.mark.parametrize("count", [13, 25, 60])
def test_many_cells_of_a_method_look_different(count):
    cells = pd.DataFrame({"cell": [f"cell {number}" for number in range(count)], "method": "dst"})
    chosen = list(looks(cells).values())
    assert len({(to_rgb(look.color), look.marker) for look in chosen}) == count
    assert len({look.marker for look in chosen[:12]}) == 12
