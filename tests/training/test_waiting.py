"""A step never waits for a device: no number, and no shape that depends on one, is read between two launches.

A wait costs a GPU its queue. Only a check of the loss and an update of the topology may, and both are counted here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from bench.check.watch import Watch
from bench.spec.run import RunSpec
from bench.training import trainer as trainer_module
from bench.training.trainer import Trainer
from tests.training.runs import SPECS, MemoryParent, MemoryWriter, dense_spec, make_trainer, with_parent


@contextmanager
def steps_watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, list[str], bool]]]:
    """Give, for each step of a Trainer, its number, on what it waited, and whether it changed the topology."""
    found: list[tuple[int, list[str], bool]] = []
    step = Trainer._step

    def watched(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> None:
        updates = len(self.at.updates)
        with Watch() as watch:
            step(self, images, labels)
        found.append((self.at.step, watch.waits, len(self.at.updates) > updates))

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", watched)
        yield found


def train(spec: RunSpec) -> None:
    """Train a run, after its parent."""
    parent = None
    for run in with_parent(spec):
        writer = MemoryWriter({})
        trainer = make_trainer(run, parent=parent, writer=writer)
        while not trainer.finished:
            trainer.train_epoch(lambda: None)
        parent = MemoryParent(writer)


@pytest.mark.parametrize("name", SPECS)
def test_a_step_waits_for_nothing_unless_an_update_is_due(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with steps_watched(monkeypatch) as steps:
        train(SPECS[name]())
    assert len(steps) >= 8
    assert [(step, seen) for step, seen, updated in steps if seen and not updated] == []


@pytest.mark.parametrize("name", ["edst standard", "edst released", "edst random"])
def test_an_update_waits_for_a_few_numbers_of_all_layers_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each of the eleven layers."""
    with steps_watched(monkeypatch) as steps:
        train(SPECS[name]())
    assert max(len(seen) for _, seen, updated in steps if updated) <= 6


def test_a_check_of_the_loss_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "CHECK_LOSS_EVERY", 2)
    with steps_watched(monkeypatch) as steps:
        train(dense_spec())
    assert {(step, len(seen)) for step, seen, _ in steps} == {(1, 0), (2, 1), (3, 0), (4, 1)}


@pytest.mark.parametrize(
    "slow",
    [
        lambda images: images.sum().item(),
        lambda images: float(images[0, 0, 0, 0]),
        lambda images: images[images > 0],
        lambda images: bool((images > 0).any()),
    ],
)
def test_a_hidden_wait_is_seen(slow: Callable[[torch.Tensor], object], monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer._step

    def slowed(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> None:
        slow(images)
        step(self, images, labels)

    monkeypatch.setattr(Trainer, "_step", slowed)
    with steps_watched(monkeypatch) as steps:
        train(dense_spec())
    assert all(seen for _, seen, _ in steps)
