"""Published numbers stand beside the cells they belong to and no others, and each has its source."""

import csv
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from analysis.published import find_published, published_folder, read_published
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan

FOLDER = Path(__file__).resolve().parents[2] / "paper_configs" / "published"
HEAD = "dataset,model,method,members,accuracy,nll,ece,source\n"


def test_every_row_is_read_as_it_is_written():
    rows = [row for name in ("cifar.csv", "imagenet.csv") for row in csv.DictReader((FOLDER / name).open())]
    table = read_published(FOLDER)
    assert len(table) == len(rows)
    for row in rows:
        found = table[row["dataset"], row["model"], row["method"], row["members"]]
        assert found.accuracy == float(row["accuracy"])
        for name in ("nll", "ece", "corrupted_accuracy", "corrupted_nll", "corrupted_ece"):
            value = getattr(found, name)
            assert (math.isnan(value) and not row[name]) or value == float(row[name])
        assert found.source == row["source"]


def test_every_number_has_a_source():
    assert all(row.source for row in read_published(FOLDER).values())


@lru_cache
def cells_of(grid):
    return {cell.name: cell for cell in make_plan(load_grid(FOLDER.parent / f"{grid}.yaml"), "paper", None).cells}


def test_dense_and_dense_ensemble_of_the_papers_network_are_found():
    table, cells = read_published(FOLDER), cells_of("cifar10")
    single, ensemble = (find_published(table, cells[name]) for name in ("dense", "dense ensemble M=4"))
    assert (single.accuracy, single.nll, single.ece) == (96.0, 0.159, 0.0231)
    assert (ensemble.accuracy, ensemble.nll, ensemble.ece) == (96.6, 0.114, 0.010)
    assert (ensemble.corrupted_accuracy, ensemble.corrupted_nll, ensemble.corrupted_ece) == (77.9, 0.81, 0.087)


@pytest.mark.parametrize("change", [{"members": 3}, {"width": 4}, {"dataset": "digits"}, {"method": "edst"}])
def test_what_nobody_published_is_blank(change):
    cell = cells_of("cifar10")["dense"]
    data = cell.data.model_copy(update={"name": change.get("dataset", "cifar10")})
    model = cell.model.model_copy(update={"arguments": {"depth": 28, "width": change.get("width", 10)}})
    method, members = change.get("method", "dense"), change.get("members", 1)
    other = replace(cell, data=data, model=model, method=method, members=members)
    assert find_published(read_published(FOLDER), other) is None


@pytest.mark.parametrize(
    ("grid", "cell", "accuracy"),
    [
        ("cifar10", "MC dropout 1 sample", 95.9),
        ("cifar10", "MC dropout 30 samples", 96.1),
        ("cifar10", "MIMO M=3", 96.4),
        ("cifar10", "BatchEnsemble M=4", 96.2),
        ("cifar10", "dense ensemble M=4", 96.6),
        ("cifar10", "TreeNet M=3", None),
        ("cifar10", "EDST M=3 S=0.8", None),
        ("cifar100", "MIMO M=3", 82.0),
        ("cifar100", "BatchEnsemble M=4", 81.5),
        ("imagenet", "MIMO M=2", 77.5),
        ("imagenet", "BatchEnsemble M=4", 76.7),
        ("imagenet", "dense", 76.1),
    ],
)
def test_published_rows_lie_beside_the_cells_they_belong_to(grid, cell, accuracy):
    row = find_published(read_published(FOLDER), cells_of(grid)[cell])
    assert (row and row.accuracy) == accuracy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dataset,accuracy\ncifar10,96\n", "no column model"),
        (f"{HEAD}a,b,c,1,ninety,,,x\n", "line 2, accuracy: found 'ninety'"),
        (f"{HEAD}a,b,c,1,90,,,x\na,b,c,1,91,,,y\n", "line 3: a, b, c, 1 is given twice"),
        (f"corrupted_ece,{HEAD}low,a,b,c,1,90,,,x\n", "line 2, corrupted_ece: found 'low'"),
    ],
)
def test_a_mistake_names_file_and_line(tmp_path, content, message):
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(UserError, match="own") as caught:
        read_published(tmp_path)
    assert message in str(caught.value)


def test_files_without_numbers_on_corrupted_images_have_none(tmp_path):
    (tmp_path / "own.csv").write_text(f"{HEAD}a,b,c,1,90,,,x\n")
    found = read_published(tmp_path)["a", "b", "c", "1"]
    assert found.accuracy == 90
    assert math.isnan(found.corrupted_accuracy)
    assert math.isnan(found.corrupted_nll)
    assert math.isnan(found.corrupted_ece)


def test_numbers_beside_the_grid_come_before_those_of_the_repository(tmp_path):
    assert published_folder(tmp_path / "grid.yaml") == FOLDER
    (tmp_path / "published").mkdir()
    assert published_folder(tmp_path / "grid.yaml") == tmp_path / "published"
