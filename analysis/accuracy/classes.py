"""Which classes an ensemble helps: accuracy by class against the dense network, and against the ensemble's members."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.maps import DIVERGING, are_compared, draw_differences, draw_map, name_columns, symmetric, write_numbers
from analysis.style import WIDTH, styled, wrapped

# With more classes only the extremes are drawn, so many at each end.
MOST_CLASSES = 20
EXTREMES = 10
# More columns than these have no room for numbers with a decimal, and their two panels stand below each other.
MOST_BESIDE = 10


@styled
def class_maps(cells: pd.DataFrame, classes: pd.DataFrame) -> Figure:
    """Return two heat maps, cells x classes: the ensemble against the dense network, and against its own members.

    cells: cell, reference (may lack: then the first map is of accuracies), in order; classes: cell, replicate, label,
    name, member (0 is the ensemble), accuracy (share; NaN for a class without images). All are means over replicates,
    in percentage points. With more than 20 classes, only the 10 that gain most from member to ensemble and the 10 that
    gain least or lose (mean over the cells) are drawn; the title says so.
    """
    labels, title = _chosen(classes)
    names = classes.drop_duplicates("label").set_index("label")["name"].astype(str)
    present = [cell for cell in cells["cell"] if cell in set(classes["cell"])]
    means = _means(classes[classes["label"].isin(labels)])
    ensemble, members = (part.reindex(index=present, columns=labels) for part in means)
    beside = len(labels) <= MOST_BESIDE
    letters = 0.075 * max(len(names[label]) for label in labels)
    inner = 0.2 * len(present) + letters
    figure = Figure(figsize=(WIDTH, 1.7 + inner if beside else 2.2 + 2 * inner))
    panels = figure.subplots(1 if beside else 2, 2 if beside else 1, squeeze=False).flat
    fmt = ".1f" if beside else ".0f"
    if are_compared(ensemble, cells):
        mesh = draw_differences(panels[0], ensemble, cells, fmt)
        what = "Ensemble - dense network"
    else:
        limits = float(np.nanmin(ensemble)), float(np.nanmax(ensemble))
        mesh = draw_map(panels[0], ensemble, "viridis", (limits[0], max(limits[1], limits[0] + 0.1)))
        write_numbers(panels[0], ensemble, fmt)
        what = "Ensemble: accuracy"
    gains = (ensemble - members).where(_several(classes).reindex(present), axis=0)
    drawn = [(panels[0], mesh, what)]
    if gains.notna().any(axis=None):
        mesh = draw_map(panels[1], gains, DIVERGING, symmetric(gains))
        write_numbers(panels[1], gains, f"+{fmt}")
        drawn.append((panels[1], mesh, "Ensemble - mean of its members"))
    else:
        panels[1].set_axis_off()
    for index, (axes, shown, head) in enumerate(drawn):
        _label(axes, [names[label] for label in labels], present if index == 0 or not beside else None)
        if len(labels) == 2 * EXTREMES < len(names):
            axes.axvline(EXTREMES, color="black", linewidth=1.2)
        unit = "%" if "accuracy" in head else "percentage points"
        figure.colorbar(
            shown, ax=axes, location="top", shrink=0.75, aspect=35, extend="both", label=f"{head}\n({unit})"
        )
    figure.suptitle(title, fontsize=9)
    return figure


def _means(classes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the accuracies in percent of ensembles, and those of members on average, cells x labels."""
    kind = np.where(classes["member"] == 0, "ensemble", "members")
    wide = classes.assign(kind=kind, accuracy=classes["accuracy"] * 100).pivot_table(
        index="cell", columns=["kind", "label"], values="accuracy", dropna=False
    )
    return pd.DataFrame(wide["ensemble"]), pd.DataFrame(wide["members"])


def _several(classes: pd.DataFrame) -> "pd.Series[bool]":
    """Return by cell whether it has more than one member."""
    return classes.groupby("cell")["member"].max() > 1


def _label(axes: Axes, names: list[str], cells: list[str] | None) -> None:
    name_columns(axes, names, 7)
    axes.set(xlabel="Class", ylabel="")
    if cells is None:
        axes.set_yticks([])
    else:
        axes.set_yticks(np.arange(len(cells)) + 0.5, [wrapped(cell, 30) for cell in cells], rotation=0, fontsize=7.5)


def _chosen(classes: pd.DataFrame) -> tuple[list[int], str]:
    """Return the labels to draw, in their order on the axis, and what to say of them."""
    count = classes["label"].nunique()
    if count <= MOST_CLASSES:
        return sorted(classes["label"].unique()), f"Test accuracy of {count} classes (higher is better)"
    kind = np.where(classes["member"] == 0, "ensemble", "members")
    means = classes.assign(kind=kind).pivot_table(index=["cell", "label"], columns="kind", values="accuracy")
    gain = (means["ensemble"] - means["members"]).groupby("label").mean().dropna()
    order = list(gain.sort_values(ascending=False, kind="stable").index)
    if len(order) <= MOST_CLASSES:
        return sorted(
            order
        ), f"Test accuracy (higher is better) of those {len(order)} of {count} classes that have images"
    title = (
        f"Test accuracy (higher is better) of {2 * EXTREMES} of {count} classes: left, the {EXTREMES} that gain most\n"
        f"from member to ensemble, right, the {EXTREMES} that gain least or lose (mean over the cells)"
    )
    return order[:EXTREMES] + order[-EXTREMES:], title
