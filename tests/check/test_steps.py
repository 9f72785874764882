"""Steps as a check measures them, and that a slow one is explained by what makes it slow."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.check import evaluation
from bench.check.asked import Asked, MadeUpImages, distinct_steps
from bench.check.explain import explain
from bench.check.steps import Measurer, Outcome, Times, Watched, make_trainer, watched
from bench.check.watch import Watch, graph_breaks
from bench.data.catalog import facts_of
from bench.data.dataset import at_once
from bench.evaluation.networks import Network
from bench.spec.run import Execution
from bench.store.records import Usage
from bench.training import trainer as trainer_module
from bench.training.masking import Masking
from bench.training.trainer import Trainer
from bench.work.meter import Meter
from tests.check.asking import plan_of
from tests.training.runs import CPU


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Asked]:
    """The distinct steps of a plan, by the first cell that takes each."""
    return {step.cells[0]: step for step in distinct_steps(plan_of(tmp_path))}


def test_each_network_and_method_is_measured_once_dense_ones_first(asked: dict[str, Asked]) -> None:
    cells = [step.cells for step in asked.values()]
    assert cells == [("dense",), ("in bf16",), ("dst", "denser dst"), ("pruned",), ("gradual",), ("mimo",)]
    assert asked["mimo"].spec.batch_size == 8
    assert asked["mimo"].dense.batch_size == 16, "as many inputs"
    assert asked["dst"].dense == asked["pruned"].dense == asked["dense"].dense


def test_a_step_is_measured_with_what_it_needs(asked: dict[str, Asked]) -> None:
    measurer = Measurer(CPU)
    dense, dst, gradual, mimo = (measurer.measure(asked[cell], 0.0) for cell in ("dense", "dst", "gradual", "mimo"))
    assert dense.measured.over_dense == 1
    assert dense.measured.update_over_step is None
    assert (dst.measured.update_over_step or 0) > 0
    assert (gradual.measured.update_over_step or 0) > 0
    assert mimo.measured.tflops > 0
    for outcome in (dense, dst, gradual, mimo):
        measured = outcome.measured
        assert measured.images_per_second == pytest.approx(8 / measured.seconds)
        assert sum(measured.parts.values()) == pytest.approx(1)
        assert min(measured.parts[part] for part in ("input", "forward", "backward", "optimiser")) > 0
        assert outcome.watched == Watched((), (), ())
    # An evaluation is the network's, not the method's.
    assert dense.measured.evaluated_per_second is not None
    assert dst.measured.evaluated_per_second is None
    assert mimo.measured.evaluated_per_second is not None


def test_the_memory_of_a_step_counts_what_choosing_its_convolutions_took_before(
    asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter([70, 20, 90, 80])  # mimo has other convolutions, as it has more inputs
    monkeypatch.setattr(Meter, "usage", lambda _: Usage(seconds=1.0, device_bytes=next(peaks)))
    measurer = Measurer(CPU)
    found = [measurer.measure(asked[cell], 0.0).measured.device_bytes for cell in ("dense", "dst", "mimo", "gradual")]
    assert found == [70, 70, 90, 80]


def test_an_evaluation_is_compared_where_few_images_take_as_long_as_many(
    asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = []

    def predict(_: Network, batch: Tensor, __: torch.device) -> float:
        probed.append(len(batch))
        return 0.001  # as a GPU that is not full

    monkeypatch.setattr(evaluation, "_predict", predict)
    trainer = make_trainer(asked["dense"].spec, MadeUpImages(asked["dense"].spec, CPU), CPU)
    _, over_forward = evaluation.evaluation(trainer, 2.0)
    assert over_forward is not None
    assert max(probed) == at_once(facts_of(asked["dense"].spec.data).image_size)
    # Slow from the first images on: as few as there may be, and nothing is compared.
    monkeypatch.setattr(evaluation, "_predict", lambda _, batch, __: 0.1 * len(batch))
    assert evaluation.evaluation(trainer, 2.0)[1] is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", ["dense", "dst", "gradual", "mimo"])
def test_our_own_steps_do_nothing_that_they_need_not(precision: str, cell: str, asked: dict[str, Asked]) -> None:
    spec = asked[cell].spec.model_copy(update={"execution": Execution.model_validate({"precision": precision})})
    assert watched(spec, CPU) == Watched((), (), ())


def test_an_update_at_every_step_is_not_held_against_the_steps(asked: dict[str, Asked]) -> None:
    (phase,) = asked["dst"].spec.phases
    assert phase.rewire is not None
    rule = phase.rewire.rule.model_copy(update={"inactive_momentum": "masked"})
    each = phase.rewire.model_copy(update={"every": 1, "update_step": "after_optimizer", "rule": rule})
    spec = asked["dst"].spec.model_copy(update={"phases": (phase.model_copy(update={"rewire": each}),)})
    assert watched(spec, CPU) == Watched((), (), ())


def explained(asked: Asked, **changes: Any) -> tuple[str, str]:
    """Return state and detail of a step of which something is seen."""
    outcome = Measurer(CPU).measure(asked, 0.0)
    dense = Times(outcome.times.step, outcome.times.parts)  # no timing decides here
    measured = outcome.measured.model_copy(update={"over_dense": 1.0, "parts": {}, "over_forward": None})
    found = explain(asked, replace(outcome, dense=dense, measured=measured, **changes), 1.0)
    return found.state, found.detail


def test_a_wait_in_the_loop_is_named_with_its_line(asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer._step

    def slowed(self: Trainer, images: Tensor, labels: Tensor) -> None:
        images.sum().item()
        step(self, images, labels)

    monkeypatch.setattr(Trainer, "_step", slowed)
    state, detail = explained(asked["dst"])
    assert state == "wrong"
    assert "waits for the device: 2 x aten._local_scalar_dense.default (check/test_steps.py:" in detail


def test_a_copy_of_the_dense_gradients_is_named(asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    move: Callable[..., Any] = Masking.move

    def slowed(self: Masking, *args: Any, **kwargs: Any) -> Any:
        if self.sparse is not None:
            self.sparse.gradients()
        return move(self, *args, **kwargs)

    monkeypatch.setattr(Masking, "move", slowed)
    state, detail = explained(asked["dst"])
    assert state == "wrong"
    # Ten layers, two steps.
    assert "copies weights or their gradients: 20 x aten.clone.default (sparsity/network.py:" in detail


def test_channels_last_that_is_lost_is_named(asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = trainer_module.prepare

    def without(model: Any, execution: Execution, *args: Any, **kwargs: Any) -> Any:
        return prepare(model, execution.model_copy(update={"channels_last": False}), *args, **kwargs)

    monkeypatch.setattr(trainer_module, "prepare", without)
    batch = trainer_module.Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, images, labels: batch(self, images.contiguous(), labels))
    state, detail = explained(asked["dense"])
    assert state == "wrong"
    assert "channels_last is asked for, but images reach" in detail


def test_a_gradient_that_autograd_copies_is_not_held_against_the_loop() -> None:
    weight = torch.randn(3, 4, requires_grad=True)
    with Watch({(3, 4)}) as watch:
        torch.autograd.backward((weight.t() * torch.ones(4, 3)).sum())
        assert (watch.copies, len(watch.accumulated)) == ([], 1)
        weight.grad.clone()
    assert len(watch.copies) == 1


# -- numbers -----------------------------------------------------------------------------------------------------------

PARTS = {"input": 0.001, "forward": 0.01, "backward": 0.02, "optimiser": 0.001, "masks": 0.0}


@pytest.fixture
def outcome(asked: dict[str, Asked]) -> Outcome:
    """A step as fast as our dense one."""
    made = Measurer(CPU).measure(asked["dst"], 0.0)
    times = Times(sum(PARTS.values()), PARTS)
    update = {"over_dense": 1.0, "update_over_step": 0.5, "over_forward": None, "parts": {"forward": 1.0}}
    return replace(made, times=times, dense=times, measured=made.measured.model_copy(update=update))


def test_a_step_as_fast_as_a_dense_one_is_well(asked: dict[str, Asked], outcome: Outcome) -> None:
    found = explain(asked["dst"], outcome, 1.0)
    assert found.state == "ok"
    assert "1.00 of our dense step" in found.detail


def test_a_slow_step_names_the_part_that_takes_longer(asked: dict[str, Asked], outcome: Outcome) -> None:
    times = Times(2 * outcome.times.step, {**PARTS, "masks": outcome.times.step})
    measured = outcome.measured.model_copy(update={"over_dense": 2.0, "parts": {"masks": 0.5, "backward": 0.5}})
    found = explain(asked["dst"], replace(outcome, times=times, measured=measured), 1.0)
    assert found.state == "slow"
    assert "it takes longer than our dense step: masks 32 ms for 0 ms" in found.detail
    assert "2.00 of our dense step" in found.detail
    assert "50% of a step is masks" in found.detail


def test_a_network_of_more_flops_may_take_longer(asked: dict[str, Asked], outcome: Outcome) -> None:
    """Twice the FLOPs, so twice the time."""
    model = asked["dst"].spec.model
    larger = asked["dst"].spec.model_copy(
        update={"model": model.model_copy(update={"arguments": {**model.arguments, "width": 2}})}
    )
    measured = outcome.measured.model_copy(update={"over_dense": 2.0})
    found = explain(replace(asked["dst"], spec=larger), replace(outcome, measured=measured), 1.0)
    assert found.state == "ok"


def test_autocast_is_no_copy() -> None:
    weight = torch.randn(4, 4)
    with Watch({(4, 4)}) as watch:
        weight.bfloat16()
        assert watch.copies == []
        weight.clone()
    assert len(watch.copies) == 1


class Broken(nn.Module):
    """A network in whose middle a graph ends."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    def forward(self, images: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return self.layers(images)


def test_why_a_network_is_compiled_in_pieces_is_said(asked: dict[str, Asked], outcome: Outcome) -> None:
    torch._dynamo.reset()
    with graph_breaks(compiled=True) as breaks:
        torch.compile(Broken(10), backend="eager")(torch.randn(2, 3, 8, 8))
    assert breaks
    with graph_breaks(compiled=True) as none:
        torch.compile(Broken(10).layers, backend="eager")(torch.randn(2, 3, 8, 8))
    assert none == []
    broken = replace(outcome, watched=replace(outcome.watched, breaks=tuple(breaks)))
    found = explain(asked["dst"], broken, 1.0)
    assert found.state == "slow"
    assert "torch.compile divides the network, for 1 reason" in found.detail
