"""A method and a network that live outside the repository, from a grid to logits."""

from pathlib import Path

import numpy as np
import pytest

from bench.grid import load_grid
from bench.plan import make_plan, work_of
from bench.store.logits import StoredLogits
from bench.store.store import Store
from tests.training.runs import do

MODULE = """
import torch
from torch import nn

from bench.spec.phases import Inherit, LearningRate, Phase, Prune, TicketPolicy
from bench.recipes import RecipeWithParent


def tiny_net(classes: int, width: int = 4, channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=4, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * width, classes),
    )


def warm(setting, *, epochs: int = 3):
    rate = LearningRate(values=(setting.learning_rate,))
    return (Phase(name="warm", epochs=epochs, lr=rate, ticket=TicketPolicy(select="last")),)


def warm_then_prune(setting, *, epochs: int = 2):
    start = (Inherit(weights="ticket"), Prune())
    (phase,) = warm(setting, epochs=epochs)
    return RecipeWithParent(phases=(phase.model_copy(update={"on_start": start}),), parent=warm(setting))
"""
GRID = """
replicates: 1
base:
  data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}
  model: {name: "my_lab:tiny_net", width: 8}
  optimizer: {learning_rate: 0.02}
  batch_size: 32
cells:
  - {name: warm, method: "my_lab:warm"}
  - {name: pruned, method: "my_lab:warm_then_prune", sparsity: 0.5}
  - {name: dst, method: dst, sparsity: 0.5, recipe: {epochs: 4, update_every: 2}}
  - {name: ensemble, method: "my_lab:warm", members: 2, model: {ensemble: {kind: batch_ensemble}}}
  - {name: two in one, method: "my_lab:warm", members: 2, model: {ensemble: {kind: mimo, batch_repetitions: 2}}}
"""


def test_a_method_and_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID)
    store = Store(tmp_path / "results")
    plan = make_plan(load_grid(grid), "paper", store)
    # 8 kernels of 27 weights on 8 x 8 positions (32 to 8: (32 - 3) // 4 + 1), and 512 x 10 weights
    assert plan.runs[0].train_flops == 3 * 64 * 3 * 2 * (8 * 27 * 64 + 5120)
    assert do(work_of(plan, plan.runs), store) == 0
    shapes = {
        cell.name: [StoredLogits.of_run(store.run(run)).logits("test")[0].shape for run in cell.runs[0]]
        for cell in plan.cells
    }
    assert shapes == {
        "warm": [(1, 32, 10)],
        "pruned": [(1, 32, 10)],
        "dst": [(1, 32, 10)],
        "ensemble": [(2, 32, 10)],
        "two in one": [(2, 32, 10)],
    }
    by_name = {cell.name: cell for cell in plan.cells}
    assert by_name["pruned"].parents == by_name["warm"].runs  # the parent is the very run of the first cell
    pruned, parent = (store.run(by_name[name].runs[0][0]) for name in ("pruned", "warm"))
    masks = pruned.masks(0)
    assert sum(int(mask.sum()) for mask in masks.values()) == round(0.5 * (8 * 27 + 5120))
    magnitudes = np.concatenate([np.abs(parent.ticket(0)[name]).ravel() for name in masks])
    kept = np.concatenate([mask.ravel() for mask in masks.values()])
    assert magnitudes[kept].min() >= magnitudes[~kept].max()


def test_a_network_without_residual_blocks_can_not_be_cut_into_trunk_and_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_lab.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.replace("kind: mimo, batch_repetitions: 2", "kind: tree_net, head_blocks: 1"))
    with pytest.raises(Exception, match=r"my_lab:tiny_net can ?not be tree_net; allowed: .*batch_ensemble"):
        load_grid(grid)
