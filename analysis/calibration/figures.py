"""Reliability diagrams (Guo et al. 2017): accuracy against confidence, and how many images have which confidence."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.calibration.numbers import AURC, FEW_IMAGES, Calibration, pooled
from analysis.calibration.selective import differences_to_dense, risk_curves
from analysis.context import describe_replicates
from analysis.results import Results
from analysis.style import GREY, WIDTH, Look, looks, rows_of, styled, wrapped
from analysis.topic import FigureEntry

# Panels in a row, and more of them where there are more than so many cells.
COLUMNS, MORE_COLUMNS, MANY = 3, 5, 9
# Axes begin at 0 unless that leaves more than this part without images, and never later than this.
WIDEST, NARROWEST = 0.25, 0.8
GAP_COLOR = "#b2182b"


def figures(calibration: Calibration, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of calibration."""
    cells, replicates = results.cells, results.replicates
    if not replicates.empty:
        yield FigureEntry(
            "reliability",
            "Reliability",
            "Accuracy in 15 equal bins of confidence of the ensemble's prediction, test images of all replicates "
            "together; the hatched gap to the bin's mean confidence is what ECE averages, and above the diagonal a "
            "network is underconfident. Below, the share of images in each bin. Axes begin where any cell has a bin of "
            f"at least {FEW_IMAGES} images. ECE is the mean over replicates. "
            f"{describe_replicates(cells)}",
            lambda: reliability_diagrams(cells, replicates, calibration.bins),
            lambda: {
                "bins": _by_cell(calibration.bins),
                "replicates": replicates[["cell", "replicate", "ece"]],
            },
        )
    if not calibration.risks.empty:
        yield FigureEntry(
            "risk_coverage",
            "Errors among the most confident predictions",
            "Error rate of each ensemble on the test images with the largest confidence (the largest probability), "
            "against the share of images that is kept: what is left of the errors if a network declines to predict "
            "where it is unsure. Mean over replicates, the band is its 95% Student-t interval. On the right, the same "
            "minus that of the dense network, replicate by replicate. On the left of a panel few images are kept, so "
            "that the error rate is uncertain; a curve far from all others may leave the panel. "
            f"{_aurc(calibration)} {describe_replicates(cells)}",
            lambda: risk_curves(cells, calibration.risks),
            lambda: {
                "curves": calibration.risks,
                "differences": differences_to_dense(cells, calibration.risks),
                "aurc": calibration.scores[["cell", "replicate", AURC.key]],
            },
        )


def _aurc(calibration: Calibration) -> str:
    """Return which cells have the least and the largest mean height of their curve."""
    means = calibration.scores.groupby("cell", sort=False)[AURC.key].mean().sort_values(kind="stable")
    ends = [f"{means[cell]:.{AURC.digits}f} of {cell}" for cell in dict.fromkeys((means.index[0], means.index[-1]))]
    return f"AURC, the mean height of a curve, is {' to '.join(ends)}; the table of calibration has that of each cell."


def _by_cell(bins: pd.DataFrame) -> pd.DataFrame:
    cells = {str(cell): pooled(rows) for cell, rows in bins.groupby("cell", sort=False)}
    return pd.concat(cells, names=["cell"]).reset_index()


@styled
def reliability_diagrams(cells: pd.DataFrame, replicates: pd.DataFrame, bins: pd.DataFrame) -> Figure:
    """Return a diagram a cell, over the images of all its replicates.

    cells: cell, method, in order; replicates: cell, ece; bins: as in Calibration.
    """
    names = [cell for cell in cells["cell"] if cell in set(bins["cell"])]
    chosen = looks(cells)
    columns, height, size = (COLUMNS, 2.75, 9.0) if len(names) <= MANY else (MORE_COLUMNS, 2.05, 7.5)
    rows = rows_of(names, columns)
    figure = Figure(figsize=(WIDTH, 0.5 + height * rows))
    panels = figure.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=(3, 1) * rows)
    start, lowest = _zoom([pooled(bins[bins["cell"] == cell]) for cell in names])
    for axes in panels.flat:
        axes.set_visible(False)
    for index, cell in enumerate(names):
        row, column = divmod(index, columns)
        upper, lower = panels[2 * row : 2 * row + 2, column]
        whole = pooled(bins[bins["cell"] == cell])
        _draw_gaps(upper, whole, chosen[cell])
        _draw_histogram(lower, whole, chosen[cell])
        ece = replicates.loc[replicates["cell"] == cell, "ece"]
        upper.set(xlim=(start, 1), ylim=(lowest, 1))
        upper.locator_params(nbins=4 if columns == COLUMNS else 2)
        for axis in (upper.xaxis, upper.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        upper.set_title(
            f"{wrapped(cell, 28 if columns == COLUMNS else 18)}\nECE {ece.mean():.4f}, n = {len(ece)}", fontsize=size
        )
        if column == 0:
            upper.set_ylabel("Accuracy")
            lower.set_ylabel("Share of\nimages")
        if index + columns >= len(names):
            lower.set_xlabel("Confidence")
            lower.tick_params(labelbottom=True)
    handles = [
        Patch(facecolor="0.7", edgecolor=GREY, label="accuracy in the bin"),
        Patch(facecolor="none", edgecolor=GAP_COLOR, hatch="////", label="gap to mean confidence"),
        Patch(facecolor="0.93", edgecolor=GREY, label=f"fewer than {FEW_IMAGES} images"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _zoom(diagrams: list[pd.DataFrame]) -> tuple[float, float]:
    """Return where confidence and accuracy begin on the axes: at the first bin of any cell that has enough images.

    Where networks are sure of almost all images, everything would lie in the last corner.
    """
    many = pd.concat([bins[bins["count"] >= FEW_IMAGES] for bins in diagrams])
    start = min(float(many["low"].min()), NARROWEST) if len(many) else 0.0
    if start < WIDEST:
        return 0.0, 0.0
    return start, min(start, max(float(many["accuracy"].min()) - 0.03, 0.0))


def _draw_gaps(axes: Axes, bins: pd.DataFrame, look: Look) -> None:
    many, few = bins[bins["count"] >= FEW_IMAGES], bins[bins["count"].between(1, FEW_IMAGES - 1)]
    bars: dict[str, Any] = {"align": "edge", "linewidth": 0.5}
    for part, color in ((many, (look.color, 0.5)), (few, "0.93")):
        axes.bar(part["low"], part["accuracy"], part["high"] - part["low"], color=color, edgecolor=GREY, **bars)
    axes.bar(
        many["low"],
        many["confidence"] - many["accuracy"],
        many["high"] - many["low"],
        bottom=many["accuracy"],
        facecolor="none",
        edgecolor=GAP_COLOR,
        hatch="////",
        **bars,
    )
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_visible(True)
    axes.grid(visible=False)


def _draw_histogram(axes: Axes, bins: pd.DataFrame, look: Look) -> None:
    share = bins["count"] / bins["count"].sum()
    width = bins["high"] - bins["low"]
    axes.bar(bins["low"], share, width, align="edge", color=look.color, edgecolor=GREY, linewidth=0.5)
    axes.set(visible=True, ylim=(0, 1), yticks=(0, 0.5, 1))
    axes.grid(visible=False)
