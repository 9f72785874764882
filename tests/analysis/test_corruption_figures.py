"""Figures of corrupted images by what is drawn: means and intervals by hand, gaps, and that nothing overlaps."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.collections import PolyCollection

from analysis.corruption.figures import (
    complete_means,
    severity_curves,
    type_dots,
    type_map,
)
from analysis.corruption.reliability import reliability_clean_and_corrupted
from analysis.corruption.sheet import contact_sheet, gap_of, mosaic
from analysis.style import looks, with_foot
from tests.analysis.layout import box_of
from tests.analysis.stores import of

METRICS = [("accuracy", 100), ("nll", 1), ("ece", 1)]
TYPES = [
    *("brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_blur", "gaussian_noise"),
    *("glass_blur", "impulse_noise", "jpeg_compression", "motion_blur", "pixelate", "saturate", "shot_noise", "snow"),
    *("spatter", "speckle_noise", "zoom_blur"),
]


def cells_of(count):
    """Cells of several methods whose names are as long as a name is."""
    names = [f"DST ensemble M=3 S=0.8 {i:02d}" for i in range(count)]
    return pd.DataFrame({"cell": names, "method": [f"method {i % 12}" for i in range(count)]})


def texts_of(figure):
    """Every text that is seen."""
    found = [text for legend in figure.legends for text in (*legend.get_texts(), legend.get_title())] + figure.texts
    for axes in figure.axes:
        if axes.get_visible() and axes.axison:
            found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
            for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                seen = [tick for tick in axis.get_major_ticks() if min(limits) <= tick.get_loc() <= max(limits)]
                found += [label for tick in seen for label in (tick.label1, tick.label2)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def assert_legible(figure):
    """No text is smaller than 6.5 points, lies outside the page, or touches another."""
    with_foot(figure, "Grid g, scale tiny: not comparable with published numbers.").draw_without_rendering()
    texts = texts_of(figure)
    assert min(text.get_fontsize() for text in texts) >= 6.5
    boxes = np.array([box_of(text).extents for text in texts])
    width, height = figure.bbox.size
    assert boxes[:, :2].min() >= -1
    assert (boxes[:, 2:] <= (width + 1, height + 1)).all()
    low, high = boxes[:, None, :2], boxes[None, :, 2:]
    touching = np.argwhere(np.triu(((low < high) & (boxes[None, :, :2] < boxes[:, None, 2:])).all(axis=-1), k=1))
    assert not [(texts[i].get_text(), texts[j].get_text()) for i, j in touching]


def frames(cells, replicates=3, types=TYPES, severities=(1, 2, 3, 4, 5), seed=0):
    """Clean and corrupted values, all different."""
    rng = np.random.default_rng(seed)
    keys = list(product(cells["cell"], range(1, replicates + 1)))
    clean = pd.DataFrame(keys, columns=["cell", "replicate"])
    rows = [(*key, "local-c", kind, severity) for key in keys for kind, severity in product(types, severities)]
    corrupted = pd.DataFrame(rows, columns=["cell", "replicate", "family", "type", "severity"])
    for frame, level in ((clean, 0.0), (corrupted, corrupted["severity"])):
        noise = rng.normal(size=(3, len(frame)))
        frame["accuracy"] = 0.9 - 0.08 * level + 0.005 * noise[0]
        frame["nll"] = 0.3 + 0.2 * level + 0.01 * noise[1]
        frame["ece"] = 0.02 + 0.03 * level + 0.001 * noise[2]
    return clean, corrupted


def curves(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 1]


def bands(axes):
    return [collection for collection in axes.collections if isinstance(collection, PolyCollection)]


@pytest.mark.parametrize("panel", range(3))
def test_severities_show_the_mean_over_types_then_replicates(panel):
    cells = cells_of(2)
    clean, corrupted = frames(cells, types=["fog", "snow"], severities=(1, 3))
    axes = severity_curves(cells, clean, corrupted).axes[panel]
    key, factor = METRICS[panel]
    for cell, line, band in zip(cells["cell"], curves(axes), bands(axes), strict=True):
        points = [of(clean, cell=cell)[key].to_numpy()]
        for severity in (1, 3):
            both = [of(corrupted, cell=cell, type=kind, severity=severity)[key].to_numpy() for kind in ("fog", "snow")]
            points.append((both[0] + both[1]) / 2)
        assert line.get_ydata() == pytest.approx([factor * point.mean() for point in points])
        assert np.round(line.get_xdata()).tolist() == [0, 1, 3]
        heights = [scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(point) * factor for point in points]
        drawn = band.get_paths()[0].vertices
        for x, mean, height in zip(line.get_xdata(), line.get_ydata(), heights, strict=True):
            ends = drawn[np.isclose(drawn[:, 0], x), 1]
            assert (ends.min(), ends.max()) == (pytest.approx(mean - height), pytest.approx(mean + height))


def test_cells_of_equal_scores_stand_beside_each_other():
    cells = cells_of(4)
    clean, corrupted = frames(cells, replicates=1, severities=(1, 2))
    axes = severity_curves(cells, clean, corrupted).axes[0]
    shifts = [line.get_xdata()[0] for line in curves(axes)]
    assert len({round(shift, 6) for shift in shifts}) == 4
    assert max(map(abs, shifts)) < 0.25


def test_one_replicate_has_no_interval_and_the_legend_none_either():
    cells = cells_of(2)
    clean, corrupted = frames(cells, replicates=1, types=["fog"], severities=(3,))
    figure = severity_curves(cells, clean, corrupted)
    assert not any(bands(axes) for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].texts] == list(cells["cell"])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "3"]
    assert "local-c, one type" in figure.axes[0].get_xlabel()


def test_an_interval_is_cut_where_no_accuracy_is_possible():
    cells = cells_of(1)
    clean, corrupted = frames(cells, replicates=2, types=["fog"], severities=(1,))
    clean["accuracy"] = [0.9, 1.0]  # with two replicates, 12.7 standard errors to either side
    axes = severity_curves(cells, clean, corrupted).axes[0]
    assert axes.get_ylim() == (pytest.approx(26.9, abs=2), 100)


def test_a_replicate_without_one_of_the_types_does_not_count_at_that_severity():
    cells = cells_of(2)
    clean, corrupted = frames(cells, replicates=2, types=["fog", "snow"], severities=(1, 2))
    first = cells["cell"][0]
    sets = corrupted.set_index(["cell", "replicate", "type", "severity"])
    corrupted = sets.drop((first, 1, "snow", 2)).reset_index()
    line = curves(severity_curves(cells, clean, corrupted).axes[0])[0]
    assert line.get_ydata()[2] == pytest.approx(
        100 * of(corrupted, cell=first, replicate=2, severity=2)["accuracy"].mean()
    )
    means = complete_means(corrupted, "accuracy", by="severity", over="type")
    assert means.isna().sum(axis=None) == 1
    assert math.isnan(means.loc[(first, 1), 2])


def test_two_families_are_not_mixed():
    cells = cells_of(1)
    clean, corrupted = frames(cells)
    both = pd.concat([corrupted, corrupted.assign(family="cifar-10-c")])
    with pytest.raises(ValueError, match="duplicate"):
        severity_curves(cells, clean, both)


def test_cells_that_were_not_run_say_so():
    cells = cells_of(3)
    clean, corrupted = frames(cells[::2])
    figure = severity_curves(cells, clean, corrupted)
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels[1] == f"{cells['cell'][1]}: not run"
    assert labels[3] == "95% interval"
    assert [text.get_text() for text in type_dots(cells, corrupted).axes[0].texts].count("not run") == 1
    shown = [label.get_text() for label in type_map(cells, corrupted).axes[0].get_yticklabels()]
    assert shown == [cells["cell"][0], cells["cell"][2]]


def test_axes_name_unit_direction_and_family():
    cells = cells_of(2)
    clean, corrupted = frames(cells)
    labels = [axes.get_ylabel() for axes in severity_curves(cells, clean, corrupted).axes]
    assert labels == [
        "Accuracy (%)\nhigher is better →",
        "NLL (nats)\n← lower is better",
        "ECE (15 bins)\n← lower is better",
    ]
    dots = type_dots(cells, of(corrupted, severity=3)).axes[0].get_xlabel()
    assert dots == "Accuracy (%) on local-c, severity 3\nhigher is better →"
    assert type_map(cells, corrupted).axes[0].get_xlabel() == "Corruption: local-c, mean of severities 1, 2, 3, 4, 5"
    assert type_map(cells, corrupted).axes[1].get_xlabel() == "Accuracy (%), higher is better →"


def test_dots_are_types_and_the_box_holds_their_middle_half():
    cells = cells_of(2)
    _, corrupted = frames(cells, types=TYPES[:5])
    axes = type_dots(cells, corrupted).axes[0]
    values = np.array([of(corrupted, cell=cells["cell"][1], type=kind)["accuracy"].mean() * 100 for kind in TYPES[:5]])
    dots = [line for line in axes.lines if len(line.get_xdata()) == 5][1]
    assert list(dots.get_xdata()) == pytest.approx(list(values))
    assert set(dots.get_ydata()) == {1}
    mean = [line for line in axes.lines if len(line.get_xdata()) == 1][1]
    assert mean.get_xdata()[0] == pytest.approx(values.mean())
    assert mean.get_marker() == looks(cells)[cells["cell"][1]].marker
    box = axes.containers[1][0]
    ordered = np.sort(values)
    assert (box.get_x(), box.get_x() + box.get_width()) == (pytest.approx(ordered[1]), pytest.approx(ordered[3]))
    assert axes.texts[1].get_text() == TYPES[int(values.argmin())].replace("_", " ")


def test_every_dot_lies_within_the_axes():
    cells = cells_of(2)
    _, corrupted = frames(cells, replicates=1, types=["fog"], severities=(3,))
    axes = type_dots(cells, corrupted).axes[0]
    low, high = axes.get_xlim()
    assert all(low < line.get_xdata()[0] < high for line in axes.lines)


def test_the_map_shows_means_over_severities_and_replicates():
    cells = cells_of(3)
    _, corrupted = frames(cells, types=["snow", "fog"])
    without = (corrupted["cell"] == cells["cell"][1]) & (corrupted["type"] == "fog") & (corrupted["severity"] == 5)
    corrupted = corrupted[~without]
    axes = type_map(cells, corrupted).axes[0]
    values = axes.collections[0].get_array().filled(np.nan)
    assert values.shape == (3, 2)
    assert values[2, 1] == pytest.approx(100 * of(corrupted, cell=cells["cell"][2], type="fog")["accuracy"].mean())
    assert math.isnan(values[1, 1])  # not a mean over the four easier ones
    assert [label.get_text() for label in axes.get_xticklabels()] == ["snow", "fog"]
    assert f"{values[0, 0]:.1f}" in [text.get_text() for text in axes.texts]


def test_the_map_is_of_differences_where_there_is_a_dense_network():
    cells = cells_of(3)
    _, corrupted = frames(cells, types=["snow", "fog"])
    first, *_, last = cells["cell"]
    axes = type_map(cells.assign(reference=first), corrupted).axes[0]
    values = axes.collections[0].get_array().filled(np.nan).reshape(3, 2)
    fog = [100 * of(corrupted, cell=cell, type="fog")["accuracy"].mean() for cell in (first, last)]
    assert values[2, 1] == pytest.approx(fog[1] - fog[0])
    assert np.isnan(values[0]).all()
    bold = [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"]
    assert bold[1] == f"{fog[0]:.1f}"


def bins(cells, replicates=1):
    rows = [
        {"cell": cell, "replicate": replicate, "bin": bin, "low": bin / 5, "high": (bin + 1) / 5, "count": count}
        | {"confidence": 0.1 + bin / 5, "accuracy": (0.05 + bin / 5) / replicate}
        for cell in cells["cell"]
        for replicate in range(1, replicates + 1)
        for bin, count in enumerate((0, 8, 40, 100, 300))
    ]
    frame = pd.DataFrame(rows)
    frame.loc[frame["count"] == 0, ["confidence", "accuracy"]] = np.nan
    return frame


def test_reliability_draws_clean_and_corrupted_bins_of_enough_images():
    cells = cells_of(2)
    clean, corrupted = bins(cells), bins(cells, replicates=2)
    panels = reliability_clean_and_corrupted(cells, clean, corrupted).axes
    assert [axes.get_title().replace("\n", " ") for axes in panels] == list(cells["cell"])
    _, solid, dashed = panels[0].lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert list(solid.get_xdata()) == pytest.approx([0.5, 0.7, 0.9])  # the bins of 0 and 8 images are left out
    assert list(solid.get_ydata()) == pytest.approx([0.45, 0.65, 0.85])
    assert list(dashed.get_ydata()) == pytest.approx([0.75 * 0.45, 0.75 * 0.65, 0.75 * 0.85])  # mean of y and y / 2
    gap = bands(panels[0])[1].get_paths()[0].vertices
    assert gap[:, 1].min() == pytest.approx(0.75 * 0.45)
    assert gap[:, 1].max() == pytest.approx(0.9)  # up to the diagonal


def test_reliability_of_a_cell_without_corrupted_images_is_clean_alone():
    cells = cells_of(3)
    figure = reliability_clean_and_corrupted(cells, bins(cells[:2]), bins(cells[:1]))
    assert [len(axes.lines) for axes in figure.axes] == [3, 2]


def test_a_sheet_holds_every_pixel_as_it_is():
    rng = np.random.default_rng(1)
    sheet = {name: rng.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8) for name in TYPES}
    clean = sheet[TYPES[0]][:1]
    sheet = {name: np.concatenate([clean, images[1:]]) for name, images in sheet.items()}
    figure = contact_sheet(sheet, (1, 3, 5), "local-c")
    drawn = [axes.images[0] for axes in figure.axes]
    assert {image.get_interpolation() for image in drawn} == {"nearest"}
    seen = {}
    for axes, image in zip(figure.axes, drawn, strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "3", "5"]
        for label, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True):
            corners = [(round(y - 2.5), round(x - 3.5)) for x in axes.get_xticks()]
            array = np.asarray(image.get_array())
            seen[label.get_text()] = np.stack([array[row : row + 6, left : left + 8] for row, left in corners])
    assert list(seen) == ["clean", *(name.replace("_", " ") for name in TYPES)]
    assert all(np.array_equal(seen[name.replace("_", " ")], images[1:]) for name, images in sheet.items())
    assert np.array_equal(seen["clean"][:1], clean)  # once, and not beside every type
    assert (seen["clean"][1:] == 255).all()


def test_images_of_a_sheet_are_parted_by_white_lines():
    black = np.zeros((2, 10, 10, 3), dtype=np.uint8)
    picture = mosaic([black, black])
    assert gap_of(10, 10) == 1
    assert picture.shape == (21, 21, 3)
    assert (picture[10] == 255).all()
    assert (picture[:, 10] == 255).all()
    assert (picture == 255).all(axis=-1).sum() == 41


def test_a_sheet_of_too_few_images_is_refused():
    sheet = {"fog": np.zeros((3, 4, 4, 3), dtype=np.uint8)}
    with pytest.raises(ValueError, match="fog: 3 images"):
        contact_sheet(sheet, (1, 2, 3), "local-c")


@pytest.mark.parametrize("count", [1, 13, 20])
def test_nothing_overlaps(count):
    cells = cells_of(count)
    clean, corrupted = frames(cells, replicates=2)
    assert_legible(severity_curves(cells, clean, corrupted))
    assert_legible(type_dots(cells, corrupted))
    assert_legible(type_map(cells, corrupted))
    assert_legible(reliability_clean_and_corrupted(cells, bins(cells), bins(cells)))


def test_few_narrow_rows_stand_beside_each_other():
    images = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    assert len(contact_sheet(dict.fromkeys(TYPES[:4], images), (3,), "local-c").axes) == 3
    assert len(contact_sheet(dict.fromkeys(TYPES[:1], images), (3,), "local-c").axes) == 1
    assert len(contact_sheet(dict.fromkeys(TYPES[:4], np.zeros((4, 32, 32, 3), np.uint8)), (1, 3, 5), "x").axes) == 1


def test_a_box_needs_more_than_a_few_types():
    cells = cells_of(2)
    _, corrupted = frames(cells, types=TYPES[:4])
    assert not type_dots(cells, corrupted).axes[0].containers


@pytest.mark.parametrize(("types", "severities"), [(TYPES, (1, 2, 3, 4, 5)), (TYPES[:8], (1, 3)), (["fog"], (5,))])
def test_sheets_are_legible(types, severities):
    images = np.zeros((1 + len(severities), 32, 32, 3), dtype=np.uint8)
    assert_legible(contact_sheet(dict.fromkeys(types, images), severities, "local-c: image 1 of the test set"))
