"""Accuracy, NLL and ECE of each cell, and accuracy against the cost of training: what the paper is read for."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.columns import ACCURACY, ECE, NLL, TRAIN_FLOPS
from analysis.figures.style import GREY, WIDTH, Look, looks, styled, thin, wrapped
from analysis.statistics import estimate

# Vertical offset of a replicate's dot from the row of its cell, so that dots don't hide the interval.
DOT_OFFSET = 0.22


@styled
def scores_by_cell(cells: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Return dots of replicates, mean and interval of accuracy, NLL and ECE, a row a cell, best at one glance.

    cells: cell, method, in order; replicates: cell, accuracy, member_accuracy (shares), nll (nats), ece.
    """
    figure = Figure(figsize=(WIDTH, 1.0 + 0.42 * len(cells)))
    panels = figure.subplots(1, 3, sharey=True)
    chosen = looks(cells)
    for axes, metric in zip(panels, (ACCURACY, NLL, ECE), strict=True):
        for position, cell in enumerate(cells["cell"]):
            own = replicates[replicates["cell"] == cell]
            _row(axes, position, own[metric.key] * metric.factor, chosen[cell])
            if metric is ACCURACY:
                members = own["member_accuracy"].mean() * metric.factor
                axes.plot(members, position, "|", color=GREY, markersize=9, markeredgewidth=1.2)
        arrow = "higher is better →" if metric.better == "higher" else "← lower is better"
        axes.set_xlabel(f"{metric.head}\n{arrow}")
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=4)
        thin(axes, "x")
    panels[0].set_yticks(range(len(cells)), [wrapped(cell) for cell in cells["cell"]])
    panels[0].set_ylim(len(cells) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", color=GREY, markersize=5, linewidth=1.4, label="ensemble, mean and 95% interval"),
        Line2D([], [], marker="o", color=GREY, markersize=3, alpha=0.6, linewidth=0, label="replicate"),
        Line2D([], [], marker="|", color=GREY, markersize=9, linewidth=0, label="mean member"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@styled
def accuracy_against_cost(cells: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Return accuracy (mean, interval) over training FLOPs of an ensemble, relative to one dense run.

    cells: cell, method, train_flops_ratio, in order; replicates: cell, accuracy (share).
    """
    figure = Figure(figsize=(WIDTH, max(3.4, 0.9 + 0.3 * len(cells))))
    axes = figure.subplots()
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        "one dense run", (1, 1), xycoords=("data", "axes fraction"), xytext=(3, 2), textcoords="offset points",
        fontsize=7, color=GREY,
    )  # fmt: skip
    chosen = looks(cells)
    for row in cells.to_dict("records"):
        name, ratio = row["cell"], row["train_flops_ratio"]
        one = estimate(replicates.loc[replicates["cell"] == name, "accuracy"] * ACCURACY.factor)
        if one.n:
            axes.errorbar(
                ratio,
                one.mean,
                yerr=None if math.isnan(one.half_width) else one.half_width,
                fmt=chosen[name].marker,
                color=chosen[name].color,
                markersize=6,
                markeredgecolor="white",
                markeredgewidth=0.6,
                capsize=2.5,
                elinewidth=1,
            )
            axes.plot(
                [], [], chosen[name].marker, color=chosen[name].color, label=wrapped(f"{name} ({ratio:.2f}x)", 30)
            )
    axes.set_xlim(0, max(1.0, cells["train_flops_ratio"].max()) * 1.08)
    axes.margins(y=0.12)
    axes.set_xlabel(f"{TRAIN_FLOPS.head}\n← lower is cheaper")
    axes.set_ylabel(f"{ACCURACY.head}\nhigher is better →")
    thin(axes)
    figure.legend(loc="outside right upper")
    return figure


def _row(axes: Axes, position: int, values: "pd.Series[float]", look: Look) -> None:
    """Draw one cell of one metric: mean with interval, and below it the replicates it is made of."""
    one = estimate(values)
    if not one.n:
        axes.annotate(
            "not run",
            (0.5, position),
            xycoords=("axes fraction", "data"),
            color=GREY,
            fontsize=7,
            va="center",
            ha="center",
        )
        return
    axes.errorbar(
        one.mean,
        position,
        xerr=None if math.isnan(one.half_width) else one.half_width,
        fmt=look.marker,
        color=look.color,
        markersize=5.5,
        capsize=2.5,
        elinewidth=1.4,
    )
    axes.plot(values, [position + DOT_OFFSET] * len(values), "o", color=look.color, markersize=2.8, alpha=0.6)
