"""Heat maps of pairs of members or tickets, a panel a cell, all on one colour scale."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.style import WIDTH, rows_of, wrapped

COLUMNS = 3
# Larger matrices are read by colour alone: numbers in their squares would touch.
MOST_ANNOTATED = 7
# With more members only every fifth has its number at the axes.
MOST_NUMBERED = 10


def mean_matrix(pairs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the mean over replicates of a value of pairs of members, first x second, NaN on the diagonal."""
    return pairs.pivot_table(index="first", columns="second", values=value, aggfunc="mean")


def heat_maps(matrices: Mapping[str, pd.DataFrame], axis: str, scale: str, fmt: str) -> Figure:
    """Return a panel a matrix [members, members] under its name, all on one colour scale from 0.

    axis, scale: labels of rows and columns, and of the colours; fmt: of the numbers, which small matrices show. To be
    called from a function that is styled.
    """
    highest = max(float(np.nanmax(matrix)) for matrix in matrices.values())
    rows = rows_of(list(matrices), COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.45 * rows))
    panels = figure.subplots(rows, min(COLUMNS, len(matrices)), squeeze=False)
    for axes, (name, matrix) in zip(panels.flat, matrices.items(), strict=False):
        count = len(matrix)
        labels = [str(member) if count <= MOST_NUMBERED or member % 5 == 0 else "" for member in matrix.index]
        sns.heatmap(
            matrix,
            ax=axes,
            vmin=0,
            vmax=highest,
            cmap="viridis_r",
            annot=count <= MOST_ANNOTATED,
            fmt=fmt,
            annot_kws={"size": 7.5 if count <= 5 else 6.5},
            square=True,
            cbar=False,
            linewidths=0.5 if count <= MOST_NUMBERED else 0,
            xticklabels=labels,
            yticklabels=labels,
        )
        axes.set_facecolor("0.92")
        axes.grid(visible=False)
        axes.set(xlabel=axis, ylabel=axis)
        axes.tick_params(length=0, rotation=0)
        axes.set_title(wrapped(name, 28))
    for axes in panels.flat[len(matrices) :]:
        axes.set_axis_off()
    figure.colorbar(
        panels.flat[0].collections[0], ax=panels, location="top", shrink=0.6, aspect=45, pad=0.02, label=scale
    )
    return figure
