"""Selective prediction (Geifman et al. 2018): how many errors remain where a network declines what it is unsure of."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.columns import Metric
from analysis.curves import (
    Values,
    draw_curves,
    height_of_rows,
    legend_height,
    name_curves,
    panels_of,
    together,
)
from analysis.limits import scale_of, without_outliers
from analysis.reference import DASHES, only_reference, references_of
from analysis.style import GREY, WIDTH, styled, thin

ERROR = Metric("risk", "Error (%)", 2, "lower", 100)
# Coverages in percent between two markers of a curve, and below which so few images are kept that scales ignore them.
EVERY, FEW = 25, 10.0


def differences_to_dense(cells: pd.DataFrame, risks: pd.DataFrame) -> pd.DataFrame:
    """Return the risk of each cell minus that of its dense network at the same coverage, replicate by replicate.

    cells: cell, reference (may lack), in order; risks: cell, replicate, coverage, risk. The result has the columns of
    `risks`; cells without a dense network are left out, and so are dense networks.
    """
    references = {cell: dense for cell, dense in references_of(cells).items() if cell != dense}
    by_cell = dict(list(risks.groupby("cell", sort=False)))
    keys = ["replicate", "coverage"]
    parts = [
        by_cell[cell].merge(by_cell[dense][[*keys, "risk"]], on=keys, suffixes=("", "_dense"))
        for cell, dense in references.items()
        if cell in by_cell and dense in by_cell
    ]
    if not parts:
        return risks.iloc[:0]
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(risk=whole["risk"] - whole["risk_dense"])[list(risks.columns)]


@styled
def risk_curves(cells: pd.DataFrame, risks: pd.DataFrame) -> Figure:
    """Return error rate against coverage, and its difference to the dense network's: a line a cell, bands intervals.

    cells: cell, method, reference (may lack), in order; risks: cell, replicate, coverage, risk (shares).
    """
    names = [cell for cell in cells["cell"] if cell in set(risks["cell"])]
    whole, less = _by_coverage(risks), _by_coverage(differences_to_dense(cells, risks))
    columns = 2 if less else 1
    groups = together(cells, names)
    height = 3.0 if len(groups) == 1 else height_of_rows(len(groups)) * len(groups)
    figure = Figure(figsize=(WIDTH, 0.6 + height + legend_height(cells, names)))
    panels, places = panels_of(figure, len(groups), columns, sharey="col", aside=len(groups) > 1)
    for row, group in zip(panels, groups, strict=True):
        draw_curves(row[0], cells, group, whole, every=EVERY)
        row[0].set_ylabel(f"{ERROR.head}\n{ERROR.arrow}")
        if less:
            row[1].axhline(0, color=GREY, linewidth=1, linestyle=DASHES, zorder=1.6, gid="dense")
            draw_curves(row[1], cells, group, less, every=EVERY)
            row[1].set_ylabel("minus dense\n(points)")
        for axes in row:
            thin(axes)
    _set_scales(panels[0], whole, less, only_reference(cells))
    for axes in panels[-1]:
        axes.set_xlabel("Coverage: images kept (%)")
    name_curves(figure, cells, names, groups, places)
    return figure


def _by_coverage(risks: pd.DataFrame) -> dict[str, Values]:
    """Return the risks of each cell in percent, replicates x coverages in percent."""
    percent = risks.assign(coverage=risks["coverage"] * 100, risk=risks["risk"] * ERROR.factor)
    return {
        str(cell): rows.pivot(index="replicate", columns="coverage", values="risk")
        for cell, rows in percent.groupby("cell", sort=False)
    }


def _set_scales(
    row: "np.ndarray[tuple[int], np.dtype[np.object_]]",
    whole: Mapping[str, Values],
    less: Mapping[str, Values],
    dense: str | None,
) -> None:
    """Set the scales that all panels of a column share: of the means, but those of cells far from all others."""
    first: Axes = row[0]
    highest = {cell: float(_means(values).max()) for cell, values in whole.items()}
    kept = [highest[dense]] if dense in highest else []
    first.set(xlim=(0, 100), ylim=(0, scale_of(highest.values(), [], ERROR, keep=kept)[1]))
    if less:
        ends = np.array([end for values in less.values() for end in (_means(values).min(), _means(values).max())])
        low, high = without_outliers(ends)
        low, high = min(low, 0.0), max(high, 0.0)
        room = 0.08 * (high - low) or 0.1
        row[1].set_ylim(low - room, high + room)


def _means(values: Values) -> "pd.Series[float]":
    """Return the mean curve where it is of more than a few images."""
    return values.loc[:, values.columns.to_numpy(dtype=float) >= FEW].mean()
