"""Published values stand beside the cells whose recipe they belong to and no others, and each has its source."""

import csv
from functools import lru_cache
from pathlib import Path

import pytest

from analysis.paper.published import METRICS, find_published, published_folder
from analysis.topics import TOPICS
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan
from tests.grid_text import load_text

FOLDER = Path(__file__).resolve().parents[3] / "paper_configs" / "published"
HEAD = "dataset,model,method,members,sparsity,grid,cell,metric_definition,accuracy,ece,note,source\n"
GRID = """
base: {data: cifar10, model: {name: wide_resnet, depth: 28, width: 10}}
cells:
  - {name: one, method: dense}
  - {name: sparse, method: dst, members: 3, sparsity: 0.8}
"""
ROW = "cifar10,wide_resnet28_10,dense,1,,grid.yaml,one,unknown,96.0,0.02,a note,a source\n"


@lru_cache
def beside(grid):
    return find_published(FOLDER, make_plan(load_grid(FOLDER.parent / f"{grid}.yaml"), "paper", None))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_every_value_of_a_row_that_names_a_cell_is_found_as_it_is_written(path):
    for row in csv.DictReader(path.open(encoding="utf-8")):
        if not row["cell"]:
            continue
        found = beside(row["grid"].removesuffix(".yaml"))[row["cell"]]
        for column, (metrics, factor) in METRICS.items():
            if row.get(column):
                name = f"{metrics[0]}_{row['outside']}" if "outside" in row else metrics[0]
                assert found[name].value == pytest.approx(float(row[column]) * factor)
                assert found[name].source == row["source"]
                assert float(found[name].text) == pytest.approx(found[name].value)


def test_all_rows_of_the_papers_tables_have_a_cell():
    rows = list(csv.DictReader((FOLDER / "freetickets_main.csv").open(encoding="utf-8")))
    assert len(rows) == 24
    assert all(row["cell"] for row in rows)
    cells = {cell.name for cell in load_grid(FOLDER.parent / "cifar10.yaml").cells}
    # What the paper does not have: more samples of MC dropout, and the ensemble of three for its table of diversity.
    assert cells - {row["cell"] for row in rows} == {"MC dropout 30 samples", "dense ensemble M=3"}


def test_every_published_metric_is_measured_here():
    known = {metric.key for topic in TOPICS for metric in topic.metrics}
    for grid in ("cifar10", "cifar100", "imagenet", "ablations/baselines"):
        assert all(values.keys() <= known for values in beside(grid).values())


@pytest.mark.parametrize(
    ("grid", "cell", "metric", "text"),
    [
        ("cifar10", "EDST M=3 S=0.8", "accuracy", "96.3"),
        ("cifar10", "EDST M=7 S=0.9", "nll", "0.122"),
        ("cifar10", "dense", "auroc_svhn", "96.55"),
        ("cifar10", "dense", "fgsm8_mean", "44.20"),
        ("cifar10", "static M=3 S=0.8", "fgsm8_min", "39.28"),
        ("cifar10", "BatchEnsemble M=4", "nll", "0.143"),
        ("ablations/baselines", "BatchEnsemble of UB M=4", "nll", "0.136"),
        ("ablations/baselines", "dense of UB", "ece", "0.0231"),
        ("cifar10", "dense ensemble M=3", "kl", "0.086"),
        ("cifar100", "DST M=3 S=0.8", "corrupted_accuracy", "55.0"),
        ("cifar100", "static M=3 S=0.8", "disagreement", "0.156"),
        ("imagenet", "dense 90 epochs", "accuracy", "76.1"),
        ("imagenet", "BatchEnsemble M=4", "nll", "0.922"),
    ],
)
def test_values_of_the_paper_lie_beside_their_cells(grid, cell, metric, text):
    assert beside(grid)[cell][metric].text == text


def test_an_unknown_definition_stands_beside_both_of_ours():
    edst, quoted = beside("cifar10")["EDST M=3 S=0.8"], beside("cifar10")["MIMO M=3"]
    assert edst["ece"].text == edst["ece_released"].text == "0.012"
    assert "ece_released" not in quoted
    assert edst.keys() >= {"corrupted_ece_mean", "corrupted_ece_pooled"}


def test_an_ablation_has_the_rows_of_the_cells_that_it_shares_and_no_others():
    sizes = beside("ablations/ensemble_size")
    assert sizes.keys() == {"dense", "members=3 method=edst", "members=3 method=dst"} or {
        values["accuracy"].text for values in sizes.values()
    } == {"96.0", "96.3"}
    assert len(sizes) == 3
    assert len(beside("ablations/growth")) <= 3


def test_the_dense_cells_of_imagenet_at_other_lengths_have_none():
    assert beside("imagenet").keys() == {"dense 90 epochs", "MIMO M=2", "BatchEnsemble M=4"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "published").mkdir()
    return tmp_path / "published"


def found_in(folder, content, text=GRID):
    (folder / "own.csv").write_text(content)
    return find_published(folder, make_plan(load_text(folder, text), "paper", None))


@pytest.mark.parametrize(
    "change",
    ["method: dense, seed: 3", "method: dense, recipe: {epochs: 200}", "method: dense, optimizer: {nesterov: true}",
     "method: dense, members: 2", "method: dense, batch_size: 64"],
)  # fmt: skip
def test_a_cell_that_trains_otherwise_has_no_published_row(folder, change):
    assert found_in(folder, HEAD + ROW)["one"]["accuracy"].note == "a note"
    assert found_in(folder, HEAD + ROW, GRID.replace("method: dense", change, 1)) == {}
    renamed = found_in(folder, HEAD + ROW, GRID.replace("name: one", "name: other"))
    assert renamed.keys() == {"other"}  # by its runs, not by its name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dataset,accuracy\ncifar10,96\n", "no column model"),
        (HEAD + ROW.replace("96.0", "ninety"), "line 2, accuracy: found 'ninety'"),
        (HEAD + ROW + ROW.replace("96.0", "95.0"), "accuracy, ece, ece_released of cell 'one' is given twice"),
        (HEAD + ROW.replace(",one,", ",oen,"), "grid.yaml has no cell 'oen'; did you mean 'one'?"),
        (HEAD + ROW.replace("grid.yaml", "gird.yaml"), "grid: found 'gird.yaml'; no such file"),
        (HEAD + ROW.replace("grid.yaml", ""), "grid and cell go together"),
        (HEAD + ROW.replace("28_10", "16_4"), "model: found 'wide_resnet16_4'; cell 'one' of grid.yaml has 'wide_res"),
        (HEAD + ROW.replace("dense,1,,", "dense,1,0.8,"), "sparsity: found '0.8'; cell 'one' of grid.yaml has ''"),
        (HEAD + ROW.replace("unknown", "mine"), "metric_definition: found 'mine'; allowed: ub, top1, unknown"),
        (HEAD + ROW.replace("a source", ""), "no source"),
        (HEAD + ROW.replace("96.0", "nan"), "line 2, accuracy: found 'nan'"),
        (HEAD + ROW.replace("a note", "x" * 200_000), "line 2: field larger than field limit"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_and_line(folder, content, message):
    with pytest.raises(UserError, match="own") as caught:
        found_in(folder, content)
    assert message in str(caught.value)


def test_values_beside_the_grid_come_before_those_of_the_repository(tmp_path):
    assert published_folder(tmp_path / "grid.yaml") == FOLDER
    (tmp_path / "published").mkdir()
    assert published_folder(tmp_path / "grid.yaml") == tmp_path / "published"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_what_is_no_table_is_named(folder, content):
    path = folder / "own.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"own\.csv: (a folder, not a table|not UTF-8 text, so not a table)$"):
        find_published(folder, make_plan(load_text(folder, GRID), "paper", None))
