"""What grids ask for of a store: at every scale, and of whichever images the store was made from."""

from pathlib import Path

from bench.grid import load_grid
from bench.plan import make_plan
from bench.plan.asked import asked_for
from bench.store.contents import contents
from bench.store.store import DataRecord, Store
from tests.grid_text import PAPER_CONFIGS, load_text

TEXT = """
base: {data: cifar10, method: dense, replicates: 1}
cells: [{name: a}, {name: PF, method: prune_finetune, sparsity: 0.8, members: 2}]
evaluations: {fgsm: {budgets: [2]}}
scales: {tiny: {train_images: 64, validation_images: 32, test_images: 32}}
"""


def test_runs_parents_and_ensembles_of_every_scale_count(tmp_path: Path) -> None:
    grid, store = load_text(tmp_path, TEXT), Store(tmp_path / "results")
    asked = asked_for([grid], store, ())
    plans = [make_plan(grid, scale, None) for scale in ("paper", "tiny")]
    assert set(asked.runs) == {run.id for plan in plans for run in plan.runs}
    assert asked.ensembles == {attacked.ensemble.id for plan in plans for attacked in plan.ensembles}
    shared = next(run.id for run in plans[0].runs if run.cells == ("a", "PF"))
    assert asked.runs[shared] == ("grid paper",)


def test_a_run_names_every_grid_that_asks_for_it(tmp_path: Path) -> None:
    grids = [load_grid(PAPER_CONFIGS / name) for name in ("cifar10.yaml", "ablations/sparsity.yaml")]
    asked = asked_for(grids, Store(tmp_path), ())
    assert ("cifar10 paper", "sparsity paper") in asked.runs.values()


def test_of_images_of_ones_own_both_what_data_json_and_what_the_runs_say_count(tmp_path: Path) -> None:
    grid, store = load_text(tmp_path, TEXT), Store(tmp_path / "results")
    mine, official = ({run.id for run in make_plan(grid, "tiny", None, v).runs} for v in ({"cifar10": "folder-1"}, {}))
    for run in make_plan(grid, "tiny", None, {"cifar10": "folder-1"}).runs:
        store.run(run.id).write_spec(run.spec)
    stored = contents(store).runs
    assert asked_for([grid], store, stored).runs.keys() >= mine | official  # data.json is gone
    store.record_data("cifar10", DataRecord("folder-1", None, ""))
    assert asked_for([grid], store, stored).runs.keys() >= mine
    assert not asked_for([grid], store, stored).runs.keys() & official


def test_of_a_store_that_mixes_images_the_runs_of_all_of_them_count(tmp_path: Path) -> None:
    grid, store = load_text(tmp_path, TEXT), Store(tmp_path / "results")
    of_each = []
    for variant in ("folder-1", "folder-2", "folder-3"):
        runs = make_plan(grid, "tiny", None, {"cifar10": variant}).runs
        of_each += [run.id for run in runs]
        for run in runs:
            store.run(run.id).write_spec(run.spec)
    store.record_data("cifar10", DataRecord("folder-2", None, ""))
    assert asked_for([grid], store, contents(store).runs).runs.keys() >= {*of_each}
