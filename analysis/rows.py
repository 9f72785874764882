"""Rows of cells over one axis: mean, interval and replicates of a metric, on a scale that no single cell squeezes."""

from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.columns import Metric
from analysis.limits import bar_of, possible, scale_of
from analysis.reference import DASHES, blocks, draw_references
from analysis.statistics import Estimate, estimate
from analysis.style import GREY, Look, say_not_run, thin, wrapped

# Vertical offset of a replicate's dot from the row of its cell, so that dots don't hide the interval.
DOT_OFFSET = 0.24
SMALL = 6.5


def draw_rows(
    axes: Axes,
    cells: pd.DataFrame,
    values: Mapping[str, "pd.Series[float]"],
    metric: Metric,
    chosen: Mapping[str, Look],
    marker: float = 5.5,
    beside: Iterable[float] = (),
) -> None:
    """Draw a row a cell, the dense network as a line, and set the scale of the axis.

    cells: cell, in order, reference (may lack); values: of the replicates of a cell, in the unit of the metric's head.
    A cell beyond the scale is an arrow at the edge, with its mean in words; `beside` are marks that the caller draws.
    """
    measured = {cell: estimate(values[cell]) for cell in cells["cell"] if cell in values}
    drawn = [found for found in measured.values() if found.n]
    dots = [value for found in values.values() for value in found]
    ends = [end for row in drawn for end in (row.low, row.high)]
    dense = [measured[block.dense].mean for block in blocks(cells) if block.dense in measured]
    axes.set_xlim(scale_of([*(row.mean for row in drawn), *dots], ends, metric, beside, dense))
    draw_references(axes, cells, pd.Series({cell: row.mean for cell, row in measured.items()}, dtype=float))
    for position, cell in enumerate(cells["cell"]):
        row = measured.get(cell)
        if row is None or not row.n:
            say_not_run(axes, position, SMALL)
        elif _is_outside(axes, row.mean):
            _point_outside(axes, position, row.mean, metric)
        else:
            _draw_row(axes, position, row, values[cell], metric, chosen[cell], marker)
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", useOffset=False)
    thin(axes, "x")


def name_rows(axes: Axes, cells: pd.DataFrame, width: int = 22, size: float | None = None) -> None:
    """Write the names of the cells beside their rows, the first on top."""
    axes.set_yticks(range(len(cells)), [wrapped(cell, width) for cell in cells["cell"]], fontsize=size)
    axes.set_ylim(len(cells) - 0.5, -0.5)


def row_handles(axes: Axes, what: str = "mean and 95% interval") -> list[Line2D]:
    """Return the entries of a legend for what `draw_rows` drew."""
    handles = [Line2D([], [], marker="o", color=GREY, markersize=5, linewidth=1.4, label=what)]
    if any(line.get_gid() == "replicates" for line in axes.lines):
        handles.append(Line2D([], [], marker="o", color=GREY, markersize=3, linewidth=0, label="replicate"))
    if any(line.get_label() == "dense" for line in axes.lines):
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, linestyle=DASHES, label="dense network"))
    return handles


def _draw_row(
    axes: Axes, position: int, row: Estimate, values: "pd.Series[float]", metric: Metric, look: Look, marker: float
) -> None:
    axes.errorbar(
        row.mean, position, xerr=bar_of(row, possible(metric)), fmt=look.marker, color=look.color,
        markersize=look.size(marker), capsize=2.2, elinewidth=1.3, zorder=look.zorder,
    )  # fmt: skip
    if row.n > 1:
        axes.plot(
            values, [position + DOT_OFFSET] * len(values), "o", color=look.color, markersize=2.6, gid="replicates"
        )


def _is_outside(axes: Axes, value: float) -> bool:
    low, high = axes.get_xlim()
    return not low <= value <= high


def _point_outside(axes: Axes, position: int, value: float, metric: Metric) -> None:
    """Write the mean of a cell at the end of the scale beyond which it lies."""
    left = value < axes.get_xlim()[0]
    text = f"{value:.{min(metric.digits, 2)}f}"
    axes.annotate(
        f"← {text}" if left else f"{text} →", (0.01 if left else 0.99, position), xycoords=("axes fraction", "data"),
        color="black", fontsize=SMALL, va="center", ha="left" if left else "right",
    )  # fmt: skip
