"""Methods that start from other runs, prune, or cycle, each against what it must be, worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.augment import DeviceImages
from bench.data.catalog import DATASETS
from bench.recipes import RecipeWithParent, Setting
from bench.recipes.alternating import acdc
from bench.recipes.cyclic import fge, fge_dst, snapshot, snapshot_dst
from bench.recipes.dynamic import edst, superposed_edst
from bench.recipes.fixed import dense
from bench.recipes.pruning import gradual_pruning, lottery_rewinding, prune_finetune
from bench.sparsity.maskable import maskable_weights
from bench.spec.phases import Phase
from bench.spec.run import Optimizer, RunSpec
from bench.training.trainer import Trainer
from bench.training.weights import Ticket
from tests.training.runs import (
    CPU,
    DATA,
    MemoryParent,
    MemoryWriter,
    child_spec,
    make_trainer,
    nothing,
    run_spec,
    split,
)

SETTING = Setting(members=2, learning_rate=0.05)
STEPS = 4  # an epoch of 120 images in batches of 32


def trained(spec: RunSpec, parent: MemoryParent | None = None) -> tuple[Trainer, MemoryWriter]:
    writer = MemoryWriter({})
    trainer = make_trainer(spec, parent=parent, writer=writer)
    while not trainer.finished:
        trainer.train_epoch(nothing)
    return trainer, writer


def family(recipe: RecipeWithParent, **changes: Any) -> tuple[RunSpec, MemoryWriter]:
    """Train the parent; return the child's spec and what the parent left."""
    spec = child_spec(recipe, **changes)
    assert spec.parent is not None
    return spec, trained(spec.parent)[1]


def largest_globally(ticket: Ticket, names: list[str], density: float) -> dict[str, Tensor]:
    """Return masks of the largest magnitudes over all layers, by sorting."""
    flat = np.concatenate([ticket[name].abs().flatten().numpy() for name in names])
    chosen = np.zeros(flat.size, dtype=bool)
    chosen[np.argsort(-flat, kind="stable")[: round(density * flat.size)]] = True
    masks, start = {}, 0
    for name in names:
        size = ticket[name].numel()
        masks[name] = torch.from_numpy(chosen[start : start + size]).view(ticket[name].shape)
        start += size
    return masks


def test_prune_finetune_starts_from_the_largest_weights_of_its_parents_ticket() -> None:
    spec, parent = family(prune_finetune(SETTING, epochs=2, dense_epochs=3))
    trainer = make_trainer(spec, parent=MemoryParent(parent))
    names = list(maskable_weights(trainer.model))
    masks = largest_globally(parent.by_index[0], names, 0.2)
    start = trainer.snapshot()
    for name, tensor in parent.by_index[0].items():
        expected = tensor * masks[name] if name in masks else tensor
        assert torch.equal(start[name], expected), name
    _, own = trained(spec, MemoryParent(parent))
    for name in names:
        assert torch.equal(own.by_index[0][f"mask/{name}"], masks[name])  # fixed while finetuning
    assert {line["lr"] for line in trained(spec, MemoryParent(parent))[0].at.history} == {0.0005}


def test_rewound_weights_are_the_stored_early_ones_bit_for_bit_under_the_mask_of_the_trained_ones() -> None:
    spec, parent = family(lottery_rewinding(SETTING, epochs=4, rewind_epoch=2))
    trainer = make_trainer(spec, parent=MemoryParent(parent))
    names = list(maskable_weights(trainer.model))
    masks = largest_globally(parent.by_index[0], names, 0.2)
    start = trainer.snapshot()
    for name, early in parent.early[0].items():
        expected = early * masks[name] if name in masks else early
        assert torch.equal(start[name], expected), name
    assert not torch.equal(parent.early[0][names[0]], parent.by_index[0][names[0]])


def test_the_kept_weights_are_those_of_the_epoch_asked_for() -> None:
    spec = run_spec(dense(SETTING, epochs=4, rewind_epoch=2), density=None)
    writer = MemoryWriter({})
    trainer = make_trainer(spec, writer=writer)
    states = []
    while not trainer.finished:
        trainer.train_epoch(nothing)
        states.append(trainer.snapshot())
    assert list(writer.early) == [0]
    assert all(torch.equal(states[1][name], tensor) for name, tensor in writer.early[0].items())


def test_keeping_early_weights_changes_no_number_of_the_run() -> None:
    keeping = dense(SETTING, epochs=3, rewind_epoch=1)
    plain = tuple(phase.model_copy(update={"keep": ()}) for phase in keeping)
    first, second = (trained(run_spec(phases, density=None))[1].by_index[0] for phases in (keeping, plain))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_gradual_pruning_follows_the_cubic_schedule_and_its_ticket_has_the_density_asked_for() -> None:
    phases = gradual_pruning(SETTING, epochs=8, begin_epoch=1, end_epoch=6, update_every=5)
    trainer, writer = trained(run_spec(phases, density=0.2, distribution="uniform"))
    updates = [update for line in trainer.at.history for update in line["updates"]]
    # from step 4 to step 24, every 5 steps after the first, and at the last
    assert [update["step"] for update in updates] == [9, 14, 19, 24]
    sparsity = [0.8 * (1 - (1 - (step - 4) / 20) ** 3) for step in (9, 14, 19, 24)]
    assert [1 - update["density"] for update in updates] == pytest.approx(sparsity, abs=1e-3)
    assert trainer.at.history[0]["density"] == 1
    (ticket,) = trainer.at.tickets
    assert ticket["epoch"] > 6
    masks = [tensor for name, tensor in writer.by_index[0].items() if name.startswith("mask/")]
    share = sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    assert share == pytest.approx(0.2, abs=1e-4)


def test_acdc_alternates_between_all_weights_and_the_density_asked_for() -> None:
    phases = acdc(SETTING, epochs=8, first_dense_epochs=2, alternation_epochs=1)
    trainer, writer = trained(run_spec(phases, density=0.2, distribution="global"))
    densities = [line["density"] for line in trainer.at.history]
    assert densities == pytest.approx([1, 1, 0.2, 1, 0.2, 1, 0.2, 0.2], abs=1e-4)
    updates = [update for line in trainer.at.history for update in line["updates"]]
    assert [(update["kind"], update["step"] // STEPS) for update in updates] == [
        *[("prune", 2), ("densify", 3), ("prune", 4), ("densify", 5), ("prune", 6)]
    ]
    assert [update["grown"] for update in updates[1::2]] == [update["dropped"] for update in updates[0:3:2]]
    (ticket,) = trainer.at.tickets
    assert ticket["epoch"] > 6
    masks = [tensor for name, tensor in writer.by_index[0].items() if name.startswith("mask/")]
    assert sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks) == pytest.approx(0.2, abs=1e-4)


def test_revived_weights_and_their_momenta_start_at_zero_and_then_move() -> None:
    trainer = make_trainer(run_spec(acdc(SETTING, epochs=4, first_dense_epochs=1, alternation_epochs=1), density=0.2))
    trainer.train_epoch(nothing)
    pruned = {name: ~mask for name, mask in trainer.snapshot().items() if name.startswith("mask/")}
    trainer.train_epoch(nothing)  # under masks, and at its end all weights are active again
    names = [name for name, _ in trainer.model.named_parameters()]  # torch numbers them in this order
    momenta = trainer.state_dict()["optimizer"]["state"]
    weights = trainer.snapshot()
    for mask, revived in pruned.items():
        name = mask.removeprefix("mask/")
        momentum = momenta[names.index(name)]["momentum_buffer"]
        assert weights[mask].all()
        assert not weights[name][revived].any()
        assert not momentum[revived].any()
        assert momentum[~revived].any()
    moved = []

    def look() -> None:
        now = trainer.model.state_dict()
        moved.append(
            [bool(now[mask.removeprefix("mask/")][where].any()) for mask, where in pruned.items() if where.any()]
        )

    trainer.train_epoch(look)
    assert all(moved[0])


def test_a_superposed_network_is_the_pruned_mean_of_the_tickets_with_batch_norm_estimated_anew() -> None:
    recipe = {"exploration_epochs": 2, "refinement_epochs": 2, "update_every": 3}
    superposed = superposed_edst(SETTING, tickets=2, **recipe)
    parent_spec = run_spec(superposed.parent, density=0.2)
    assert parent_spec.phases == edst(SETTING, tickets=2, **recipe)  # the very run of an EDST cell
    spec = run_spec(superposed.phases, density=0.2, distribution="global", parent=parent_spec)
    _, parent = trained(parent_spec)
    trainer, own = trained(spec, MemoryParent(parent))
    names = list(maskable_weights(trainer.model))
    mean = {name: (parent.by_index[0][name] + parent.by_index[1][name]) / 2 for name in parent.by_index[0]}
    masks = largest_globally(mean, names, 0.2)
    ticket = own.by_index[0]
    for name, tensor in ticket.items():
        if name in masks:
            assert torch.equal(tensor, mean[name] * masks[name])
            assert torch.equal(ticket[f"mask/{name}"], masks[name])
        elif "running" in name:
            assert not torch.equal(tensor, mean[name]), name
        elif not name.startswith("mask/") and "num_batches" not in name:
            assert torch.equal(tensor, mean[name]), name  # no weight moves at a learning rate of 0


def test_a_run_that_inherits_needs_a_parent_and_no_other_may_have_one() -> None:
    inheriting = lottery_rewinding(SETTING, epochs=3).phases
    with pytest.raises(ValueError, match="needs a parent"):
        run_spec(inheriting, density=0.2, distribution="global")
    plain = run_spec(dense(SETTING, epochs=3), density=None)
    with pytest.raises(ValueError, match="no other recipe has one"):
        run_spec(dense(SETTING, epochs=3), density=None, parent=plain)
    without = tuple(phase.model_copy(update={"keep": ()}) for phase in dense(SETTING, epochs=3))
    with pytest.raises(ValueError, match="writes no rewind checkpoint"):
        child_spec(RecipeWithParent(phases=inheriting, parent=without))


def rates(phase: Phase) -> list[float]:
    return [phase.lr.at(step, STEPS, phase.epochs) for step in range(STEPS * phase.epochs)]


def test_a_snapshot_cycle_falls_on_a_cosine_and_ends_at_its_minimum() -> None:
    phases = snapshot(Setting(members=3, learning_rate=0.2), cycle_epochs=5)
    assert len(phases) == 3
    for phase in phases:
        # Huang et al., equation 2, with t from 1
        expected = [0.2 / 2 * (math.cos(math.pi * ((t - 1) % 20) / 20) + 1) for t in range(1, 21)]
        assert rates(phase) == pytest.approx(expected)
        assert rates(phase)[-1] == min(rates(phase)) < 0.002
        assert phase.ticket is not None
        assert phase.ticket.select == "last"


def test_the_trainer_sets_the_rate_of_every_step() -> None:
    seen: list[float] = []
    trainer = make_trainer(run_spec(snapshot(SETTING, cycle_epochs=2), density=None))
    step = trainer._optimizer.torch.step

    def noting(*_: Any) -> None:
        seen.append(trainer._optimizer.torch.param_groups[0]["lr"])
        step()

    trainer._optimizer.torch.step = noting  # type: ignore[assignment, method-assign]
    while not trainer.finished:
        trainer.train_epoch(nothing)
    assert seen == [rate for phase in trainer.spec.phases for rate in rates(phase)]
    assert [line["lr"] for line in trainer.at.history] == [seen[3], seen[7], seen[11], seen[15]]


def test_fge_takes_its_tickets_at_the_minima_of_triangles() -> None:
    phases = fge(Setting(members=3, learning_rate=0.1), constant_epochs=4, anneal_epochs=2, half_cycle_epochs=2)
    names = ["train", "anneal", "down 1", "up 2", "down 2", "up 3", "down 3"]
    assert [phase.name for phase in phases] == names
    assert [phase.name for phase in phases if phase.ticket] == ["down 1", "down 2", "down 3"]
    # Garipov et al., section 4, for a cycle of 16 iterations between 0.05 and 0.01
    cycle = [min(i / 16, 1 - i / 16) * 2 for i in range(1, 17)]
    expected = [(1 - t) * 0.05 + t * 0.01 for t in cycle]
    assert rates(phases[2]) + rates(phases[3]) == pytest.approx(expected)
    assert rates(phases[1])[-1] == pytest.approx(0.02575)


def test_cycles_on_dst_are_the_same_cycles_with_rewiring() -> None:
    for sparse, plain in ((snapshot_dst, snapshot), (fge_dst, fge)):
        phases = sparse(SETTING)
        assert tuple(phase.model_copy(update={"rewire": None}) for phase in phases) == plain(SETTING)
        assert all(phase.rewire is not None and phase.rewire.every == 1000 for phase in phases)


def test_warm_up_rises_linearly_from_zero() -> None:
    (phase,) = dense(SETTING, epochs=6, decay_epochs=[4], warmup_epochs=2)
    assert rates(phase) == pytest.approx([0.05 * step / 8 for step in range(8)] + [0.05] * 8 + [0.005] * 8)


def test_norm_layers_may_be_left_out_of_weight_decay() -> None:
    spec = run_spec(dense(SETTING, epochs=3), density=None, optimizer=Optimizer(decay="not_norm"))
    trainer = make_trainer(spec)
    decays = {
        id(parameter): group["weight_decay"]
        for group in trainer._optimizer.torch.param_groups
        for parameter in group["params"]
    }
    for name, parameter in trainer.model.named_parameters():
        assert decays[id(parameter)] == (0.0 if "bn" in name else 5e-4), name


def test_label_smoothing_is_that_of_the_loss() -> None:
    spec = run_spec(dense(SETTING, epochs=3), density=None, optimizer=Optimizer(label_smoothing=0.1))
    trainer = make_trainer(spec)
    batch = torch.randn(8, 3, 32, 32)
    labels = torch.arange(8)
    trainer._step(batch, labels)
    reference = make_trainer(spec)
    log_p = torch.log_softmax(reference.model.train()(batch), dim=1)
    expected = -(0.9 * log_p[range(8), labels] + 0.1 * log_p.mean(dim=1)).mean()
    assert float(trainer._loss_sum) / 8 == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_run_without_validation_images_keeps_its_last_epoch() -> None:
    data = DATA.model_copy(update={"validation_images": 0})
    with pytest.raises(ValueError, match="without validation images"):
        run_spec(dense(SETTING, epochs=3), density=None, data=data)
    spec = run_spec(dense(SETTING, epochs=3, select="last"), density=None, data=data)
    facts = DATASETS["digits"]
    images = DeviceImages(split().train, (0.3,) * 3, (0.3,) * 3, augmentation=spec.augmentation, channels_last=False)
    writer = MemoryWriter({})
    trainer = Trainer(spec, images, None, CPU, writer, classes=facts.classes)
    while not trainer.finished:
        trainer.train_epoch(nothing)
    assert [line["validation_accuracy"] for line in trainer.at.history] == [None] * 3
    assert all(torch.equal(tensor, writer.by_index[0][name]) for name, tensor in trainer.model.state_dict().items())
