"""Figures by what is drawn in them, never by their pixels: positions, intervals, colour scales, marks, the foot."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer, ErrorbarContainer

from analysis.figures.calibration import FEW_IMAGES, pooled, reliability_diagrams
from analysis.figures.density import density_by_layer
from analysis.figures.diversity import disagreement_maps
from analysis.figures.scores import accuracy_against_cost, scores_by_cell
from analysis.figures.style import looks, save, with_foot
from analysis.figures.training import training_curves
from analysis.gallery import pictures

METRICS = [("accuracy", 100), ("nll", 1), ("ece", 1)]


def of(frame, **keys):
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    return frame


def bars_with_errors(axes):
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def means(axes):
    """Coordinates of the markers of all error bars of a panel."""
    return [tuple(float(values[0]) for values in bar.lines[0].get_data()) for bar in bars_with_errors(axes)]


@pytest.fixture(scope="session")
def drawn(sources):
    return {picture.name: (picture, picture.draw()) for picture in pictures(sources)}


def test_all_figures_of_the_issue_are_there(drawn):
    assert list(drawn) == [
        "scores_by_cell",
        "accuracy_against_cost",
        "reliability",
        "disagreement",
        "diversity_against_accuracy",
        "classes",
        "mask_overlap",
        "mask_overlap_by_layer",
        "training_curves",
        "density_by_layer",
    ]


@pytest.mark.parametrize("panel", range(3))
def test_scores_show_mean_interval_and_every_replicate(sources, drawn, panel):
    results, axes = sources.results, drawn["scores_by_cell"][1].axes[panel]
    key, factor = METRICS[panel]
    for position, cell in enumerate(results.cells["cell"]):
        values = of(results.replicates, cell=cell)[key].to_numpy() * factor
        assert means(axes)[position] == (pytest.approx(values.mean()), position)
        (segment,) = bars_with_errors(axes)[position].lines[2][0].get_segments()
        half_width = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        assert segment[:, 0] == pytest.approx([values.mean() - half_width, values.mean() + half_width])
        dots = [line for line in axes.lines if len(line.get_xdata()) == len(values) > 1]
        (own,) = (
            line for line in dots if np.allclose(line.get_xdata(), values) and abs(line.get_ydata()[0] - position) < 0.5
        )
        assert (own.get_ydata() > position).all()  # beside the interval, not on it


def test_axes_name_unit_and_direction(drawn):
    scores = [axes.get_xlabel() for axes in drawn["scores_by_cell"][1].axes]
    assert ["higher is better" in label for label in scores] == [True, False, False]
    assert ["lower is better" in label for label in scores] == [False, True, True]
    assert "(%)" in scores[0]
    for _, figure in drawn.values():
        visible = [axes for axes in figure.axes if axes.get_visible()]
        assert any(axes.get_xlabel() for axes in visible)
        assert any(axes.get_ylabel() for axes in visible) or figure is drawn["scores_by_cell"][1]


def test_a_single_replicate_is_drawn_without_an_interval(sources):
    replicates = of(sources.results.replicates, replicate=1)
    axes = scores_by_cell(sources.results.cells, replicates).axes[0]
    assert len(means(axes)) == 4
    assert not any(bar.has_xerr for bar in bars_with_errors(axes))


def test_a_cell_that_was_not_run_says_so(sources):
    replicates = sources.results.replicates[sources.results.replicates["cell"] != "dense"]
    axes = scores_by_cell(sources.results.cells, replicates).axes[0]
    assert [text.get_text() for text in axes.texts] == ["not run"]
    assert len(means(axes)) == 3


def test_accuracy_stands_over_the_cost_of_the_plan(sources, drawn):
    axes = drawn["accuracy_against_cost"][1].axes[0]
    expected = [
        (row["train_flops_ratio"], 100 * of(sources.results.replicates, cell=row["cell"])["accuracy"].mean())
        for row in sources.results.cells.to_dict("records")
    ]
    assert means(axes) == [pytest.approx(point) for point in expected]


def test_the_legend_of_costs_names_every_cell_beside_the_data(sources, drawn):
    figure = drawn["accuracy_against_cost"][1]
    names = " ".join(text.get_text().replace("\n", " ") for text in figure.legends[0].texts)
    assert all(cell in names for cell in sources.results.cells["cell"])
    assert not figure.axes[0].get_legend()


def test_reliability_pools_the_images_of_all_replicates():
    bins = pd.DataFrame(
        {"bin": [0, 1] * 2, "low": [0, 0.5] * 2, "high": [0.5, 1] * 2, "count": [0, 10, 0, 30]}
        | {"confidence": [np.nan, 0.9, np.nan, 0.8], "accuracy": [np.nan, 1.0, np.nan, 0.6]}
    )
    both = pooled(bins)
    assert both["count"].tolist() == [0, 40]
    assert both.loc[1, "confidence"] == pytest.approx((10 * 0.9 + 30 * 0.8) / 40)
    assert both.loc[1, "accuracy"] == pytest.approx((10 * 1.0 + 30 * 0.6) / 40)
    assert np.isnan(both.loc[0, "accuracy"])


def test_reliability_draws_accuracy_gap_and_share(sources, drawn):
    results, figure = sources.results, drawn["reliability"][1]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    titles = [axes.get_title() for axes in panels if axes.get_title()]
    assert [title.splitlines()[0] for title in titles] == list(results.cells["cell"])
    upper = next(axes for axes in panels if axes.get_title().startswith("dense\n"))
    bins = pooled(of(results.reliability, cell="dense"))
    many = bins[bins["count"] >= FEW_IMAGES]
    bars = [container for container in upper.containers if isinstance(container, BarContainer)]
    assert [bar.get_height() for bar in bars[0]] == pytest.approx(list(many["accuracy"]))
    ends = [bar.get_y() + bar.get_height() for bar in bars[2]]
    assert ends == pytest.approx(list(many["confidence"]))
    histograms = [[bar.get_height() for bar in axes.containers[0]] for axes in panels if not axes.get_title()]
    assert all(sum(shares) == pytest.approx(1) for shares in histograms)


def test_disagreement_has_one_colour_scale_from_zero(sources, drawn):
    pairs = sources.results.pairs
    figure = drawn["disagreement"][1]
    meshes = [axes.collections[0] for axes in figure.axes if axes.get_title()]
    assert len(meshes) == 3  # every cell with several members
    assert {mesh.get_clim()[0] for mesh in meshes} == {0.0}
    highest = 100 * pairs.groupby(["cell", "first", "second"])["disagreement"].mean().max()
    assert [mesh.get_clim()[1] for mesh in meshes] == [pytest.approx(highest)] * 3


def test_disagreement_shows_the_mean_over_replicates(sources, drawn):
    axes = next(axes for axes in drawn["disagreement"][1].axes if axes.get_title() == "EDST M=3 S=0.9")
    values = axes.collections[0].get_array().filled(np.nan).reshape(3, 3)
    own = of(sources.results.pairs, cell="EDST M=3 S=0.9", first=1, second=3)
    assert values[0, 2] == pytest.approx(100 * own["disagreement"].mean())
    assert np.isnan(values.diagonal()).all()


def test_training_curves_mark_rates_explorations_and_tickets(sources, drawn):
    figure = drawn["training_curves"][1]
    loss = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("EDST"))
    verticals = [line.get_xdata()[0] for line in loss.lines if len(set(line.get_xdata())) == 1]
    # Recipe: 6 epochs of exploration, then three refinements of 2 + 2; the rate changes at the start and the middle of
    # each, and two of the starts are explorations.
    assert sorted(verticals) == [6.5, 8.5, 10.5, 10.5, 12.5, 14.5, 14.5, 16.5]
    assert [text.get_text() for text in loss.texts] == ["explore", "refine 1", "refine 2", "refine 3"]
    accuracy = figure.axes[list(figure.axes).index(loss) + 1]
    stars = next(line for line in accuracy.lines if line.get_marker() == "*")
    assert sorted(stars.get_xdata()) == sorted(of(sources.trajectories.tickets, trajectory="EDST M=3 S=0.9")["epoch"])


def test_training_curves_draw_each_run_twice_a_panel(sources, drawn):
    figure = drawn["training_curves"][1]
    loss = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("DST"))
    curves = [line for line in loss.lines if len(line.get_xdata()) == 8]
    assert len(curves) == 2 * of(sources.trajectories.epochs, trajectory="DST M=2 S=0.8")["run"].nunique()


def test_density_is_drawn_layer_by_layer_a_panel_a_sparsity(sources, drawn):
    figure = drawn["density_by_layer"][1]
    assert [axes.get_title() for axes in figure.axes] == ["Sparsity 0.8", "Sparsity 0.9"]
    densities = of(sources.trajectories.densities, sparsity=0.8)
    expected = densities.groupby("layer", sort=False)["density"].mean()
    drawn_values = bars_with_errors(figure.axes[0])[0].lines[0].get_ydata()
    assert list(drawn_values) == pytest.approx(list(expected))
    assert figure.axes[1].get_xticklabels()[0].get_text() == "conv1"


def test_a_method_has_one_colour_and_a_cell_its_own_marker():
    cells = pd.DataFrame({"cell": list("abcd"), "method": ["dense", "dst", "dst", "edst"]})
    chosen = looks(cells)
    assert chosen["b"].color == chosen["c"].color != chosen["d"].color
    assert len({look.marker for look in chosen.values()}) == 4


def test_no_two_of_many_cells_look_the_same():
    cells = pd.DataFrame({"cell": [f"cell {i}" for i in range(60)], "method": [f"method {i % 23}" for i in range(60)]})
    chosen = looks(cells)
    assert len({(look.color, look.marker) for look in chosen.values()}) == 60


def test_every_figure_carries_the_context_below_what_is_drawn(sources):
    sentence = "Grid g, scale tiny. Scale tiny: not comparable with published numbers. " + "Data: substitute. " * 12
    for picture in pictures(sources):
        figure = with_foot(picture.draw(), sentence.strip())
        figure.draw_without_rendering()
        foot = figure.texts[-1]
        assert " ".join(foot.get_text().split()) == sentence.strip()
        box = foot.get_window_extent()
        assert box.x1 <= figure.bbox.x1
        for axes in figure.axes:
            if axes.get_visible():
                assert axes.get_tightbbox().y0 >= box.y1 - 1


def test_captions_state_n(drawn):
    for picture, _ in drawn.values():
        assert "n = " in picture.caption


def test_drawing_leaves_global_settings_alone(sources):
    before = dict(mpl.rcParams)
    accuracy_against_cost(sources.results.cells, sources.results.replicates)
    disagreement_maps(sources.results.cells, sources.results.pairs)
    assert dict(mpl.rcParams) == before


def test_pictures_without_data_are_left_out(sources):
    results, none = sources.results, sources.trajectories
    none = replace(none, epochs=none.epochs.iloc[:0], densities=none.densities.iloc[:0])
    single = replace(
        results,
        pairs=results.pairs.iloc[:0],
        classes=results.classes.iloc[:0],
        replicates=results.replicates.assign(disagreement=np.nan),
    )
    weights = replace(sources.weights, overlap=sources.weights.overlap.iloc[:0])
    bare = replace(sources, results=single, trajectories=none, weights=weights)
    names = [picture.name for picture in pictures(bare)]
    assert names == ["scores_by_cell", "accuracy_against_cost", "reliability"]


def test_saving_writes_png_and_pdf_of_the_same_bytes_each_time(sources, tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        save(accuracy_against_cost(sources.results.cells, sources.results.replicates), folder, "figure")
    for suffix, magic in ((".png", b"\x89PNG"), (".pdf", b"%PDF")):
        content = [(tmp_path / folder / f"figure{suffix}").read_bytes() for folder in ("one", "two")]
        assert content[0].startswith(magic)
        assert content[0] == content[1]


def test_long_names_are_wrapped(sources):
    name = "a cell with a name that is much too long for a single line of any figure"
    cells = of(sources.results.cells, cell="dense").assign(cell=name)
    replicates = of(sources.results.replicates, cell="dense").assign(cell=name)
    labels = scores_by_cell(cells, replicates).axes[0].get_yticklabels()
    assert max(len(line) for line in labels[0].get_text().splitlines()) <= 22
    reliability = of(sources.results.reliability, cell="dense").assign(cell=name)
    assert reliability_diagrams(cells, replicates, reliability).axes[0].get_title().count("\n") > 1


def test_densities_that_differ_between_tickets_show_their_range(sources):
    own = of(sources.trajectories.densities, trajectory="DST M=2 S=0.8").copy()
    last = own[["run", "ticket"]].drop_duplicates().iloc[-1]
    own.loc[(own["run"] == last["run"]) & (own["layer"] == "fc.weight"), "density"] = 0.5
    axes = density_by_layer(sources.results.cells, own).axes[0]
    segments = bars_with_errors(axes)[0].lines[2][0].get_segments()
    assert segments[-1][:, 1] == pytest.approx([0.5, 1.0])


def test_colours_are_distinguishable_by_luminance_or_marker(sources):
    chosen = list(looks(sources.results.cells).values())
    assert len({(to_rgb(look.color), look.marker) for look in chosen}) == len(chosen)


def test_training_curves_without_finished_runs_have_no_tickets(sources):
    recorded = sources.trajectories
    figure = training_curves(recorded.epochs, recorded.events, recorded.tickets.iloc[:0])
    stars = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "*"]
    assert all(len(line.get_xdata()) == 0 for line in stars)
