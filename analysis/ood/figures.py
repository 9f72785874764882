"""Telling images of other data sets from test images by the ensemble's uncertainty (Hendrycks and Gimpel 2017)."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullFormatter

from analysis.context import describe_measured
from analysis.ood.numbers import SCORE_NAMES, Ood
from analysis.results import Results
from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, Look, looks, rows_of, say_not_run, styled, thin, wrapped
from analysis.topic import FigureEntry

IN_DISTRIBUTION = "test"
COLUMNS = 3
# All scores are higher for what looks less like the training images.
AXIS_LABELS = {
    "max_probability": "1 - maximum probability",
    "entropy": "Entropy (nats)",
    "mutual_information": "Mutual information (nats)",
}
Dash = tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ((0, ()), (0, (4, 1.5)), (0, (1.2, 1)), (0, (5, 1, 1, 1)))
# On a scale of square roots, as of Tukey's rootograms, small shares are seen beside the peak of the test images.
SHARES = (0, 2, 10, 30, 60, 100)


def figures(ood: Ood, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of detection, if anything was evaluated."""
    if ood.detection.empty:
        return
    cells = results.cells
    n = describe_measured(cells, ood.detection)
    for score in dict.fromkeys(ood.detection["score"]):
        yield FigureEntry(
            f"ood_roc_{score}",
            f"Telling images out of distribution apart: {SCORE_NAMES[score]}",
            f"True-positive rate against false-positive rate of {SCORE_NAMES[score]}, images out of distribution being "
            f"the positives, mean over replicates; below, area under the curve and 95% Student-t interval. {n}",
            partial(roc_curves, cells, ood.detection, ood.curves, score),
            partial(_of_score, score, areas=ood.detection, curves=ood.curves),
        )
    yield FigureEntry(
        "ood_scores",
        "Scores of images in and out of distribution",
        f"Distribution of {SCORE_NAMES['max_probability']} over the test images and over each set out of distribution, "
        f"all replicates together. {n}",
        lambda: score_histograms(cells, ood.histograms, "max_probability"),
        partial(_of_score, "max_probability", histograms=ood.histograms),
    )


def _of_score(score: str, **frames: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: frame[frame["score"] == score] for name, frame in frames.items()}


@styled
def score_histograms(cells: pd.DataFrame, histograms: pd.DataFrame, score: str) -> Figure:
    """Return how a score is distributed on the test images and on each set out of distribution, a panel a cell.

    Images of all replicates together. cells: cell, in order; histograms: cell, replicate, set ("test" or the name of
    a set out of distribution), score, low, high, count.
    """
    bins = histograms[histograms["score"] == score]
    names = [cell for cell in cells["cell"] if cell in set(bins["cell"])]
    ood_sets = [name for name in dict.fromkeys(bins["set"]) if name != IN_DISTRIBUTION]
    colors = dict(zip(ood_sets, sns.color_palette("colorblind", max(len(ood_sets), 1)), strict=False))
    dashes = {name: DASHES[index % len(DASHES)] for index, name in enumerate(ood_sets)}
    columns = min(COLUMNS, len(names))
    figure = Figure(figsize=(WIDTH, 0.8 + 1.55 * rows_of(names, columns)))
    panels = figure.subplots(rows_of(names, columns), columns, squeeze=False, sharex=True, sharey=True)
    for index, (axes, cell) in enumerate(zip(panels.flat, names, strict=False)):
        for name, frame in bins[bins["cell"] == cell].groupby("set", sort=False):
            counts = frame.groupby(["low", "high"], as_index=False)["count"].sum()
            share = counts["count"] / counts["count"].sum() * 100
            edges = [*counts["low"], counts["high"].iloc[-1]]
            if name == IN_DISTRIBUTION:
                axes.stairs(share, edges, fill=True, color="0.78")
            else:
                axes.stairs(share, edges, color=colors[str(name)], linestyle=dashes[str(name)], linewidth=1.1)
        axes.set_title(wrapped(cell, 28))
        axes.tick_params(labelbottom=index + columns >= len(names))
        if index + columns >= len(names):
            axes.set_xlabel(AXIS_LABELS[score])
        if index % columns == 0:
            axes.set_ylabel("Images (%)\nroot scale")
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set(xlim=(bins["low"].min(), bins.loc[bins["count"] > 0, "high"].max()))
        axes.yaxis.set_major_locator(FixedLocator(SHARES))
        thin(axes)
    panels[0, 0].set_ylim(bottom=0)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    handles: list[Line2D | Patch] = [Patch(color="0.78", label="test images")]
    handles += [
        Line2D([], [], color=colors[name], linestyle=dashes[name], label=wrapped(name, 30)) for name in ood_sets
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


@styled
def roc_curves(cells: pd.DataFrame, detection: pd.DataFrame, curves: pd.DataFrame, score: str) -> Figure:
    """Return the ROC curve of a score (mean over replicates) and below it the area with interval, a panel a set.

    cells: cell, method, in order; detection: cell, replicate, ood_set, score, auroc (share); curves: cell, replicate,
    ood_set, score, fpr, tpr (shares), one grid of fpr for all.
    """
    areas = detection[detection["score"] == score]
    # A log scale has no place for 0.
    curves = curves[(curves["score"] == score) & (curves["fpr"] > 0)]
    grid = np.unique(curves["fpr"]) * 100
    names = [cell for cell in cells["cell"] if cell in set(areas["cell"])]
    ood_sets = list(dict.fromkeys(areas["ood_set"]))
    chosen = looks(cells)
    columns = min(COLUMNS, len(ood_sets))
    rows = rows_of(ood_sets, columns)
    heights = (1.9, 0.3 + 0.145 * len(names))
    figure = Figure(figsize=(WIDTH, 0.6 + (sum(heights) + 1.1) * rows))
    panels = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=heights * rows)
    for axes in panels.flat:
        axes.set_visible(False)
    for index, name in enumerate(ood_sets):
        row, column = divmod(index, columns)
        upper, lower = panels[2 * row : 2 * row + 2, column]
        upper.plot(grid, grid, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        for position, cell in enumerate(names):
            points = curves[(curves["cell"] == cell) & (curves["ood_set"] == name)]
            mean = points.groupby("fpr")["tpr"].mean() * 100
            # Markers of different cells stand at different places along their curves.
            upper.plot(
                mean.index * 100, mean, color=chosen[cell].color, marker=chosen[cell].marker, markersize=4, linewidth=1,
                markevery=(0.04 + 0.3 * position / len(names), 0.3),
            )  # fmt: skip
            values = areas.loc[(areas["cell"] == cell) & (areas["ood_set"] == name), "auroc"] * 100
            _draw_area(lower, position, values, chosen[cell])
        upper.set(visible=True, xscale="log", xlim=(grid[0], 100), ylim=(0, 100), title=wrapped(name, 28))
        upper.set_xlabel("False positives (% of test\nimages), log scale")
        upper.xaxis.set_major_formatter("{x:g}")
        upper.xaxis.set_minor_formatter(NullFormatter())
        thin(upper)
        lower.set_visible(True)
        lower.set_yticks(range(len(names)), [wrapped(cell, 30) if column == 0 else "" for cell in names], fontsize=7)
        lower.set_ylim(len(names) - 0.4, -0.6)
        lower.set_xlabel("AUROC (%)\nhigher is better →")
        lower.locator_params(axis="x", nbins=5)
        lower.margins(x=0.1)
        low, high = lower.get_xlim()
        # An interval may lie beyond what an area can be; a marker at its end needs a little room.
        margin = 0.03 * (min(high, 100) - max(low, 0))
        lower.set_xlim(max(low, -margin), min(high, 100 + margin))
        thin(lower, "x")
        if column == 0:
            upper.set_ylabel("True positives (%)\nhigher is better →")
    handles = [
        Line2D([], [], marker="o", color=GREY, markersize=4.5, linewidth=1.2, label="mean and 95% interval"),
        Line2D([], [], marker="o", color=GREY, markersize=2.4, alpha=0.6, linewidth=0, label="replicate"),
        Line2D([], [], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="chance"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title=f"Score: {AXIS_LABELS[score]}")
    return figure


def _draw_area(axes: Axes, position: int, values: "pd.Series[float]", look: Look) -> None:
    measured = estimate(values)
    if not measured.n:
        say_not_run(axes, position, 6.5)
        return
    axes.errorbar(
        measured.mean,
        position - 0.1,
        xerr=measured.error_bar,
        fmt=look.marker,
        color=look.color,
        markersize=4.5,
        elinewidth=1.2,
        capsize=1.8,
    )
    axes.plot(values, np.full(len(values), position + 0.28), "o", color=look.color, markersize=2, alpha=0.6)
