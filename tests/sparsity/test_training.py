"""Sparse weights inside a real training loop: what is inactive stays exactly zero, whatever the optimiser does."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.sparsity.maskable import maskable_weights
from bench.sparsity.network import SparseWeights, random_masks
from bench.sparsity.schedule import drop_fraction
from bench.spec.phases import RewireRule
from bench.spec.run import Topology

STEPS, EVERY = 60, 6
STANDARD = RewireRule()
RELEASED = RewireRule(dense_layers="rewired", regrow_dropped=True, ties="all")
RELEASED_RANDOM = RELEASED.model_copy(update={"growth": "random", "random_growth": "bernoulli"})


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 9, 10),
        )


def bits(values: Tensor) -> Tensor:
    """Return the bits of float32 values: +0.0 has none, -0.0 has one."""
    return values.detach().contiguous().view(torch.int32)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("rule", "inactive_momentum"),
    [(STANDARD, "masked"), (RELEASED, "dense"), (RELEASED_RANDOM, "dense")],
    ids=["standard", "released", "released-random"],
)
def test_inactive_weights_are_exactly_zero_after_every_step(
    rule: RewireRule, inactive_momentum: str, layout: torch.memory_format
) -> None:
    model = network().to(memory_format=layout)
    shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(model).items()}
    weights = SparseWeights(model, random_masks(shapes, Topology(density=0.25), seed=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    draws = torch.Generator().manual_seed(2)
    nonzeros, changes, losses = weights.nonzeros(), 0, []
    images = torch.randn(32, 3, 8, 8, generator=draws).to(memory_format=layout)
    labels = torch.randint(10, (32,), generator=draws)
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        losses.append(loss.item())
        gradients = weights.gradients()
        if inactive_momentum == "masked":
            weights.mask_gradients()
        optimizer.step()
        weights.apply()
        if step % EVERY == 0:
            fraction = drop_fraction(0.5, "constant", step, STEPS)
            momenta = momenta_of(optimizer, weights) if inactive_momentum == "masked" else None
            buffers = {name: [momentum] for name, momentum in momenta.items()} if momenta else None
            changes += weights.update(fraction, rule, step, gradients, buffers).grown
        for name, weight in weights.weights.items():
            assert not bits(weight[~weights.masks[name]]).any(), f"{name} at step {step}"
            if inactive_momentum == "masked":
                assert not momenta_of(optimizer, weights)[name][~weights.masks[name]].any(), f"{name} at step {step}"
        if rule.random_growth == "exact":
            assert weights.nonzeros() == nonzeros
    assert changes > 0
    assert losses[-1] < losses[0] / 2, "the masked network learns"


def momenta_of(optimizer: torch.optim.SGD, weights: SparseWeights) -> dict[str, Any]:
    return {name: optimizer.state[weight]["momentum_buffer"] for name, weight in weights.weights.items()}
