"""Calibration on clean and on corrupted images side by side."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.calibration.numbers import FEW_IMAGES, pooled
from analysis.style import GREY, WIDTH, Look, looks, rows_of, styled, wrapped

# Panels in a row, and more of them where there are more than so many cells.
COLUMNS, MORE_COLUMNS, MANY = 4, 5, 12


@styled
def reliability_clean_and_corrupted(cells: pd.DataFrame, clean: pd.DataFrame, corrupted: pd.DataFrame) -> Figure:
    """Return accuracy against confidence on clean and on corrupted images, a panel a cell, images of all replicates.

    The shaded gap to the diagonal is what ECE averages. cells: cell, method, in order; both others: bins of confidence
    as in Corruption.
    """
    names = [cell for cell in cells["cell"] if cell in {*clean["cell"], *corrupted["cell"]}]
    chosen = looks(cells)
    columns, height, size = (COLUMNS, 1.85, 9.0) if len(names) <= MANY else (MORE_COLUMNS, 1.65, 7.5)
    columns = min(columns, len(names))
    figure = Figure(figsize=(WIDTH, 0.8 + height * rows_of(names, columns)))
    panels = figure.subplots(rows_of(names, columns), columns, squeeze=False, sharex=True, sharey=True)
    for index, (axes, cell) in enumerate(zip(panels.flat, names, strict=False)):
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=(0, (4, 3)))
        for frame, line, fill in ((clean, "-", "full"), (corrupted, "--", "none")):
            bins = frame[frame["cell"] == cell]
            if not bins.empty:
                _draw_reliability(axes, pooled(bins), chosen[cell], line, fill)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.grid(visible=False)
        axes.set_title(wrapped(cell, 20 if columns <= COLUMNS else 17), fontsize=size)
        axes.tick_params(labelbottom=index + columns >= len(names))
        if index + columns >= len(names):
            axes.set_xlabel("Mean confidence")
        if index % columns == 0:
            axes.set_ylabel("Accuracy (share)")
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=GREY, marker="o", markersize=4, label="clean"),
        Line2D([], [], color=GREY, linestyle="--", marker="o", markersize=4, markerfacecolor="none", label="corrupted"),
        Patch(facecolor="0.88", label="gap to mean confidence"),
        Line2D([], [], color="black", linewidth=0.8, linestyle=(0, (4, 3)), label="calibrated"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _draw_reliability(axes: Axes, bins: pd.DataFrame, look: Look, line: str, fill: str) -> None:
    # The accuracy of few images is noise.
    many = bins[bins["count"] >= FEW_IMAGES]
    axes.fill_between(
        many["confidence"], many["confidence"], many["accuracy"], color=look.color, alpha=0.15, linewidth=0
    )
    axes.plot(
        many["confidence"],
        many["accuracy"],
        color=look.color,
        linestyle=line,
        marker="o",
        markersize=3.2,
        markerfacecolor=look.color if fill == "full" else "white",
    )
