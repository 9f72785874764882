"""What a history says of a run that learns nothing, whose weights never moved, or that lost a layer."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.models.wide_resnet import WideResNet
from bench.recipes import RecipeWithParent, Setting
from bench.recipes.pruning import lottery_rewinding, prune_finetune
from bench.sparsity.network import SparseWeights, full_masks
from bench.spec.phases import GradualPruning, LearningRate, Phase, Prune, TicketPolicy
from bench.spec.run import ModelSpec, RunSpec
from bench.store.store import Store
from bench.training.remarks import UNMOVED, at_chance, connected, without_weight
from bench.work.readiness import StoreView
from tests.training.runs import child_spec, dense_spec, do, run_spec, with_parent

SETTING = Setting(members=1, learning_rate=0.05)


def plain(classes: int) -> nn.Module:
    """Return a network whose layers are all on the only path."""
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8, classes))


PLAIN = ModelSpec(name="tests.training.test_remarks:plain")


def lines(*losses: float) -> list[dict[str, Any]]:
    return [{"train_loss": loss} for loss in losses]


def test_a_tenth_of_the_epochs_at_chance_is_said_once() -> None:
    spec = dense_spec(epochs=30)
    losses = [2.2, 2.31, 2.29, 2.335, 2.335]
    found = [at_chance(spec, lines(*losses[:epoch]), 2.3026) for epoch in range(1, 6)]
    assert found == [None, None, None, "at chance for 3 epochs: a training loss of 2.335, and guessing has 2.303", None]
    assert at_chance(dense_spec(epochs=4), lines(2.4), 2.3026) is None  # two at least
    assert at_chance(dense_spec(epochs=4), lines(2.4, 2.4), 2.3026) is not None


def history(store: Store, spec: RunSpec) -> list[tuple[str, ...]]:
    return [line.warnings for line in store.run(spec.run_id).history()]


@pytest.mark.parametrize("child", [False, True], ids=["of its seed", "of its parent"])
def test_a_run_whose_weights_never_moved_says_so_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, child: bool
) -> None:
    store = Store(tmp_path)
    spec = dense_spec(learning_rate=1e-30)
    if child:
        lineage = prune_finetune(SETTING, epochs=2, learning_rate_factor=1e-30, dense_epochs=3)
        spec = child_spec(lineage)
    with caplog.at_level(logging.WARNING):
        assert do(with_parent(spec), store) == 0
    assert history(store, spec)[-1] == (UNMOVED,)
    assert UNMOVED in store.run(spec.run_id).result().warnings
    assert StoreView(store).warnings(spec) == store.run(spec.run_id).result().warnings
    assert any(UNMOVED in r.message for r in caplog.records if r.name == "bench.work.summary")
    if not child:
        assert history(store, spec)[1][0].startswith("at chance for 2 epochs: a training loss of 2.")


def test_a_run_that_learns_says_nothing(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), child_spec(lottery_rewinding(SETTING, epochs=3), density=0.5)
    assert do(with_parent(spec), store) == 0
    assert store.run(spec.run_id).result().warnings == ()
    assert history(store, spec) == [(), (), ()]


@pytest.mark.parametrize(
    "lineage",
    [prune_finetune(SETTING, epochs=2, dense_epochs=12), lottery_rewinding(SETTING, epochs=12)],
    ids=["prune_finetune", "lottery_rewinding"],
)
def test_layers_that_pruning_leaves_without_a_weight_are_said(tmp_path: Path, lineage: RecipeWithParent) -> None:
    """Of a Wide ResNet's residual branches some are empty, and the others lead on."""
    store, spec = Store(tmp_path), child_spec(lineage, density=0.01)
    assert do(with_parent(spec), store) == 0
    masks = store.run(spec.run_id).masks(0)
    empty = [name for name, mask in masks.items() if not mask.any()]
    assert empty
    (first, *later) = history(store, spec)
    (said,) = [warning for warning in first if warning.startswith("no weight is left in ")]
    assert set(said.removeprefix("no weight is left in ").split(", ")) == set(empty)
    assert not any(said in warnings for warnings in later)
    assert said in store.run(spec.run_id).result().warnings


@pytest.mark.parametrize("gradual", [False, True], ids=["at once", "gradually"])
def test_a_network_that_is_cut_in_two_fails_with_the_reason(tmp_path: Path, gradual: bool) -> None:
    rate = LearningRate(values=(0.05,))
    phase = Phase(name="train", epochs=3, lr=rate, ticket=TicketPolicy())
    prune = {"pruning": GradualPruning(every=2, begin=0, end=2)} if gradual else {"on_start": (Prune(),)}
    (finetune,) = (phase.model_copy(update=prune),)
    spec = run_spec((finetune,), density=0.002, distribution="global", model=PLAIN)
    store = Store(tmp_path)
    assert do([spec], store) == 1
    error = store.run(spec.run_id).error()
    assert error is not None
    assert error.type == "CutOffError"
    assert "no weight is left in " in error.message
    assert error.message.endswith("and its output no longer depends on its images; lower the sparsity")


def test_only_a_layer_on_every_path_cuts_a_network_off() -> None:
    network = WideResNet(10, 1, 10)
    masks = full_masks(network)

    def empty(name: str) -> None:
        masks[name].zero_()
        SparseWeights(network, masks)

    network.train()
    empty("block1.0.conv1.weight")
    assert connected(network, masks, 32)
    assert network.training
    with torch.no_grad():
        network.fc.weight.zero_()  # as some begin
    assert connected(network, masks, 32)
    empty("conv1.weight")
    assert not connected(network, masks, 32)


def test_layers_without_a_weight_are_listed() -> None:
    assert without_weight({"a": 1, "b": 0, "c": 0}) == "no weight is left in b, c"
    assert without_weight({"a": 1}) is None
