"""How right ensembles are on other images of ImageNet's classes, and by other labels of its own images (ReaL)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.columns import ACCURACY, ECE, NLL, Metric
from analysis.context import describe_measured
from analysis.pivot import pivoted
from analysis.reading import Replicate, StoreView, tidy
from analysis.results import Results
from analysis.rows import draw_rows, name_rows, row_handles
from analysis.set_titles import set_title
from analysis.style import WIDTH, looks, rows_of, styled
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
    """Yield the tables of scores by set, if anything was evaluated."""
    if not shift.empty:
        notes = (
            "ImageNet-A and ImageNet-R have 200 of the 1,000 classes: softmax is over the logits of those alone. Clean "
            "accuracy is on the test images of a set's classes, by the same logits. ImageNet ReaL is other labels of "
            "the test images: a prediction among an image's labels is right, images without a label are left out, and "
            "NLL is not defined.",
        )
        yield _by_set("shift", "Natural shift", shift, (CLEAN, ACCURACY), notes, results)
        yield _by_set("shift_calibration", "Calibration under natural shift", shift, (NLL, ECE), notes, results)


def _by_set(
    name: str, title: str, shift: pd.DataFrame, scores: Sequence[Metric], notes: Sequence[str], results: Results
) -> Table:
    """Return a row a cell, and the scores on each set beside each other."""
    keys = {"cell": "Cell", "shift": "Set"}
    table = grouped_table(name, title, shift, keys, scores, notes, results)
    return pivoted(table, 1, lambda row, head: (set_title(row[0]), head), list(results.cells["cell"]))


def figures(shift: pd.DataFrame, results: Results) -> Iterator[FigureEntry]:
    """Yield accuracy by set, if anything was evaluated."""
    if not shift.empty:
        yield FigureEntry(
            "shift",
            "Accuracy under natural shift",
            "Accuracy of each cell's ensemble on other images of ImageNet's classes, and by ReaL's labels of the test "
            "images: dots are replicates, the marker is their mean, the bar the 95% Student-t interval, the dashed "
            "line the dense network. "
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
    lines = rows_of(sets, columns)
    figure = Figure(figsize=(WIDTH, 0.6 + (0.7 + min(0.42 * len(cells), 0.3 * len(cells) + 1)) * lines))
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, name in zip(panels.flat, sets, strict=False):
        rows = shift[shift["shift"] == name].groupby("cell")["accuracy"]
        draw_rows(axes, cells, {str(cell): values * ACCURACY.factor for cell, values in rows}, ACCURACY, chosen)
        axes.set(title=set_title(name), xlabel=f"{ACCURACY.head}\n{ACCURACY.arrow}")
    for axes in panels.flat[len(sets) :]:
        axes.set_axis_off()
    name_rows(panels[0, 0], cells)
    handles = row_handles(panels[0, 0], "ensemble, mean and 95% interval")
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


TOPIC = Topic("shift", load_shift, tables=tables, figures=figures, title="Natural shift")
