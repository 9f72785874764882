"""A grid of the suite is found by its name in any folder; a path that exists is what is meant."""

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.grid import load_grid
from bench.grid.suite import find_grid, suite_grids
from tests.grid_text import PAPER_CONFIGS


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar10.yaml"),
        ("cifar10.yaml", "cifar10.yaml"),
        ("ablations", "ablations"),
        ("sparsity", "ablations/sparsity.yaml"),
        ("ablations/sparsity", "ablations/sparsity.yaml"),
        ("ablations/sparsity.yaml", "ablations/sparsity.yaml"),
    ],
)
def test_a_name_is_the_grid_of_the_suite_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_grid(Path(name)) == PAPER_CONFIGS / file
    monkeypatch.chdir(PAPER_CONFIGS.parent)
    assert find_grid(Path(name)) == Path("paper_configs") / file


def test_what_exists_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").touch()
    assert find_grid(Path("cifar10")) == Path("cifar10")


@pytest.mark.parametrize(
    "path", ["elsewhere/cifar10.yaml", "./../cifar10", "published/claims", "expected", "cifar10.yml"]
)
def test_a_path_that_is_not_there_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_grid(Path(path)) == Path(path)


def test_of_a_name_the_nearest_in_the_folder_and_in_the_suite_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / ".cifar11.yaml").touch()
    for name, meant in (("mime.yaml", "mine.yaml"), ("cifar11", "cifar10"), ("resnet", "resnet_cifar")):
        with pytest.raises(UserError, match=rf"^{name}: no such file; did you mean '{meant}'\?"):
            load_grid(Path(name))


def test_every_name_is_a_grid_or_a_folder_of_grids() -> None:
    grids = suite_grids()
    assert {"digits", "cifar10", "ablations", "sparsity"} <= grids.keys()
    assert all(load_grid(path).cells for name, path in grids.items() if name != "ablations")
