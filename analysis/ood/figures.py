"""Telling images of other data sets from test images by the ensemble's uncertainty (Hendrycks and Gimpel 2017)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator

from analysis.columns import Metric
from analysis.context import describe_measured
from analysis.ood.numbers import SCORE_NAMES, Ood
from analysis.results import Results
from analysis.rows import draw_rows, name_rows, row_handles
from analysis.set_titles import set_title
from analysis.style import COLORS, WIDTH, Color, Look, looks, rows_of, styled, thin, wrapped
from analysis.topic import FigureEntry

IN_DISTRIBUTION = "test"
COLUMNS = 3
AUROC = Metric("auroc", "AUROC (%)", 2, "higher", 100)
# The area of a score that knows nothing.
CHANCE = 50.0
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
            "the positives, mean over replicates, in the colours of families of methods; below, the area under the "
            "curve of each cell with its 95% Student-t interval, and the dense network as a dashed line. Below 50%, "
            "which is chance, networks are surer of images out of distribution than of test images: the score fails "
            f"there, and no sign is wrong. {n}",
            partial(roc_curves, cells, ood.detection, ood.curves, score),
            partial(_of_score, score, areas=ood.detection, curves=ood.curves),
        )
    yield FigureEntry(
        "ood_scores",
        "Scores of images in and out of distribution",
        f"Distribution of {SCORE_NAMES['max_probability']} over the test images and over each set out of distribution, "
        "all replicates together. The vertical scale is of square roots, so that few images are seen beside the peak "
        f"of the test images. {n}",
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
    colors = dict(zip(ood_sets, cycle(COLORS[1:]), strict=False))
    dashes = {name: DASHES[index % len(DASHES)] for index, name in enumerate(ood_sets)}
    columns = min(COLUMNS if len(names) <= 3 * COLUMNS else COLUMNS + 1, len(names))
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
        axes.set_title(wrapped(cell, 28 if columns <= COLUMNS else 18))
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
        Line2D([], [], color=colors[name], linestyle=dashes[name], label=wrapped(set_title(name), 30))
        for name in ood_sets
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


@styled
def roc_curves(cells: pd.DataFrame, detection: pd.DataFrame, curves: pd.DataFrame, score: str) -> Figure:
    """Return the area under the ROC curve with its interval, a row a cell, and above the curves; a column a set.

    Curves are means over replicates and have the colours of their families: which cell is which, the rows say.
    cells: cell, method, reference (may lack), in order; detection: cell, replicate, ood_set, score, auroc (share);
    curves: cell, replicate, ood_set, score, fpr, tpr (shares), one grid of fpr for all.
    """
    areas = detection[detection["score"] == score]
    curves = curves[curves["score"] == score]
    names = [cell for cell in cells["cell"] if cell in set(areas["cell"])]
    shown = cells[cells["cell"].isin(names)].reset_index(drop=True)
    ood_sets = list(dict.fromkeys(areas["ood_set"]))
    chosen = looks(cells)
    columns = min(COLUMNS, len(ood_sets))
    rows = rows_of(ood_sets, columns)
    heights = (1.75, 0.3 + 0.19 * len(names))
    figure = Figure(figsize=(WIDTH, 0.8 + (sum(heights) + 1.1) * rows))
    panels = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=heights * rows)
    for axes in panels.flat:
        axes.set_visible(False)
    for index, name in enumerate(ood_sets):
        row, column = divmod(index, columns)
        upper, lower = panels[2 * row : 2 * row + 2, column]
        _draw_curves(upper, curves[curves["ood_set"] == name], names, chosen)
        upper.set(visible=True, title=wrapped(set_title(name), 28))
        lower.set_visible(True)
        of_cell = {str(cell): values * 100 for cell, values in areas[areas["ood_set"] == name].groupby("cell")["auroc"]}
        draw_rows(lower, shown, of_cell, AUROC, chosen, marker=4.5)
        low, high = lower.get_xlim()
        if low <= CHANCE + 5:
            lower.set_xlim(min(low, CHANCE - 3), max(high, CHANCE + 3))
            lower.axvline(CHANCE, color="black", linewidth=0.9, linestyle=":", zorder=1.5, gid="chance")
        name_rows(lower, shown, 30, 7)
        if column:
            lower.set_yticklabels([])
        else:
            upper.set_ylabel("True positives (%)\nhigher is better →")
        lower.set_xlabel(f"{AUROC.head}\n{AUROC.arrow}")
    families: dict[str, Color] = {}
    for name in names:
        families.setdefault(chosen[name].family, chosen[name].color)
    handles = [
        *(Line2D([], [], color=families[family], linewidth=1.4, label=family) for family in families),
        *row_handles(panels[1, 0]),
        Line2D([], [], color="black", linewidth=0.9, linestyle=":", label="chance"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, title=f"Score: {AXIS_LABELS[score]}")
    return figure


def _draw_curves(axes: Axes, curves: pd.DataFrame, names: Sequence[str], chosen: Mapping[str, Look]) -> None:
    """Draw the mean curve of each cell."""
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.9, linestyle=":", gid="chance")
    for cell in names:
        mean = curves[curves["cell"] == cell].groupby("fpr")["tpr"].mean() * 100
        axes.plot(mean.index * 100, mean, color=chosen[cell].color, linewidth=1, zorder=chosen[cell].zorder)
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100))
    axes.set_xlabel("False positives (%)")
    thin(axes)
