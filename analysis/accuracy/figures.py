"""Accuracy, NLL and ECE of each cell: what the paper is read for."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.accuracy.classes import class_maps
from analysis.accuracy.numbers import Accuracy
from analysis.columns import ACCURACY, ECE, NLL
from analysis.context import describe_replicates
from analysis.results import Results
from analysis.rows import draw_rows, name_rows, row_handles
from analysis.style import GREY, WIDTH, looks, styled
from analysis.topic import FigureEntry


def figures(accuracy: Accuracy, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of accuracy."""
    cells, n = results.cells, describe_replicates(results.cells)
    yield from scores_figure(results)
    if not accuracy.classes.empty:
        yield FigureEntry(
            "classes",
            "Accuracy by class",
            "Test accuracy by class, mean over replicates: on the left (or above) the ensemble's minus that of the "
            "dense network, whose own row has its accuracies in percent; on the right (or below) the ensemble's minus "
            f"the mean of its members. Blue is better. {n}",
            lambda: class_maps(cells, accuracy.classes),
            lambda: {"classes": accuracy.classes},
        )


def scores_figure(results: Results) -> Iterator[FigureEntry]:
    """Yield the figure that needs nothing but scores, if there are any."""
    cells, replicates = results.cells, results.replicates
    if not replicates.empty:
        yield FigureEntry(
            "scores_by_cell",
            "Accuracy, NLL and ECE",
            "Test accuracy, negative log-likelihood (nats) and expected calibration error (15 bins) of each cell's "
            "ensemble: dots are replicates, the marker is their mean, the bar the 95% Student-t interval, the tick the "
            "mean accuracy of single members, the dashed line the dense network. A cell far from all others is an "
            f"arrow with its mean, and a bar that reaches the edge goes on beyond it. {describe_replicates(cells)}",
            lambda: scores_by_cell(cells, replicates),
            lambda: {"replicates": replicates[["cell", "replicate", "accuracy", "member_accuracy", "nll", "ece"]]},
        )


@styled
def scores_by_cell(cells: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Return dots of replicates, mean and interval of accuracy, NLL and ECE, a row a cell, best at one glance.

    cells: cell, method, reference (may lack), in order; replicates: cell, accuracy, member_accuracy (shares), nll
    (nats), ece.
    """
    figure = Figure(figsize=(WIDTH, 1.1 + min(0.42 * len(cells), 0.3 * len(cells) + 1)))
    panels = figure.subplots(1, 3, sharey=True)
    chosen = looks(cells)
    for axes, metric in zip(panels, (ACCURACY, NLL, ECE), strict=True):
        values = {str(cell): rows[metric.key] * metric.factor for cell, rows in replicates.groupby("cell")}
        members = cells["cell"].map(replicates.groupby("cell")["member_accuracy"].mean() * metric.factor)
        beside = members.dropna() if metric is ACCURACY else ()
        draw_rows(axes, cells, values, metric, chosen, beside=beside)
        low, high = axes.get_xlim()
        means = cells["cell"].map(replicates.groupby("cell")[metric.key].mean() * metric.factor)
        for position, (member, mean) in enumerate(zip(members, means, strict=True) if metric is ACCURACY else ()):
            # Where the ensemble is an arrow, the tick would lie on its number.
            if low <= member <= high and low <= mean <= high:
                axes.plot(member, position, "|", color=GREY, markersize=9, markeredgewidth=1.2)
        axes.set_xlabel(f"{metric.head}\n{metric.arrow}")
    name_rows(panels[0], cells)
    tick = Line2D([], [], marker="|", color=GREY, markersize=9, linewidth=0, label="mean member")
    figure.legend(
        handles=[*row_handles(panels[0], "ensemble, mean and 95% interval"), tick], loc="outside upper center", ncols=4,
        columnspacing=1.2,
    )  # fmt: skip
    return figure
