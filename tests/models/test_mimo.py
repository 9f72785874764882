"""MIMO against the plain network, against a forward pass taken apart by hand, and its batches against the protocol."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional

from bench.models.build import build_model
from bench.models.mimo import MimoNetwork
from bench.models.wide_resnet import WideResNet
from bench.spec.run import Mimo, ModelSpec

PLAIN = ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1})
SPECS = [PLAIN, ModelSpec(name="resnet_cifar", arguments={"depth": 18})]
SPECS += [ModelSpec(name="resnet_imagenet", arguments={"depth": 18})]
IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8)


def build(plain: ModelSpec = PLAIN, classes: int = 10, **settings: float) -> MimoNetwork:
    model = build_model(plain.model_copy(update={"ensemble": Mimo(**settings)}), classes, seed=0)
    assert isinstance(model, MimoNetwork)
    return model


@pytest.mark.parametrize("plain", SPECS, ids=lambda spec: spec.name)
def test_one_member_is_the_plain_network(plain: ModelSpec) -> None:
    model, reference = build(plain, members=1), build_model(plain, 10, seed=0)
    assert all(tensor.equal(reference.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert model.state_dict().keys() == reference.state_dict().keys()
    with torch.no_grad():
        assert model(IMAGES).equal(reference(IMAGES).unsqueeze(1))
        assert model.eval().member_logits(model, IMAGES, None).equal(reference.eval()(IMAGES).unsqueeze(0))


def test_one_member_without_repetitions_learns_what_the_plain_network_learns() -> None:
    model, reference = build(members=1, batch_repetitions=1).double(), build_model(PLAIN, 10, seed=0).double()
    inputs, targets = model.training_batch(IMAGES.double(), LABELS, seed=0)
    model.loss(model(inputs), targets, 0.1).backward()
    functional.cross_entropy(reference(IMAGES.double()), LABELS, label_smoothing=0.1).backward()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_three_members_share_all_but_their_input_and_output_channels() -> None:
    model = build(classes=7, members=3).double()
    body = build_model(PLAIN, 21, seed=1).double()
    assert isinstance(body, WideResNet)
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "conv1.weight"}
    body.load_state_dict(state, strict=False)
    body.conv1 = nn.Identity()  # what the first layer computes, is computed below
    images = torch.randn(5, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = model.get_parameter("conv1.weight").split(3, dim=1)
    stem = sum(functional.conv2d(images[:, m], weight, padding=1) for m, weight in enumerate(weights))
    logits = body(stem)
    expected = torch.stack([logits[:, 7 * m : 7 * (m + 1)] for m in range(3)], dim=1)
    torch.testing.assert_close(model(images.flatten(1, 2)), expected)


def test_at_test_all_members_see_the_same_image() -> None:
    model = build(members=3).eval()
    with torch.no_grad():
        logits = model.member_logits(model, IMAGES, seed=None)
        torch.testing.assert_close(logits[1, 4], model(torch.cat([IMAGES[4]] * 3).unsqueeze(0))[0, 1])


def shown(model: MimoNetwork, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for images that are constant at their label, which image each member reads, and the targets; [N, M]."""
    images = LABELS.float().view(-1, 1, 1, 1).expand(8, 3, 32, 32)
    inputs, targets = model.training_batch(images, LABELS, seed)
    per_member = inputs.view(len(inputs), model.members, -1)
    assert (per_member == per_member[:, :, :1]).all()  # no input mixes images within a member
    return per_member[:, :, 0].long(), targets


def test_every_member_reads_every_image_as_often_as_it_is_repeated() -> None:
    images, targets = shown(build(members=3, batch_repetitions=4), seed=0)
    assert images.equal(targets)
    assert images.shape == (32, 3)
    for member in range(3):
        assert Counter(images[:, member].tolist()) == dict.fromkeys(range(8), 4)
        assert images[:, member].tolist() != sorted(images[:, member].tolist())
    # Independent orders agree in one of 8 places, by chance.
    assert (images[:, 0] == images[:, 1]).double().mean() < 0.5
    assert not images.equal(shown(build(members=3, batch_repetitions=4), seed=1)[0])


@pytest.mark.parametrize(("repetition", "shared"), [(1.0, 32), (0.6, 20), (0.25, 8)])
def test_the_last_inputs_repeat_one_image_for_all_members(repetition: float, shared: int) -> None:
    # int(32 * (1 - p)) inputs are shuffled for each member, the other ones are not (UB, mimo.py).
    images, targets = shown(build(members=3, batch_repetitions=4, input_repetition=repetition), seed=0)
    assert images.equal(targets)
    same = (images == images[:, :1]).all(dim=1)
    assert same[32 - shared :].all()
    assert not same[: 32 - shared].all() or shared == 32
    for member in range(3):
        assert Counter(images[:, member].tolist()) == dict.fromkeys(range(8), 4)
