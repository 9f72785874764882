"""A user's own network, in a module outside the repository: found, described, traced, built."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from bench.models.build import build_model
from bench.models.catalog import Layer, find_network, network_layers
from bench.sparsity.maskable import maskable_weights
from bench.spec.run import BatchEnsemble, McDropout, Mimo, ModelSpec, TreeNet

SOURCE = """
import torch
from torch import nn

THREE = 3

class Net(nn.Module):
    def __init__(self, classes: int, hidden: int = 8, slope: float = 1, name: str = "x", bias: bool = True, norm=None):
        super().__init__()
        self.head = nn.Linear(hidden * 3, classes, bias=bias)  # first among the parameters, last to run
        self.stem = nn.Conv2d(3, hidden, 3, stride=2, padding=1)
        self.twice = nn.Conv2d(hidden, hidden, 3, padding=1, groups=2)
        self.tokens = nn.Linear(hidden, hidden * 3)

    def forward(self, x):
        x = self.twice(self.twice(self.stem(x)).relu())
        return self.head(self.tokens(x.flatten(2).transpose(1, 2)).mean(dim=1))

def with_channels(classes: int, width: int, channels: int = 3):
    body = nn.Conv2d(channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(width, classes))

def unannotated(classes, width):
    return Net(classes, width)

def without_classes(width: int = 3):
    return Net(10, width)

def no_module(classes):
    return "no module"

def wrong_shape(classes):
    return Net(classes + 1)

def deaf(**more):
    return Net(**more)

def outputs(outputs: int = 10):
    return Net(outputs)

def strict(classes, width: int = 3):
    if width > 3:
        raise ValueError("too wide")
    return Net(classes)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return name(attribute): the spec of an attribute of a module that lies outside the repository."""
    module = f"networks_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return lambda attribute: f"{module}:{attribute}"


def test_arguments_are_read_from_the_signature(plugin: Callable[[str], str]) -> None:
    network = find_network(plugin("Net"))
    assert network.arguments == {"hidden": 8, "slope": 1.0, "name": "x", "bias": True}
    assert isinstance(network.arguments["slope"], float)
    assert network.required == {}
    assert network.ensembles == ("batch_ensemble",)
    other = find_network(plugin("with_channels"))
    assert (other.arguments, other.required) == ({}, {"width": int})
    assert other.ensembles == ("mimo", "batch_ensemble")


def test_its_layers_are_traced_in_parameter_order(plugin: Callable[[str], str]) -> None:
    spec = ModelSpec(name=plugin("Net"), arguments={"hidden": 4})
    assert network_layers(spec, 10, 16) == (
        Layer("head.weight", (10, 12), 1),
        Layer("stem.weight", (4, 3, 3, 3), 8 * 8),
        Layer("twice.weight", (4, 2, 3, 3), 2 * 8 * 8),  # runs twice
        Layer("tokens.weight", (12, 4), 8 * 8),
    )
    assert list(maskable_weights(build_model(spec, 10, 0))) == [layer.name for layer in network_layers(spec, 10, 16)]


def test_it_is_built_from_the_seed(plugin: Callable[[str], str]) -> None:
    spec = ModelSpec(name=plugin("Net"), arguments={"hidden": 4})
    first, again, other = (build_model(spec, 10, seed).state_dict() for seed in (1, 1, 2))
    assert all(tensor.equal(again[name]) for name, tensor in first.items())
    assert not first["stem.weight"].equal(other["stem.weight"])


def test_it_can_be_a_batch_ensemble(plugin: Callable[[str], str]) -> None:
    spec = ModelSpec(name=plugin("Net"), arguments={"hidden": 4}, ensemble=BatchEnsemble(members=2))
    assert network_layers(spec, 10, 16) == network_layers(spec.model_copy(update={"ensemble": None}), 10, 16)
    model = build_model(spec, 10, 0)
    images = torch.randn(3, 3, 16, 16)
    logits = model.member_logits(model.eval(), images, None)
    assert logits.shape == (2, 3, 10)
    assert not logits[0].equal(logits[1])


def test_it_can_be_mimo_where_it_takes_channels(plugin: Callable[[str], str]) -> None:
    spec = ModelSpec(name=plugin("with_channels"), arguments={"width": 5}, ensemble=Mimo(members=2))
    table = network_layers(spec, 10, 16)
    assert table == (Layer("0.weight", (5, 6, 3, 3), 14 * 14), Layer("3.weight", (20, 5), 1))
    model = build_model(spec, 10, 0)
    inputs, targets = model.training_batch(torch.randn(3, 3, 16, 16), torch.arange(3), 0)
    assert model(inputs).shape == (*targets.shape, 10) == (12, 2, 10)


@pytest.mark.parametrize("kind", [Mimo(), McDropout(), TreeNet(head_blocks=0)], ids=lambda kind: kind.kind)
def test_other_kinds_are_refused(plugin: Callable[[str], str], kind: Mimo | McDropout | TreeNet) -> None:
    spec = ModelSpec(name=plugin("Net"), ensemble=kind)
    for use in (lambda: network_layers(spec, 10, 16), lambda: build_model(spec, 10, 0)):
        with pytest.raises(ValueError, match=f"Net cannot be {kind.kind}; allowed: batch_ensemble$"):
            use()


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("missing", "cannot be imported: AttributeError: .*missing"),
        ("THREE", "is a int, not a callable"),
        ("unannotated", "argument 'width' of .* needs a default, or an annotation: int, float, bool or str"),
        ("without_classes", "has no parameter `classes`"),
    ],
)
def test_what_is_no_factory_is_refused_with_the_reason(
    plugin: Callable[[str], str], attribute: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_network(plugin(attribute))


def test_a_module_that_can_not_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no_such_module:net cannot be imported: ModuleNotFoundError"):
        find_network("no_such_module:net")
    (tmp_path / "module_with_a_mistake.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot be imported: ZeroDivisionError"):
        find_network("module_with_a_mistake:net")


@pytest.mark.parametrize(
    ("attribute", "arguments", "message"),
    [
        ("no_module", {}, "returned str, not a torch.nn.Module"),
        ("wrong_shape", {}, r"returns \(1, 11\) for one image, not \(1, 10\)"),
        ("strict", {"width": 4}, "too wide"),
    ],
)
def test_a_factory_that_makes_no_network_is_refused_with_the_reason(
    plugin: Callable[[str], str], attribute: str, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network_layers(ModelSpec(name=plugin(attribute), arguments=dict(arguments)), 10, 16)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "VisionTransformer"])
def test_networks_of_torchvision_are_taken_as_they_are(name: str) -> None:
    arguments: dict[str, int | float | bool | str] = {}
    if name == "VisionTransformer":
        arguments = {
            "patch_size": 8,
            "num_layers": 1,
            "num_heads": 2,
            "hidden_dim": 16,
            "mlp_dim": 32,
            "image_size": 32,
        }
    spec = ModelSpec(name=f"torchvision.models:{name}", arguments=arguments)
    with torch.random.fork_rng():
        plain = getattr(torchvision.models, name)(num_classes=7, **arguments)
    model = build_model(spec, 7, 0)
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert network_layers(spec, 7, 32)


def test_a_factory_that_hands_its_arguments_on_to_nobody_says_so(plugin: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match=r"cannot be built or traced: TypeError: .*num_classes"):
        network_layers(ModelSpec(name=plugin("deaf"), arguments={}), 10, 16)


def test_a_factory_with_another_name_for_its_outputs_is_told_to_be_wrapped(plugin: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match=r"no parameter `classes` or `num_classes`.* otherwise, name a function"):
        find_network(plugin("outputs"))
