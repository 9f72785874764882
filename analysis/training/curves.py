"""Training curves: loss and accuracy by epoch, with the phases of the recipe and what happens between them marked."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from analysis.style import FAMILIES, GREY, WIDTH, rows_of, styled, thin, wrapped
from bench.errors import counted

# More trajectories than these stand two in a row; the inches of such a row, at most and at least, and of all.
MOST_BELOW = 4
TALLEST, LOWEST, PAGE = 1.4, 1.05, 9.6
# Points that a name of a phase, written upwards, takes.
ROOM = 9.0
COLORS = {"train": "0.55", "validation": FAMILIES["DST"][0]}
STAR: dict[str, Any] = {
    "marker": "*", "color": FAMILIES["EDST"][0], "markersize": 7, "markeredgecolor": "black", "markeredgewidth": 0.4,
    "linewidth": 0,
}  # fmt: skip
KINDS = {"train": "training images", "validation": "validation images"}


@styled
def training_curves(epochs: pd.DataFrame, events: pd.DataFrame, tickets: pd.DataFrame) -> Figure:
    """Return loss and accuracy by epoch, a row a trajectory, a line a run; frames as in Training."""
    names = list(dict.fromkeys(epochs["trajectory"]))
    beside = 1 if len(names) <= MOST_BELOW else 2
    rows = rows_of(names, beside)
    height = 1.95 if beside == 1 else max(LOWEST, min(TALLEST, PAGE / rows))
    figure = Figure(figsize=(WIDTH, 0.8 + height * rows))
    panels = figure.subplots(rows, 2 * beside, squeeze=False)
    # Losses and accuracies of a trajectory lie beside each other.
    pairs = panels.reshape(-1, 2)
    for axes in pairs[len(names) :].flat:
        axes.set_axis_off()
    for index, ((loss, accuracy), name) in enumerate(zip(pairs, names, strict=False)):
        recorded = epochs[epochs["trajectory"] == name]
        marks = events[events["trajectory"] == name]
        for kind, color in COLORS.items():
            for _, run in recorded.groupby("run", sort=False):
                look = {"color": color, "linewidth": 0.7, "alpha": 0.75, "marker": "." if len(run) == 1 else None}
                loss.plot(run["epoch"], run[f"{kind}_loss"], **look)
                accuracy.plot(run["epoch"], run[f"{kind}_accuracy"] * 100, **look)
        stars = tickets[tickets["trajectory"] == name]
        # Without validation images a ticket lies on the training curve.
        trained = recorded.set_index(["run", "epoch"])["train_accuracy"]
        heights = [
            trained[row["run"], row["epoch"]] if pd.isna(row["validation_accuracy"]) else row["validation_accuracy"]
            for row in stars.to_dict("records")
        ]
        # An empty line that is not clipped lies at the corner of the figure, and panels collapse to reach it.
        if heights:
            accuracy.plot(stars["epoch"], [100 * height for height in heights], **STAR, zorder=5, clip_on=False)
        last = int(recorded["epoch"].max())
        for axes in (loss, accuracy):
            _mark(axes, marks, last)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
            thin(axes)
        loss.set_yscale("log")
        low, high = loss.get_ylim()
        # Losses of a short run stay within a factor of five, where 1, 2, 5 would leave a single tick.
        loss.yaxis.set_major_locator(MaxNLocator(4) if high < 5 * low else LogLocator(subs=(1, 2, 5)))
        loss.yaxis.set_major_formatter("{x:g}")
        loss.yaxis.set_minor_formatter(NullFormatter())
        _name_phases(loss, marks, last, 190 / beside)
        for axes, label in ((loss, "Loss (nats)"), (accuracy, "Accuracy (%)")):
            axes.set_ylabel(label, fontsize=8.5 if beside == 1 else 7)
            axes.tick_params(labelsize=8 if beside == 1 else 7)
            if index + beside >= len(names):
                axes.set_xlabel("Epoch")
        loss.set_title(
            wrapped(f"{name}, {_count(recorded)}", 44 if beside == 1 else 50),
            loc="left",
            fontsize=9 if beside == 1 else 7.5,
        ).set_in_layout(beside == 1)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=5, columnspacing=1.2, handlelength=1.7)
    return figure


def _mark(axes: Axes, marks: pd.DataFrame, last: int) -> None:
    """Shade every other phase, and draw where the learning rate changes and where topology changes at once."""
    starts = list(marks.loc[marks["kind"] == "phase", "epoch"])
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], last + 1], strict=True)):
        if index % 2:
            axes.axvspan(start - 0.5, end - 0.5, color="0.93", linewidth=0, zorder=0)
    for row in marks.to_dict("records"):
        if row["kind"] == "lr":
            axes.axvline(row["epoch"] - 0.5, color=GREY, linewidth=0.7, linestyle=":")
        elif row["kind"] != "phase":  # a topology change
            axes.axvline(row["epoch"] - 0.5, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
    axes.set_xlim(0.5, last + 0.5)


def _name_phases(axes: Axes, marks: pd.DataFrame, last: int, width: float) -> None:
    """Write the names of the phases into their middles, where there is more than one and room; `width` in points."""
    phases = marks[marks["kind"] == "phase"]
    starts = list(phases["epoch"])
    for label, start, end in zip(phases["label"], starts, [*starts[1:], last + 1], strict=True):
        if len(starts) > 1 and (end - start) / last * width >= ROOM:
            axes.text(
                (start + end - 1) / 2, 0.97, label, transform=axes.get_xaxis_transform(), rotation=90, va="top",
                ha="center", fontsize=6.5, color=GREY, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip


def _count(epochs: pd.DataFrame) -> str:
    return counted(epochs["run"].nunique(), "run")


def _legend() -> list[Line2D]:
    return [
        *(Line2D([], [], color=COLORS[kind], label=label) for kind, label in KINDS.items()),
        Line2D([], [], **STAR, label="ticket"),
        Line2D([], [], color=GREY, linestyle=":", label="learning rate change"),
        Line2D([], [], color="black", linestyle=(0, (4, 2)), label="global exploration or pruning"),
    ]
