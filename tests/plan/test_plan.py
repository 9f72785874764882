"""Plans: which runs are shared, their order, their status and what they take."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import Plan, make_plan, print_plan, select, to_json
from bench.plan.cost import EPOCH_SECONDS, RUN_SECONDS, STEP_SECONDS_A_LAYER, Basis
from bench.plan.remarks import shrunken_maps
from bench.plan.show import time_bases
from bench.plan.total import duration, left_of, say_left
from bench.spec.run import RunSpec
from bench.store.store import DataRecord, Store
from tests.grid_text import PAPER_CONFIGS, load_text
from tests.plan.conftest import SIX_ROWS
from tests.store.runs import result_facts, ticket

BASE = "base: {data: digits, model: {depth: 10, width: 1}, sparsity: 0.8, recipe: {epochs: 8, update_every: 4}}\n"


def runs_of(plan: Plan, cell: str) -> tuple[tuple[str, ...], ...]:
    return next(row.runs for row in plan.cells if row.name == cell)


# -- sharing, seeds and order ------------------------------------------------------------------------------------------


def test_the_single_dense_network_is_member_0_of_the_ensemble(paper: Plan) -> None:
    single, ensemble = runs_of(paper, "dense"), runs_of(paper, "dense ensemble M=4")
    assert [replicate[0] for replicate in ensemble] == [replicate[0] for replicate in single]
    assert [len(replicate) for replicate in ensemble] == [4, 4, 4]
    shared = [run for run in paper.runs if run.id in {replicate[0] for replicate in single}]
    assert [run.cells for run in shared] == [("dense", "dense ensemble M=4")] * 3
    # 12 dense, 9 static, 9 DST, 3 and 3 EDST; the 3 of the single network are among the 12
    assert (len(paper.runs), paper.unshared_runs) == (36, 39)


def test_dst_of_one_to_seven_members_is_seven_runs(tmp_path: Path) -> None:
    text = f"replicates: 1\n{BASE}axes: {{method: [dst], members: [1, 2, 3, 4, 5, 6, 7]}}"
    assert len(make_plan(load_text(tmp_path, text), "paper", None).runs) == 7


def test_an_edst_ensemble_is_one_run_a_replicate(paper: Plan) -> None:
    assert [len(replicate) for replicate in runs_of(paper, "EDST M=7 S=0.9")] == [1, 1, 1]


def test_seeds_of_replicates_are_disjoint(paper: Plan) -> None:
    seeds = {run.id: run.spec.seed for run in paper.runs}
    found = [[seeds[run_id] for run_id in replicate] for replicate in runs_of(paper, "dense ensemble M=4")]
    assert found == [[18, 19, 20, 21], [118, 119, 120, 121], [218, 219, 220, 221]]


def test_the_first_replicate_of_every_cell_comes_first(paper: Plan) -> None:
    order = {run.id: position for position, run in enumerate(paper.runs)}
    assert len(order) == len(paper.runs)
    ranges = []
    for replicate in range(3):
        positions = [order[run_id] for cell in paper.cells for run_id in cell.runs[replicate]]
        assert positions == sorted(positions)  # in the order of the cells
        ranges.append((min(positions), max(positions)))
    assert ranges == [(0, 11), (12, 23), (24, 35)]


def test_cells_may_have_their_own_number_of_replicates(tmp_path: Path) -> None:
    text = BASE + "cells: [{name: a, method: dst, replicates: 1}, {name: b, method: dst, batch_size: 64}]"
    plan = make_plan(load_text(tmp_path, text), "paper", None)
    assert [run.cells[0] for run in plan.runs] == ["a", "b", "b", "b"]


# -- the store ---------------------------------------------------------------------------------------------------------


def finish(store: Store, spec: RunSpec, images_per_second: float) -> None:
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    folder.write_history([])
    (folder.path / "provenance.json").write_text("{}")
    measured = {"images_per_second": images_per_second, "device": "cpu", "device_name": "two cores"}
    folder.finish(**result_facts([ticket(0)], **measured, model=spec.model, execution=spec.execution))


def test_a_plan_knows_what_the_store_has(tmp_path: Path) -> None:
    grid = load_text(tmp_path, "replicates: 1\n" + BASE + "cells: [{name: a, method: dst, members: 4}]")
    store = Store(tmp_path / "results")
    before = make_plan(grid, "paper", store)
    assert {run.status for run in before.runs} == {"missing"}
    assert not store.root.exists()
    done, failed, damaged, _ = before.runs
    finish(store, done.spec, images_per_second=100.0)
    finish(store, damaged.spec, images_per_second=100.0)
    (store.run(damaged.id).path / "spec.yaml").write_text("cut")
    store.run(failed.id).path.mkdir(parents=True)
    (store.run(failed.id).path / "error.json").write_text('{"type": "ValueError", "message": "loss is nan"}')
    after = make_plan(grid, "paper", store)
    assert [run.status for run in after.runs] == ["done", "failed", "damaged", "missing"]
    assert after.counts() == {"done": 1, "failed": 1, "damaged": 1, "missing": 1}
    # 8 epochs of 1257 images at the speed of the run that is done, for the three that are not
    assert after.hours_left == pytest.approx(3 * (RUN_SECONDS + 8 * 1257 / 100) / 3600)
    assert {run.hours_device for run in after.runs} == {"CPU"}


def test_substitute_images_are_other_runs(tmp_path: Path) -> None:
    grid = load_text(tmp_path, "base: {data: cifar10, method: dense}\ncells: [{name: a}]")
    store = Store(tmp_path / "results")
    official = make_plan(grid, "paper", store)
    store.record_data("cifar10", DataRecord("folder-abc", "somewhere.zip", "not the official images"))
    recorded = make_plan(grid, "paper", store)
    given_by_user = make_plan(grid, "paper", store, {"cifar10": "folder-abc"})
    assert recorded.cells[0].data.variant == "folder-abc"
    assert {run.id for run in recorded.runs} == {run.id for run in given_by_user.runs}
    assert not {run.id for run in recorded.runs} & {run.id for run in official.runs}


def test_the_reference_is_the_dense_cell_of_the_same_data_and_network_else_250_epochs(tmp_path: Path) -> None:
    rows = """
    base: {model: {depth: 10, width: 1}}
    cells:
      - {name: dense, method: dense, data: digits, recipe: {epochs: 40}}
      - {name: half, method: dense, data: digits, recipe: {epochs: 20}}
      - {name: elsewhere, method: dense, data: cifar10, recipe: {epochs: 50}}
      - {name: other network, method: static, sparsity: 0.5, topology: {distribution: uniform}, data: digits,
         model: {width: 2}, recipe: {epochs: 100}}
    scales: {tenth: {epochs: 0.2}}
    """
    grid = load_text(tmp_path, rows)
    for scale in ("paper", "tenth"):
        ratios = {cell.name: cell.train_flops_ratio for cell in make_plan(grid, scale, None).cells}
        expected = {"dense": 1.0, "half": 0.5, "elsewhere": 1.0, "other network": 0.5 * 100 / 250}
        assert ratios == pytest.approx(expected)


def test_an_unknown_scale_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no scale 'tinny'; did you mean 'tiny'.*paper, mini, small, tiny"):
        make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "tinny", None)


# -- runs that start from others ---------------------------------------------------------------------------------------

PRUNED = """
replicates: 2
base: {data: digits, model: {depth: 10, width: 1}, members: 2}
cells:
  - {name: dense, method: dense, recipe: {epochs: 6}}
  - {name: PF, method: prune_finetune, sparsity: 0.8, recipe: {epochs: 4, dense_epochs: 6}}
  - {name: LTR, method: lottery_rewinding, sparsity: 0.8, recipe: {epochs: 6}}
scales: {half: {epochs: 0.5}}
"""


@pytest.mark.parametrize("scale", ["paper", "half"])
def test_a_dense_run_is_the_parent_of_the_networks_pruned_from_it(tmp_path: Path, scale: str) -> None:
    plan = make_plan(load_text(tmp_path, PRUNED), scale, None)
    dense, finetuned, rewound = plan.cells
    # PF prunes each member of the dense ensemble; the members of LTR come from the first one alone.
    assert finetuned.parents == dense.runs
    assert rewound.parents == tuple(replicate[:1] for replicate in dense.runs)
    assert [len(cell.all_runs(0)) for cell in plan.cells] == [2, 4, 3]
    by_id = {run.id: run for run in plan.runs}
    assert len(by_id) == 2 * (2 + 2 + 2)
    for run in plan.runs:
        assert run.id == run.spec.run_id
        assert run.parent == (run.spec.parent.run_id if run.spec.parent else None)
        if run.parent:
            assert list(by_id).index(run.parent) < list(by_id).index(run.id)
    seeds = [[by_id[run].spec.seed for run in replicate] for replicate in rewound.runs]
    assert seeds == [[18, 19], [118, 119]]
    assert [by_id[run].spec.parent.seed for run in rewound.runs[1]] == [118, 118]  # type: ignore[union-attr]


def test_a_child_is_another_run_if_anything_before_it_was_another(tmp_path: Path) -> None:
    (cell,) = load_text(tmp_path, PRUNED.split("  - {name: LTR")[0].replace("  - {name: dense", "#")).cells
    assert cell.spec.parent is not None
    older = cell.spec.parent.model_copy(update={"batch_size": 64})
    assert cell.spec.model_copy(update={"parent": older}).run_id != cell.spec.run_id


def test_a_failed_parent_blocks_its_children_with_the_reason_and_fails_none(tmp_path: Path) -> None:
    grid, store = load_text(tmp_path, PRUNED), Store(tmp_path / "results")
    parent = make_plan(grid, "paper", store).cells[2].parents[0][0]
    store.run(parent).path.mkdir(parents=True)
    error = {"type": "DivergedError", "message": "mean loss nan"}
    (store.run(parent).path / "error.json").write_text(json.dumps(error))
    plan = make_plan(grid, "paper", store)
    blocked = [run for run in plan.runs if run.status == "blocked"]
    assert [run.cells for run in blocked] == [("PF",), ("LTR",), ("LTR",)]
    assert {run.reason for run in blocked} == {f"its parent {parent} failed (DivergedError: mean loss nan)"}
    assert plan.counts() == {"failed": 1, "blocked": 3, "waiting": 5, "missing": 3}
    output = io.StringIO()
    print_plan(plan, Console(file=output, width=120))
    assert f"its parent {parent} failed" in output.getvalue()
    assert [run["reason"] for run in json.loads(to_json(plan))["runs"] if run["status"] == "blocked"] == [
        run.reason for run in blocked
    ]


def test_parents_come_along_with_the_runs_selected(tmp_path: Path) -> None:
    plan = make_plan(load_text(tmp_path, PRUNED), "paper", None)
    chosen = select(plan, ["cell=LTR", "seed=19"])
    assert [run.cells for run in chosen] == [("dense", "PF", "LTR"), ("LTR",)]


def test_fewer_samples_of_a_network_that_draws_them_are_the_same_run(tmp_path: Path) -> None:
    text = """
    base: {data: digits, method: dense, model: {depth: 10, width: 1, ensemble: {kind: mc_dropout, samples: 5}}}
    cells: [{name: one}, {name: five, members: 5}, {name: ten, members: 10}]
    replicates: 1
    """
    plan = make_plan(load_text(tmp_path, text), "paper", None)
    assert plan.cells[0].runs == plan.cells[1].runs
    assert [len(cell.runs[0]) for cell in plan.cells] == [1, 1, 2]
    assert [cell.inference_flops_ratio for cell in plan.cells] == pytest.approx([1, 5, 10])


def test_samples_of_several_tickets_are_all_counted(tmp_path: Path) -> None:
    """The first three of thirty predictions would be one ticket, three times."""
    cell = "method: snapshot, members: 6, model: {ensemble: {kind: mc_dropout, samples: 3}}, recipe: {cycles: 4}"
    with pytest.raises(UserError, match="leaves 4 tickets of 3 members each: a multiple of 12"):
        load_text(tmp_path, f"base: {{data: digits}}\ncells: [{{name: a, {cell}}}]")


def test_a_recipe_takes_a_ticket_for_each_network_that_the_members_make(tmp_path: Path) -> None:
    cell = "method: edst, sparsity: 0.8, members: 9, model: {ensemble: {kind: tree_net, members: 3, head_blocks: 3}}"
    (found,) = load_text(tmp_path, f"base: {{data: cifar10}}\ncells: [{{name: a, {cell}}}]").cells
    assert (found.spec.tickets, found.runs_a_replicate) == (3, 1)


def test_a_method_has_the_name_that_tables_give_it() -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "paper", None)
    assert {run.cells for run in select(plan, ["method=mimo"])} == {("MIMO M=3",)}
    beyond = make_plan(load_grid(PAPER_CONFIGS / "ablations/beyond.yaml"), "paper", None)
    assert beyond.cells[-1].method == "dst tree_net"


def test_many_speeds_are_one_line(paper: Plan) -> None:
    def lines(*bases: Basis) -> list[str]:
        return list(
            time_bases([replace(run, hours_basis=basis) for run, basis in zip(paper.runs, bases, strict=False)])
        )

    stored = [Basis("measured in this store", 1000.0 + rate, "a GPU") for rate in (200, 0, 100)]
    assumed = Basis("assumed", 20.0, "GPU")
    assert lines(stored[0], stored[0]) == ["  time measured in this store, 1,200 images/s on a GPU"]
    folded = "  time measured in this store, 1,000 to 1,200 images/s on a GPU; --json has all of them"
    assert lines(*stored, assumed) == [folded, "  time assumed, dense FLOPs at 20 TFLOP/s on a GPU"]
    checked = Basis("measured by `bench check`", 7.0, "another GPU")
    both = (
        "  time measured in this store and by `bench check`, 7 to 1,200 images/s on 2 devices; --json has all of them"
    )
    assert lines(*stored, checked) == [both]


def test_a_run_takes_at_least_its_start_its_epochs_and_its_steps(tmp_path: Path) -> None:
    cell = "{name: a, method: dense, recipe: {epochs: 7}, data: {name: digits, train_images: 100}, batch_size: 32}"
    grid = load_text(tmp_path, f"replicates: 1\nbase: {{model: {{depth: 10, width: 1}}}}\ncells: [{cell}]")
    fast = make_plan(grid, "paper", None, tflops=1e6)
    seconds = RUN_SECONDS + 7 * (EPOCH_SECONDS + 4 * 10 * STEP_SECONDS_A_LAYER)  # 4 steps, 10 layers with weights
    assert fast.hours * 3600 == pytest.approx(seconds)
    slow = make_plan(grid, "paper", None, tflops=1e-6)
    flops = slow.runs[0].train_flops
    assert slow.hours * 3600 == pytest.approx(RUN_SECONDS + 7 * EPOCH_SECONDS + flops / 1e6)


def test_what_is_left_of_several_grids_counts_a_run_and_a_set_once(tmp_path: Path) -> None:
    sets = "evaluations: {local_c: {types: [fog]}, ood: {sets: [svhn]}}", "evaluations: {local_c: {types: [fog]}}"
    cells = "replicates: 2\nbase: {data: digits, method: dense}\ncells: [{name: a, members: 2}]\n"
    more, fewer = (make_plan(load_text(tmp_path, cells + asked), "paper", None) for asked in sets)
    (left,) = left_of([more])
    for together in ([more, fewer], [fewer, more]):
        (found,) = left_of(together)
        assert (found.runs, found.sets, found.hours) == (left.runs, left.sets, pytest.approx(left.hours))
    assert (left.runs, left.sets) == (4, 4 * (2 + 5 + 1))
    (half,) = left_of([fewer, more], {run.id for run in more.runs[:2]})
    said = f"about {half.amount}, {duration(half.hours / 3)} with 3 workers"
    assert say_left([fewer, more], {run.id for run in more.runs[:2]}, 3) == said
    assert say_left([fewer, more], (), 3) == ""
    assert (half.runs, half.sets, half.hours) == (2, 16, pytest.approx(left.hours / 2))
    assert str(half).endswith(f"to train 2 runs, {duration(half.evaluation)} for 16 sets)")


# -- how it is shown ---------------------------------------------------------------------------------------------------


def test_the_json_has_what_the_contract_promises(paper: Plan) -> None:
    document = json.loads(to_json(paper))
    cell_keys = {"name", "method", "members", "sparsity", "replicates", "train_flops_ratio", "inference_flops_ratio"}
    assert all(cell.keys() >= {*cell_keys, "runs"} for cell in document["cells"])
    assert all(run.keys() >= {"id", "status", "train_flops", "train_flops_ratio", "hours"} for run in document["runs"])
    ids = {run["id"] for run in document["runs"]}
    assert {run_id for cell in document["cells"] for run_id in cell["runs"]} == ids
    assert document["cells"][1]["runs"] == [run_id for replicate in paper.cells[1].runs for run_id in replicate]
    assert document["totals"]["runs"] == document["totals"]["missing"] == 36
    assert document["totals"]["runs_without_sharing"] == 39


@pytest.mark.parametrize("scale", ["paper", "tiny"])
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("rows", [6, 14])
def test_tables_fit_a_terminal_and_cut_nothing(scale: str, width: int, rows: int, tmp_path: Path) -> None:
    grid = load_text(tmp_path, SIX_ROWS) if rows == 6 else load_grid(PAPER_CONFIGS / "cifar10.yaml")
    plan = make_plan(grid, scale, None)
    assert len(plan.cells) == rows
    stream = io.StringIO()
    print_plan(plan, Console(file=stream, width=width))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for cell in plan.cells:
        assert cell.name in text
    if scale == "tiny" and rows == 6:
        assert all(run.id in text for run in plan.runs)
    assert f"{len(plan.runs)} distinct runs" in text
    assert "TFLOP/s" in text
    assert ("GPU-hours" in text) == (scale == "paper")


def test_a_long_plan_is_cut_and_says_so(tmp_path: Path) -> None:
    grid = load_text(tmp_path, BASE + f"axes: {{method: [dst], seed: {[1000 * i for i in range(100)]}}}")
    stream = io.StringIO()
    print_plan(make_plan(grid, "paper", None), Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    assert len(lines) < 150
    assert "... and 40 more cells; --json lists them all" in lines
    assert "300 distinct runs: 300 missing" in lines


def test_a_run_without_validation_images_is_evaluated_on_none(tmp_path: Path) -> None:
    """Beside cells that have some, and are otherwise on the same images."""
    text = """
        replicates: 1
        base: {data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}}
        cells:
          - {name: all, method: dense, data: {train_images: 96, validation_images: 0}, recipe: {select: last}}
          - {name: some, method: dense}
        """
    plan = make_plan(load_text(tmp_path, text), "paper", None)
    assert [[asked.name for asked in run.evaluations] for run in plan.runs] == [["test"], ["test", "validation"]]


def test_a_plan_of_images_in_files_prices_decoding() -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "imagenet.yaml"), "paper", None)
    stream = io.StringIO()
    print_plan(plan, Console(file=stream, width=200))
    line = next(line for line in stream.getvalue().splitlines() if "core-hours" in line)
    # dense twice, EDST M=2 and M=4, DST twice, three more of the ensemble; MIMO and BatchEnsemble train on all images
    images = (150 + 90 + 170 + 310 + 2 * 150 + 3 * 150) * 1_271_167 + (150 + 135) * 1_281_167
    hours = images * 0.002 / 3600
    assert f"about {hours:,.1f} core-hours" in line
    stream = io.StringIO()
    print_plan(make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "paper", None), Console(file=stream, width=200))
    assert "core-hours" not in stream.getvalue()


def test_what_the_flops_of_a_network_leave_out_is_said(tmp_path: Path) -> None:
    cell = "cells: [{name: a, method: dense, data: digits, model: {name: 'tests.models.networks:Bare'}}]"
    plan, stream = make_plan(load_text(tmp_path, cell), "paper", None), io.StringIO()
    print_plan(plan, Console(file=stream, width=200))
    uncounted = ["pair.weight", "token.weight", "aten._trilinear"]
    assert f"the FLOPs of tests.models.networks:Bare do not count {', '.join(uncounted)}\n" in stream.getvalue()
    assert json.loads(to_json(plan))["cells"][0]["flops_uncounted"] == uncounted


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        ('"torchvision.models:resnet18"', 32, True),
        ("{name: resnet_imagenet, depth: 18}", 32, True),
        ("{name: resnet_imagenet, depth: 18}", 64, False),
        ("{name: resnet_cifar, depth: 18}", 32, False),
        ("{depth: 10, width: 1}", 8, False),
    ],
)
def test_feature_maps_of_a_pixel_are_said(tmp_path: Path, model: str, size: int, said: bool) -> None:
    data = "{name: cifar10}" if size == 32 else f"{{name: tiny_imagenet, image_size: {size}}}"
    text = f"base: {{data: {data}, model: {model}}}\ncells: [{{name: dense, method: dense}}]"
    plan = make_plan(load_text(tmp_path, text), "paper", None)
    stream = io.StringIO()
    print_plan(plan, Console(file=stream, width=250))
    words = "on images of 32 pixels: from layer4.0.conv1.weight on feature maps are a single pixel"
    assert (words in stream.getvalue()) is said


@pytest.mark.parametrize(
    "path", sorted({*PAPER_CONFIGS.glob("*.yaml"), *PAPER_CONFIGS.glob("ablations/*.yaml")}), ids=lambda path: path.stem
)
def test_no_network_of_the_papers_grids_shrinks_its_images_to_a_pixel(path: Path) -> None:
    grid = load_grid(path)
    assert not [line for scale in grid.scales for line in shrunken_maps(make_plan(grid, scale, None).cells)]
