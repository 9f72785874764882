"""What a cell costs: FLOPs known from the plan alone, measured time, and the accuracy that they buy."""

import math
from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from analysis.columns import ACCURACY, Metric
from analysis.context import describe_replicates
from analysis.reading import Replicate, StoreView, tidy
from analysis.results import Results
from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, looks, styled, thin, wrapped
from analysis.topic import FigureEntry, Topic

TRAIN_FLOPS = Metric("train_flops_ratio", "Training FLOPs (x one dense run)", 3, "lower", measured_on="plan")
INFERENCE_FLOPS = Metric(
    "inference_flops_ratio", "Inference FLOPs (x one dense network)", 3, "lower", measured_on="plan"
)
PARAMETERS = Metric("parameters_ratio", "Weights (x one dense network)", 3, "lower", measured_on="plan")


HOURS = Metric("train_hours_ratio", "Training time (x one dense run)", 2, "lower")


def load_hours(view: StoreView) -> pd.DataFrame:
    """Return a row a finished replicate: cell, replicate, and its training time over that of its dense run.

    The time is that of all epochs of all runs, parents included, in whichever sessions. NaN where the grid has no dense
    cell of the same data and network, or where runs were not all trained on the same kind of device.
    """
    references = view.references()
    measured = {(replicate.cell.name, replicate.number): _seconds(view, replicate) for replicate in view.replicates()}
    rows = []
    for (cell, number), (seconds, devices) in measured.items():
        dense, on = measured.get((references.get(cell, ""), number), (math.nan, devices))
        alike = len(devices | on) == 1
        rows.append({"cell": cell, "replicate": number, HOURS.key: seconds / dense if alike and dense else math.nan})
    return tidy(rows, f"cell replicate {HOURS.key}")


def _seconds(view: StoreView, replicate: Replicate) -> tuple[float, frozenset[tuple[str, int]]]:
    """Return the seconds of all epochs of a replicate, and the devices and numbers of processes of its runs."""
    seconds, devices = math.nan, frozenset[tuple[str, int]]()
    with view.noting():
        runs = replicate.cell.all_runs(replicate.number - 1)
        devices = frozenset(device for run in runs for device in [view.device(run)])
        seconds = sum(epoch.seconds for run in runs for epoch in view.history(run))
    return seconds, devices


def figures(_: pd.DataFrame, results: Results) -> Iterator[FigureEntry]:
    """Yield accuracy against cost."""
    cells, replicates = results.cells, results.replicates
    if not replicates.empty:
        yield FigureEntry(
            "accuracy_against_cost",
            "Accuracy against training cost",
            "Test accuracy (mean over replicates, 95% Student-t interval) against the training FLOPs of all members "
            "together, counted from layers, densities and epochs and divided by those of one dense run; up and to the "
            f"left is better.{_reference(cells)} {describe_replicates(cells)}",
            lambda: accuracy_against_cost(cells, replicates),
        )


def _reference(cells: pd.DataFrame) -> str:
    """Return what cells are divided by of which the grid has no dense run."""
    return "".join(f" {line[:1].upper()}{line[1:]}." for line in dict.fromkeys(cells["flops_reference"]) if line)


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


TOPIC = Topic(
    "efficiency",
    load_hours,
    metrics=(TRAIN_FLOPS, INFERENCE_FLOPS, PARAMETERS, HOURS),
    scores=lambda hours: hours,
    figures=figures,
)
