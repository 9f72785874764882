"""Magnitude pruning against a sort written out in NumPy."""

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.sparsity.distribution import DISTRIBUTIONS, exact_counts
from bench.sparsity.network import SparseWeights, full_masks
from bench.sparsity.prune import pruned_masks
from bench.spec.run import Topology

SHAPES = {"a": (8, 3, 3, 3), "b": (16, 8, 3, 3), "c": (10, 16)}


def weights(seed: int, *, ties: bool = False) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}
    return {name: weight.round(decimals=1) for name, weight in found.items()} if ties else found


def ones() -> dict[str, Tensor]:
    return {name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()}


@settings(deadline=None)
@given(seed=st.integers(0, 1000), density=st.floats(0.01, 0.99), ties=st.booleans())
def test_one_global_threshold_keeps_exactly_the_largest_weights_over_all_layers(
    seed: int, density: float, ties: bool
) -> None:
    found = weights(seed, ties=ties)
    kept = pruned_masks(found, ones(), Topology(density=density, distribution="global"), 1.0)
    magnitudes = np.concatenate([found[name].abs().flatten().numpy() for name in SHAPES])
    # a stable sort: of equal magnitudes the one that comes first stays
    expected = np.zeros(magnitudes.size, dtype=bool)
    expected[np.argsort(-magnitudes, kind="stable")[: round(density * magnitudes.size)]] = True
    assert np.array_equal(np.concatenate([kept[name].flatten().numpy() for name in SHAPES]), expected)


@pytest.mark.parametrize("distribution", ["erk", "uniform"])
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_each_layer_keeps_its_own_largest_down_to_its_density(distribution: str, progress: float) -> None:
    found = weights(3)
    topology = Topology.model_validate({"density": 0.2, "distribution": distribution})
    target = exact_counts(SHAPES, DISTRIBUTIONS[distribution](SHAPES, 0.2))
    kept = pruned_masks(found, ones(), topology, progress)
    for name, shape in SHAPES.items():
        count = prod(shape) - round(progress * (prod(shape) - target[name]))
        threshold = np.sort(found[name].abs().flatten().numpy())[-count]
        assert np.array_equal(kept[name].numpy(), (found[name].abs() >= float(threshold)).numpy())


def test_memory_format_changes_nothing() -> None:
    found = weights(5)
    topology = Topology(density=0.3, distribution="global")
    plain = pruned_masks(found, ones(), topology, 1.0)
    last = {n: w.to(memory_format=torch.channels_last) if w.ndim == 4 else w for n, w in found.items()}
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in last.items()}
    for name, mask in pruned_masks(last, masks, topology, 1.0).items():
        assert mask.equal(plain[name])
        assert mask.stride() == last[name].stride()


def test_pruning_a_network_zeroes_weights_and_momenta_and_never_brings_one_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 10))
    sparse = SparseWeights(model, full_masks(model))
    assert sparse.density() == 1
    momenta = {name: torch.ones_like(weight.data) for name, weight in sparse.weights.items()}
    topology = Topology(density=0.25, distribution="uniform")
    before = {name: mask.clone() for name, mask in sparse.masks.items()}
    for progress in (0.4, 0.8, 1.0):
        update = sparse.prune(topology, progress, {name: [momentum] for name, momentum in momenta.items()})
        assert update.grown == 0
        for name, mask in sparse.masks.items():
            assert not (mask & ~before[name]).any()
            assert not sparse.weights[name][~mask].any()
            assert torch.equal(momenta[name] != 0, mask)
            before[name] = mask.clone()
    assert sum(sparse.nonzeros().values()) == round(0.25 * sum(mask.numel() for mask in sparse.masks.values()))
