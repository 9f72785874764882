"""The main table says what its numbers leave out, and what the runs behind them warn of."""

from pathlib import Path

from analysis.loading import load
from analysis.overview import main_table
from bench.grid import load_grid
from bench.plan import make_plan, work_of
from bench.store.store import Store
from tests.training.runs import do

GRID = """
replicates: 1
base: {data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}, batch_size: 32, method: dense}
cells:
  - {name: still, model: {name: "tests.models.networks:Bare"}, optimizer: {learning_rate: 1.0e-30}, recipe: {epochs: 3}}
"""


def test_uncounted_operations_and_warnings_of_runs_are_notes(tmp_path: Path) -> None:
    grid, store = tmp_path / "grid.yaml", Store(tmp_path / "results")
    grid.write_text(GRID)
    plan = make_plan(load_grid(grid), "paper", store)
    assert do(work_of(plan, plan.runs), store) == 0
    notes = main_table(load(grid, store.root, "paper").results).notes
    uncounted = "pair.weight, token.weight, aten._trilinear"
    assert f"The FLOPs of tests.models.networks:Bare do not count {uncounted}." in notes
    (warning,) = [note for note in notes if note.startswith("still: ")]
    assert warning.startswith(f"still: run {plan.runs[0].id[:8]}: at chance for 2 epochs: a training loss of ")
    assert warning.endswith("; no weight differs from its initial value.")
