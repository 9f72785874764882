"""`topology: {dense: [...]}`: what is not masked is named in the grid, or the grid is refused."""

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.grid.cell import Cell
from bench.models.layers import layers_of
from bench.plan.cost import forward_flops, parameters_ratio
from bench.spec.run import Topology, canonical_json
from tests.grid_text import load_text

TRANSFORMER = '["*.in_proj_weight", class_token, encoder.pos_embedding]'


def cell(folder: Path, network: str, topology: str = "{}", method: str = "static, sparsity: 0.8") -> Cell:
    text = f"cells: [{{name: a, data: digits, method: {method}, model: {{name: {network!r}}}, topology: {topology}}}]"
    return load_text(folder, text).cells[0]


def own(name: str) -> str:
    return f"tests.models.networks:{name}"


@pytest.mark.parametrize(
    ("network", "topology", "message"),
    [
        (
            own("weight_norm"),
            "{}",
            "0.parametrizations.weight.original0 of tests.models.networks:weight_norm cannot be masked: it is no "
            "weight of a convolution or linear layer. Say that it stays dense: topology: {dense: "
            '["0.parametrizations.weight.original0", "0.parametrizations.weight.original1"]}',
        ),
        (
            own("with_gaps"),
            "{}",
            "0.weight of tests.models.networks:with_gaps cannot be masked: it is a view of",
        ),
        (own("vision_transformer"), "{dense: [class_token]}", "encoder.pos_embedding of "),
        (own("plain"), "{dense: ['0.wieght']}", "'0.wieght' is no weight of two or more dimensions, and no module"),
        (own("plain"), "{dense: ['0.wieght']}", "nearest: 0.weight, "),
        (own("plain"), "{dense: ['']}", "'' is no weight of two or more dimensions"),
        ("wide_resnet", "{dense: [bn]}", "'bn' is no weight of two or more dimensions"),
        ("wide_resnet", "{dense: ['*']}", "all weights of wide_resnet are left dense"),
    ],
)
def test_a_sparsity_that_would_not_be_there_is_refused(
    tmp_path: Path, network: str, topology: str, message: str
) -> None:
    with pytest.raises(UserError) as refused:
        cell(tmp_path, network, topology)
    place, _, found = str(refused.value).removeprefix(f"{tmp_path / 'grid.yaml'}: ").partition(": ")
    assert place == "cells[0].topology.dense"
    assert message in found


def test_a_dense_network_may_have_any_weights(tmp_path: Path) -> None:
    assert cell(tmp_path, own("weight_norm"), method="dense").spec.topology is None


def test_what_is_named_is_dense_in_flops_and_weights(tmp_path: Path) -> None:
    spec = cell(tmp_path, own("vision_transformer"), TRANSFORMER.join(["{distribution: uniform, dense: ", "}"])).spec
    assert spec.topology == Topology(
        density=0.2, distribution="uniform", dense=("*.in_proj_weight", "class_token", "encoder.pos_embedding")
    )
    layers = layers_of(spec.model, spec.data)
    # Two layers: 17 tokens of 16 to 48 numbers, and 17 x 17 products of 16, there and back.
    dense = 2 * (2 * 17 * 16 * 48 + 2 * 2 * 17 * 17 * 16)
    assert forward_flops(spec.model, spec.data) == sum(layer.flops for layer in layers) + dense
    sparse = 0.2 * sum(layer.flops for layer in layers) + dense
    assert forward_flops(spec.model, spec.data, spec.topology) == pytest.approx(sparse)
    masked, other = sum(layer.size for layer in layers), 2 * 48 * 16 + 16 + 17 * 16
    assert parameters_ratio(spec, 1) == pytest.approx((0.2 * masked + other) / (masked + other))


def test_a_module_of_a_built_in_network_can_stay_dense(tmp_path: Path) -> None:
    spec = cell(tmp_path, "wide_resnet", "{dense: [fc, conv1.weight, fc]}").spec
    assert spec.topology is not None
    assert spec.topology.dense == ("conv1.weight", "fc")
    assert [layer.name for layer in layers_of(spec.model, spec.data) if not spec.topology.masks(layer.name)] == [
        "conv1.weight",
        "fc.weight",
    ]


def test_a_grid_without_the_key_names_the_runs_that_it_named_before(tmp_path: Path) -> None:
    plain, empty = (cell(tmp_path, "wide_resnet", topology).spec for topology in ("{}", "{dense: []}"))
    assert plain.run_id == empty.run_id
    assert '"topology":{"density":0.2,"distribution":"erk","sampling":"exact"}' in canonical_json(plain)


def test_it_can_be_an_axis(tmp_path: Path) -> None:
    base = "base: {data: digits, method: static, sparsity: 0.8, model: {depth: 10, width: 1}}"
    cells = load_text(tmp_path, f"{base}\naxes: {{topology.dense: [[], [fc], [conv1, fc]]}}").cells
    assert [cell.name for cell in cells] == ["static dense=", "static dense=fc", "static dense=conv1,fc"]
    assert len({cell.spec.run_id for cell in cells}) == 3
