"""Plans to check, small enough for a test."""

from pathlib import Path

from bench.grid import load_grid
from bench.plan import Plan, make_plan
from tests.grid_text import write_grid

GRID = """
base: {data: digits, model: {name: wide_resnet, depth: 10, width: 1}, batch_size: 8, replicates: 2}
cells:
  - {name: dst, method: dst, sparsity: 0.8, recipe: {epochs: 4, update_every: 20}}
  - {name: denser dst, method: dst, sparsity: 0.5, recipe: {epochs: 4, update_every: 20}}
  - {name: dense, method: dense, recipe: {epochs: 4}}
  - {name: in bf16, method: dense, recipe: {epochs: 4}, execution: {precision: bf16}}
  - {name: pruned, method: lottery_rewinding, sparsity: 0.8, recipe: {epochs: 4}}
  - {name: gradual, method: gradual_pruning, sparsity: 0.8, topology: {distribution: uniform},
     recipe: {epochs: 4, begin_epoch: 1, end_epoch: 3, update_every: 20}}
  - {name: mimo, method: dense, members: 2, model: {ensemble: {kind: mimo, batch_repetitions: 2}}, recipe: {epochs: 4}}
"""


def plan_of(folder: Path, text: str = GRID) -> Plan:
    return make_plan(load_grid(write_grid(folder, text)), "paper", None)
