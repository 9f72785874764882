"""Diversity against accuracy of the members (the plane of Fort et al. 2019): what averaging has to work with.

Members that disagree more are often worse ones; disagreement divided by their error rate takes that out.
"""

import math

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.columns import MEMBER_ACCURACY
from analysis.figures.style import GREY, WIDTH, looks, rows_of, styled, thin, wrapped
from analysis.statistics import Estimate, estimate

COLUMNS = 3
# Key, factor, label of the axis.
DIVERSITIES = (
    ("disagreement", 100, "Disagreement (% of test images)"),
    ("normalised_disagreement", 1, "Disagreement / member error rate"),
)


@styled
def diversity_against_accuracy(cells: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Return disagreement over mean member accuracy, plain and normalised by error: a marker a cell, a dot a replicate.

    Cells of a single member, which have no disagreement, are left out. cells: cell, method, in order; replicates: cell,
    member_accuracy, disagreement (shares), normalised_disagreement.
    """
    diverse = replicates[replicates["disagreement"].notna()]
    names = [cell for cell in cells["cell"] if cell in set(diverse["cell"])]
    figure = Figure(figsize=(WIDTH, 3.4 + 0.17 * rows_of(names, COLUMNS)))
    chosen = looks(cells)
    for axes, (key, factor, label) in zip(figure.subplots(1, 2), DIVERSITIES, strict=True):
        for name in names:
            own = diverse[diverse["cell"] == name]
            accuracy, diversity = own["member_accuracy"] * MEMBER_ACCURACY.factor, own[key] * factor
            look = chosen[name]
            axes.plot(accuracy, diversity, "o", color=look.color, markersize=2.2, alpha=0.6, linewidth=0)
            center, height = estimate(accuracy), estimate(diversity)
            axes.errorbar(
                center.mean,
                height.mean,
                xerr=_half_width(center),
                yerr=_half_width(height),
                fmt=look.marker,
                color=look.color,
                markersize=6,
                markeredgecolor="white",
                markeredgewidth=0.6,
                elinewidth=0.8,
            )
        axes.margins(0.08)
        axes.set_xlabel("Mean member accuracy (%)\nhigher is better →")
        axes.set_ylabel(f"{label}\nmore diverse →")
        axes.locator_params(nbins=6)
        thin(axes)
    handles = [
        Line2D([], [], marker=chosen[name].marker, color=chosen[name].color, linewidth=0, label=wrapped(name, 30))
        for name in names
    ]
    handles += [Line2D([], [], marker="o", color=GREY, markersize=2.2, alpha=0.6, linewidth=0, label="replicate")]
    figure.legend(handles=handles, loc="outside upper center", ncols=COLUMNS)
    return figure


def _half_width(one: Estimate) -> float | None:
    return None if math.isnan(one.half_width) else one.half_width
