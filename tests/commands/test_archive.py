"""`bench export` and `bench import` on a store that was trained: what is done is in, what is not is said."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.grid import load_grid
from bench.plan import make_plan
from bench.store.latency import read_latencies
from bench.store.run_folder import NO_WEIGHTS
from bench.store.store import Store

GRID = """
replicates: 1
base:
  data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}
  model: {name: wide_resnet, depth: 10, width: 1}
  batch_size: 32
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
  - {name: pruned, method: prune_finetune, sparsity: 0.5, recipe: {epochs: 2, dense_epochs: 3}}
evaluations:
  ood: {sets: [uniform], images: 32}
  local_c: {types: [fog], severities: [3], images: 32}
  fgsm: {budgets: [8], images: 32}
"""


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def manifest(archive: Path) -> dict:
    with tarfile.open(archive) as tar:
        return json.load(tar.extractfile("manifest.json"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a grid and its store, all done: not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "grid.yaml").write_text(GRID)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder / "grid.yaml"), "--store", str(folder / "results"), "--device", "cpu"])
    assert not ended.value.code
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to be changed, as the working directory."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_trained_store_comes_back_and_nothing_is_left_to_do(here: Path, capsys) -> None:
    code, out, err = call(capsys, "export", "grid.yaml", "--out", "a.tar", "--weights", "--licence", "cc-by-4.0")
    assert (code, err) == (0, "")
    assert out.startswith("a.tar: 2 runs, ")
    assert out.endswith("MB; licence: CC-BY-4.0\n")
    assert call(capsys, "import", "a.tar", "--store", "new")[0] == 0
    left = {name: content for name, content in tree(here / "results").items() if not name.endswith("attempts.json")}
    assert {**tree(here / "new"), "data.json": b""} == {**left, "data.json": b""}
    before = tree(here / "new")
    assert call(capsys, "run", "grid.yaml", "--store", "new", "--device", "cpu", "--retry")[0] == 0
    assert tree(here / "new") == before


def test_what_predicting_costs_comes_along_and_replaces_none(here: Path, capsys) -> None:
    assert call(capsys, "latency", "grid.yaml", "--seconds", "0", "--device", "cpu")[0] == 0
    (measured,), _ = read_latencies(here / "results")
    assert call(capsys, "export", "grid.yaml", "--out", "a.tar")[0] == 0
    assert call(capsys, "import", "a.tar", "--store", "new")[0] == 0
    assert read_latencies(here / "new") == ([measured], [])
    (own,) = (here / "new" / "latency").glob("*.json")
    own.write_text(measured.model_copy(update={"ensembles": measured.ensembles[:1]}).model_dump_json())
    before = own.read_bytes()
    assert call(capsys, "import", "a.tar", "--store", "new")[0] == 0
    assert own.read_bytes() == before


@pytest.mark.usefixtures("here")
def test_the_same_store_gives_the_same_bytes_and_the_manifest_says_what_they_are(capsys) -> None:
    for name in ("a.tar.gz", "b.tar.gz"):
        assert call(capsys, "export", "grid.yaml", "--out", name, "--without", "local-c")[0] == 0
    assert Path("a.tar.gz").read_bytes() == Path("b.tar.gz").read_bytes()
    said = manifest(Path("a.tar.gz"))
    assert said["licence"] == "not stated"
    assert said["grid"] == {"name": "grid", "scale": "paper", "files": {"grid.yaml": GRID}}
    assert said["suite"]["version"] == "0.2.0"
    assert said["rebuild"][-1] == "python -m analysis report grid.yaml --scale paper --store imported"
    assert [entry["what"] for entry in said["left_out"]] == ["the weights of all runs", "the evaluation sets local-c"]
    assert str(Path.cwd()) not in json.dumps({**said, "files": {}})


@pytest.mark.usefixtures("here")
def test_what_needs_weights_that_are_not_there_is_not_tried_and_said(capsys, caplog) -> None:
    assert call(capsys, "export", "grid.yaml", "--without", "local-c")[0] == 0
    assert call(capsys, "import", "results.tar.gz", "--store", "new")[0] == 0
    before = tree(Path("new"))
    for retry in ([], ["--retry"]):
        caplog.clear()
        assert call(capsys, "run", "grid.yaml", "--store", "new", "--device", "cpu", *retry)[0] == 1
        assert [text for text in caplog.messages if "not exported" in text] == [
            f"evaluation sets are left: {NO_WEIGHTS}"
        ]
        assert {name: content for name, content in tree(Path("new")).items() if "samples/" not in name} == before
    planned = " ".join(call(capsys, "plan", "grid.yaml", "--store", "new")[1].split())
    assert "): 2 done" in planned
    assert f"some cannot be made: {NO_WEIGHTS}" in planned


@pytest.mark.usefixtures("here")
def test_a_child_of_a_run_without_weights_is_blocked_until_it_has_some(capsys) -> None:
    assert call(capsys, "export", "grid.yaml")[0] == 0
    assert call(capsys, "import", "results.tar.gz", "--store", "new")[0] == 0
    parent, child = make_plan(load_grid(Path("grid.yaml")), "paper", Store(Path("new"))).runs
    shutil.rmtree(Path("new") / "runs" / child.id)
    (run,) = (
        run for run in make_plan(load_grid(Path("grid.yaml")), "paper", Store(Path("new"))).runs if run.id == child.id
    )
    assert (run.status, run.reason) == ("blocked", NO_WEIGHTS)
    shutil.rmtree(Path("new") / "runs" / parent.id)  # as the reason says
    assert call(capsys, "run", "grid.yaml", "--store", "new", "--device", "cpu")[0] == 0


def fail(run: Path) -> None:
    (run / "result.json").unlink()
    (run / "error.json").write_text('{"type": "ValueError", "message": "boom"}')


UNDONE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, "missing"),
    "failed": (fail, "ValueError: boom"),
    "ticket": (lambda run: (run / "tickets" / "0.safetensors").write_bytes(b""), "gone, truncated or altered"),
    "history": (
        lambda run: (run / "history.jsonl").write_bytes((run / "history.jsonl").read_bytes()[::-1]),
        "damaged: ",
    ),
}


@pytest.mark.parametrize("state", UNDONE)
def test_what_is_not_done_is_left_out_and_named(state: str, here: Path, capsys) -> None:
    change, why = UNDONE[state]
    parent, child = make_plan(load_grid(Path("grid.yaml")), "paper", Store(Path("results"))).runs
    change(here / "results" / "runs" / child.id)
    code, out, err = call(capsys, "export", "grid.yaml", "--weights")
    assert code == 0
    assert out.startswith("results.tar.gz: 1 run,")
    (line,) = err.splitlines()
    assert line.startswith(f"not exported: run {child.id} of pruned (")
    assert why in line
    said = manifest(Path("results.tar.gz"))
    assert said["runs"] == [parent.id]
    assert not [name for name in said["files"] if child.id in name]
    assert call(capsys, "import", "results.tar.gz", "--store", "new")[0] == 0


def test_a_damaged_set_is_left_out_and_named(here: Path, capsys) -> None:
    parent, _ = make_plan(load_grid(Path("grid.yaml")), "paper", Store(Path("results"))).runs
    file = here / "results" / "runs" / parent.id / "logits" / "ood-32-images" / "uniform.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert call(capsys, "export", "grid.yaml", "--weights")[2] == (
        f"not exported: ood-32-images/uniform of run {parent.id} (damaged, or made with other tickets)\n"
    )
    assert call(capsys, "import", "results.tar.gz", "--store", "new")[0] == 0
    assert call(capsys, "run", "grid.yaml", "--store", "new", "--device", "cpu")[0] == 0  # which makes it again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--licence", "mine"], "--licence: found 'mine'; allowed: an identifier of spdx.org/licenses"),
        (
            ["--without", "local_c"],
            "--without: no family of evaluation sets 'local_c'; did you mean 'local-c'? allowed",
        ),
        (["--without", "test"], "--without: no family of evaluation sets 'test'"),
        (["--out", "grid.yaml"], "--out grid.yaml: there already, and no archive"),
        (["--out", "results"], "--out results: there already, and no archive"),
        (["--store", "none"], "none: none of the 2 runs of grid grid at scale paper is done"),
        (["--scale", "papper"], "no scale 'papper'"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_mistake_is_one_line_and_writes_nothing(arguments: list[str], message: str, capsys) -> None:
    before = tree(Path())
    code, out, err = call(capsys, "export", "grid.yaml", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert tree(Path()) == before
