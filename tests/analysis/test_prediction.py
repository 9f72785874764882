"""What predicting costs is read from what `bench latency` kept, for the ensembles of the plan, and drawn as it is."""

import pytest

from analysis.prediction import MANY_OVER_DENSE, MILLISECONDS, THROUGHPUT, figures, load_prediction, tables
from analysis.reading import StoreView
from bench.store.latency import (
    MANY,
    ONE,
    EnsembleLatency,
    Latencies,
    PredictionTime,
    SparseLinear,
    WeightBytes,
    write_latencies,
)

TIMES = (
    PredictionTime(batch=ONE, way="one after the other", seconds=0.002, over_dense=2.0),
    PredictionTime(batch=ONE, way="stacked", seconds=0.004, over_dense=4.0),
    PredictionTime(batch=MANY, way="one after the other", seconds=0.5, over_dense=3.0),
    PredictionTime(batch=MANY, way="stacked", seconds=0.25, over_dense=1.5),
)


def latency_of(cell, runs, **changes):
    facts = {
        "cell": cell.name,
        "runs": runs,
        "members": cell.members,
        "taken": "now",
        "precision": "fp32",
        "times": TIMES,
        "unstacked": "",
        "weights": WeightBytes(dense=4_000_000, bits=1_000_000, csr=2_000_000),
        "two_to_four": False,
        "linear": SparseLinear(layers=1, batch=MANY, over_dense=1.25),
    }
    return EnsembleLatency(**{**facts, **changes})


def kept(store, *ensembles, device="a chip"):
    return write_latencies(store.root, Latencies(device_name=device, threads=2, torch="2.0", ensembles=ensembles))


@pytest.fixture
def measured(loaded, full):
    first, second = loaded.plan.cells[0], loaded.plan.cells[1]
    kept(full, latency_of(first, first.runs[0]), latency_of(second, ("0" * 16,), unstacked="torch cannot: why"))
    return load_prediction(StoreView(loaded.plan, full))


def test_an_ensemble_has_the_times_of_its_faster_way(loaded, measured):
    (device,) = measured
    assert device.device == "a chip, 2 CPU threads, torch 2.0"
    (row,) = device.cells.to_dict("records")  # the other ensemble is of no replicate of this plan
    assert (row["cell"], row["way"]) == (loaded.plan.cells[0].name, "stacked")
    assert row[MILLISECONDS.key] == 0.002
    assert row[THROUGHPUT.key] == MANY / 0.25
    assert row[MANY_OVER_DENSE.key] == 1.5


def test_the_table_says_what_no_column_does(loaded, measured):
    (table,) = tables(measured, loaded.results)
    assert table.rows[0][3:] == (
        f"{loaded.plan.cells[0].inference_flops_ratio:.3f}",
        "2.00",
        "2.00",
        "1024",
        "1.50",
        "4.00",
        "1.00",
        "2.00",
    )
    notes = " ".join(table.notes)
    assert "(CSR) take 1.25 times" in notes
    assert "kernels for 2:4 sparsity do not apply" in notes
    assert "torch cannot" not in notes  # of the other plan


def test_each_device_has_its_table(loaded, full):
    cell = loaded.plan.cells[0]
    kept(full, latency_of(cell, cell.runs[0]))
    kept(full, latency_of(cell, cell.runs[0]), device="another")
    found = list(tables(load_prediction(StoreView(loaded.plan, full)), loaded.results))
    assert [table.title for table in found] == [
        "Predicting on a chip, 2 CPU threads, torch 2.0",
        "Predicting on another, 2 CPU threads, torch 2.0",
    ]
    assert len({table.name for table in found}) == 2


def test_counted_stands_beside_measured(loaded, measured):
    entry = next(iter(figures(measured, loaded.results)))
    costs = entry.numbers()["costs"]
    cell = loaded.plan.cells[0]
    (row,) = costs[(costs["cell"] == cell.name) & (costs["cost"] == "prediction")].to_dict("records")
    assert (row["counted"], row["measured"]) == (cell.inference_flops_ratio, 1.5)
    axes = entry.draw().axes
    drawn = {axis.get_title(): [line for line in axis.lines if line.get_marker() == "o"] for axis in axes}
    dots = drawn["Prediction"]
    assert (dots[0].get_xdata()[0], dots[0].get_markerfacecolor()) == (cell.inference_flops_ratio, "white")
    assert dots[1].get_xdata()[0] == 1.5
    assert [label.get_text().replace("\n", " ") for label in axes[0].get_yticklabels()] == [
        cell.name for cell in loaded.plan.cells
    ]


def test_damage_is_a_problem_of_the_report(loaded, full):
    path = kept(full)
    path.write_text("[]")
    view = StoreView(loaded.plan, full)
    assert load_prediction(view) == []
    assert path.name in view.problems[0]


def test_nothing_measured_is_no_table(loaded, full):
    assert list(tables(load_prediction(StoreView(loaded.plan, full)), loaded.results)) == []
