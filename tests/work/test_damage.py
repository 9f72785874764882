"""One bad part of a store never takes the rest with it: `plan`, `run` and `run --retry` say what is wrong and go on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import bench.__main__
from tests.work.test_repair import flipped

GRID = """
replicates: 1
base:
  data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}
  model: {name: wide_resnet, depth: 10, width: 1}
  batch_size: 32
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
  - {name: dst, method: dst, sparsity: 0.5, recipe: {epochs: 3, update_every: 2}}
evaluations:
  ood: {sets: [uniform], images: 32}
  local_c: {types: [fog], severities: [3], images: 32}
  fgsm: {budgets: [8], images: 32}
"""
DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "deep": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "digits": lambda path: path.write_text('{"schema_version": ' + "9" * 5_000 + "}"),
    "folder": lambda path: (path.unlink(), path.mkdir(), (path / "theirs").write_text("")),
    "loop": lambda path: (path.unlink(), path.symlink_to(path.name)),
}
REPLACED: dict[str, Callable[[Path], object]] = {
    "file": lambda path: (shutil.rmtree(path), path.write_text("")),
    "loop": lambda path: (shutil.rmtree(path), path.symlink_to(path.name)),
    "gone": lambda path: shutil.rmtree(path),
}
FILES = ["data.json", "samples/digits/local-c.safetensors", "E/ensemble.json", "E/evaluations.json", "R/result.json"]
FOLDERS = ["samples", "ensembles", "E", "E/logits", "R", "R/tickets", "R/logits", "R/logits/local-c"]


def bench_(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        bench.__main__.main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    (root / "grid.yaml").write_text(GRID)
    assert bench_("run", str(root / "grid.yaml"), "--store", str(root / "store"), "--device", "cpu") == 0
    return root


@pytest.fixture
def here(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def place(store: Path, name: str) -> Path:
    """Return a path in the folder of the first run (R) or ensemble (E)."""
    first = {"R": min((store / "runs").iterdir()), "E": min((store / "ensembles").iterdir())}
    room, _, rest = name.partition("/")
    return first[room] / rest if room in first else store / name


def tensors(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in store.rglob("*.safetensors") if file.is_file()}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_after_retry_a_damaged_file_is_as_it_was(
    name: str, damage: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tensors(here)
    path = place(here, name)
    DAMAGE[damage](path)
    assert bench_("plan", "grid.yaml", "--store", "store") == 0
    assert bench_("run", "grid.yaml", "--store", "store", "--device", "cpu") in (0, 1)
    assert bench_("run", "grid.yaml", "--store", "store", "--device", "cpu", "--retry") == 0
    theirs = damage == "folder" and name.startswith("samples")  # said, and left as it is: no number needs it
    if not theirs:
        assert tensors(here) == before
    capsys.readouterr()
    assert bench_("plan", "grid.yaml", "--store", "store", "--json") == 0
    assert {run["status"] for run in json.loads(capsys.readouterr().out)["runs"]} == {"done"}


@pytest.mark.parametrize("damage", REPLACED)
@pytest.mark.parametrize("name", FOLDERS)
def test_what_lies_in_a_folders_place_is_said_and_keeps_nothing_else_back(
    name: str, damage: str, here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = tensors(here)
    path = place(here, name)
    untouched = {file: content for file, content in before.items() if not (here / file).is_relative_to(path)}
    REPLACED[damage](path)
    assert bench_("plan", "grid.yaml", "--store", "store") == 0
    codes = {bench_("run", "grid.yaml", "--store", "store", "--device", "cpu", *retry) for retry in ((), ("--retry",))}
    assert codes <= {0, 1}
    if damage == "gone":
        assert tensors(here) == before
    else:
        assert untouched.items() <= tensors(here).items()
        assert path.name in capsys.readouterr().err + caplog.text
