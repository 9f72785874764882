"""The layer tables that plans are priced from, held against the real modules, traced on the meta device."""

import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.models.build import build_model
from bench.models.catalog import (
    NETWORKS,
    Layer,
    find_network,
    inputs_per_image,
    network_layers,
    passes_per_image,
    wide_resnet_layers,
)
from bench.models.trace import trace_layers
from bench.sparsity.maskable import maskable_weights
from bench.spec.run import MULTI_MEMBER_KINDS, BatchEnsemble, McDropout, Mimo, ModelSpec, MultiMemberSpec, TreeNet

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *(("wide_resnet", {"depth": d, "width": w}) for d, w in [(10, 1), (10, 3), (16, 2), (22, 1), (28, 10), (40, 2)]),
    *((name, {"depth": depth}) for name in ("resnet_cifar", "resnet_imagenet") for depth in (18, 34, 50)),
]
KINDS: list[MultiMemberSpec] = [
    McDropout(samples=5),
    Mimo(members=1),
    Mimo(members=3),
    BatchEnsemble(members=4),
    TreeNet(members=1, head_blocks=1),
    TreeNet(members=3, head_blocks=0),
    TreeNet(members=2, head_blocks=2),
    TreeNet(members=2, head_blocks=3),  # all blocks of WRN-10
]
# Every variant alone; every kind on the smallest of each network, and on one with bottlenecks.
SPECS = [ModelSpec(name=name, arguments=arguments) for name, arguments in VARIANTS]
SPECS += [
    SPECS[index].model_copy(update={"ensemble": kind})
    for index in (0, 6, 8, 9)
    for kind in KINDS
    if kind.kind in NETWORKS[SPECS[index].name].ensembles
]
each_variant = pytest.mark.parametrize(("name", "arguments"), VARIANTS, ids=str)
each_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


def on_meta(spec: ModelSpec, classes: int = 10) -> nn.Module:
    """Return the module without the memory or the time that its weights would take."""
    with torch.device("meta"):
        model = build_model(spec, classes, seed=0)
    if isinstance(spec.ensemble, McDropout):
        model.draws.on = False  # the meta device draws no masks
    return model


def inputs(spec: ModelSpec, image_size: int) -> Tensor:
    """Return what one image is fed as: side by side for all members of MIMO, once for each of BatchEnsemble."""
    members = spec.ensemble.members if isinstance(spec.ensemble, Mimo | BatchEnsemble) else 1
    rows, channels = (1, 3 * members) if isinstance(spec.ensemble, Mimo) else (members, 3)
    return torch.empty(rows, channels, image_size, image_size, device="meta")


def traced_layers(model: nn.Module, images: Tensor) -> tuple[Layer, ...]:
    """Run the images through the module; every `weight` with two or more dimensions, in parameter order."""
    positions: dict[str, int] = {}

    def hook(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        positions[names[module]] = prod(output.shape[2:])

    names = {module: f"{name}.weight" for name, module in model.named_modules()}
    for module in model.modules():
        if any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False)):
            module.register_forward_hook(hook)
    model.eval()(images)
    return tuple(
        Layer(name, tuple(parameter.shape), positions[name])
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and name.endswith("weight")
    )


@each_spec
def test_the_table_is_the_trace_of_the_module(spec: ModelSpec) -> None:
    for classes, image_size in [(10, 32), (7, 64)]:
        table = network_layers(spec, classes, image_size)
        assert table == traced_layers(on_meta(spec, classes), inputs(spec, image_size))


@each_spec
def test_the_table_lists_the_weights_that_are_masked_in_their_order(spec: ModelSpec) -> None:
    masked = maskable_weights(on_meta(spec))
    table = network_layers(spec, 10, 32)
    assert [(layer.name, layer.shape) for layer in table] == [(n, tuple(w.shape)) for n, w in masked.items()]


@each_spec
def test_flops_are_those_torch_counts(spec: ModelSpec) -> None:
    model, images = on_meta(spec), inputs(spec, 64)
    with FlopCounterMode(display=False) as counter:
        model.eval()(images)
    assert sum(layer.flops for layer in network_layers(spec, 10, 64)) * len(images) == counter.get_total_flops()


@each_variant
def test_odd_image_sizes(name: str, arguments: dict[str, Any]) -> None:
    spec = ModelSpec(name=name, arguments=arguments)
    assert network_layers(spec, 10, 45) == traced_layers(on_meta(spec), inputs(spec, 45))


@each_variant
def test_tracing_for_plug_ins_finds_the_same(name: str, arguments: dict[str, Any]) -> None:
    spec = ModelSpec(name=name, arguments=arguments)
    state = torch.random.get_rng_state()
    assert trace_layers(lambda: build_model(spec, 10, seed=0), (3, 32, 32), 10) == network_layers(spec, 10, 32)
    assert torch.random.get_rng_state().equal(state)


@each_variant
def test_blocks_are_submodules_in_the_order_in_which_they_run(name: str, arguments: dict[str, Any]) -> None:
    model = on_meta(ModelSpec(name=name, arguments=arguments))
    ran: list[str] = []
    blocks = NETWORKS[name].blocks(**arguments)
    for block in blocks:
        model.get_submodule(block).register_forward_hook(lambda *_, block=block: ran.append(block))
    model.eval()(torch.empty(1, 3, 32, 32, device="meta"))
    assert ran == list(blocks)
    outside = [n for n, _ in model.named_parameters() if not n.startswith(tuple(f"{block}." for block in blocks))]
    assert {n.split(".")[0] for n in outside} <= {"conv1", "bn1", "bn", "fc"}  # so no block is left out


class TestTheNetworkOfThePaper:
    """Check values of protocol.md."""

    layers = wide_resnet_layers(10, 32, depth=28, width=10)

    def test_maskable_weights(self) -> None:
        assert sum(layer.size for layer in self.layers) == 36_461_232
        spec = ModelSpec(name="wide_resnet", arguments={"depth": 28, "width": 10})
        assert sum(weight.numel() for weight in maskable_weights(on_meta(spec)).values()) == 36_461_232

    def test_forward_flops(self) -> None:
        assert sum(layer.flops for layer in self.layers) == pytest.approx(10.49e9, abs=0.005e9)

    def test_it_is_what_the_name_means_without_arguments(self) -> None:
        network = NETWORKS["wide_resnet"]
        assert network.layers(10, 32, **network.arguments) == self.layers

    def test_a_tree_of_three_heads_costs_the_trunk_once_and_each_head(self) -> None:
        spec = ModelSpec(
            name="wide_resnet", arguments={"depth": 28, "width": 10}, ensemble=TreeNet(members=3, head_blocks=3)
        )
        tree = network_layers(spec, 10, 32)
        # The last three of 12 blocks: two 3x3 convolutions of 640 channels on 8x8 positions each; then the classifier.
        head = 2 * (3 * 2 * (640 * 640 * 9) * 64 + 640 * 10)
        plain = sum(layer.flops for layer in self.layers)
        assert sum(layer.flops for layer in tree) == plain + 2 * head
        assert sum(layer.flops for layer in tree) / plain == pytest.approx(1.54, abs=0.005)
        assert len(NETWORKS["wide_resnet"].blocks(depth=28, width=10)) == 12


@pytest.mark.parametrize(
    ("depth", "width", "found"), [(9, 1, "9"), (4, 1, "4"), (-2, 1, "-2"), (18, 2, "18"), (28, 0, "0"), (28, -1, "-1")]
)
def test_arguments_that_make_no_network_are_refused_with_what_was_found(depth: int, width: int, found: str) -> None:
    with pytest.raises(ValueError, match=f"not {found}$"):
        wide_resnet_layers(10, 32, depth=depth, width=width)


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "message"),
    [
        ("resnet_cifar", {"depth": 101}, None, "a ResNet has depth 18, 34, 50, not 101"),
        ("wide_resnet", {"depth": 16, "width": 1}, TreeNet(head_blocks=7), "head_blocks is at most 6, .*, not 7"),
        ("resnet_cifar", {"depth": 18}, McDropout(), "resnet_cifar cannot be mc_dropout; allowed: mimo, batch_ensem"),
        ("resnet", {}, None, "no network 'resnet'; allowed: wide_resnet, resnet_cifar, resnet_imagenet, or package"),
    ],
)
def test_the_message_says_what_is_allowed(
    name: str, arguments: dict[str, Any], kind: MultiMemberSpec | None, message: str
) -> None:
    spec = ModelSpec(name=name, arguments=arguments, ensemble=kind)
    with pytest.raises(ValueError, match=message):
        network_layers(spec, 10, 32)


@pytest.mark.parametrize(
    ("kind", "fed", "passes"),
    [
        (None, 1, 1),
        (McDropout(samples=30), 1, 30),
        (Mimo(members=3, batch_repetitions=4), 4, 1),
        (Mimo(members=2, batch_repetitions=1), 1, 1),
        (BatchEnsemble(members=4), 4, 4),
        (TreeNet(members=3, head_blocks=1), 1, 1),
    ],
    ids=str,
)
def test_inputs_and_passes_of_an_image(kind: MultiMemberSpec | None, fed: int, passes: int) -> None:
    spec = ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}, ensemble=kind)
    assert (inputs_per_image(spec), passes_per_image(spec)) == (fed, passes)


def test_every_kind_is_some_networks() -> None:
    assert {kind for network in NETWORKS.values() for kind in network.ensembles} == set(MULTI_MEMBER_KINDS)
    assert find_network("wide_resnet") is NETWORKS["wide_resnet"]


def test_tables_need_no_torch() -> None:
    program = """
import sys
from bench.models.catalog import NETWORKS, network_layers
from bench.spec.run import ModelSpec, TreeNet
for name, network in NETWORKS.items():
    network_layers(ModelSpec(name=name, arguments=network.arguments, ensemble=TreeNet(head_blocks=2)), 10, 32)
sys.exit('torch' in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)
