"""Costs are those of the plan, in frames and as they are drawn."""

import math
import re
from types import SimpleNamespace

import pytest

from analysis.efficiency import HOURS, USED, accuracy_against, busy_note, load_efficiency, tables
from analysis.formats import to_markdown
from analysis.reading import StoreView
from bench.errors import UserError
from bench.store.records import Session, Usage
from bench.store.run_folder import RunFolder
from tests.analysis.drawing import means
from tests.analysis.stores import of
from tests.analysis.synthetic import fill


def test_cells_carry_what_the_plan_knows(loaded):
    for cell, row in zip(loaded.plan.cells, loaded.results.cells.to_dict("records"), strict=True):
        assert row["train_flops_ratio"] == cell.train_flops_ratio
        assert row["runs"] == len({run for runs in cell.runs for run in runs})
        assert row["parameters_ratio"] == pytest.approx(cell.members * (1 - cell.sparsity))


def test_accuracy_stands_over_the_cost_of_the_plan(loaded, drawn):
    axes = drawn["accuracy_against_cost"][1].axes[0]
    expected = [
        (row["train_flops_ratio"], 100 * of(loaded.results.replicates, cell=row["cell"])["accuracy"].mean())
        for row in loaded.results.cells.to_dict("records")
    ]
    assert means(axes) == [pytest.approx(point) for point in expected]


def test_every_cell_is_named_beside_its_mark(loaded, drawn):
    axes = drawn["accuracy_against_cost"][1].axes[0]
    assert sorted(text.get_text() for text in axes.texts) == sorted(loaded.results.cells["cell"])


def session(seconds=None, processes=1, ended="2026-01-01T00:00:00Z", **used):
    usage = None if seconds is None else Usage(seconds=seconds, **used)
    return SimpleNamespace(usage=usage, processes=processes, ended=ended)


SESSIONS = (
    session(1800, processes=2, host_bytes=2_000, device_bytes=None, joules={"processors": 36.0}),
    session(None, ended=None),  # killed before its first checkpoint
    session(3600, host_bytes=3_000, device_bytes=500, joules={"processors": 4.0, "gpu": 7.0}),
)


replicates = StoreView.replicates


def used(loaded, full, sessions, monkeypatch):
    """Return what a replicate of two runs took whose sessions are these, by metric."""
    monkeypatch.setattr(StoreView, "sessions", lambda *_: sessions)
    view = StoreView(loaded.plan, full)
    frame = load_efficiency(view)
    cell = next(cell for cell in loaded.plan.cells if len(cell.all_runs(0)) == 2)
    return of(frame, cell=cell.name, replicate=1).iloc[0], view


def test_what_all_sessions_of_all_runs_used_is_counted(loaded, full, monkeypatch):
    row, _ = used(loaded, full, SESSIONS, monkeypatch)
    assert row["device_hours"] == 2 * (2 * 0.5 + 1)
    assert (row["host_bytes"], row["device_bytes"]) == (3_000, 500)
    assert row["processors_joules"] == 2 * 40
    assert math.isnan(row["gpu_joules"])  # of one session it is not known


def test_what_is_not_known_is_absent(loaded, full, monkeypatch):
    row, _ = used(loaded, full, (session(None),), monkeypatch)
    assert all(math.isnan(row[metric.key]) for metric in USED)


@pytest.mark.parametrize(
    "other", [(), (session(None),), (session(None, ended=None),), (*SESSIONS, session(None)), "damaged"]
)
def test_a_sum_is_of_all_runs_or_absent(other, loaded, full, monkeypatch):
    """An earlier version did not count, and provenance may be lost: a part is not shown as the whole."""
    seen = []

    def sessions(_, run):
        seen.append(run)
        if len(seen) % 2:
            return SESSIONS
        if other == "damaged":
            raise UserError(f"runs/{run}/provenance.json: altered")
        return other

    cell = next(cell for cell in loaded.plan.cells if len(cell.all_runs(0)) == 2)
    monkeypatch.setattr(StoreView, "sessions", sessions)
    monkeypatch.setattr(StoreView, "replicates", lambda view: (r for r in replicates(view) if r.cell.name == cell.name))
    row = load_efficiency(StoreView(loaded.plan, full)).iloc[0]
    assert len(seen) >= 2
    assert all(math.isnan(row[metric.key]) for metric in USED)


def test_damaged_provenance_is_named_and_costs_no_other_number(loaded, full, monkeypatch):
    def damaged(_, run):
        raise UserError(f"runs/{run}/provenance.json: altered")

    monkeypatch.setattr(StoreView, "sessions", damaged)
    view = StoreView(loaded.plan, full)
    frame = load_efficiency(view)
    assert frame["device_hours"].isna().all()
    assert frame[HOURS.key].notna().any()
    assert "provenance.json: altered" in view.problems[0]


def test_the_table_has_a_column_for_what_was_measured(loaded):
    def head(**columns):
        results = SimpleNamespace(
            **{name: getattr(loaded.results, name) for name in ("context", "cells", "metrics", "published")},
            replicates=loaded.results.replicates.assign(**columns),
        )
        (table,) = tables(loaded.numbers("efficiency"), results)
        return table.head, table

    without, _ = head()
    assert "Training FLOPs (x one dense run)" in without
    assert not {metric.head for metric in USED} & set(without)
    names, table = head(processors_joules=7.2e6, device_hours=3.0)
    assert set(names) - set(without) == {"Device-hours", "Processor energy (kWh)"}
    column = names.index("Processor energy (kWh)")
    assert {row[column][:5] for row in table.rows if row[column]} == {"2.000"}


FACTS = {
    "host": "h", "pid": 1, "job": None, "command": (), "git": None, "python": "3", "versions": {}, "cuda": None,
    "cudnn": None, "device": "cuda", "device_name": "d", "cpu_threads": 1, "deterministic": False,
}  # fmt: skip


@pytest.mark.parametrize(("source", "other"), [("gpu", "processor"), ("processors", "gpu"), (None, None)])
def test_energy_is_spoken_of_where_it_was_measured_and_nowhere_else(plan, store, read, monkeypatch, source, other):
    used = Usage(seconds=36.0, joules={source: 1.8e6} if source else {})
    session = Session(started="2026-01-02T03:04:05", ended="2026-01-02T03:05:35", usage=used, **FACTS)
    write = RunFolder.write_provenance
    monkeypatch.setattr(RunFolder, "write_provenance", lambda folder, _: write(folder, (session,)))
    fill(store, plan)
    loaded = read()
    assert loaded.problems == ()
    (table,) = tables(loaded.numbers("efficiency"), loaded.results)
    heads = [head for head in table.head if "energy" in head]
    text = f"{to_markdown(table, loaded.results.context)} {loaded.findings().work.spent}"
    if source is None:
        assert not heads
        assert not re.search("energy|kWh", text, re.IGNORECASE)
        return
    assert [head.split()[0].lower() for head in heads] == [source.removesuffix("s")]
    # Half a kilowatt-hour a run, the runs of parents included.
    shown = {row[0]: row[table.head.index(heads[0])].split()[0] for row in table.rows}
    assert shown == {cell.name: f"{len(cell.all_runs(0)) * 0.5:.3f}" for cell in loaded.plan.cells}
    assert f"{len(plan.runs) * 0.5:.2f} kWh of" in text
    assert re.search("Energy (of processors )?is that of", text)
    assert other not in text.lower()


def test_accuracy_stands_over_measured_time_where_there_is_one(loaded):
    cells = loaded.results.cells.assign(train_hours_ratio=[math.nan, *range(1, len(loaded.results.cells))])
    axes = accuracy_against(HOURS, cells, loaded.results.replicates).axes[0]
    shown = [row for row in cells.to_dict("records")[1:] if len(of(loaded.results.replicates, cell=row["cell"]))]
    assert [x for x, _ in means(axes)] == [row["train_hours_ratio"] for row in shown]
    assert axes.get_xlabel().startswith("Training time (x one dense run)")


def test_times_of_a_busy_machine_are_called_no_measurement(loaded, full, monkeypatch):
    row, view = used(loaded, full, (session(100, delayed=1.0), session(50, delayed=29.0)), monkeypatch)
    assert row["delayed_share"] == pytest.approx(30 / 150)
    frame = load_efficiency(view)
    note = busy_note(frame)
    assert "no measurement" in note
    assert f"{row['cell']} (20%)" in note
    (table,) = tables(frame, loaded.results)
    assert note in table.notes
    _, view = used(loaded, full, (session(100, delayed=1.0),), monkeypatch)
    assert busy_note(load_efficiency(view)) == ""


def test_where_waiting_is_not_counted_nothing_is_said_of_it(loaded, full, monkeypatch):
    _, view = used(loaded, full, SESSIONS, monkeypatch)
    assert busy_note(load_efficiency(view)) == ""
