"""How far ensembles hold on corrupted images (Hendrycks and Dietterich 2019): by severity, by type, and calibration.

A figure is about one family of corruptions, the released set or one made locally, and names it; two are never mixed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.columns import ACCURACY, ECE, NLL, Metric
from analysis.figures.calibration import FEW_IMAGES, pooled
from analysis.figures.style import GREY, WIDTH, Look, looks, rows_of, styled, thin, wrapped
from analysis.statistics import estimate

LEGEND_COLUMNS = 3
RELIABILITY_COLUMNS = 4
# Cells are spread over this much of the distance between two severities, so that equal ones don't hide each other.
SPREAD = 0.36
# With more columns than these, numbers of one decimal would touch; with more still, any number would.
MOST_DECIMALS, MOST_ANNOTATED = 10, 20


def complete_means(corrupted: pd.DataFrame, key: str, by: str, over: str) -> pd.DataFrame:
    """Return the mean of column `key` over `over`, a row a (cell, replicate), a column a value of `by`.

    NaN where a replicate lacks a set that others have: a mean over fewer sets is not comparable. ValueError if a set
    occurs twice, as it does where two families are mixed.
    """
    wide = corrupted.pivot(index=["cell", "replicate"], columns=[by, over], values=key)
    return pd.DataFrame({group: wide[group].mean(axis=1, skipna=False) for group in dict.fromkeys(corrupted[by])})


def draw_curve(axes: Axes, values: pd.DataFrame, look: Look, shift: float = 0.0) -> None:
    """Draw the mean over replicates (rows) at each position (columns), and its interval as a band where it has one."""
    estimates = [estimate(values[position]) for position in values]
    positions = values.columns.to_numpy(dtype=float) + shift
    axes.plot(
        positions, [one.mean for one in estimates], marker=look.marker, color=look.color, markersize=4, linewidth=1,
        markeredgecolor="white", markeredgewidth=0.4,
    )  # fmt: skip
    if any(one.n > 1 for one in estimates):
        low, high = [one.low for one in estimates], [one.high for one in estimates]
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


@styled
def severity_curves(cells: pd.DataFrame, replicates: pd.DataFrame, corrupted: pd.DataFrame) -> Figure:
    """Return accuracy, NLL and ECE against severity from 0 (clean), means over types: a line a cell, bands intervals.

    A replicate counts at a severity when all types of it are done. cells: cell, method, in order; replicates: cell,
    replicate, accuracy (share), nll (nats), ece; corrupted, of one family: cell, replicate, family, type, severity and
    the same three.
    """
    chosen = looks(cells)
    names = _present(cells, corrupted)
    severities = sorted(set(corrupted["severity"]))
    figure = Figure(figsize=(WIDTH, 3.6 + legend_height(cells)))
    for axes, metric in zip(figure.subplots(1, 3), (ACCURACY, NLL, ECE), strict=True):
        means = complete_means(corrupted, metric.key, by="severity", over="type")[severities]
        for index, cell in enumerate(names):
            values = means.loc[[cell]].droplevel("cell")
            values.insert(0, 0, replicates[replicates["cell"] == cell].set_index("replicate")[metric.key])
            shift = SPREAD * ((index + 0.5) / len(names) - 0.5)
            draw_curve(axes, values * metric.factor, chosen[cell], shift)
        arrow = "higher is better →" if metric.better == "higher" else "← lower is better"
        axes.set_ylabel(f"{metric.head}{' (nats)' if metric is NLL else ''}\n{arrow}")
        axes.set_xlabel(f"Severity (0: clean)\n{_types(corrupted)}")
        axes.set_xticks([0, *severities])
        keep_possible(axes, metric)
        thin(axes)
    name_cells(figure, cells, names)
    return figure


@styled
def type_dots(cells: pd.DataFrame, corrupted: pd.DataFrame) -> Figure:
    """Return the accuracy on each type of corruption, a row a cell: dots are types, the box holds the middle half.

    cells: cell, method, in order; corrupted, of one family: cell, replicate, family, type, severity, accuracy (share).
    """
    chosen = looks(cells)
    accuracy = _by_type(corrupted)
    figure = Figure(figsize=(WIDTH, 1.0 + 0.36 * len(cells)))
    axes = figure.subplots()
    for position, cell in enumerate(cells["cell"]):
        values = accuracy.loc[cell].dropna() if cell in accuracy.index else pd.Series(dtype=float)
        if values.empty:
            axes.annotate(
                "not run", (0.5, position), xycoords=("axes fraction", "data"), color=GREY, fontsize=7, va="center",
                ha="center",
            )  # fmt: skip
            continue
        look = chosen[cell]
        low, high = values.quantile([0.25, 0.75])
        axes.barh(position, high - low, 0.62, left=low, color=(look.color, 0.18), edgecolor=(look.color, 0.8))
        axes.plot(values, [position] * len(values), "o", color=look.color, markersize=3, alpha=0.6, linewidth=0)
        axes.plot(
            values.mean(), position, look.marker, color=look.color, markersize=6.5, markeredgecolor="black",
            markeredgewidth=0.7, zorder=4,
        )  # fmt: skip
        axes.annotate(
            _spelled(str(values.idxmin())), (values.min(), position), xytext=(-6, 0), textcoords="offset points",
            fontsize=6.5, color=GREY, va="center", ha="right",
        )  # fmt: skip
    # Room at the left for the name of the worst type.
    axes.use_sticky_edges = False
    axes.margins(x=0.05)
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.15 * (high - low), high)
    axes.set_yticks(range(len(cells)), [wrapped(cell, 30) for cell in cells["cell"]])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_xlabel(f"{ACCURACY.head} on {_severities(corrupted)}\nhigher is better →")
    thin(axes, "x")
    handles = [
        Line2D([], [], marker="o", color=GREY, markersize=3, linewidth=0, label="type (the worst is named)"),
        Patch(facecolor="0.88", edgecolor=GREY, label="middle half of the types"),
        Line2D([], [], marker="o", color=GREY, markeredgecolor="black", markersize=6, linewidth=0, label="mean"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@styled
def type_map(cells: pd.DataFrame, corrupted: pd.DataFrame) -> Figure:
    """Return the accuracy of each cell on each type of corruption as a heat map, types in the order of the frame.

    cells: cell, in order; corrupted, of one family: cell, replicate, family, type, severity, accuracy (share).
    """
    accuracy = _by_type(corrupted).reindex(_present(cells, corrupted))
    figure = Figure(figsize=(WIDTH, 2.1 + 0.24 * len(accuracy)))
    axes = figure.subplots()
    sns.heatmap(
        accuracy,
        ax=axes,
        cmap="viridis",
        annot=len(accuracy.columns) <= MOST_ANNOTATED,
        fmt=".1f" if len(accuracy.columns) <= MOST_DECIMALS else ".0f",
        annot_kws={"size": 6.5},
        linewidths=0.5,
        cbar_kws={"label": f"{ACCURACY.head}, higher is better →", "location": "top", "shrink": 0.6, "aspect": 45},
    )
    axes.set_facecolor("0.92")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(accuracy.columns)) + 0.5, [_spelled(name) for name in accuracy.columns], rotation=90)
    axes.set_yticks(np.arange(len(accuracy)) + 0.5, [wrapped(cell, 30) for cell in accuracy.index], rotation=0)
    axes.set(xlabel=f"Corruption: {_severities(corrupted)}", ylabel="")
    return figure


@styled
def reliability_clean_and_corrupted(
    cells: pd.DataFrame, reliability: pd.DataFrame, corrupted_reliability: pd.DataFrame
) -> Figure:
    """Return accuracy against confidence on clean and on corrupted images, a panel a cell, images of all replicates.

    The shaded gap to the diagonal is what ECE averages. cells: cell, method, in order; both others: the bins of
    analysis.results.Results.
    """
    names = [cell for cell in cells["cell"] if cell in {*reliability["cell"], *corrupted_reliability["cell"]}]
    chosen = looks(cells)
    columns = min(RELIABILITY_COLUMNS, len(names))
    figure = Figure(figsize=(WIDTH, 0.8 + 1.85 * rows_of(names, columns)))
    panels = figure.subplots(rows_of(names, columns), columns, squeeze=False, sharex=True, sharey=True)
    for index, (axes, cell) in enumerate(zip(panels.flat, names, strict=False)):
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=(0, (4, 3)))
        for frame, line, fill in ((reliability, "-", "full"), (corrupted_reliability, "--", "none")):
            own = frame[frame["cell"] == cell]
            if not own.empty:
                _draw_reliability(axes, pooled(own), chosen[cell], line, fill)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.grid(visible=False)
        axes.set_title(wrapped(cell, 20))
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


def _present(cells: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    return [cell for cell in cells["cell"] if cell in set(frame["cell"])]


def _by_type(corrupted: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy in percent, cells x types: mean over severities, then over replicates."""
    means = complete_means(corrupted, "accuracy", by="type", over="severity")
    return means.groupby("cell").mean() * ACCURACY.factor


def _types(corrupted: pd.DataFrame) -> str:
    """Return the family, and how many types a mean over types is of."""
    types = corrupted["type"].nunique()
    return f"{corrupted['family'].iloc[0]}, " + (f"mean of {types} types" if types > 1 else "one type")


def _severities(corrupted: pd.DataFrame) -> str:
    """Return the family, and the severities that a mean over severities is of."""
    severities = sorted(set(corrupted["severity"]))
    listed = ", ".join(map(str, severities))
    what = f"mean of severities {listed}" if len(severities) > 1 else f"severity {listed}"
    return f"{corrupted['family'].iloc[0]}, {what}"


def _spelled(name: str) -> str:
    return name.replace("_", " ")
