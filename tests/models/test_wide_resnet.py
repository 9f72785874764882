"""The Wide ResNet against a forward pass written with functions alone, and its initial weights against the protocol."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bench.models.build import build_model
from bench.models.wide_resnet import WideResNet
from bench.spec.run import ModelSpec


def build(depth: int, width: int, seed: int = 0, classes: int = 10) -> WideResNet:
    model = build_model(ModelSpec(name="wide_resnet", arguments={"depth": depth, "width": width}), classes, seed)
    assert isinstance(model, WideResNet)
    return model


def forward(state: Mapping[str, Tensor], images: Tensor, blocks: int) -> Tensor:
    """Return logits as Zagoruyko & Komodakis describe the network, batch norm with the statistics of the batch."""

    def norm_relu(x: Tensor, name: str) -> Tensor:
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = state[f"{name}.weight"].view(1, -1, 1, 1), state[f"{name}.bias"].view(1, -1, 1, 1)
        return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)

    x = functional.conv2d(images, state["conv1.weight"], padding=1)
    for group in (1, 2, 3):
        for block in range(blocks):
            name = f"block{group}.{block}"
            stride = 2 if group > 1 and block == 0 else 1
            active = norm_relu(x, f"{name}.bn1")
            if f"{name}.shortcut.weight" in state:
                x = functional.conv2d(active, state[f"{name}.shortcut.weight"], stride=stride)
            y = functional.conv2d(active, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            x = x + functional.conv2d(norm_relu(y, f"{name}.bn2"), state[f"{name}.conv2.weight"], padding=1)
    pooled = functional.adaptive_avg_pool2d(norm_relu(x, "bn"), 1).flatten(1)
    return pooled @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (10, 2), (16, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_logits_are_those_of_the_textbook_network(depth: int, width: int, layout: torch.memory_format) -> None:
    model = build(depth, width).to(memory_format=layout)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bn" in name or name == "fc.bias":  # 1 and 0 would hide a mistake
                parameter.uniform_(0.5, 1.5, generator=draws)
        images = torch.randn(4, 3, 32, 32, generator=draws)
        expected = forward(model.state_dict(), images, blocks=(depth - 4) // 6)
        logits = model(images.to(memory_format=layout))
    assert logits.shape == (4, 10)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_initial_weights_are_those_of_the_protocol() -> None:
    model = build(16, 4)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "bn" in name:
            assert (parameter == 1).all(), name
        elif parameter.ndim == 4:
            c_out, _, k, _ = parameter.shape
            deviation = math.sqrt(2 / (k * k * c_out))
            assert parameter.std().item() == pytest.approx(deviation, rel=5 / math.sqrt(2 * parameter.numel())), name
            assert abs(parameter.mean().item()) < 5 * deviation / math.sqrt(parameter.numel()), name
    # torch's default for a linear layer is uniform within 1/sqrt(inputs).
    bound = 1 / math.sqrt(256)
    assert 0.99 * bound < model.fc.weight.abs().max().item() <= bound
    assert model.fc.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build(10, 1, seed=18).state_dict()
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(2)
    again, other = build(10, 1, seed=18).state_dict(), build(10, 1, seed=19).state_dict()
    assert all(tensor.equal(again[name]) for name, tensor in first.items())
    assert not any(tensor.equal(other[name]) for name, tensor in first.items() if tensor.ndim >= 2)


def test_other_image_sizes_and_numbers_of_classes() -> None:
    model = build(10, 1, classes=100).eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    assert model(torch.zeros(1, 3, 64, 48)).shape == (1, 100)
