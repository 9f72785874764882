"""Densities of layers against an independent solver and the protocol's check values; counts that add up exactly."""

from collections.abc import Callable
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.models.catalog import wide_resnet_layers
from bench.sparsity import erdos_renyi_kernel, exact_counts, uniform
from tests.sparsity import reference

Shapes = dict[str, tuple[int, ...]]
Distribution = Callable[[Shapes, float], dict[str, float]]

linear_shapes = st.tuples(st.integers(1, 300), st.integers(1, 300))
kernel_sizes = st.sampled_from((1, 3, 5, 7))
convolution_shapes = st.builds(
    lambda out, inp, k: (out, inp, k, k), st.integers(1, 64), st.integers(1, 64), kernel_sizes
)
networks = st.lists(linear_shapes | convolution_shapes, min_size=1, max_size=12).map(
    lambda shapes: {f"layer{index}": shape for index, shape in enumerate(shapes)}
)
densities = st.floats(0.001, 1.0)


def mean_density(shapes: Shapes, of_layers: dict[str, float]) -> float:
    return sum(of_layers[name] * prod(shape) for name, shape in shapes.items()) / sum(map(prod, shapes.values()))


@given(networks, densities)
def test_erdos_renyi_kernel_agrees_with_a_root_finder(shapes: Shapes, density: float) -> None:
    found = erdos_renyi_kernel(shapes, density)
    assert found == pytest.approx(reference.erdos_renyi_kernel(shapes, density), rel=1e-7)


@pytest.mark.parametrize("distribution", [erdos_renyi_kernel, uniform])
@given(shapes=networks, density=densities)
def test_the_mean_over_all_weights_is_the_density_asked_for(
    distribution: Distribution, shapes: Shapes, density: float
) -> None:
    found = distribution(shapes, density)
    assert list(found) == list(shapes)
    assert all(0 < value <= 1 for value in found.values())
    assert mean_density(shapes, found) == pytest.approx(density, rel=1e-9)


def test_one_layer_above_one_becomes_dense_and_the_others_pay() -> None:
    # By hand: raw densities 4/4 = 1 and 40/400 = 0.1, so eps = density * 404 / 44. At 0.1 that is below 1; at 0.3 it is
    # not, so the small layer is dense and 121.2 - 4 nonzeros are left for the 400 weights of the large one.
    shapes = {"small": (2, 2), "large": (20, 20)}
    assert erdos_renyi_kernel(shapes, 0.1) == pytest.approx({"small": 40.4 / 44, "large": 4.04 / 44})
    assert erdos_renyi_kernel(shapes, 0.3) == pytest.approx({"small": 1.0, "large": 117.2 / 400})


def test_density_one_is_dense_everywhere() -> None:
    shapes = {"a": (7, 3), "b": (7, 3), "c": (64, 64, 3, 3), "d": (1, 1)}
    assert erdos_renyi_kernel(shapes, 1.0) == pytest.approx(dict.fromkeys(shapes, 1.0))
    assert uniform(shapes, 1.0) == dict.fromkeys(shapes, 1.0)


@pytest.mark.parametrize("distribution", [erdos_renyi_kernel, uniform])
@pytest.mark.parametrize(
    ("shapes", "density"),
    [({}, 0.5), ({"a": (2, 2)}, 0.0), ({"a": (2, 2)}, -0.1), ({"a": (2, 2)}, 1.01), ({"a": (2, 2)}, float("nan"))],
)
def test_no_layer_and_impossible_densities_are_refused(
    distribution: Distribution, shapes: Shapes, density: float
) -> None:
    with pytest.raises(ValueError, match=r"layer|density"):
        distribution(shapes, density)


class TestWideResNet28x10:
    """The check values of protocol.md, which come from the released code."""

    @staticmethod
    def densities(classes: int, sparsity: float) -> dict[str, float]:
        layers = wide_resnet_layers(classes, 32, depth=28, width=10)
        return erdos_renyi_kernel({layer.name: layer.shape for layer in layers}, 1 - sparsity)

    def test_the_first_layers_the_shortcuts_and_the_last_layer_come_out_dense(self) -> None:
        shortcuts = {f"block{group}.0.shortcut.weight" for group in (1, 2, 3)}
        dense = {name for name, density in self.densities(10, 0.8).items() if density == 1.0}
        assert dense == {"conv1.weight", "block1.0.conv1.weight", "fc.weight"} | shortcuts

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("block1.0.conv2", 0.574),
            ("block1.3.conv1", 0.574),
            ("block2.0.conv1", 0.428),
            ("block2.0.conv2", 0.285),
            ("block2.2.conv1", 0.285),
            ("block3.0.conv1", 0.213),
            ("block3.0.conv2", 0.142),
            ("block3.3.conv2", 0.142),
        ],
    )
    def test_the_other_layers_at_sparsity_80(self, pattern: str, expected: float) -> None:
        assert self.densities(10, 0.8)[f"{pattern}.weight"] == pytest.approx(expected, abs=6e-4)

    @pytest.mark.parametrize(
        ("classes", "sparsity", "fraction"),
        [(10, 0.8, 0.3396), (10, 0.9, 0.1686), (100, 0.8, 0.3374), (100, 0.9, 0.1663)],
    )
    def test_the_share_of_forward_flops(self, classes: int, sparsity: float, fraction: float) -> None:
        densities = self.densities(classes, sparsity)
        layers = wide_resnet_layers(classes, 32, depth=28, width=10)
        flops = {layer.name: prod(layer.shape) * layer.positions for layer in layers}
        sparse = sum(flops[name] * densities[name] for name in flops)
        assert sparse / sum(flops.values()) == pytest.approx(fraction, abs=5e-5)


@given(networks, densities, st.sampled_from((erdos_renyi_kernel, uniform)))
def test_counts_are_within_one_of_the_ideal_and_their_sum_is_the_rounded_total(
    shapes: Shapes, density: float, distribution: Distribution
) -> None:
    of_layers = distribution(shapes, density)
    counts = exact_counts(shapes, of_layers)
    assert list(counts) == list(shapes)
    for name, shape in shapes.items():
        assert 0 <= counts[name] <= prod(shape)
        assert abs(counts[name] - of_layers[name] * prod(shape)) < 1 + 1e-6
    # Within half a weight of the ideal total, which is rounding: an exact half may go either way.
    assert abs(sum(counts.values()) - density * sum(map(prod, shapes.values()))) <= 0.5 + 1e-6


@pytest.mark.parametrize("sparsity", [0.8, 0.9])
def test_the_global_count_of_the_papers_network_is_exact(sparsity: float) -> None:
    layers = wide_resnet_layers(10, 32, depth=28, width=10)
    shapes = {layer.name: layer.shape for layer in layers}
    counts = exact_counts(shapes, erdos_renyi_kernel(shapes, 1 - sparsity))
    assert sum(counts.values()) == {0.8: 7_292_246, 0.9: 3_646_123}[sparsity]  # round(36,461,232 x density)


def test_the_largest_remainders_are_rounded_up_and_of_equal_ones_the_first_layer() -> None:
    shapes = {"a": (10,), "b": (10,), "c": (10,), "d": (10,)}
    # Ideals 1.2, 3.7, 2.5, 2.6: sum 10; the floors give 8, so the two largest remainders gain one.
    assert exact_counts(shapes, {"a": 0.12, "b": 0.37, "c": 0.25, "d": 0.26}) == {"a": 1, "b": 4, "c": 2, "d": 3}
    assert exact_counts(shapes, dict.fromkeys(shapes, 0.25)) == {"a": 3, "b": 3, "c": 2, "d": 2}


def test_a_layer_of_density_one_keeps_all_its_weights() -> None:
    shapes = {"dense": (3, 7), "sparse": (100, 3)}
    assert exact_counts(shapes, {"dense": 1.0, "sparse": 0.1}) == {"dense": 21, "sparse": 30}
