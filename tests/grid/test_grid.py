"""How a grid file becomes cells: base, axes, exclude, rows, names, shorthands, and what a cell resolves to."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.data.catalog import DATASETS
from bench.errors import UserError
from bench.grid import grid_files, load_grid
from bench.recipes import RELEASED
from bench.spec.phases import LearningRate, TicketPolicy
from bench.spec.run import Augmentation, Execution, ModelSpec, Optimizer, Topology
from tests.grid_text import PAPER_CONFIGS, load_text

DST = "base: {data: digits, method: dst, sparsity: 0.8, recipe: {epochs: 8, update_every: 4}}\n"


def names(folder: Path, text: str) -> list[str]:
    return [cell.name for cell in load_text(folder, text).cells]


# -- defaults and lookups ----------------------------------------------------------------------------------------------


def test_a_cell_that_says_little_is_the_papers_setting(tmp_path: Path) -> None:
    (cell,) = load_text(tmp_path, "cells: [{name: dense, method: dense, data: cifar10}]").cells
    assert (cell.members, cell.sparsity, cell.replicates, cell.spec.seed) == (1, 0.0, 3, 18)
    assert cell.spec.model == ModelSpec(name="wide_resnet", arguments={"depth": 28, "width": 10})
    assert cell.spec.optimizer == Optimizer(momentum=0.9, nesterov=False, weight_decay=5e-4)
    assert (cell.spec.batch_size, cell.spec.steps_per_epoch, cell.spec.epochs) == (128, 352, 250)
    assert cell.spec.augmentation == Augmentation(padding=4, padding_mode="reflect", flip=True)
    assert cell.spec.execution == Execution()
    assert cell.spec.topology is None
    assert not cell.spec.validation_augmented


def test_every_key_of_a_cell_reaches_the_run(tmp_path: Path) -> None:
    text = """
    cells:
      - name: all
        method: edst
        members: 2
        sparsity: 0.9
        replicates: 5
        seed: 7
        data: {name: cifar100, train_images: 1000, validation_images: 100, test_images: 50}
        model: {depth: 16, width: 2}
        batch_size: 32
        optimizer: {learning_rate: 0.2, momentum: 0.8, nesterov: true, weight_decay: 0}
        topology: {distribution: uniform}
        semantics: {preset: released, first_ticket: reset}
        recipe: {exploration_epochs: 4, refinement_epochs: 2, update_every: 10}
        execution: {precision: bf16, channels_last: false, compile: true}
        augmentation: {padding: 2}
    """
    (cell,) = load_text(tmp_path, text).cells
    spec = cell.spec
    assert (cell.members, cell.replicates, cell.runs_a_replicate, spec.seed, spec.batch_size) == (2, 5, 1, 7, 32)
    assert (spec.data.train_images, spec.data.validation_images, spec.data.test_images) == (1000, 100, 50)
    assert spec.model.arguments == {"depth": 16, "width": 2}
    assert spec.optimizer == Optimizer(momentum=0.8, nesterov=True, weight_decay=0.0)
    assert spec.topology == Topology(density=0.1, distribution="uniform", sampling="bernoulli")
    assert spec.validation_augmented
    assert spec.execution == Execution(precision="bf16", channels_last=False, compile=True)
    assert spec.augmentation == Augmentation(padding=2, padding_mode="zero", flip=True)
    assert [phase.epochs for phase in spec.phases] == [4, 2, 2]
    assert spec.phases[0].lr.values == (0.2,)
    assert spec.phases[1].ticket is not None
    assert spec.phases[1].ticket.reset_best


def test_semantics_by_name_and_by_switch(tmp_path: Path) -> None:
    text = DST + "cells: [{name: a, semantics: released}, {name: b, semantics: {ties: all}}, {name: c}]"
    released, one_switch, standard = load_text(tmp_path, text).cells
    schedules = []
    for cell in (released, one_switch, standard):
        rewire = cell.spec.phases[0].rewire
        assert rewire is not None
        schedules.append((rewire.schedule, rewire.rule.ties, rewire.update_step))
    assert schedules == [
        (RELEASED.drop_schedule, "all", "after_optimizer"),
        ("cosine", "all", "instead_of_optimizer"),
        ("cosine", "lowest_index", "instead_of_optimizer"),
    ]


def test_the_density_of_a_sparsity_has_no_rounding_error(tmp_path: Path) -> None:
    text = DST + "axes: {sparsity: [0.8, 0.9, 0.95, 0.7, 0.3]}"
    densities = [cell.spec.topology and cell.spec.topology.density for cell in load_text(tmp_path, text).cells]
    assert densities == [0.2, 0.1, 0.05, 0.3, 0.7]


def test_a_method_may_be_a_function_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_methods.py").write_text(
        "from bench.spec.phases import LearningRate, Phase, TicketPolicy\n"
        "def warm(setting, *, epochs: int = 3, low: float = 0.01):\n"
        "    rate = LearningRate(values=(low, setting.learning_rate), boundaries=(1,))\n"
        "    return (Phase(name='warm', epochs=epochs, lr=rate, ticket=TicketPolicy(select='last')),)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = "name: w, data: digits, method: 'my_methods:warm', recipe: {low: 1}"
    sparse = f"{{{cell}, sparsity: 0.5}}".replace("name: w", "name: s")
    dense, pruned = load_text(tmp_path, f"cells: [{{{cell}}}, {sparse}]").cells
    assert [phase.lr.values for phase in dense.spec.phases] == [(1.0, 0.1)]
    assert (dense.spec.topology is None, pruned.spec.topology is None) == (True, False)


# -- axes, exclude, rows -----------------------------------------------------------------------------------------------


@given(
    members=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    sparsities=st.lists(st.sampled_from([0.5, 0.8, 0.9, 0.95]), min_size=1, max_size=4, unique=True),
    every=st.lists(st.integers(2, 40), min_size=1, max_size=3, unique=True),
)
def test_axes_make_each_product_once_the_last_axis_fastest(
    tmp_path_factory: pytest.TempPathFactory, members: list[int], sparsities: list[float], every: list[int]
) -> None:
    axes = f"axes: {{members: {members}, sparsity: {sparsities}, recipe.update_every: {every}}}"
    cells = load_text(tmp_path_factory.mktemp("grid"), DST + axes).cells
    found = []
    for cell in cells:
        rewire = cell.spec.phases[0].rewire
        assert rewire is not None
        found.append((cell.members, cell.sparsity, rewire.every))
    assert found == list(itertools.product(members, sparsities, every))
    assert len({cell.name for cell in cells}) == len(cells)


def test_automatic_names_say_what_varies(tmp_path: Path) -> None:
    text = DST + "axes: {sparsity: [0.8, 0.9], members: [3], optimizer.learning_rate: [0.1, 0.2]}"
    assert names(tmp_path, text) == [
        "dst S=0.8 learning_rate=0.1",
        "dst S=0.8 learning_rate=0.2",
        "dst S=0.9 learning_rate=0.1",
        "dst S=0.9 learning_rate=0.2",
    ]
    text = DST + "axes: {method: [dst, static], members: [1, 3]}\nbase: {data: digits, sparsity: 0.8}"
    text = text.removeprefix(DST)
    assert names(tmp_path, text) == ["dst M=1", "dst M=3", "static M=1", "static M=3"]


def test_exclude_takes_products_away(tmp_path: Path) -> None:
    text = (
        DST + "axes: {sparsity: [0.8, 0.9], members: [1, 2, 3]}\nexclude: [{sparsity: 0.9, members: 3}, {members: 2}]"
    )
    found = [(cell.sparsity, cell.members) for cell in load_text(tmp_path, text).cells]
    assert found == [(0.8, 1), (0.8, 3), (0.9, 1)]


def test_rows_come_after_products_and_inherit_from_base_alone(tmp_path: Path) -> None:
    cells = load_text(tmp_path, DST + "axes: {members: [2, 3]}\ncells: [{name: row, seed: 99}]").cells
    assert [(cell.name, cell.members, cell.spec.seed) for cell in cells] == [
        ("dst M=2", 2, 18),
        ("dst M=3", 3, 18),
        ("row", 1, 99),
    ]


def test_a_row_merges_mappings_but_a_plain_name_replaces_them(tmp_path: Path) -> None:
    base = "base: {method: dense, data: {name: cifar10, train_images: 512}, optimizer: {momentum: 0.5}}\n"
    rows = "cells: [{name: merged, data: {test_images: 9}, optimizer.weight_decay: 0}, {name: replaced, data: digits}]"
    merged, replaced = load_text(tmp_path, base + rows).cells
    assert (merged.spec.data.name, merged.spec.data.train_images, merged.spec.data.test_images) == ("cifar10", 512, 9)
    assert merged.spec.optimizer == Optimizer(momentum=0.5, weight_decay=0.0)
    assert (replaced.spec.data.name, replaced.spec.data.train_images) == ("digits", DATASETS["digits"].train_images)


def test_replicates_of_the_grid_are_the_default_of_its_cells(tmp_path: Path) -> None:
    cells = load_text(tmp_path, f"replicates: 5\n{DST}cells: [{{name: a}}, {{name: b, replicates: 2}}]").cells
    assert [cell.replicates for cell in cells] == [5, 2]


def test_anchors_share_values(tmp_path: Path) -> None:
    text = DST + "cells: [{name: a, recipe: &r {drop_fraction: 0.3}}, {name: b, members: 2, recipe: *r}]"
    fractions = [cell.spec.phases[0].rewire for cell in load_text(tmp_path, text).cells]
    assert [rewire and rewire.drop_fraction for rewire in fractions] == [0.3, 0.3]


# -- identity of what is written differently ---------------------------------------------------------------------------

WRITTEN: dict[str, Any] = {
    "name": "a",
    "method": "dst",
    "sparsity": 0.8,
    "data": {"name": "digits"},
    "recipe": {"epochs": 8, "update_every": 4},
}
DEFAULTS: dict[str, Any] = {
    "members": 1,
    "replicates": 3,
    "seed": 18,
    "batch_size": 128,
    "model": {"name": "wide_resnet", "depth": 28, "width": 10},
    "optimizer": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5.0e-4},
    "topology": {"distribution": "erk"},
    "semantics": {"preset": "standard", "ties": "lowest_index"},
    "execution": {"precision": "fp32", "channels_last": True, "compile": False},
    "augmentation": {"padding": 4, "flip": False},
}


@given(order=st.permutations([*WRITTEN, *DEFAULTS]), spelled=st.sets(st.sampled_from(sorted(DEFAULTS))))
def test_the_run_is_the_same_in_any_order_of_keys_and_with_defaults_spelled_out(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], spelled: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    everything = {**WRITTEN, **DEFAULTS}
    cell = {key: everything[key] for key in order if key in WRITTEN or key in spelled}
    (found,) = load_text(folder, yaml.safe_dump({"cells": [cell]}, sort_keys=False)).cells
    (plain,) = load_text(folder, yaml.safe_dump({"cells": [WRITTEN]})).cells
    assert found == plain
    assert found.spec.run_id == plain.spec.run_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("optimizer: {weight_decay: 0}", "optimizer: {weight_decay: 0.0}"),
        ("optimizer: {learning_rate: 1.0e-1}", "optimizer: {learning_rate: 0.1}"),
        ("data: digits", "data: {name: digits, train_images: 1257}"),
        ("data: digits", "data: {name: digits, train_images: 1.0}"),
        ("data: {name: digits, train_images: 628}", "data: {name: digits, train_images: 0.5}"),  # of 1257
        ("data: {name: digits, validation_images: 18}", "data: {name: digits, validation_images: 0.1}"),  # of 180
        ("data: {name: digits, test_images: 1}", "data: {name: digits, test_images: 0.0001}"),
        ("semantics: released", "semantics: {preset: released}"),
        ("optimizer: {momentum: 0.8}", "optimizer.momentum: 0.8"),
    ],
)
def test_two_ways_to_write_a_value_are_one_run(tmp_path: Path, one: str, other: str) -> None:
    ids = [load_text(tmp_path, DST + f"cells: [{{name: a, {text}}}]").cells[0].spec.run_id for text in (one, other)]
    assert ids[0] == ids[1]


# -- the grids of the paper --------------------------------------------------------------------------------------------


def test_the_cifar10_grid_has_the_rows_of_the_paper() -> None:
    cells = load_grid(PAPER_CONFIGS / "cifar10.yaml").cells
    rows = [(cell.method, cell.members, cell.sparsity, cell.spec.epochs, cell.replicates) for cell in cells]
    assert rows == [
        ("dense", 1, 0.0, 250, 3),
        ("dense", 1, 0.0, 200, 3),  # MC dropout
        ("dense", 30, 0.0, 200, 3),
        ("dense", 3, 0.0, 250, 3),  # MIMO
        ("edst", 3, 0.8, 450, 3),
        ("edst", 7, 0.9, 850, 3),
        ("dense", 3, 0.0, 250, 3),  # TreeNet
        ("dense", 4, 0.0, 250, 3),  # BatchEnsemble
        ("lottery_rewinding", 3, 0.8, 250, 3),
        ("static", 3, 0.8, 250, 3),
        ("prune_finetune", 3, 0.8, 250, 3),
        ("dst", 3, 0.8, 250, 3),
        ("dense", 4, 0.0, 250, 3),
        ("dense", 3, 0.0, 250, 3),
    ]
    released = [cell.name for cell in cells if cell.spec.validation_augmented]
    assert released == ["EDST M=3 S=0.8", "EDST M=7 S=0.9", "static M=3 S=0.8", "DST M=3 S=0.8"]


def test_the_rows_of_uncertainty_baselines_have_its_recipes() -> None:
    cells = {cell.name: cell.spec for cell in load_grid(PAPER_CONFIGS / "cifar10.yaml").cells}
    # protocol.md: learning rate at batch 128, l2 (half of torch's weight decay), decay epochs rescaled from 200
    wanted = {
        "MC dropout 30 samples": (0.05, 2 * 3e-4, (60, 120, 160)),
        "MIMO M=3": (0.1, 2 * 3e-4, (80 * 250 // 200, 160 * 250 // 200, 180 * 250 // 200)),
        "BatchEnsemble M=4": (0.1, 2 * 3e-4, (100, 200, 225)),
    }
    for name, (rate, decay, boundaries) in wanted.items():
        spec = cells[name]
        (phase,) = spec.phases
        assert isinstance(phase.lr, LearningRate)
        assert phase.lr.values == pytest.approx([rate * 0.2**n for n in range(4)])
        assert (phase.lr.boundaries, phase.lr.warmup_epochs) == (boundaries, 1)
        assert (spec.optimizer.nesterov, spec.optimizer.weight_decay, spec.batch_size) == (True, decay, 128)
        assert (spec.data.train_images, spec.data.validation_images) == (50_000, 0)
        assert phase.ticket == TicketPolicy(select="last")


EXTENDED = "extends: base.yaml\nbase: {optimizer: {momentum: 0.8}}\ncells: [{name: a, method: dense}]"


def test_a_grid_may_extend_the_base_and_scales_of_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "replicates: 2\nbase: {data: digits, batch_size: 32, optimizer.learning_rate: 0.05}\n"
        "cells: [{name: b, method: dense}]\nscales: {tiny: {width: 1}, mini: {width: 2}}"
    )
    grid = load_text(tmp_path, EXTENDED + "\nscales: {mini: {width: 4}}")
    (cell,) = grid.cells  # the cells of the other grid are its own
    assert (cell.name, cell.replicates, cell.spec.batch_size, cell.spec.data.name) == ("a", 2, 32, "digits")
    assert (cell.spec.optimizer.momentum, cell.spec.phases[0].lr.at(0, 1, 250)) == (0.8, 0.05)
    assert [grid.scales[scale].width for scale in ("tiny", "mini")] == [1, 4]


def test_a_grid_that_cannot_be_extended_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grid\.yaml: extends: .*base\.yaml: no such file"):
        load_text(tmp_path, EXTENDED)
    (tmp_path / "base.yaml").write_text("extends: other.yaml")
    with pytest.raises(UserError, match=r"extends: .*base\.yaml extends other\.yaml itself"):
        load_text(tmp_path, EXTENDED)
    (tmp_path / "base.yaml").write_text("bse: {data: digits}")
    with pytest.raises(UserError, match=r"extends: .*base\.yaml: bse: unknown key; did you mean 'base'"):
        load_text(tmp_path, EXTENDED)


def test_a_folder_stands_for_the_grids_in_it(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", "notes.txt", "._a.yaml"):
        (tmp_path / name).write_text("")
    assert grid_files([tmp_path, tmp_path / "a.yaml"]) == [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no grid"):
        grid_files([tmp_path / "empty"])
