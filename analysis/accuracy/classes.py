"""Which classes an ensemble helps: class-wise accuracy of ensembles and of their members."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, Look, looks, rows_of, styled, thin, wrapped

COLUMNS = 2
# With more classes only the extremes are drawn, so many at each end.
MOST_CLASSES = 20
EXTREMES = 10
# Height of a letter that stands upright, in inches of the panel's foot.
LETTER = 0.075


@styled
def class_bars(cells: pd.DataFrame, classes: pd.DataFrame) -> Figure:
    """Return the accuracy of each class: bar and interval for the ensemble, a dot for each member of each replicate.

    cells: cell, method, in order; classes: cell, replicate, label, name, member (0 is the ensemble), accuracy (share;
    NaN for a class without images). With more than 20 classes, only the 10 that gain most from member to ensemble and
    the 10 that gain least or lose (mean over the cells) are drawn; the title says so.
    """
    labels, title = _chosen(classes)
    names = classes.drop_duplicates("label").set_index("label")["name"].astype(str)
    present = [cell for cell in cells["cell"] if cell in set(classes["cell"])]
    shown = classes[classes["label"].isin(labels)]
    rows, columns = rows_of(present, COLUMNS), min(COLUMNS, len(present))
    foot = LETTER * max(len(names[label]) for label in labels)
    figure = Figure(figsize=(WIDTH, 0.8 + 1.25 * rows + foot))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    chosen = looks(cells)
    # An empty place is left in the first row, so that the names of the classes stand in the last one alone.
    empty = range(1, 1 + rows * columns - len(present))
    for axes in panels.flat[empty.start : empty.stop]:
        axes.set_axis_off()
    places = [index for index in range(rows * columns) if index not in empty]
    for index, cell in zip(places, present, strict=True):
        axes, bottom = panels.flat[index], index >= (rows - 1) * columns
        _bars(axes, shown[shown["cell"] == cell], labels, chosen[cell])
        axes.set_title(wrapped(cell, 40))
        axes.set_xticks(range(len(labels)), [names[label] if bottom else "" for label in labels], rotation=90)
        axes.tick_params(axis="x", labelsize=7, length=0)
        axes.set_xlim(-0.6, len(labels) - 0.4)
        if len(labels) < len(names):
            axes.axvline(EXTREMES - 0.5, color=GREY, linewidth=0.8, linestyle=":")
        if bottom:
            axes.set_xlabel("Class")
        if index % columns == 0:
            axes.set_ylabel("Accuracy (%)")
        thin(axes)
    handles = [
        Patch(facecolor="0.7", label="ensemble, mean over replicates"),
        Line2D([], [], color="black", linewidth=1, label="95% interval"),
        Line2D([], [], marker="o", color=GREY, markersize=2.2, alpha=0.6, linewidth=0, label="member"),
    ]
    legend = figure.legend(handles=handles, loc="outside upper center", ncols=3, title=title)
    legend.get_title().set_multialignment("center")
    return figure


def _bars(axes: Axes, classes: pd.DataFrame, labels: list[int], look: Look) -> None:
    """Draw the classes of one cell."""
    pale = tuple(0.45 + 0.55 * part for part in look.color)
    for position, label in enumerate(labels):
        accuracy = classes.loc[classes["label"] == label, ["member", "accuracy"]].dropna()
        accuracy["accuracy"] *= 100
        ensemble = accuracy["member"] == 0
        measured = estimate(accuracy.loc[ensemble, "accuracy"])
        if not measured.n:
            continue
        axes.bar(position, measured.mean, 0.8, color=pale, linewidth=0)
        if measured.error_bar is not None:
            axes.plot([position - 0.2] * 2, [measured.low, measured.high], color="black", linewidth=1)
        members = accuracy.loc[~ensemble, "accuracy"]
        axes.plot([position + 0.15] * len(members), members, "o", color=GREY, markersize=2.2, alpha=0.6)
    axes.set_ylim(0, 102)


def _chosen(classes: pd.DataFrame) -> tuple[list[int], str]:
    """Return the labels to draw, in their order on the axis, and what to say of them."""
    count = classes["label"].nunique()
    if count <= MOST_CLASSES:
        return sorted(classes["label"].unique()), f"Test accuracy of {count} classes (higher is better)"
    kind = np.where(classes["member"] == 0, "ensemble", "members")
    means = classes.assign(kind=kind).pivot_table(index=["cell", "label"], columns="kind", values="accuracy")
    gain = (means["ensemble"] - means["members"]).groupby("label").mean().dropna()
    order = list(gain.sort_values(ascending=False, kind="stable").index)
    title = (
        f"Test accuracy (higher is better) of {2 * EXTREMES} of {count} classes: left, the {EXTREMES} that gain most\n"
        f"from member to ensemble, right, the {EXTREMES} that gain least or lose (mean over the cells)"
    )
    return order[:EXTREMES] + order[-EXTREMES:], title
