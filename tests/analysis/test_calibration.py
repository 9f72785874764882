"""Calibration by hand: reliability, temperatures, and as it is drawn."""

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
from matplotlib.container import BarContainer

from analysis.calibration.figures import reliability_diagrams
from analysis.calibration.numbers import FEW_IMAGES, load_calibration, pooled
from tests.analysis.conftest import GRID
from tests.analysis.layout import assert_laid_out
from tests.analysis.lookup import IMAGES, spec_of
from tests.analysis.stores import cell_of, flip_a_bit, make, numbers_of, of, truncate
from tests.analysis.synthetic import VALIDATION_IMAGES, labels_of, logits_of, noise_of
from tests.analysis.test_corruption_figures import cells_of


def test_reliability_holds_every_image_once_and_gives_the_ece(loaded):
    bins = of(loaded.numbers("calibration").bins, cell="DST M=2 S=0.8", replicate=2)
    assert bins["count"].sum() == IMAGES
    assert len(bins) == 15
    gaps = (bins["accuracy"] - bins["confidence"]).abs() * bins["count"]
    row = of(loaded.results.replicates, cell="DST M=2 S=0.8", replicate=2).iloc[0]
    assert gaps.sum() / IMAGES == pytest.approx(row["ece"])


def nll(probabilities, labels):
    # scikit-learn's log_loss takes 2e-16 for anything less.
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


def fitted(logits, labels):
    """The temperature of least NLL, found without derivatives."""

    def loss(log_temperature):
        return nll(scipy.special.softmax(logits / np.exp(log_temperature), axis=-1), labels)

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


def expected_calibration_error(probabilities, labels):
    bins = np.ceil(probabilities.max(axis=1) * 15).astype(int)
    right = probabilities.argmax(axis=1) == labels
    gaps = [(right[bins == b] - probabilities.max(axis=1)[bins == b]).sum() for b in range(1, 16)]
    return np.abs(gaps).sum() / len(labels)


@pytest.mark.parametrize("name", ["dense", "DST M=2 S=0.8", "EDST M=3 S=0.9"])
def test_temperatures_are_fitted_on_validation_images_and_applied_to_test_images(loaded, name):
    cell = cell_of(loaded.plan, name)
    specs = [spec_of(loaded.plan, run) for run in cell.runs[0]]
    held_out = np.concatenate([noise_of("validation", s.seed, s.tickets, VALIDATION_IMAGES, 5.0) for s in specs])
    truth, labels = labels_of(VALIDATION_IMAGES), labels_of(IMAGES)
    logits = np.concatenate([logits_of(cell.method, s.seed, s.tickets, IMAGES) for s in specs])
    row = of(loaded.results.replicates, cell=name, replicate=1).iloc[0]

    def pooled(of_members):
        return np.log(scipy.special.softmax(of_members.astype(float), axis=-1).mean(axis=0))

    temperature = fitted(pooled(held_out), truth)
    assert row["temperature"] == pytest.approx(temperature, rel=1e-3)
    assert row["temperature"] != pytest.approx(1, abs=0.02)  # or nothing would be seen of it
    whole = scipy.special.softmax(pooled(logits) / temperature, axis=-1)
    assert row["nll_scaled"] == pytest.approx(nll(whole, labels), rel=1e-3)
    single = [scipy.special.softmax(m / fitted(v, truth), axis=-1) for m, v in zip(logits, held_out, strict=True)]
    assert row["nll_scaled_members"] == pytest.approx(nll(np.mean(single, axis=0), labels), rel=1e-3)
    for key, scaled in (("ece_scaled", whole), ("ece_scaled_members", np.mean(single, axis=0))):
        assert row[key] == pytest.approx(expected_calibration_error(scaled, labels), abs=2e-3)
    if len(logits) == 1:
        assert row["nll_scaled_members"] == pytest.approx(row["nll_scaled"])


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_damaged_validation_logits_cost_the_temperatures_alone(plan, full, read, damage):
    run = cell_of(plan, "DST M=2 S=0.8").runs[0][1]
    path = full.run(run).path / "logits" / "validation.safetensors"
    damage(path)
    loaded = read()
    results = loaded.results
    assert [str(path) in problem for problem in loaded.problems] == [True]
    assert len(results.replicates) == 8
    rows = of(results.replicates, cell="DST M=2 S=0.8").set_index("replicate")
    assert np.isnan(rows.at[1, "temperature"])
    assert np.isnan(rows.at[1, "nll_scaled_members"])
    assert rows["nll"].notna().all()
    assert rows.at[2, "temperature"] > 0


def test_without_validation_images_there_are_no_temperatures_and_no_problem(tmp_path):
    text = GRID.replace("data: digits", "data: {name: digits, validation_images: 0}").replace(
        "{epochs", "{select: last, epochs"
    )
    made = make(tmp_path, text.split("  - {name: DST")[0], images=30)
    calibration, problems = numbers_of(load_calibration, made.plan, made.store)
    assert problems == ()
    assert len(calibration.scores) == 4
    assert calibration.scores["temperature"].isna().all()


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


def test_reliability_draws_accuracy_gap_and_share(loaded, drawn):
    results, figure = loaded.results, drawn["reliability"][1]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    titles = [axes.get_title() for axes in panels if axes.get_title()]
    assert [title.splitlines()[0] for title in titles] == list(results.cells["cell"])
    upper = next(axes for axes in panels if axes.get_title().startswith("dense\n"))
    bins = pooled(of(loaded.numbers("calibration").bins, cell="dense"))
    many = bins[bins["count"] >= FEW_IMAGES]
    bars = [container for container in upper.containers if isinstance(container, BarContainer)]
    assert [bar.get_height() for bar in bars[0]] == pytest.approx(list(many["accuracy"]))
    ends = [bar.get_y() + bar.get_height() for bar in bars[2]]
    assert ends == pytest.approx(list(many["confidence"]))
    histograms = [[bar.get_height() for bar in axes.containers[0]] for axes in panels if not axes.get_title()]
    assert all(sum(shares) == pytest.approx(1) for shares in histograms)


def diagram_bins(cells, first):
    """Bins of which those below the number `first` hold a single image."""
    return pd.DataFrame(
        {"cell": cell, "replicate": 1, "bin": bin, "low": bin / 15, "high": (bin + 1) / 15}
        | {"count": 1 if bin < first else 100, "confidence": (bin + 0.5) / 15, "accuracy": (bin + 0.3) / 15}
        for cell in cells["cell"]
        for bin in range(15)
    )


@pytest.mark.parametrize(("first", "start"), [(0, 0.0), (2, 0.0), (9, 0.6), (14, 0.8)])
def test_axes_begin_where_there_are_images(first, start):
    cells = cells_of(2)
    upper = reliability_diagrams(cells, cells.assign(ece=0.1), diagram_bins(cells, first)).axes[0]
    assert upper.get_xlim() == (pytest.approx(start), 1)
    assert upper.get_ylim()[0] <= start


@pytest.mark.parametrize("first", [0, 9])
def test_diagrams_of_twenty_cells_fit_on_a_page(first):
    cells = cells_of(20)
    figure = reliability_diagrams(cells, cells.assign(ece=0.1), diagram_bins(cells, first))
    assert figure.get_size_inches()[1] <= 9
    assert_laid_out(figure)
