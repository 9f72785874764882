"""Accuracy, NLL and ECE of each cell: what the paper is read for."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.accuracy.classes import class_bars
from analysis.accuracy.numbers import Accuracy
from analysis.columns import ACCURACY, ECE, NLL
from analysis.context import describe_replicates
from analysis.results import Results
from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, Look, looks, say_not_run, styled, thin, wrapped
from analysis.topic import FigureEntry

# Vertical offset of a replicate's dot from the row of its cell, so that dots don't hide the interval.
DOT_OFFSET = 0.22


def figures(accuracy: Accuracy, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of accuracy."""
    cells, replicates = results.cells, results.replicates
    n = describe_replicates(cells)
    if not replicates.empty:
        yield FigureEntry(
            "scores_by_cell",
            "Accuracy, NLL and ECE",
            "Test accuracy, negative log-likelihood (nats) and expected calibration error (15 bins) of each cell's "
            "ensemble: dots are replicates, the marker is their mean, the bar the 95% Student-t interval, the tick the "
            f"mean accuracy of single members. {n}",
            lambda: scores_by_cell(cells, replicates),
            lambda: {"replicates": replicates[["cell", "replicate", "accuracy", "member_accuracy", "nll", "ece"]]},
        )
    if not accuracy.classes.empty:
        yield FigureEntry(
            "classes",
            "Accuracy by class",
            "Test accuracy by class: bars are ensembles, mean over replicates, lines their 95% Student-t intervals; "
            f"dots are the members of all replicates. {n}",
            lambda: class_bars(cells, accuracy.classes),
            lambda: {"classes": accuracy.classes},
        )


@styled
def scores_by_cell(cells: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Return dots of replicates, mean and interval of accuracy, NLL and ECE, a row a cell, best at one glance.

    cells: cell, method, in order; replicates: cell, accuracy, member_accuracy (shares), nll (nats), ece.
    """
    figure = Figure(figsize=(WIDTH, 1.0 + 0.42 * len(cells)))
    panels = figure.subplots(1, 3, sharey=True)
    chosen = looks(cells)
    for axes, metric in zip(panels, (ACCURACY, NLL, ECE), strict=True):
        for position, cell in enumerate(cells["cell"]):
            measured = replicates[replicates["cell"] == cell]
            draw_row(axes, position, measured[metric.key] * metric.factor, chosen[cell])
            if metric is ACCURACY:
                members = measured["member_accuracy"].mean() * metric.factor
                axes.plot(members, position, "|", color=GREY, markersize=9, markeredgewidth=1.2)
        axes.set_xlabel(f"{metric.head}\n{metric.arrow}")
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=4)
        thin(axes, "x")
    panels[0].set_yticks(range(len(cells)), [wrapped(cell) for cell in cells["cell"]])
    panels[0].set_ylim(len(cells) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", color=GREY, markersize=5, linewidth=1.4, label="ensemble, mean and 95% interval"),
        Line2D([], [], marker="o", color=GREY, markersize=3, alpha=0.6, linewidth=0, label="replicate"),
        Line2D([], [], marker="|", color=GREY, markersize=9, linewidth=0, label="mean member"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def draw_row(axes: Axes, position: int, values: "pd.Series[float]", look: Look) -> None:
    """Draw one cell of one metric: mean with interval, and below it the replicates it is made of."""
    measured = estimate(values)
    if not measured.n:
        say_not_run(axes, position)
        return
    axes.errorbar(
        measured.mean,
        position,
        xerr=measured.error_bar,
        fmt=look.marker,
        color=look.color,
        markersize=5.5,
        capsize=2.5,
        elinewidth=1.4,
    )
    axes.plot(values, [position + DOT_OFFSET] * len(values), "o", color=look.color, markersize=2.8, alpha=0.6)
