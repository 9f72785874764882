"""What a cell costs, known from the plan alone, and the accuracy that it buys."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from analysis.columns import ACCURACY, Metric
from analysis.context import describe_replicates
from analysis.reading import StoreView
from analysis.results import Results
from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, looks, styled, thin, wrapped
from analysis.topic import FigureEntry, Topic

TRAIN_FLOPS = Metric("train_flops_ratio", "Training FLOPs (x one dense run)", 3, "lower", measured_on="plan")
INFERENCE_FLOPS = Metric(
    "inference_flops_ratio", "Inference FLOPs (x one dense network)", 3, "lower", measured_on="plan"
)
PARAMETERS = Metric("parameters_ratio", "Weights (x one dense network)", 3, "lower", measured_on="plan")


def load_nothing(_: StoreView) -> None:
    """Costs are columns of the cells."""


def figures(_: None, results: Results) -> Iterator[FigureEntry]:
    """Yield accuracy against cost."""
    cells, replicates = results.cells, results.replicates
    if not replicates.empty:
        yield FigureEntry(
            "accuracy_against_cost",
            "Accuracy against training cost",
            "Test accuracy (mean over replicates, 95% Student-t interval) against the training FLOPs of all members "
            "together, counted from layers, densities and epochs and divided by those of one dense run; up and to the "
            f"left is better. {describe_replicates(cells)}",
            lambda: accuracy_against_cost(cells, replicates),
        )


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
        measured = estimate(replicates.loc[replicates["cell"] == name, "accuracy"] * ACCURACY.factor)
        if measured.n:
            axes.errorbar(
                ratio,
                measured.mean,
                yerr=measured.error_bar,
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
    axes.set_ylabel(f"{ACCURACY.head}\n{ACCURACY.arrow}")
    thin(axes)
    figure.legend(loc="outside right upper")
    return figure


TOPIC = Topic("efficiency", load_nothing, metrics=(TRAIN_FLOPS, INFERENCE_FLOPS, PARAMETERS), figures=figures)
