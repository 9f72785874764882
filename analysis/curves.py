"""Curves of several cells over one axis, as figures of corruptions and of attacks draw them."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.columns import ACCURACY, Metric
from analysis.statistics import estimate
from analysis.style import GREY, Look, looks, rows_of, wrapped

LEGEND_COLUMNS = 3


def draw_curve(axes: Axes, values: pd.DataFrame, look: Look, shift: float = 0.0) -> None:
    """Draw the mean over replicates (rows) at each position (columns), and its interval as a band where it has one."""
    measured = [estimate(values[position]) for position in values]
    positions = values.columns.to_numpy(dtype=float) + shift
    axes.plot(
        positions, [point.mean for point in measured], marker=look.marker, color=look.color, markersize=4, linewidth=1,
        markeredgecolor="white", markeredgewidth=0.4,
    )  # fmt: skip
    if any(point.n > 1 for point in measured):
        low, high = [point.low for point in measured], [point.high for point in measured]
        axes.fill_between(positions, low, high, color=look.color, alpha=0.13, linewidth=0)


def keep_possible(axes: Axes, metric: Metric) -> None:
    """Cut the vertical scale where a metric can have no value; a wide interval may lie beyond."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100) if metric is ACCURACY else high)


def name_cells(figure: Figure, cells: pd.DataFrame, drawn: Sequence[str]) -> None:
    """Write the legend of lines, one for all panels: every cell in order, those without data as not run."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=look.color, marker=look.marker, markersize=4.5, linewidth=1.2, label=wrapped(cell, 34))
        if cell in drawn
        else Line2D([], [], linewidth=0, label=wrapped(f"{cell}: not run", 34))
        for cell, look in looks(cells).items()
    ]
    if any(axes.collections for axes in figure.axes):
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label="95% interval"))
    figure.legend(handles=handles, loc="outside upper center", ncols=LEGEND_COLUMNS, columnspacing=1.4)


def legend_height(cells: pd.DataFrame) -> float:
    """Return the inches that the legend of `name_cells` takes."""
    return 0.2 + 0.17 * rows_of([*cells["cell"], "interval"], LEGEND_COLUMNS)
