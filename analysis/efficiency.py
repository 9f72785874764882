"""What a cell costs: FLOPs known from the plan alone, time, memory and energy that were measured, and what they buy."""

import math
from collections.abc import Iterable, Iterator

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.columns import ACCURACY, Metric
from analysis.context import describe_replicates
from analysis.limits import possible, scale_of
from analysis.reading import Replicate, StoreView, tidy
from analysis.reference import DASHES, only_reference
from analysis.results import Results
from analysis.scatter import Point, draw_front, draw_points, exact
from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, looks, styled, thin
from analysis.table import Table, cells_table
from analysis.topic import FigureEntry, Topic
from bench.store.records import Session, Usage

TRAIN_FLOPS = Metric("train_flops_ratio", "Training FLOPs (x one dense run)", 3, "lower", measured_on="plan")
INFERENCE_FLOPS = Metric(
    "inference_flops_ratio", "Inference FLOPs (x one dense network)", 3, "lower", measured_on="plan"
)
PARAMETERS = Metric("parameters_ratio", "Weights (x one dense network)", 3, "lower", measured_on="plan")


def _of_machine(key: str, head: str, digits: int = 2, factor: float = 1.0) -> Metric:
    return Metric(key, head, digits, "lower", factor, measured_on="machine")


HOURS = _of_machine("train_hours_ratio", "Training time (x one dense run)")
USED = (
    _of_machine("device_hours", "Device-hours", 3),
    _of_machine("host_bytes", "Memory (GB)", factor=1e-9),
    _of_machine("device_bytes", "GPU memory (GB)", factor=1e-9),
    _of_machine("gpu_joules", "GPU energy (kWh)", 3, 1 / 3.6e6),
    _of_machine("processors_joules", "Processor energy (kWh)", 3, 1 / 3.6e6),
)
# Share of the time in which a run could have gone on and had no core; more than this is no measurement.
DELAYED, MOST_DELAYED = "delayed_share", 0.1
COUNTED = "FLOPs are counted from layers, densities and epochs: what sparse hardware could save."
# What is said of measurements, if one of these metrics was measured.
MEASURED = {
    "Training time is what it took here, of the epochs that count, over that of the dense run of the same replicate: "
    "masks save none.": (HOURS.key,),
    "Device-hours are of all sessions of all runs of a replicate, those that failed or were killed included (of one "
    "killed outright, up to its last checkpoint).": ("device_hours",),
    "Memory is the most of any session, of its first process, without those that decode images.": (
        "host_bytes",
        "device_bytes",
    ),
    "Energy is that of a whole GPU, whatever else ran there.": ("gpu_joules",),
    "Energy of processors is that of all of a machine's, whatever else ran there.": ("processors_joules",),
}


def load_efficiency(view: StoreView) -> pd.DataFrame:
    """Return a row a finished replicate: cell, replicate, and what its runs took, parents included, NaN where unknown.

    train_hours_ratio   the time of all epochs, in whichever sessions, over that of the replicate's dense run: NaN where
                        the grid has no dense cell of the same data and network, or on different kinds of devices
    delayed_share       of the time, for want of a core
    the others          of USED
    """
    references = view.plan.references()
    measured = {(replicate.cell.name, replicate.number): replicate for replicate in view.replicates()}
    times = {key: _seconds(view, replicate) for key, replicate in measured.items()}
    rows = []
    for (cell, number), (seconds, devices) in times.items():
        dense, on = times.get((references.get(cell, ""), number), (math.nan, devices))
        alike = len(devices | on) == 1
        ratio = seconds / dense if alike and dense else math.nan
        used = _used(view, measured[cell, number])
        rows.append({"cell": cell, "replicate": number, HOURS.key: ratio, **used})
    return tidy(rows, " ".join(["cell", "replicate", HOURS.key, DELAYED, *(metric.key for metric in USED)]))


def _seconds(view: StoreView, replicate: Replicate) -> tuple[float, frozenset[tuple[str, int]]]:
    """Return the seconds of all epochs of a replicate, and the devices and numbers of processes of its runs."""
    seconds, devices = math.nan, frozenset[tuple[str, int]]()
    with view.noting():
        runs = replicate.cell.all_runs(replicate.number - 1)
        devices = frozenset(device for run in runs for device in [view.device(run)])
        seconds = sum(epoch.seconds for run in runs for epoch in view.history(run))
    return seconds, devices


def _used(view: StoreView, replicate: Replicate) -> dict[str, float]:
    """Return what all sessions of a replicate used: nothing if one of its runs does not tell it all."""
    runs: list[tuple[Session, ...]] = []
    with view.noting():
        runs = [view.sessions(run) for run in replicate.cell.all_runs(replicate.number - 1)]
    sessions: list[tuple[Session, Usage]] = []
    if all(_is_known(of_run) for of_run in runs):
        sessions = [(session, session.usage) for of_run in runs for session in of_run if session.usage is not None]
    return {
        "device_hours": _total(usage.seconds * session.processes / 3600 for session, usage in sessions),
        DELAYED: _total(usage.delayed for _, usage in sessions) / max(sum(u.seconds for _, u in sessions), 1e-9),
        "host_bytes": _most(usage.host_bytes for _, usage in sessions),
        "device_bytes": _most(usage.device_bytes for _, usage in sessions),
        "gpu_joules": _total(usage.joules.get("gpu") for _, usage in sessions),
        "processors_joules": _total(usage.joules.get("processors") for _, usage in sessions),
    }


def _is_known(sessions: tuple[Session, ...]) -> bool:
    """Whether the sessions of a run say what they used; one that was killed before its first checkpoint used little."""
    said = [session.usage is not None for session in sessions]
    return any(said) and all(known or session.ended is None for known, session in zip(said, sessions, strict=True))


def _total(values: Iterable[float | None]) -> float:
    """Return the sum; NaN of nothing, and if one is not known."""
    known = list(values)
    return sum(value for value in known if value is not None) if known and None not in known else math.nan


def _most(values: Iterable[float | None]) -> float:
    return max((value for value in values if value is not None), default=math.nan)


def busy_note(used: pd.DataFrame) -> str:
    """Return a sentence on the cells whose runs other work kept from the cores; empty if there is none."""
    worst = used.groupby("cell", sort=False)[DELAYED].max()
    busy = worst[worst > MOST_DELAYED]
    if busy.empty:
        return ""
    cells = ", ".join(f"{cell} ({share:.0%})" for cell, share in busy.items())
    return f"These training times are no measurement, since other work had the cores for so much of them: {cells}."


def tables(used: pd.DataFrame, results: Results) -> Iterator[Table]:
    """Yield what every cell costs: counted, and measured where a machine told."""
    measured = [metric for metric in (HOURS, *USED) if results.replicates[metric.key].notna().any()]
    columns = (TRAIN_FLOPS, *measured, INFERENCE_FLOPS, PARAMETERS)
    keys = {metric.key for metric in measured}
    notes = [COUNTED, *(note for note, about in MEASURED.items() if keys.intersection(about))]
    yield cells_table("efficiency", "Efficiency", results, columns, (*notes, *filter(None, [busy_note(used)])))


def figures(_: pd.DataFrame, results: Results) -> Iterator[FigureEntry]:
    """Yield accuracy against cost, counted and measured."""
    cells, replicates = results.cells, results.replicates
    if replicates.empty:
        return
    what = "Test accuracy (mean over replicates, 95% Student-t interval) against"
    how = (
        "up and to the left is better. The grey steps lead along the cells that no other is both cheaper and better "
        "than. Marks that would hide another are moved aside; a cell far from all others lies at the edge, with its "
        "accuracy."
    )
    yield FigureEntry(
        "accuracy_against_cost",
        "Accuracy against training cost",
        f"{what} the training FLOPs of all members together, counted from layers, densities and epochs and divided by "
        f"those of one dense run; {how}{_reference(cells)} {describe_replicates(cells)}",
        lambda: accuracy_against(TRAIN_FLOPS, cells, replicates),
        lambda: _drawn(TRAIN_FLOPS, cells, replicates),
    )
    yield FigureEntry(
        "accuracy_against_inference",
        "Accuracy against inference cost",
        f"{what} the FLOPs of predicting one image with all members, counted from layers and densities and divided by "
        f"those of one dense network; {how}{_reference(cells)} {describe_replicates(cells)}",
        lambda: accuracy_against(INFERENCE_FLOPS, cells, replicates),
        lambda: _drawn(INFERENCE_FLOPS, cells, replicates),
    )
    times = cells.assign(**{HOURS.key: cells["cell"].map(replicates.groupby("cell")[HOURS.key].mean())})
    if (times[HOURS.key].notna() & (times["members"] > 1)).any():
        yield FigureEntry(
            "accuracy_against_time",
            "Accuracy against training time",
            f"{what} the time that training all members took here (mean over replicates), divided by that of the dense "
            f"run of the same replicate; {how} {describe_replicates(cells)}",
            lambda: accuracy_against(HOURS, times, replicates),
            lambda: _drawn(HOURS, times, replicates),
        )


def _drawn(cost: Metric, cells: pd.DataFrame, replicates: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"cost": cells[["cell", cost.key]], "replicates": replicates[["cell", "replicate", "accuracy"]]}


def _reference(cells: pd.DataFrame) -> str:
    """Return what cells are divided by of which the grid has no dense run."""
    return "".join(f" {line[:1].upper()}{line[1:]}." for line in dict.fromkeys(cells["flops_reference"]) if line)


@styled
def accuracy_against(cost: Metric, cells: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Return accuracy (mean, interval) over what an ensemble costs, relative to one dense network, each cell named.

    cells: cell, method, reference (may lack), cost.key (NaN: left out), in order; replicates: cell, accuracy (share).
    """
    chosen = looks(cells)
    by_cell = {str(cell): rows * ACCURACY.factor for cell, rows in replicates.groupby("cell")["accuracy"]}
    points = [
        Point(row["cell"], exact(row[cost.key]), estimate(by_cell.get(row["cell"], ())), chosen[row["cell"]])
        for row in cells.to_dict("records")
    ]
    points = [point for point in points if point.y.n and not math.isnan(point.x.mean)]
    figure = Figure(figsize=(WIDTH, min(3.2 + 0.14 * len(points), 6.5)))
    axes = figure.subplots()
    means = [point.y.mean for point in points]
    axes.set_xlim(0, max([1.0, *(point.x.mean for point in points)]) * 1.12)
    dense = next((point.y.mean for point in points if point.name == only_reference(cells)), None)
    ends = [end for point in points for end in (point.y.low, point.y.high)]
    axes.set_ylim(scale_of(means, ends, ACCURACY, keep=[] if dense is None else [dense]))
    axes.set_xlabel(f"{cost.head}\n← lower is cheaper")
    axes.set_ylabel(f"{ACCURACY.head}\n{ACCURACY.arrow}")
    thin(axes)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=DASHES, zorder=1.5)
    if dense is not None:
        axes.axhline(dense, color=GREY, linewidth=0.8, linestyle=DASHES, zorder=1.5)
    handles = [
        Line2D([], [], marker="o", color=GREY, linewidth=1, label="mean and 95% interval"),
        Line2D([], [], color="0.6", linewidth=2, alpha=0.6, label="no other is cheaper and better (Pareto front)"),
        Line2D([], [], color=GREY, linewidth=0.8, linestyle=DASHES, label="one dense network"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    draw_front(axes, [point.x.mean for point in points], means)
    draw_points(axes, points, heights=possible(ACCURACY))
    return figure


TOPIC = Topic(
    "efficiency",
    load_efficiency,
    metrics=(TRAIN_FLOPS, INFERENCE_FLOPS, PARAMETERS, HOURS, *USED),
    scores=lambda used: used.drop(columns=DELAYED),
    tables=tables,
    figures=figures,
    claims_note=busy_note,
    title="Cost",
)
