"""How far ensembles hold on corrupted images (Hendrycks and Dietterich 2019): by severity and by type.

A figure is about one family of corruptions, the released set or one made locally, and names it; two are never mixed.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.columns import ACCURACY, ECE, NLL
from analysis.context import describe_measured
from analysis.corruption.numbers import Corruption
from analysis.corruption.reliability import reliability_clean_and_corrupted
from analysis.corruption.sheet import contact_sheet
from analysis.corruption.table import LOCAL_NOTE
from analysis.curves import draw_curves, height_of_rows, keep_possible, legend_height, name_curves, panels_of, together
from analysis.maps import are_compared, draw_differences, draw_map, name_columns, write_numbers
from analysis.results import Results
from analysis.style import GREY, WIDTH, looks, say_not_run, styled, thin, wrapped
from analysis.topic import FigureEntry
from bench.evaluation.sets import LOCAL

# So few types have no middle half worth a box.
FEW_TYPES = 4
# With more columns than these, numbers of one decimal would touch; with more still, any number would.
MOST_DECIMALS, MOST_ANNOTATED = 10, 20


def figures(corruption: Corruption, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of each family of corruptions."""
    for family in corruption.ece_names:
        yield from _family_figures(corruption, results, family)


def _family_figures(corruption: Corruption, results: Results, family: str) -> Iterator[FigureEntry]:
    sets, bins, scores = (
        frame[frame["family"] == family] for frame in (corruption.sets, corruption.bins, corruption.by_family)
    )
    # A type of which a severity is missing would make means over types differ in what they are of.
    sets = sets[sets["type"].isin(corruption.types[family])]
    cells, replicates = results.cells, results.replicates
    note = f" {LOCAL_NOTE}" if family == LOCAL else ""
    what = f"{family}, {sets['type'].nunique()} types of corruption.{note} {describe_measured(cells, scores)}"
    if not sets.empty:
        yield FigureEntry(
            f"{family}_severity",
            f"Scores against severity: {family}",
            "Accuracy, NLL and ECE (15 bins) of ensembles, mean over types of corruption, against severity; severity 0 "
            "is the clean test images. Bands are 95% Student-t intervals over replicates. Of more than six cells, each "
            f"row shows a few, and in grey all others. {what}",
            lambda: severity_curves(cells, replicates, sets),
            lambda: {"corrupted": sets, "clean": replicates[["cell", "replicate", "accuracy", "nll", "ece"]]},
        )
        yield FigureEntry(
            f"{family}_types",
            f"Accuracy by type: {family}",
            f"Accuracy of ensembles on each type of corruption, mean over severities and replicates. {what}",
            lambda: type_dots(cells, sets),
            lambda: {"types": sets},
        )
        yield FigureEntry(
            f"{family}_type_map",
            f"Cells and types: {family}",
            "Accuracy of ensembles on each type of corruption minus that of the dense network, whose own row has its "
            f"accuracies in percent; mean over severities and replicates. Blue is better. {what}",
            lambda: type_map(cells, sets),
            lambda: {"types": sets},
        )
    if not bins.empty:
        yield FigureEntry(
            f"{family}_reliability",
            f"Reliability, clean and corrupted: {family}",
            "Accuracy against confidence in 15 equal bins of confidence of the ensemble's prediction, on the clean "
            f"test images and on all corrupted ones together. {what}",
            lambda: reliability_clean_and_corrupted(cells, corruption.clean_bins, bins),
            lambda: {"clean": corruption.clean_bins, "corrupted": bins},
        )
    if (samples := corruption.samples.get(family)) is not None:
        yield FigureEntry(
            f"{family}_sheet",
            f"What was evaluated: {family}",
            f"The first test image, clean and under every corruption at every severity that was evaluated.{note}",
            lambda: contact_sheet(samples.images, samples.severities, family),
        )


def complete_means(corrupted: pd.DataFrame, key: str, by: str, over: str) -> pd.DataFrame:
    """Return the mean of column `key` over `over`, a row a (cell, replicate), a column a value of `by`.

    NaN where a replicate lacks a set that others have: a mean over fewer sets is not comparable. ValueError if a set
    occurs twice, as it does where two families are mixed.
    """
    wide = corrupted.pivot(index=["cell", "replicate"], columns=[by, over], values=key)
    return pd.DataFrame({group: wide[group].mean(axis=1, skipna=False) for group in dict.fromkeys(corrupted[by])})


@styled
def severity_curves(cells: pd.DataFrame, replicates: pd.DataFrame, corrupted: pd.DataFrame) -> Figure:
    """Return accuracy, NLL and ECE against severity from 0 (clean), means over types: a line a cell, bands intervals.

    A replicate counts at a severity when all types of it are done. cells: cell, method, in order; replicates: cell,
    replicate, accuracy (share), nll (nats), ece; corrupted, of one family: cell, replicate, family, type, severity and
    the same three.
    """
    names = _present(cells, corrupted)
    severities = sorted(set(corrupted["severity"]))
    groups = together(cells, names)
    height = 3.0 if len(groups) == 1 else height_of_rows(len(groups)) * len(groups)
    figure = Figure(figsize=(WIDTH, 0.6 + height + legend_height(cells, names)))
    panels, places = panels_of(figure, len(groups), 3, sharey="col", aside=len(groups) > 1)
    for column, metric in enumerate((ACCURACY, NLL, ECE)):
        means = complete_means(corrupted, metric.key, by="severity", over="type")[severities]
        values = {}
        for cell in names:
            values[cell] = means.loc[[cell]].droplevel("cell")
            values[cell].insert(0, 0, replicates[replicates["cell"] == cell].set_index("replicate")[metric.key])
            values[cell] *= metric.factor
        for axes, row in zip(panels[:, column], groups, strict=True):
            draw_curves(axes, cells, row, values, step=1)
            axes.set_ylabel(f"{metric.head}{' (nats)' if metric is NLL else ''}\n{metric.arrow}")
            axes.set_xticks([0, *severities])
            thin(axes)
        keep_possible(panels[0, column], metric)
        panels[-1, column].set_xlabel(f"Severity (0: clean)\n{_types(corrupted)}")
    name_curves(figure, cells, names, groups, places)
    return figure


@styled
def type_dots(cells: pd.DataFrame, corrupted: pd.DataFrame) -> Figure:
    """Return the accuracy on each type of corruption, a row a cell: dots are types, the box holds the middle half.

    cells: cell, method, in order; corrupted, of one family: cell, replicate, family, type, severity, accuracy (share).
    """
    chosen = looks(cells)
    accuracy = _by_type(corrupted)
    figure = Figure(figsize=(WIDTH, 1.0 + min(0.36 * len(cells), 0.28 * len(cells) + 0.8)))
    axes = figure.subplots()
    for position, cell in enumerate(cells["cell"]):
        values = accuracy.loc[cell].dropna() if cell in accuracy.index else pd.Series(dtype=float)
        if values.empty:
            say_not_run(axes, position)
            continue
        look = chosen[cell]
        low, high = values.quantile([0.25, 0.75])
        if len(values) > FEW_TYPES:
            axes.barh(position, high - low, 0.62, left=low, color=(look.color, 0.18), edgecolor=(look.color, 0.8))
        axes.plot(values, [position] * len(values), "o", color=look.color, markersize=3, alpha=0.6, linewidth=0)
        axes.plot(
            values.mean(), position, look.marker, color=look.color, markersize=look.size(6.5), markeredgecolor="black",
            markeredgewidth=0.7, zorder=4,
        )  # fmt: skip
        axes.annotate(
            _spelled(str(values.idxmin())), (values.min(), position), xytext=(-6, 0), textcoords="offset points",
            fontsize=6.5, color=GREY, va="center", ha="right",
        )  # fmt: skip
    # Room at the left for the name of the worst type, where no accuracy is possible either.
    axes.use_sticky_edges = False
    axes.margins(x=0.05)
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.15 * (high - low), min(high, 101))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if 0 <= value <= 100 else "")
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
    """Return a heat map of cells x types, in the order of the frame: accuracy minus that of the dense network.

    cells: cell, reference (may lack: then accuracies are drawn), in order; corrupted, of one family: cell, replicate,
    family, type, severity, accuracy (share).
    """
    accuracy = _by_type(corrupted).reindex(_present(cells, corrupted))
    figure = Figure(figsize=(WIDTH, 2.1 + 0.24 * len(accuracy)))
    axes = figure.subplots()
    fmt = (
        (".1f" if len(accuracy.columns) <= MOST_DECIMALS else ".0f")
        if len(accuracy.columns) <= MOST_ANNOTATED
        else None
    )
    if are_compared(accuracy, cells):
        mesh = draw_differences(axes, accuracy, cells, fmt)
        label = "Accuracy minus that of the dense network (percentage points), higher is better →"
    else:
        mesh = draw_map(axes, accuracy, "viridis", (np.nanmin(accuracy), np.nanmax(accuracy)))
        label = f"{ACCURACY.head}, higher is better →"
        if fmt:
            write_numbers(axes, accuracy, fmt)
    figure.colorbar(mesh, ax=axes, location="top", shrink=0.6, aspect=45, extend="both", label=label)
    name_columns(axes, [_spelled(name) for name in accuracy.columns])
    axes.set_yticks(np.arange(len(accuracy)) + 0.5, [wrapped(cell, 30) for cell in accuracy.index], rotation=0)
    axes.set(xlabel=f"Corruption: {_severities(corrupted)}", ylabel="")
    return figure


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
