"""The layer tables that plans are priced from, held against the real modules, traced on the meta device."""

from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.models.build import build_model
from bench.models.catalog import NETWORKS, Layer, wide_resnet_layers
from bench.models.wide_resnet import WideResNet
from bench.sparsity.network import maskable_weights
from bench.spec import ModelSpec

VARIANTS = [(10, 1), (10, 3), (16, 2), (22, 1), (28, 10), (40, 2)]
each_variant = pytest.mark.parametrize(("depth", "width"), VARIANTS)


def on_meta(depth: int, width: int, classes: int = 10) -> WideResNet:
    """Return the module without the memory or the time that its weights would take."""
    with torch.device("meta"):
        return WideResNet(depth=depth, width=width, classes=classes)


def traced_layers(model: nn.Module, image_size: int) -> tuple[Layer, ...]:
    """Run one image through the module; every weight with two or more dimensions, in parameter order."""
    positions: dict[str, int] = {}

    def hook(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        positions[names[module]] = prod(output.shape[2:])

    names = {module: f"{name}.weight" for name, module in model.named_modules()}
    for module in model.modules():
        if any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False)):
            module.register_forward_hook(hook)
    model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return tuple(
        Layer(name, tuple(parameter.shape), positions[name])
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2
    )


@each_variant
@pytest.mark.parametrize(("classes", "image_size"), [(10, 32), (100, 32), (7, 64)])
def test_the_table_is_the_trace_of_the_module(depth: int, width: int, classes: int, image_size: int) -> None:
    table = wide_resnet_layers(classes, image_size, depth=depth, width=width)
    assert table == traced_layers(on_meta(depth, width, classes), image_size)


@each_variant
def test_the_table_lists_the_weights_that_are_masked_in_their_order(depth: int, width: int) -> None:
    table = wide_resnet_layers(10, 32, depth=depth, width=width)
    masked = maskable_weights(on_meta(depth, width))
    assert [(layer.name, layer.shape) for layer in table] == [(n, tuple(w.shape)) for n, w in masked.items()]


@each_variant
def test_flops_are_those_torch_counts(depth: int, width: int) -> None:
    model = on_meta(depth, width)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 32, 32, device="meta"))
    table = wide_resnet_layers(10, 32, depth=depth, width=width)
    assert sum(layer.flops for layer in table) == counter.get_total_flops()


class TestTheNetworkOfThePaper:
    """Check values of protocol.md."""

    layers = wide_resnet_layers(10, 32, depth=28, width=10)

    def test_maskable_weights(self) -> None:
        assert sum(layer.size for layer in self.layers) == 36_461_232
        assert sum(weight.numel() for weight in maskable_weights(on_meta(28, 10)).values()) == 36_461_232

    def test_forward_flops(self) -> None:
        assert sum(layer.flops for layer in self.layers) == pytest.approx(10.49e9, abs=0.005e9)

    def test_it_is_what_the_name_means_without_arguments(self) -> None:
        network = NETWORKS["wide_resnet"]
        assert network.layers(10, 32, **network.arguments) == self.layers


@pytest.mark.parametrize(
    ("depth", "width", "found"), [(9, 1, "9"), (4, 1, "4"), (-2, 1, "-2"), (18, 2, "18"), (28, 0, "0"), (28, -1, "-1")]
)
def test_arguments_that_make_no_network_are_refused_with_what_was_found(depth: int, width: int, found: str) -> None:
    with pytest.raises(ValueError, match=f"not {found}$"):
        wide_resnet_layers(10, 32, depth=depth, width=width)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_built_as_its_table_says(name: str) -> None:
    network = NETWORKS[name]
    with torch.device("meta"):
        model = build_model(ModelSpec(name=name, arguments=dict(network.arguments)), 10, seed=0)
    table = {layer.name: layer.shape for layer in network.layers(10, 32, **network.arguments)}
    assert {name: tuple(weight.shape) for name, weight in maskable_weights(model).items()} == table
