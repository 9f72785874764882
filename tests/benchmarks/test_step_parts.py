"""Where a training step's time goes: its convolutions, and its normalisations with ReLU, each alone and at their best.

No step can take less than these parts take by themselves. What is above is everything else: cutting and augmenting the
batch, additions, loss, optimiser, masks.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.build import build_model
from tests.benchmarks.test_step_speed import BATCH, FP32, ROWS, WRN_16_2, our_step, plain_step

ROUNDS = 9
MOST_ABOVE = 1.3  # our step over its parts
Part = Callable[[], None]


def layers_of(model: nn.Module) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Return convolutions and normalisations with the shapes of their inputs."""
    found: list[tuple[nn.Module, tuple[int, ...]]] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(lambda layer, inputs, _: found.append((layer, tuple(inputs[0].shape))))
    model(torch.randn(BATCH, 3, 32, 32))
    return found


def convolution(layer: nn.Conv2d, shape: tuple[int, ...], layout: torch.memory_format) -> Part:
    """Return the three products of a convolution, two of the first one, whose images need no gradient."""
    images = torch.randn(shape).to(memory_format=layout)
    weight = layer.weight.detach().to(memory_format=layout)
    stride, padding = list(layer.stride), [int(pad) for pad in layer.padding]
    above = functional.conv2d(images, weight, None, stride, padding).to(memory_format=layout)
    wanted = [shape[1] != 3, True, False]

    def part() -> None:
        functional.conv2d(images, weight, None, stride, padding)
        torch.ops.aten.convolution_backward(
            above, images, weight, None, stride, padding, [1, 1], False, [0, 0], 1, wanted
        )

    return part


def normalisation(shape: tuple[int, ...]) -> Part:
    """Return batch norm and ReLU, forward and backward."""
    layer = nn.BatchNorm2d(shape[1])
    images = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()

    def part() -> None:
        made: Tensor = functional.relu(layer(images), inplace=True)
        torch.autograd.grad(made, [images, *layer.parameters()], made.detach())

    return part


def seconds(part: Part) -> float:
    started = time.perf_counter()
    part()
    return time.perf_counter() - started


def test_a_step_takes_little_more_than_its_parts(benchmark: Any) -> None:
    found = layers_of(build_model(WRN_16_2, 10, seed=0))
    both = [
        [convolution(layer, shape, layout) for layout in (torch.channels_last, torch.contiguous_format)]
        for layer, shape in found
        if isinstance(layer, nn.Conv2d)
    ]
    norms = [normalisation(shape) for layer, shape in found if isinstance(layer, nn.BatchNorm2d)]
    steps = {"ours": our_step(ROWS["dst fp32"], FP32), "plain": plain_step()}
    times: dict[str, list[float]] = {name: [] for name in ("convolutions", "normalisations", *steps)}

    def one_round() -> None:
        with torch.no_grad():
            times["convolutions"].append(sum(min(map(seconds, layouts)) for layouts in both))
        times["normalisations"].append(sum(map(seconds, norms)))
        for name, step in steps.items():
            times[name].append(seconds(step))

    benchmark.group = "parts of a training step, WRN-16-2, batch 128"
    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=2)
    medians = {name: statistics.median(values[-ROUNDS:]) for name, values in times.items()}
    over = {name: round(value / medians["plain"], 3) for name, value in medians.items()}
    benchmark.extra_info |= {"over the plain step": over, "processor": torch.backends.cpu.get_cpu_capability()}
    print(f"\nover the plain step: {over}")
    assert medians["ours"] <= MOST_ABOVE * (medians["convolutions"] + medians["normalisations"])
