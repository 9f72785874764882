"""One mask update of WRN-28-10: selection against the two full sorts a layer of the released code, on one state."""

import math
import time
from collections.abc import Mapping

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.models.wide_resnet import WideResNet
from bench.recipes import PRESETS
from bench.sparsity.maskable import maskable_weights
from bench.sparsity.network import SparseWeights, random_masks
from bench.spec.phases import RewireRule
from bench.spec.run import Topology
from tests.benchmarks.promises import promised

# On two idle cores, by the kind of processor; the released code takes 4 s there.
LIMIT_SECONDS = {"AVX512": 0.2, "AVX2": 0.3}
ROUNDS = 15
FRACTION = 0.5


class Training:
    """A sparse WRN-28-10 that moves between updates as under an optimiser, with dense gradients."""

    def __init__(self) -> None:
        model = WideResNet(depth=28, width=10, classes=10).to(memory_format=torch.channels_last)
        shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(model).items()}
        self.sparse = SparseWeights(model, random_masks(shapes, Topology(density=0.2), seed=0))
        self.gradients = {name: 1e-3 * torch.randn_like(w.data) for name, w in self.sparse.weights.items()}
        self._noise = {name: 1e-2 * torch.randn_like(w.data) for name, w in self.sparse.weights.items()}

    def move(self) -> None:
        """Change active weights and gradients, so that what the last update grew is not a field of tied zeros."""
        for name, weight in self.sparse.weights.items():
            noise = self._noise[name] = self._noise[name].roll(1, dims=0)
            weight.data.add_(noise)
            self.gradients[name].lerp_(noise, 0.3)
        self.sparse.apply()


@torch.no_grad()
def update_by_sorting(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return new masks: in each layer one full sort of magnitudes, and one of gradients (released core.py)."""
    updated = {}
    for name, weight in weights.items():
        mask = masks[name]
        inactive = int((~mask).sum())
        dropped = min(math.ceil(FRACTION * int(mask.sum())), inactive)
        ascending = torch.sort(weight.data.abs().flatten())[0]
        kept = (weight.data.abs() > ascending[inactive + dropped - 1]) & mask if dropped else mask
        descending = torch.sort((gradients[name] * ~mask).abs().flatten(), descending=True)[1]
        grown = torch.zeros(mask.numel(), dtype=torch.bool)
        grown[descending[:dropped]] = True
        updated[name] = kept | grown.view(mask.shape)
    return updated


@pytest.mark.parametrize("semantics", PRESETS)
def test_a_mask_update_of_wide_resnet_28_10(benchmark: BenchmarkFixture, semantics: str) -> None:
    torch.manual_seed(0)
    switches = PRESETS[semantics]
    rule = RewireRule(dense_layers=switches.dense_layers, regrow_dropped=switches.regrow_dropped, ties=switches.ties)
    training = Training()
    training.move()
    before = time.perf_counter()
    expected = update_by_sorting(training.sparse.weights, training.sparse.masks, training.gradients)
    naive = time.perf_counter() - before
    if semantics == "standard":
        training.sparse.update(FRACTION, rule, 0, training.gradients)
        assert all(mask.equal(expected[name]) for name, mask in training.sparse.masks.items())
    benchmark.pedantic(
        lambda: training.sparse.update(FRACTION, rule, 0, training.gradients), setup=training.move, rounds=ROUNDS
    )
    benchmark.extra_info |= {
        "weights": sum(mask.numel() for mask in training.sparse.masks.values()),
        "threads": torch.get_num_threads(),
        "two_sorts_seconds": round(naive, 3),
        "two_sorts_over_ours": round(naive / benchmark.stats["min"], 1),
    }
    limit = promised(LIMIT_SECONDS)
    assert limit is None or benchmark.stats["min"] <= limit
