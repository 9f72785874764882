"""A network's masks: how they are drawn, and what an update over all layers leaves of weights, masks and momentum."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.sparsity import DISTRIBUTIONS, exact_counts
from bench.sparsity.maskable import maskable_weights
from bench.sparsity.network import SparseWeights, random_masks
from bench.spec.phases import RewireRule
from bench.spec.run import Topology
from tests.sparsity import reference

Shapes = dict[str, tuple[int, ...]]
GRADIENT, RANDOM = RewireRule(), RewireRule(growth="random")
EXACT = [
    RewireRule.model_validate({"growth": growth, "regrow_dropped": regrow, "dense_layers": dense})
    for growth in ("gradient", "random")
    for regrow, dense in ((False, "exempt"), (True, "rewired"))
]


class Small(nn.Module):
    """Two convolutions (3x3 and 1x1), batch norm and two linear layers: everything that is masked, and what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.body = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 1, bias=False), nn.ReLU())
        self.hidden = nn.Linear(16, 24)
        self.last = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(self.body(self.first(x)).mean(dim=(2, 3)))))


MASKED = ["first.weight", "body.2.weight", "hidden.weight", "last.weight"]


def small(seed: int = 0) -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Small()


def shapes_of(model: nn.Module) -> Shapes:
    return {name: tuple(weight.shape) for name, weight in maskable_weights(model).items()}


def sparse(density: float = 0.3, seed: int = 0, layout: torch.memory_format = torch.contiguous_format) -> SparseWeights:
    model = small(seed).to(memory_format=layout)
    return SparseWeights(model, random_masks(shapes_of(model), Topology(density=density), seed))


def normal(shapes: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tuple(shape), generator=draws) for name, shape in shapes.items()}


def gradients_for(weights: SparseWeights, seed: int = 1) -> dict[str, Tensor]:
    return normal({name: weight.shape for name, weight in weights.weights.items()}, seed)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(tensor.equal(second[name]) for name, tensor in first.items())


def are_positive_zeros(values: Tensor) -> bool:
    """Return whether all float32 values are +0.0, which has no bit set; -0.0 has."""
    return not values.detach().contiguous().view(torch.int32).any()


SHAPES: Shapes = {"a": (32, 16, 3, 3), "b": (64, 40), "c": (7, 11)}


class TestRandomMasks:
    @given(st.floats(0.01, 0.99), st.sampled_from(("erk", "uniform")), st.integers(0, 99))
    def test_counts_are_exact_in_every_layer_and_in_total(self, density: float, distribution: Any, seed: int) -> None:
        masks = random_masks(SHAPES, Topology(density=density, distribution=distribution), seed)
        ideal = DISTRIBUTIONS[distribution](SHAPES, density)
        counts = {name: int(mask.count_nonzero()) for name, mask in masks.items()}
        assert {name: (tuple(mask.shape), mask.dtype) for name, mask in masks.items()} == {
            name: (shape, torch.bool) for name, shape in SHAPES.items()
        }
        assert all(abs(counts[name] - ideal[name] * math.prod(shape)) < 1 for name, shape in SHAPES.items())
        assert abs(sum(counts.values()) - density * sum(map(math.prod, SHAPES.values()))) <= 0.5 + 1e-6

    def test_every_position_is_equally_likely(self) -> None:
        drawn = [random_masks({"a": (8, 10)}, Topology(density=0.25), seed)["a"] for seed in range(1000)]
        times = torch.stack(drawn).sum(dim=0)
        assert (times - 250).abs().max() < 5 * math.sqrt(1000 * 0.25 * 0.75)

    def test_bernoulli_masks_have_the_density_as_expectation_only(self) -> None:
        topology = Topology(density=0.2, sampling="bernoulli")
        ideal = DISTRIBUTIONS["erk"](SHAPES, 0.2)
        exact = exact_counts(SHAPES, ideal)
        misses = 0
        for seed in range(200):
            masks = random_masks(SHAPES, topology, seed)
            for name, shape in SHAPES.items():
                deviation = math.sqrt(math.prod(shape) * ideal[name] * (1 - ideal[name]))
                count = int(masks[name].count_nonzero())
                assert abs(count - ideal[name] * math.prod(shape)) <= 5 * deviation
                misses += count != exact[name]
        assert misses > 300

    @pytest.mark.parametrize("sampling", ["exact", "bernoulli"])
    def test_the_seed_decides_and_nothing_else(self, sampling: Any) -> None:
        topology = Topology(density=0.3, sampling=sampling)
        torch.manual_seed(1)
        first = random_masks(SHAPES, topology, 18)
        torch.manual_seed(2)
        state = torch.random.get_rng_state()
        assert same(random_masks(SHAPES, topology, 18), first)
        assert torch.random.get_rng_state().equal(state), "the global generator was used"
        other = random_masks(SHAPES, topology, 19)
        assert not any(other[name].equal(first[name]) for name in ("a", "b"))  # c is dense

    def test_two_layers_of_one_shape_get_different_masks_that_do_not_depend_on_the_other_layers(self) -> None:
        topology = Topology(density=0.5, distribution="uniform")
        alone = random_masks({"a": (20, 20)}, topology, 0)
        both = random_masks({"b": (20, 20), "a": (20, 20)}, topology, 0)
        assert both["a"].equal(alone["a"])
        assert not both["a"].equal(both["b"])


def test_convolutions_and_linear_layers_are_masked_biases_and_batch_norm_are_not() -> None:
    model = small()
    assert list(maskable_weights(model)) == MASKED
    assert all(weight is model.get_parameter(name) for name, weight in maskable_weights(model).items())
    assert list(maskable_weights(nn.Linear(2, 3))) == ["weight"]


class TestConstruction:
    def test_inactive_weights_are_zero_at_once_and_the_others_untouched(self) -> None:
        model, untouched = small(), small()
        weights = SparseWeights(model, random_masks(shapes_of(model), Topology(density=0.3), 0))
        for name, parameter in model.named_parameters():
            before = untouched.get_parameter(name)
            if name in MASKED:
                assert are_positive_zeros(parameter[~weights.masks[name]])
                assert parameter[weights.masks[name]].equal(before[weights.masks[name]])
            else:
                assert parameter.equal(before)

    @pytest.mark.parametrize("change", ["missing", "unknown"])
    def test_masks_of_another_network_are_refused(self, change: str) -> None:
        masks = random_masks(shapes_of(small()), Topology(density=0.3), 0)
        mask = masks.pop("hidden.weight")
        if change == "unknown":
            masks |= {"hidden.weight": mask, "other.weight": mask}
        with pytest.raises(ValueError, match="masks"):
            SparseWeights(small(), masks)

    def test_the_masks_given_are_not_changed_by_updates(self) -> None:
        model = small()
        masks = random_masks(shapes_of(model), Topology(density=0.3), 0)
        before = copies(masks)
        weights = SparseWeights(model, masks)
        weights.update(0.5, RANDOM, 0)
        assert same(masks, before)
        assert not same(weights.masks, before)


@st.composite
def networks(draw: st.DrawFn) -> SparseWeights:
    """Return a stack of two to four layers of random shapes at a random density, weights not trained."""
    convolution = st.builds(nn.Conv2d, st.integers(1, 6), st.integers(1, 6), st.sampled_from((1, 3)))
    linear = st.builds(nn.Linear, st.integers(1, 20), st.integers(1, 20))
    model = nn.Sequential(*draw(st.lists(convolution | linear, min_size=2, max_size=4)))
    density = draw(st.sampled_from((0.1, 0.5, 0.9, 0.97)) | st.floats(0.01, 0.99))
    layout = draw(st.sampled_from((torch.contiguous_format, torch.channels_last)))
    topology = Topology(density=density, distribution=draw(st.sampled_from(("erk", "uniform"))))
    masks = random_masks(shapes_of(model), topology, draw(st.integers(0, 99)))
    return SparseWeights(model.to(memory_format=layout), masks)


@pytest.mark.parametrize("rule", EXACT, ids=["gradient", "gradient-regrow", "random", "random-regrow"])
@settings(max_examples=6)
@given(weights=networks(), fraction=st.sampled_from((0.1, 0.5, 0.8)))
def test_nonzeros_of_every_layer_are_constant_over_hundreds_of_updates(
    rule: RewireRule, weights: SparseWeights, fraction: float
) -> None:
    before = weights.nonzeros()
    density = weights.density()
    draws = torch.Generator().manual_seed(0)
    for step in range(200):
        for weight in weights.weights.values():
            weight.data.add_(torch.randn(weight.shape, generator=draws).round())  # ties at every threshold
            weight.grad = torch.randn(weight.shape, generator=draws).round()
        weights.apply()
        update = weights.update(fraction, rule, step)
        assert weights.nonzeros() == before
        assert update.dropped == update.grown
        assert update.density == density
        for name, weight in weights.weights.items():
            assert are_positive_zeros(weight[~weights.masks[name]])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
class TestUpdate:
    def test_each_layer_equals_the_reference_and_all_that_changed_is_zero(self, layout: torch.memory_format) -> None:
        weights = sparse(layout=layout)
        gradients, old_masks, old = gradients_for(weights), copies(weights.masks), copies(weights.weights)
        update = weights.update(0.5, GRADIENT, 0, gradients)
        dropped = grown = 0
        for name, weight in weights.weights.items():
            expected = reference.drop_and_grow(
                *(tensors[name].flatten().tolist() for tensors in (old, old_masks, gradients)),
                0.5,
                dense_layers="exempt",
                regrow_dropped=False,
                ties="lowest_index",
            )
            assert weights.masks[name].flatten().tolist() == expected.mask
            stayed = old_masks[name] & weights.masks[name]
            assert weight[stayed].equal(old[name][stayed])
            assert are_positive_zeros(weight[~stayed])
            dropped, grown = dropped + len(expected.dropped), grown + len(expected.grown)
        assert (update.dropped, update.grown) == (dropped, grown)
        assert dropped > 0

    def test_the_parameters_own_gradients_serve_when_none_are_given(self, layout: torch.memory_format) -> None:
        given, own = sparse(layout=layout), sparse(layout=layout)
        gradients = gradients_for(own)
        for name, weight in own.weights.items():
            weight.grad = gradients[name].clone()
        given.update(0.5, GRADIENT, 0, gradients)
        own.update(0.5, GRADIENT, 0)
        assert same(given.masks, own.masks)

    def test_momentum_is_zero_wherever_a_weight_was_dropped_or_grown_and_kept_elsewhere(
        self, layout: torch.memory_format
    ) -> None:
        weights = sparse(layout=layout)
        old = copies(weights.masks)
        active_only = {name: m * old[name] for name, m in gradients_for(weights, 2).items()}
        momenta = copies(active_only)
        weights.update(
            0.5,
            RewireRule(regrow_dropped=True),
            0,
            gradients_for(weights),
            {name: [momentum] for name, momentum in momenta.items()},
        )
        for name, mask in weights.masks.items():
            assert not momenta[name][old[name] != mask].any()
            assert not momenta[name][~mask].any()
            lost = old[name] & (weights.weights[name] == 0)  # dropped, some of them grown again at once
            assert not momenta[name][lost].any()
            stayed = old[name] & ~lost
            assert momenta[name][stayed].equal(active_only[name][stayed])

    def test_a_dense_layer_is_exempt_or_loses_values_with_its_mask_kept_at_ones(
        self, layout: torch.memory_format
    ) -> None:
        for dense_layers in ("exempt", "rewired"):
            model = small().to(memory_format=layout)
            masks = random_masks(shapes_of(model), Topology(density=0.3), 0)
            masks["last.weight"] = torch.ones(10, 24, dtype=torch.bool)
            weights = SparseWeights(model, masks)
            old = weights.weights["last.weight"].detach().clone()
            weights.update(0.5, RewireRule.model_validate({"dense_layers": dense_layers}), 0, gradients_for(weights))
            new = weights.weights["last.weight"].detach()
            assert weights.masks["last.weight"].all()
            if dense_layers == "exempt":
                assert new.equal(old)
            else:
                smallest = old.abs().flatten().argsort()[:120]
                assert indices(new == 0) == set(smallest.tolist())
                assert new[new != 0].equal(old[new != 0])


def indices(positions: Tensor) -> set[int]:
    return set(positions.flatten().nonzero().flatten().tolist())


class TestDeterminism:
    @pytest.mark.parametrize("random_growth", ["exact", "bernoulli"])
    def test_an_update_is_a_function_of_its_seed(self, random_growth: Any) -> None:
        rule = RewireRule(growth="random", random_growth=random_growth)
        masks = []
        for global_seed, seed in ((1, 7), (2, 7), (3, 8)):
            torch.manual_seed(global_seed)
            weights = sparse()
            weights.update(0.5, rule, seed)
            masks.append(weights.masks)
        assert same(masks[0], masks[1])
        assert not same(masks[0], masks[2])

    def test_layers_of_one_shape_do_not_share_their_random_draws(self) -> None:
        model = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30))
        mask = torch.rand(30, 30, generator=torch.Generator().manual_seed(0)) < 0.3
        model[1].weight.data.copy_(model[0].weight.data)
        weights = SparseWeights(model, {"0.weight": mask, "1.weight": mask})
        weights.update(0.5, RANDOM, 0)
        assert not weights.masks["0.weight"].equal(weights.masks["1.weight"])


def test_gradients_are_copies_and_masking_them_zeroes_the_inactive_ones() -> None:
    weights = sparse()
    dense = gradients_for(weights)
    for name, weight in weights.weights.items():
        weight.grad = dense[name].clone()
    copied = weights.gradients()
    weights.mask_gradients()
    assert same(copied, dense)
    for name, weight in weights.weights.items():
        assert weight.grad is not None
        assert weight.grad.equal(torch.where(weights.masks[name], dense[name], 0.0))


def test_a_weight_that_takes_no_part_in_the_loss_is_named_as_such() -> None:
    weights = sparse()
    with pytest.raises(ValueError, match=r"first\.weight has no gradient"):
        weights.mask_gradients()
    with pytest.raises(ValueError, match="gradient"):
        weights.update(0.5, GRADIENT, 0)


def test_density_and_nonzeros_count_the_masks() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    masks = {"0.weight": torch.arange(20).reshape(5, 4) < 7, "1.weight": torch.arange(10).reshape(2, 5) < 2}
    weights = SparseWeights(model, masks)
    assert weights.nonzeros() == {"0.weight": 7, "1.weight": 2}
    assert weights.density() == 9 / 30
