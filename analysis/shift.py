"""How right ensembles are on other images of ImageNet's classes, and by other labels of its own images (ReaL)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.accuracy.figures import draw_row
from analysis.columns import ACCURACY, ECE, NLL, Metric
from analysis.context import describe_measured
from analysis.reading import Replicate, StoreView, tidy
from analysis.results import Results
from analysis.style import GREY, WIDTH, looks, rows_of, styled, thin, wrapped
from analysis.table import Table, grouped_table
from analysis.topic import FigureEntry, Topic
from bench import metrics
from bench.data.catalog import SHIFTED
from bench.evaluation.sets import RelabelledSet, ShiftSet
from bench.metrics.probabilities import Doubles, Floats, Labels

CLEAN = Metric("clean_accuracy", "Clean accuracy (%)", 2, "higher", 100)
SHIFT = "cell replicate shift clean_accuracy accuracy nll ece"
COLUMNS = 3


def load_shift(view: StoreView) -> pd.DataFrame:
    """Return SHIFT: a row a replicate and set; NLL is NaN by labels that are several, clean accuracy without images."""
    rows: list[dict[str, Any]] = []
    for replicate in view.replicates():
        clean: dict[tuple[str, ...], float] = {}
        for shifted in view.sets(replicate, ShiftSet):
            with view.noting():
                images = SHIFTED[shifted.shifted]
                if images.wnids not in clean:
                    clean[images.wnids] = _clean(replicate, images.labels)
                ensemble, labels = _among(*replicate.logits(shifted.name), images.labels)
                row = {"accuracy": metrics.accuracy(ensemble, labels), "clean_accuracy": clean[images.wnids]}
                row["nll"] = metrics.negative_log_likelihood(ensemble, labels)
                row["ece"] = metrics.expected_calibration_error(ensemble, labels)
                rows.append({**replicate.key, "shift": shifted.shifted, **row})
        for relabelled in view.sets(replicate, RelabelledSet):
            with view.noting():
                pairs = replicate.label_pairs(relabelled.name)
                members, official = replicate.members("test")
                ensemble = metrics.ensemble_mean(members)
                places, labels = metrics.judged_labels(ensemble, pairs)
                if not len(places):
                    continue
                row = {"accuracy": metrics.accuracy(ensemble[places], labels), "nll": np.nan}
                row["clean_accuracy"] = metrics.accuracy(ensemble, official)
                row["ece"] = metrics.expected_calibration_error(ensemble[places], labels)
                rows.append({**replicate.key, "shift": relabelled.relabelled, **row})
    return tidy(rows, SHIFT)


def _among(logits: Floats, labels: Labels, classes: Labels) -> tuple[Doubles, Labels]:
    """Return what an ensemble predicts of the images of these classes where it knows no other; labels index them."""
    kept = np.isin(labels, classes)
    ensemble = np.zeros((kept.sum(), len(classes)))
    for member in logits:  # one at a time: all of Sketch's are gigabytes
        ensemble += metrics.softmax(member[kept][:, classes]) / len(logits)
    return ensemble, np.searchsorted(classes, labels[kept])


def _clean(replicate: Replicate, classes: Labels) -> float:
    """Return the accuracy on the test images of these classes, among them; NaN if there is none."""
    logits, labels = replicate.logits("test")
    return metrics.accuracy(*_among(logits, labels, classes)) if np.isin(labels, classes).any() else np.nan


def tables(shift: pd.DataFrame, results: Results) -> Iterator[Table]:
    """Yield the table of scores by set, if anything was evaluated."""
    if not shift.empty:
        notes = (
            "imagenet_a and imagenet_r have 200 of the 1,000 classes: softmax is over the logits of those alone. Clean "
            "accuracy is on the test images of a set's classes, by the same logits. imagenet_real is other labels of "
            "the test images: a prediction among an image's labels is right, images without a label are left out, and "
            "NLL is not defined.",
        )
        keys = {"cell": "Cell", "shift": "Set"}
        yield grouped_table("shift", "Natural shift", shift, keys, (CLEAN, ACCURACY, NLL, ECE), notes, results.context)


def figures(shift: pd.DataFrame, results: Results) -> Iterator[FigureEntry]:
    """Yield accuracy by set, if anything was evaluated."""
    if not shift.empty:
        yield FigureEntry(
            "shift",
            "Accuracy under natural shift",
            "Accuracy of each cell's ensemble on other images of ImageNet's classes, and by ReaL's labels of the test "
            "images: dots are replicates, the marker is their mean, the bar the 95% Student-t interval. "
            f"{describe_measured(results.cells, shift)}",
            lambda: accuracy_by_set(results.cells, shift),
            lambda: {"replicates": shift[["cell", "replicate", "shift", "accuracy"]]},
        )


@styled
def accuracy_by_set(cells: pd.DataFrame, shift: pd.DataFrame) -> Figure:
    """Return dots of replicates, mean and interval of accuracy, a row a cell and a panel a set.

    cells: cell, method, in order; shift: cell, replicate, shift, accuracy (share).
    """
    sets: Sequence[str] = list(dict.fromkeys(shift["shift"]))
    columns, chosen = min(COLUMNS, len(sets)), looks(cells)
    rows = rows_of(sets, columns)
    figure = Figure(figsize=(WIDTH, 0.6 + (0.7 + 0.42 * len(cells)) * rows))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, name in zip(panels.flat, sets, strict=False):
        for position, cell in enumerate(cells["cell"]):
            measured = shift[(shift["cell"] == cell) & (shift["shift"] == name)]
            draw_row(axes, position, measured["accuracy"] * ACCURACY.factor, chosen[cell])
        axes.set(title=name, xlabel=f"{ACCURACY.head}\n{ACCURACY.arrow}")
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=4)
        thin(axes, "x")
    for axes in panels.flat[len(sets) :]:
        axes.set_axis_off()
    panels[0, 0].set_yticks(range(len(cells)), [wrapped(cell) for cell in cells["cell"]])
    panels[0, 0].set_ylim(len(cells) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", color=GREY, markersize=5, linewidth=1.4, label="ensemble, mean and 95% interval"),
        Line2D([], [], marker="o", color=GREY, markersize=3, alpha=0.6, linewidth=0, label="replicate"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


TOPIC = Topic("shift", load_shift, tables=tables, figures=figures, title="Natural shift")
