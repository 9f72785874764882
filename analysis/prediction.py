"""What predicting with an ensemble costs, as `python -m bench latency` measured it: time, and bytes of weights."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analysis.columns import Metric
from analysis.context import describe_replicates
from analysis.efficiency import HOURS, TRAIN_FLOPS
from analysis.reading import StoreView, tidy
from analysis.results import Results
from analysis.style import GREY, WIDTH, styled, thin, wrapped
from analysis.table import Table, listing_table
from analysis.topic import FigureEntry, Topic
from bench.store.latency import MANY, ONE, EnsembleLatency, Latencies, read_latencies

MILLISECONDS = Metric("milliseconds", "Latency, 1 image (ms)", 2, "lower", 1e3)
ONE_OVER_DENSE = Metric("one_over_dense", "x dense (1 image)", 2, "lower")
THROUGHPUT = Metric("images_per_second", "Images/s (256 at once)", 0, "higher")
MANY_OVER_DENSE = Metric("many_over_dense", "x dense (256 images)", 2, "lower")
FLOPS = Metric("flops", "Inference FLOPs (x one dense network)", 3, "lower")
BYTES = (
    Metric("dense_bytes", "Weights (MB)", 2, "lower", 1e-6),
    Metric("bits_bytes", "As bits and values (MB)", 2, "lower", 1e-6),
    Metric("csr_bytes", "As CSR (MB)", 2, "lower", 1e-6),
)
COLUMNS = (FLOPS, MILLISECONDS, ONE_OVER_DENSE, THROUGHPUT, MANY_OVER_DENSE, *BYTES)
MEASURED = "#0173b2"
NOTES = (
    "Of the first replicate. Members predict one after the other, or stacked into one call where that is faster, with "
    "the weights that training left, zeros included; x dense is the time over that of the dense network, timed in turn "
    "with it, as the median over rounds. FLOPs are counted: what sparse hardware could save.",
    "Weights include the parameters without masks and the statistics of normalisation. As bits and values: a bit a "
    "weight, and the weights that are kept. CSR has 32-bit indices.",
)


@dataclass(frozen=True)
class Measured:
    """One device: in words, a row a cell, and what no column says."""

    device: str
    cells: pd.DataFrame
    remarks: tuple[str, ...]


def load_prediction(view: StoreView) -> list[Measured]:
    """Return what was measured of the ensembles of this plan, by device."""
    found, problems = read_latencies(view.root)
    for problem in problems:
        view.note(problem)
    return [measured for latencies in found if not (measured := _of_plan(view, latencies)).cells.empty]


def _of_plan(view: StoreView, latencies: Latencies) -> Measured:
    by_ensemble = {(ensemble.runs, ensemble.members): ensemble for ensemble in latencies.ensembles}
    rows, kept = [], []
    for cell in view.plan.cells:
        ensemble = by_ensemble.get((cell.runs[0], cell.members))
        if ensemble is not None:
            kept.append((cell.name, ensemble))
            rows.append(
                {"cell": cell.name, "members": cell.members, FLOPS.key: cell.inference_flops_ratio, **_row(ensemble)}
            )
    columns = ["cell", "members", "way", *(metric.key for metric in COLUMNS)]
    device = f"{latencies.device_name}, {latencies.threads} CPU threads, torch {latencies.torch}"
    return Measured(device, tidy(rows, " ".join(columns)), tuple(_remarks(kept)))


def _row(ensemble: EnsembleLatency) -> dict[str, object]:
    one, many = ensemble.fastest(ONE), ensemble.fastest(MANY)
    weights = ensemble.weights
    return {
        "way": "stacked" if many.way == "stacked" else "one by one",
        MILLISECONDS.key: one.seconds,
        ONE_OVER_DENSE.key: math.nan if one.over_dense is None else one.over_dense,
        THROUGHPUT.key: many.batch / many.seconds,
        MANY_OVER_DENSE.key: math.nan if many.over_dense is None else many.over_dense,
        "dense_bytes": weights.dense,
        "bits_bytes": weights.bits,
        "csr_bytes": weights.csr,
    }


def _remarks(ensembles: list[tuple[str, EnsembleLatency]]) -> Iterator[str]:
    """Yield what is to be said of several cells at once."""
    linear = [ensemble.linear.over_dense for _, ensemble in ensembles if ensemble.linear is not None]
    if linear:
        yield (
            f"The linear layers of masked networks as sparse matrices (CSR) take {_range(linear)} times the time of "
            "dense ones. torch has no sparse convolution."
        )
    if any(ensemble.two_to_four is False for _, ensemble in ensembles):
        without = [cell for cell, ensemble in ensembles if ensemble.two_to_four]
        but = f" but those of {', '.join(without)}" if without else ""
        yield f"No masks{but} keep at most two of every four weights in a row: kernels for 2:4 sparsity do not apply."
    reasons: dict[str, list[str]] = {}
    for cell, ensemble in ensembles:
        if ensemble.unstacked and ensemble.unstacked != "a single network":
            reasons.setdefault(ensemble.unstacked, []).append(cell)
    yield from (f"Not stacked ({reason}): {', '.join(cells)}." for reason, cells in reasons.items())


def _range(values: list[float]) -> str:
    least, most = f"{min(values):.2f}", f"{max(values):.2f}"
    return least if least == most else f"{least} to {most}"


def tables(measured: list[Measured], results: Results) -> Iterator[Table]:
    """Yield what predicting costs, a table a device."""
    keys = {"cell": "Cell", "members": "Members", "way": "Members predict"}
    for number, device in enumerate(measured, start=1):
        name = "prediction" if number == 1 else f"prediction_{number}"
        yield listing_table(
            name,
            f"Predicting on {device.device}",
            device.cells,
            keys,
            COLUMNS,
            results.context,
            (*NOTES, *device.remarks),
        )


def figures(measured: list[Measured], results: Results) -> Iterator[FigureEntry]:
    """Yield costs as they are counted beside costs as they were measured."""
    costs = _costs(measured[0] if measured else None, results)
    if costs["measured"].notna().any():
        on = f" Predictions were timed on {measured[0].device}, 256 images at once." if measured else ""
        yield FigureEntry(
            "counted_and_measured",
            "Counted and measured cost",
            "FLOPs of training and of predicting over those of one dense network (hollow), and the time over that of "
            "the dense network on the same machine (filled, mean over replicates). Where they lie apart, FLOPs that "
            f"masks save were computed all the same.{on} {describe_replicates(results.cells)}",
            lambda: counted_and_measured(costs, list(results.cells["cell"])),
            lambda: {"costs": costs},
        )


def _costs(device: Measured | None, results: Results) -> pd.DataFrame:
    """Return a row a cell and kind of cost, training and prediction: its counted and its measured ratio to dense."""
    cells = results.cells["cell"]
    hours = cells.map(results.replicates.groupby("cell")[HOURS.key].mean())
    times = device.cells.set_index("cell")[MANY_OVER_DENSE.key] if device else pd.Series(dtype=float)
    kinds = {
        "training": (results.cells[TRAIN_FLOPS.key], hours),
        "prediction": (results.cells["inference_flops_ratio"], cells.map(times)),
    }
    frames = [
        pd.DataFrame({"cell": cells, "cost": kind, "counted": counted, "measured": measured})
        for kind, (counted, measured) in kinds.items()
    ]
    return pd.concat(frames, ignore_index=True)


@styled
def counted_and_measured(costs: pd.DataFrame, cells: list[str]) -> Figure:
    """Return a row a cell: its counted and its measured costs over those of one dense network.

    costs: cell, cost (training, prediction), counted, measured (NaN: unknown).
    """
    kinds = [
        kind for kind in dict.fromkeys(costs["cost"]) if costs.loc[costs["cost"] == kind, "measured"].notna().any()
    ]
    figure = Figure(figsize=(WIDTH, 1.0 + 0.24 * len(cells)))
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    rows = {cell: row for row, cell in enumerate(cells)}
    for axes, kind in zip(panels, kinds, strict=True):
        axes.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        for cost in costs[costs["cost"] == kind].to_dict("records"):
            row = rows[cost["cell"]]
            axes.plot([cost["counted"], cost["measured"]], [row, row], color="0.7", linewidth=2, zorder=1)
            axes.plot(cost["counted"], row, "o", color=MEASURED, markerfacecolor="white", markersize=6)
            axes.plot(cost["measured"], row, "o", color=MEASURED, markersize=6)
        axes.set_xlim(left=0)
        axes.set_title(kind.capitalize())
        axes.set_xlabel("x one dense network")
        thin(axes, "x")
    panels[0].set_yticks(list(rows.values()), [wrapped(cell, 30) for cell in cells])
    panels[0].set_ylim(len(cells) - 0.5, -0.5)
    panels[0].plot([], [], "o", color=MEASURED, markerfacecolor="white", label="FLOPs, counted")
    panels[0].plot([], [], "o", color=MEASURED, label="time, measured")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


TOPIC = Topic("prediction", load_prediction, tables=tables, figures=figures, title="Measured cost")
