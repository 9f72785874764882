"""Every grid of the repository at every scale: planned, and what its comments promise."""

from pathlib import Path

import pytest
import yaml

from bench.data.catalog import facts_of
from bench.grid import grid_files, load_grid
from bench.plan import Plan, Together, make_plan
from bench.recipes import METHODS
from bench.spec.run import MULTI_MEMBER_KINDS
from tests.grid_text import PAPER_CONFIGS

GRIDS = grid_files([PAPER_CONFIGS, PAPER_CONFIGS / "ablations"])
SCALES = ("paper", "mini", "tiny")


def planned(name: str, scale: str = "paper") -> Plan:
    return make_plan(load_grid(PAPER_CONFIGS / name), scale, None)


def name_of(path: Path) -> str:
    return str(path.relative_to(PAPER_CONFIGS))


@pytest.mark.parametrize("grid", GRIDS, ids=name_of)
def test_a_grid_says_what_it_serves_and_plans_at_every_scale(grid: Path) -> None:
    second = grid.read_text(encoding="utf-8").split("\n")[1]
    assert second.startswith("# "), "a comment after the name of the schema says which table or figure it serves"
    loaded = load_grid(grid)
    assert loaded.scales.keys() >= set(SCALES)
    sizes = []
    for scale in SCALES:
        plan = make_plan(loaded, scale, None)
        assert len({cell.name for cell in plan.cells}) == len(loaded.cells)
        assert all(run.train_flops > 0 for run in plan.runs)
        order = [run.id for run in plan.runs]
        assert all(order.index(run.parent) < order.index(run.id) for run in plan.runs if run.parent)
        sizes.append(sum(run.train_flops for run in plan.runs))
    assert sizes == sorted(sizes, reverse=True)


ROWS = {
    "dense",
    "MC dropout 1 sample",
    "MC dropout 30 samples",
    "MIMO M=3",
    "EDST M=3 S=0.8",
    "EDST M=7 S=0.9",
    "TreeNet M=3",
    "BatchEnsemble M=4",
    "LTR M=3 S=0.8",
    "static M=3 S=0.8",
    "PF M=3 S=0.8",
    "DST M=3 S=0.8",
    "dense ensemble M=4",
    "dense ensemble M=3",
}


def test_both_cifar_grids_have_all_rows_of_the_paper_and_differ_in_the_data_alone() -> None:
    first, second = load_grid(PAPER_CONFIGS / "cifar10.yaml"), load_grid(PAPER_CONFIGS / "cifar100.yaml")
    assert {cell.name for cell in first.cells} == ROWS
    for one, other in zip(first.cells, second.cells, strict=True):
        changes = {"data": other.spec.data, "augmentation": other.spec.augmentation, "parent": other.spec.parent}
        assert one.spec.model_copy(update=changes) == other.spec
        assert one.spec.phases == other.spec.phases


def test_imagenet_has_the_rows_of_the_paper() -> None:
    names = {cell.name for cell in planned("imagenet.yaml").cells}
    assert names == {
        "dense",
        "dense 90 epochs",
        "EDST M=2 S=0.8",
        "EDST M=4 S=0.8",
        "DST M=2 S=0.8",
        "MIMO M=2",
        "BatchEnsemble M=4",
        "dense ensemble M=4",
    }


def test_every_method_is_in_a_grid() -> None:
    assert {cell.method for grid in GRIDS for cell in load_grid(grid).cells} == METHODS.keys()


def test_the_digits_cover_the_methods_of_their_table_and_every_network_of_several_members() -> None:
    cells = planned("digits.yaml").cells
    # Methods that came later are in other grids, so that the table of the digits stays what it was.
    assert {cell.method for cell in load_grid(PAPER_CONFIGS / "digits.yaml").cells} == METHODS.keys() - {"acdc"}
    assert {cell.model.ensemble.kind for cell in cells if cell.model.ensemble} == MULTI_MEMBER_KINDS.keys()


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("exploration_rate", "recipe.exploration_fraction", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("sparsity", "sparsity", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98]),
        ("ensemble_size", "members", list(range(1, 11))),
    ],
)
def test_a_sweep_covers_its_range_and_holds_the_paper_s_own_setting(name: str, key: str, values: list[float]) -> None:
    axes = yaml.safe_load((PAPER_CONFIGS / f"ablations/{name}.yaml").read_text(encoding="utf-8"))["axes"]
    assert axes[key] == values
    shared = {run.id for run in planned("cifar10.yaml").runs} & {
        run.id for run in planned(f"ablations/{name}.yaml").runs
    }
    assert shared


@pytest.mark.parametrize("scale", SCALES)
def test_every_ablation_shares_runs_with_the_papers_table(scale: str) -> None:
    main = {run.id for name in ("cifar10.yaml", "cifar100.yaml") for run in planned(name, scale).runs}
    for grid in grid_files([PAPER_CONFIGS / "ablations"]):
        assert main & {run.id for run in planned(f"ablations/{grid.name}", scale).runs}, grid.name


def test_each_switch_of_the_protocol_is_compared_alone() -> None:
    cells = load_grid(PAPER_CONFIGS / "ablations/semantics.yaml").cells
    switches = {
        "drop_schedule",
        "inactive_momentum",
        "dense_layers",
        "regrow_dropped",
        "mask_sampling",
        "random_growth",
    }
    switches |= {"validation_augmented", "first_ticket", "ties", "update_step"}
    alone = {cell.name.split("released ")[1].split("=")[0] for cell in cells if "=" in cell.name}
    assert alone == switches
    assert {"edst released", "edst standard", "dst released", "dst standard"} <= {cell.name for cell in cells}


def test_several_grids_say_what_they_share() -> None:
    plans = [planned("cifar10.yaml"), planned("ablations/ensemble_size.yaml")]
    together = Together.of(plans)
    ids = [{run.id for run in plan.runs} for plan in plans]
    assert together.cells == 14 + 21
    assert len(together.runs) == len(ids[0] | ids[1])
    # those of dense ensembles with M=3, of DST with M=3 and of EDST with M=3
    assert together.shared() == [len(ids[0] & ids[1])] * 2 == [3 + 9 + 3] * 2
    hours = {run.id: run.hours for plan in plans for run in plan.runs}
    assert together.hours == pytest.approx(sum(hours.values()))
    assert together.hours < sum(plan.hours for plan in plans) < sum(plan.unshared_hours for plan in plans)


def test_cifar100_is_normalised_by_the_constants_of_the_released_code_which_its_runs_are_named_by() -> None:
    spec = load_grid(PAPER_CONFIGS / "cifar100.yaml").cells[0].spec
    facts = facts_of(spec.data)
    assert facts.mean == (0.5070751592371323, 0.48654887331495095, 0.4409178433670343)
    assert facts.std == (0.2673342858792401, 0.2564384629170883, 0.27615047132568404)
    rounded = facts.model_copy(update={"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)})
    before = spec.model_copy(update={"data": spec.data.model_copy(update={"facts": None})})
    changed = spec.model_copy(update={"data": spec.data.model_copy(update={"facts": rounded})})
    assert len({spec.run_id, before.run_id, changed.run_id}) == 3
    assert load_grid(PAPER_CONFIGS / "cifar10.yaml").cells[0].spec.data.facts is None
