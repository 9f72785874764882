"""Heat maps of pairs of members or tickets, a panel a cell, all on one colour scale; each pair is drawn once."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.maps import draw_map, write_numbers
from analysis.style import WIDTH, rows_of, wrapped

# Panels in a row, and more of them where there are more than so many panels.
COLUMNS, MORE_COLUMNS, MANY = 3, 5, 9
# Larger matrices are read by colour alone: numbers in their squares would touch.
MOST_ANNOTATED = 7
# With more members only every fifth has its number at the axes.
MOST_NUMBERED = 10
# A panel has room for as many squares beside each other, so that a single pair is no giant one.
FEWEST = 3


def mean_matrix(pairs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the mean over replicates of a value of pairs of members, first x second, NaN on the diagonal."""
    return pairs.pivot_table(index="first", columns="second", values=value, aggfunc="mean")


def heat_maps(matrices: Mapping[str, pd.DataFrame], axis: str, scale: str, fmt: str) -> Figure:
    """Return a panel a symmetric matrix [members, members] under its name and mean, all on one colour scale from 0.

    Below the diagonal alone: above it are the same pairs. axis, scale: labels of rows and columns, and of the colours;
    fmt: of the numbers, which small matrices show. To be called from a function that is styled.
    """
    highest = max(float(np.nanmax(matrix)) for matrix in matrices.values())
    columns = COLUMNS if len(matrices) <= MANY else MORE_COLUMNS
    rows = rows_of(list(matrices), columns)
    side = 1.75 if columns <= COLUMNS else 1.0
    figure = Figure(figsize=(WIDTH, 0.8 + (side + 0.85) * rows))
    panels = figure.subplots(rows, columns, squeeze=False)
    for index, (axes, (name, matrix)) in enumerate(zip(panels.flat, matrices.items(), strict=False)):
        pairs = matrix.where(np.tril(np.ones(matrix.shape, dtype=bool), k=-1)).iloc[1:, :-1]
        count = len(pairs)
        draw_map(axes, pairs, "viridis_r", (0, highest), square=True)
        # Squares without a pair are no value that is absent.
        axes.set_facecolor("white")
        if count < (MOST_ANNOTATED if columns <= COLUMNS else MOST_ANNOTATED - 1):
            write_numbers(axes, pairs, fmt, 7.5 if count < 5 and columns <= COLUMNS else 6.5)
        for set_ticks, members in ((axes.set_xticks, pairs.columns), (axes.set_yticks, pairs.index)):
            labels = [str(member) if len(matrix) <= MOST_NUMBERED or member % 5 == 0 else "" for member in members]
            set_ticks(np.arange(count) + 0.5, labels, rotation=0)
        axes.set(xlim=(0, max(count, FEWEST)), ylim=(count, 0), xlabel="", ylabel="", anchor="N")
        if index + columns >= len(matrices):
            axes.set_xlabel(axis)
        if index % columns == 0:
            axes.set_ylabel(axis)
        mean = format(float(np.nanmean(pairs)), fmt)
        axes.set_title(
            f"{wrapped(name, 28 if columns <= COLUMNS else 17)}\nmean {mean}", fontsize=9 if columns <= COLUMNS else 7.5
        )
    for axes in panels.flat[len(matrices) :]:
        axes.set_axis_off()
    figure.colorbar(
        panels.flat[0].collections[0], ax=panels, location="top", shrink=0.6, aspect=45, pad=0.02, label=scale
    )
    return figure
