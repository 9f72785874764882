"""How differently members predict (paper, prediction disagreement of free tickets): heat maps on one colour scale."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.figures.style import WIDTH, rows_of, styled, wrapped

COLUMNS = 3
# Larger matrices are read by colour alone: numbers in their squares would touch.
MOST_ANNOTATED = 7


def mean_matrix(pairs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the mean over replicates of a value of pairs of members, first x second, NaN on the diagonal."""
    return pairs.pivot_table(index="first", columns="second", values=value, aggfunc="mean")


@styled
def disagreement_maps(cells: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Return the disagreement of each pair of members, a panel a cell with several, all on one scale from 0.

    cells: cell, in order; pairs: as in analysis.results.Results.
    """
    names = [cell for cell in cells["cell"] if cell in set(pairs["cell"])]
    matrices = {cell: mean_matrix(pairs[pairs["cell"] == cell], "disagreement") for cell in names}
    highest = max(float(np.nanmax(matrix)) for matrix in matrices.values())
    columns = min(COLUMNS, len(names))
    figure = Figure(figsize=(WIDTH, 0.2 + 2.2 * rows_of(names, COLUMNS)))
    panels = figure.subplots(rows_of(names, COLUMNS), columns, squeeze=False)
    for axes, cell in zip(panels.flat, names, strict=False):
        matrix = matrices[cell] * 100
        sns.heatmap(
            matrix,
            ax=axes,
            vmin=0,
            vmax=highest * 100,
            cmap="viridis_r",
            annot=len(matrix) <= MOST_ANNOTATED,
            fmt=".2f" if highest < 0.1 else ".1f",
            annot_kws={"size": 7.5 if len(matrix) <= 4 else 6},
            square=True,
            cbar=False,
            linewidths=0.5,
        )
        axes.set_facecolor("0.92")
        axes.grid(visible=False)
        axes.set(xlabel="Member", ylabel="Member")
        axes.tick_params(length=0, rotation=0)
        axes.set_title(wrapped(cell, 28))
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    figure.colorbar(panels.flat[0].collections[0], ax=panels, shrink=0.8, label="Disagreement (% of test images)")
    return figure
