"""What every multi-member network promises the trainer, whatever its kind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.build import build_model
from bench.models.members import MultiMember, ensemble_loss
from bench.spec.run import BatchEnsemble, McDropout, Mimo, ModelSpec, TreeNet

KINDS = [McDropout(rate=0.3, samples=3), Mimo(), BatchEnsemble(), TreeNet(head_blocks=1)]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
Kind = McDropout | Mimo | BatchEnsemble | TreeNet
IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 1, 4, 1, 5, 9])


def build(kind: Kind, seed: int = 0) -> MultiMember:
    model = build_model(ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}, ensemble=kind), 10, seed)
    assert isinstance(model, MultiMember)
    return model


def trained(kind: Kind, seed: int, *, global_seed: int) -> dict[str, Tensor]:
    """Return the weights after two steps, each named by a seed."""
    model = build(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(global_seed)
    for step in range(2):
        optimizer.zero_grad()
        inputs, targets = model.training_batch(IMAGES, LABELS, seed + step)
        model.loss(model(inputs), targets, 0.0).backward()
        optimizer.step()
    return model.state_dict()


@each_kind
def test_a_step_is_a_function_of_its_seed_and_leaves_the_global_generator_alone(kind: Kind) -> None:
    first, again = trained(kind, 1, global_seed=1), trained(kind, 1, global_seed=2)
    assert all(tensor.equal(again[name]) for name, tensor in first.items())
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    model = build(kind)
    model(model.training_batch(IMAGES, LABELS, 1)[0])
    model.eval().member_logits(model, IMAGES, 1)
    assert torch.random.get_rng_state().equal(before)


@each_kind
def test_targets_have_the_shape_of_the_logits(kind: Kind) -> None:
    model = build(kind)
    inputs, targets = model.training_batch(IMAGES, LABELS, 0)
    logits = model(inputs)
    assert logits.shape == (*targets.shape, 10)
    assert len(targets) == len(inputs)
    assert targets.dtype == torch.int64
    assert model.loss(logits, targets, 0.1).shape == ()


@each_kind
def test_every_member_predicts_every_image_the_same_in_any_batch(kind: Kind) -> None:
    model = build(kind).eval()
    seed = None if isinstance(kind, McDropout) else 7
    with torch.inference_mode():
        logits = model.member_logits(model, IMAGES, seed)
        assert logits.shape == (1 if seed is None else model.members, 6, 10)
        for size in (1, 5):  # fewer images than members, and a number they do not divide
            part = model.member_logits(model, IMAGES[:size], seed)
            torch.testing.assert_close(part, logits[:, :size], rtol=1e-4, atol=1e-5)


@each_kind
def test_members_differ(kind: Kind) -> None:
    model = build(kind).eval()
    with torch.inference_mode():
        logits = model.member_logits(model, IMAGES, 7)
    assert len(logits) == model.members
    for first in range(model.members):
        for second in range(first):
            assert (logits[first] - logits[second]).abs().max() > 1e-3


@each_kind
def test_channels_last_images_are_fed_in_channels_last(kind: Kind) -> None:
    seen: list[bool] = []
    model = build(kind)

    def forward(inputs: Tensor) -> Tensor:
        seen.append(inputs.is_contiguous(memory_format=torch.channels_last))
        return model(inputs)

    images = IMAGES.contiguous(memory_format=torch.channels_last)
    forward(model.training_batch(images, LABELS, 0)[0])
    model.eval().member_logits(forward, images, 0)
    assert all(seen)


@each_kind
def test_modes_reach_every_module(kind: Kind) -> None:
    model = build(kind)
    for mode in (False, True):
        model.train(mode)
        assert {module.training for module in model.modules()} == {mode}
        assert getattr(model, "backbone", model).training == mode


@each_kind
def test_names_of_parameters_that_learn_differently_exist(kind: Kind) -> None:
    model = build(kind)
    names = {name for name, _ in model.named_parameters()}
    assert model.learning_rate_factors().keys() <= names
    assert model.undecayed() <= names


@each_kind
def test_weights_move_to_another_module_by_name(kind: Kind) -> None:
    model, other = build(kind, seed=0).eval(), build(kind, seed=1).eval()
    other.load_state_dict(model.state_dict())
    other = other.double().float()  # the wrapper and what it wraps are converted alike
    with torch.inference_mode():
        assert other.member_logits(other, IMAGES, 3).equal(model.member_logits(model, IMAGES, 3))


@each_kind
def test_compiled_it_computes_the_same(kind: Kind) -> None:
    model = build(kind)
    # Without code for a processor: graphs, their gradients and where they break, and no minute of a compiler. That code
    # computes the same too is a test of bench.check.
    compiled: Callable[[Tensor], Tensor] = torch.compile(model, backend="aot_eager")
    gradients = []
    for forward in (model, compiled):
        model.zero_grad()
        inputs, targets = model.training_batch(IMAGES, LABELS, 0)
        model.loss(forward(inputs), targets, 0.0).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for eager, graph in zip(*gradients, strict=True):
        torch.testing.assert_close(graph, eager, rtol=1e-3, atol=1e-4)
    model.eval()
    with torch.no_grad():
        for seed in (1, None):
            ours, theirs = (model.member_logits(forward, IMAGES, seed) for forward in (compiled, model))
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


class TestTheLoss:
    """Cross-entropy written out: minus the log-probability of the target, smoothed over all classes."""

    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 4, generator=draws, dtype=torch.float64)
    targets = torch.randint(4, (5, 3), generator=draws)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_mean_over_inputs_and_sum_over_members(self, smoothing: float) -> None:
        expected = 0.0
        for logits, targets in zip(self.logits.tolist(), self.targets.tolist(), strict=True):
            for row, target in zip(logits, targets, strict=True):
                log_p = [x - torch.tensor(row).logsumexp(0).item() for x in row]
                expected -= (1 - smoothing) * log_p[target] + smoothing * sum(log_p) / 4
        loss = ensemble_loss(self.logits, self.targets, smoothing)
        assert loss.item() == pytest.approx(expected / 5, rel=1e-6)

    def test_without_a_member_axis_it_is_the_plain_loss(self) -> None:
        logits, targets = self.logits[:, 0], self.targets[:, 0]
        assert ensemble_loss(logits, targets, 0.1).equal(functional.cross_entropy(logits, targets, label_smoothing=0.1))


def test_a_plain_network_is_no_multi_member_network() -> None:
    model = build_model(ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}), 10, 0)
    assert isinstance(model, nn.Module)
    assert not isinstance(model, MultiMember)
