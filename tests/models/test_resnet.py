"""The ResNets against torchvision's and against numbers of parameters that others publish."""

import pytest
import torch
import torchvision
from torch import nn

from bench.models.build import build_model
from bench.models.parts import Segment
from bench.models.resnet import ResNet
from bench.spec.run import ModelSpec


def build(name: str, depth: int, classes: int = 10, seed: int = 0) -> ResNet:
    model = build_model(ModelSpec(name=name, arguments={"depth": depth}), classes, seed)
    assert isinstance(model, ResNet)
    return model


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_the_imagenet_network_is_torchvisions(depth: int) -> None:
    reference = getattr(torchvision.models, f"resnet{depth}")(num_classes=20)
    model = build("resnet_imagenet", depth, classes=20)
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(images).equal(reference(images))
        assert model.eval()(images).equal(reference.eval()(images))


def test_the_cifar_network_is_torchvisions_behind_another_stem() -> None:
    model = build("resnet_cifar", 18)
    reference = torchvision.models.resnet18(num_classes=10)
    reference.load_state_dict(model.state_dict() | {"conv1.weight": reference.conv1.weight})
    stem = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    stem.weight = model.conv1.weight
    reference.conv1, reference.maxpool = stem, nn.Identity()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(images).equal(reference(images))


@pytest.mark.parametrize(
    ("name", "depth", "classes", "published"),
    [
        # torchvision's documentation of its weights, num_params
        ("resnet_imagenet", 18, 1000, 11_689_512),
        ("resnet_imagenet", 34, 1000, 21_797_672),
        ("resnet_imagenet", 50, 1000, 25_557_032),
        # as counted for kuangliu/pytorch-cifar
        ("resnet_cifar", 18, 10, 11_173_962),
        ("resnet_cifar", 34, 10, 21_282_122),
        ("resnet_cifar", 50, 10, 23_520_842),
    ],
)
def test_numbers_of_parameters(name: str, depth: int, classes: int, published: int) -> None:
    with torch.device("meta"):
        assert parameters(build(name, depth, classes)) == published


@pytest.mark.parametrize(("name", "kernel"), [("resnet_cifar", 3), ("resnet_imagenet", 7)])
def test_the_stem_is_initialised_as_torchvision_does(name: str, kernel: int) -> None:
    weight = build(name, 18).conv1.weight
    assert weight.shape == (64, 3, kernel, kernel)
    deviation = (2 / (kernel * kernel * 64)) ** 0.5  # He et al. 2015, fan out
    assert weight.std().item() == pytest.approx(deviation, rel=5 / (2 * weight.numel()) ** 0.5)


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (build("resnet_cifar", 18, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(tensor.equal(again[name]) for name, tensor in first.items())
    assert not any(tensor.equal(other[name]) for name, tensor in first.items() if tensor.ndim >= 2)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("wide_resnet", {"depth": 10, "width": 1}),
        ("resnet_cifar", {"depth": 18}),
        ("resnet_imagenet", {"depth": 18}),
    ],
)
def test_a_networks_parts_are_the_network(name: str, arguments: dict[str, int]) -> None:
    model = build_model(ModelSpec(name=name, arguments=dict(arguments)), 10, seed=0)
    whole = Segment(model, model.parts())
    assert {n: id(p) for n, p in whole.named_parameters()} == {n: id(p) for n, p in model.named_parameters()}
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert whole(images).equal(model(images))


def test_fan_in_is_the_initialisation_of_the_released_imagenet_code() -> None:
    model = build_model(ModelSpec(name="resnet_imagenet", arguments={"depth": 50, "init": "fan_in"}), 10, 0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4 and parameter.numel() > 30_000:
            fan_in = parameter[0].numel()
            assert float(parameter.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.02), name
