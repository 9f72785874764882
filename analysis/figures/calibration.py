"""Reliability diagrams (Guo et al. 2017): accuracy against confidence, and how many images have which confidence."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.style import GREY, WIDTH, Look, looks, rows_of, styled, wrapped

COLUMNS = 3
GAP_COLOR = "#b2182b"
# The accuracy of fewer images is noise: such a bin is drawn pale, without its gap.
FEW_IMAGES = 20


def pooled(reliability: pd.DataFrame) -> pd.DataFrame:
    """Return the bins of one cell over all its replicates: low, high, count, mean confidence and accuracy."""
    weighted = reliability.assign(
        confidence=reliability["confidence"] * reliability["count"],
        accuracy=reliability["accuracy"] * reliability["count"],
    )
    bins = weighted.groupby("bin").agg(
        {"low": "first", "high": "first", "count": "sum", "confidence": "sum", "accuracy": "sum"}
    )
    bins[["confidence", "accuracy"]] = bins[["confidence", "accuracy"]].div(bins["count"], axis=0)
    return bins


@styled
def reliability_diagrams(cells: pd.DataFrame, replicates: pd.DataFrame, reliability: pd.DataFrame) -> Figure:
    """Return a diagram a cell, over the images of all its replicates.

    cells: cell, method, in order; replicates: cell, ece; reliability: the bins of analysis.results.Results.
    """
    names = [cell for cell in cells["cell"] if cell in set(reliability["cell"])]
    chosen = looks(cells)
    rows = rows_of(names, COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.5 + 2.75 * rows))
    panels = figure.subplots(2 * rows, COLUMNS, sharex=True, squeeze=False, height_ratios=(3, 1) * rows)
    for axes in panels.flat:
        axes.set_visible(False)
    for index, cell in enumerate(names):
        row, column = divmod(index, COLUMNS)
        upper, lower = panels[2 * row : 2 * row + 2, column]
        bins = pooled(reliability[reliability["cell"] == cell])
        _draw_gaps(upper, bins, chosen[cell])
        _draw_histogram(lower, bins, chosen[cell])
        ece = replicates.loc[replicates["cell"] == cell, "ece"]
        upper.set_title(f"{wrapped(cell, 28)}\nECE {ece.mean():.4f}, n = {len(ece)}")
        if column == 0:
            upper.set_ylabel("Accuracy")
            lower.set_ylabel("Share of\nimages")
        if index + COLUMNS >= len(names):
            lower.set_xlabel("Confidence")
            lower.tick_params(labelbottom=True)
    handles = [
        Patch(facecolor="0.7", edgecolor=GREY, label="accuracy in the bin"),
        Patch(facecolor="none", edgecolor=GAP_COLOR, hatch="////", label="gap to mean confidence"),
        Patch(facecolor="0.93", edgecolor=GREY, label=f"fewer than {FEW_IMAGES} images"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


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
    axes.set(visible=True, xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6))
    axes.grid(visible=False)


def _draw_histogram(axes: Axes, bins: pd.DataFrame, look: Look) -> None:
    share = bins["count"] / bins["count"].sum()
    width = bins["high"] - bins["low"]
    axes.bar(bins["low"], share, width, align="edge", color=look.color, edgecolor=GREY, linewidth=0.5)
    axes.set(visible=True, ylim=(0, 1), yticks=(0, 0.5, 1))
    axes.grid(visible=False)
