"""What a plan says about its cells: where measured time and counted FLOPs lie apart."""

from pathlib import Path

import pytest

from bench.plan import make_plan
from bench.plan.remarks import slower_than_counted
from bench.store.store import Store
from tests.grid_text import load_text
from tests.plan.test_cost import measured

GRID = """
base: {data: cifar10, model: {depth: 10, width: 1}}
cells:
  - {name: dense, method: dense}
  - {name: dense ensemble, method: dense, members: 2}
  - {name: EDST, method: edst, members: 3, sparsity: 0.8}
  - {name: other, method: dst, sparsity: 0.8, model: {depth: 16}}
"""


def test_cells_that_take_more_time_than_their_flops_say_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, store = load_text(tmp_path, GRID), Store(tmp_path / "results")
    store.root.mkdir()
    assert slower_than_counted(make_plan(grid, "paper", store)) == []  # all of it is assumed
    spec = next(cell.spec for cell in grid.cells if cell.name == "dense")
    monkeypatch.setattr(Store, "throughputs", lambda _: [measured(spec, "cpu", 100.0)])
    plan = make_plan(grid, "paper", store)
    (line,) = slower_than_counted(plan)
    edst = next(cell for cell in plan.cells if cell.name == "EDST")
    # 450 epochs for 250, at the same speed
    assert line.endswith(f"in dense runs: EDST ({edst.train_flops_ratio:.2f} of FLOPs, 1.80 of time)")
