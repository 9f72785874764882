"""Curves of several cells over one axis, as figures of corruptions and of attacks draw them.

More curves than a few are spread over rows of panels, family by family, with the dense network and in grey all others:
a legend of twenty entries is not read.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.columns import ACCURACY, Metric
from analysis.reference import DASHES, only_reference
from analysis.statistics import estimate
from analysis.style import GREY, Look, looks, rows_of, wrapped

LEGEND_COLUMNS = 3
# More cells than these do not stand in one row of panels.
MOST_TOGETHER = 6
BEHIND = "0.82"
# Inches of a row of panels, at most and at least, and of all of them.
TALLEST, LOWEST, PAGE = 1.6, 1.1, 9.0
# Of the width of all panels, what legends beside them take.
ASIDE = 0.35
# Cells are spread over this much of the distance between two positions, so that equal ones don't hide each other.
SPREAD = 0.36

# The values of a cell, replicates x positions.
Values = pd.DataFrame
Panels = npt.NDArray[Any]


def together(cells: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Return the cells that stand in each row of panels: all, or family by family in their order, at most so many."""
    if len(names) <= MOST_TOGETHER:
        return [list(names)]
    chosen = looks(cells)
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(chosen[name].family, []).append(name)
    rows: list[list[str]] = []
    for members in families.values():
        for start in range(0, len(members), MOST_TOGETHER):
            part = members[start : start + MOST_TOGETHER]
            if rows and len(rows[-1]) + len(part) <= MOST_TOGETHER:
                rows[-1] += part
            else:
                rows.append(part)
    return rows


def height_of_rows(count: int) -> float:
    """Return the inches that each of so many rows of panels takes, so that they fit on a page."""
    return max(LOWEST, min(TALLEST, PAGE / count))


def draw_curves(
    axes: Axes,
    cells: pd.DataFrame,
    row: Sequence[str],
    values: Mapping[str, Values],
    step: float = 0.0,
    every: int = 1,
) -> None:
    """Draw the curves of a row of cells, and behind them the dense network and all others that have values.

    step    the distance between positions over which the cells of the row are spread
    every   how many positions have one marker, of each cell at another one of them
    """
    chosen = looks(cells)
    drawn = [name for name in row if name in values]
    dense = only_reference(cells)
    for name, of_cell in values.items():
        if name not in row and name != dense:
            _draw_behind(axes, of_cell, color=BEHIND, linewidth=0.6, zorder=1.2)
    if dense is not None and dense in values and dense not in row:
        _draw_behind(axes, values[dense], color=GREY, linewidth=1, linestyle=DASHES, zorder=1.6)
    for index, name in enumerate(drawn):
        marks = (index * every // len(drawn), every)
        draw_curve(axes, values[name], chosen[name], SPREAD * step * ((index + 0.5) / len(drawn) - 0.5), marks)


def draw_curve(axes: Axes, values: Values, look: Look, shift: float = 0.0, marks: tuple[int, int] = (0, 1)) -> None:
    """Draw the mean over replicates (rows) at each position (columns), and its interval as a band where it has one.

    marks   the first position with a marker, and from there every how many
    """
    measured = [estimate(values[position]) for position in values]
    positions = values.columns.to_numpy(dtype=float) + shift
    axes.plot(
        positions, [point.mean for point in measured], marker=look.marker, color=look.color,
        markersize=look.size(4.5), linewidth=1.1, markeredgecolor="white", markeredgewidth=0.4, zorder=look.zorder,
        markevery=marks,
    )  # fmt: skip
    if any(point.n > 1 for point in measured):
        low, high = [point.low for point in measured], [point.high for point in measured]
        axes.fill_between(positions, low, high, color=look.color, alpha=0.13, linewidth=0)


def _draw_behind(axes: Axes, values: Values, **line: Any) -> None:
    axes.plot(values.columns.to_numpy(dtype=float), values.mean(), gid="behind", **line)


def keep_possible(axes: Axes, metric: Metric) -> None:
    """Cut the vertical scale where a metric can have no value; a wide interval may lie beyond."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100) if metric is ACCURACY else high)


def panels_of(
    figure: Figure, rows: int, columns: int, sharey: Literal["all", "col"], *, aside: bool
) -> tuple[Panels, list[Axes]]:
    """Return panels [rows, columns], and places for legends beside each row if they are to stand aside."""
    ratios = [1.0] * columns + [ASIDE * columns] * aside
    whole: Panels = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
    panels, places = whole[:, :columns], list(whole[:, columns:].flat)
    for (row, column), axes in np.ndenumerate(panels):
        axes.sharex(panels[0, 0])
        axes.sharey(panels[0, 0 if sharey == "all" else column])
        axes.tick_params(labelbottom=row == rows - 1, labelleft=sharey == "col" or column == 0)
    for axes in places:
        axes.set_axis_off()
    return panels, places


def name_curves(
    figure: Figure, cells: pd.DataFrame, names: Sequence[str], rows: Sequence[Sequence[str]], places: Sequence[Axes]
) -> None:
    """Write the legends: one above for few cells, else one at the right of each row, and above what is grey.

    Cells without data are not run.
    """
    chosen = looks(cells)
    absent = [Line2D([], [], linewidth=0, label=_not_run(cell)) for cell in cells["cell"] if cell not in names]
    band = [Patch(color=GREY, alpha=0.25, linewidth=0, label="95% interval")] if _has_bands(figure) else []
    if not places:
        of_cell = {cell: _handle(chosen[cell], cell) for cell in names}
        missing = iter(absent)
        handles = [of_cell[cell] if cell in of_cell else next(missing) for cell in cells["cell"]]
        figure.legend(handles=[*handles, *band], loc="outside upper center", ncols=LEGEND_COLUMNS, columnspacing=1.4)
        return
    for axes, row in zip(places, rows, strict=True):
        legend = axes.legend(
            handles=[_handle(chosen[cell], cell, 15) for cell in row], loc="center left", bbox_to_anchor=(-0.05, 0.5),
            borderaxespad=0, fontsize=7.5, labelspacing=0.45,
        )  # fmt: skip
        legend.set_in_layout(False)
    above: list[Line2D | Patch] = [Line2D([], [], color=BEHIND, linewidth=1.5, label="cells of other rows")]
    if only_reference(cells) in names:
        above.append(Line2D([], [], color=GREY, linewidth=1, linestyle=DASHES, label="dense network"))
    figure.legend(handles=[*above, *band, *absent], loc="outside upper center", ncols=LEGEND_COLUMNS, columnspacing=1.4)


def _handle(look: Look, cell: str, width: int = 34) -> Line2D:
    return Line2D(
        [],
        [],
        color=look.color,
        marker=look.marker,
        markersize=look.size(4.5),
        linewidth=1.2,
        label=wrapped(cell, width),
    )


def _not_run(cell: str) -> str:
    return wrapped(f"{cell}: not run", 34)


def _has_bands(figure: Figure) -> bool:
    return any(axes.collections for axes in figure.axes)


def legend_height(cells: pd.DataFrame, names: Sequence[str]) -> float:
    """Return the inches that the legend of `name_curves` takes above the panels."""
    many = len(names) > MOST_TOGETHER
    entries = (
        [*range(3), *(cell for cell in cells["cell"] if cell not in names)] if many else [*cells["cell"], "interval"]
    )
    return 0.2 + 0.17 * rows_of([str(entry) for entry in entries], LEGEND_COLUMNS)
