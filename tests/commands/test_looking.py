"""The commands that look into a store: list, show, diff, du and gc; and what each says of a damaged one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.grid import load_grid
from bench.plan import make_plan
from bench.store.lock import RunLock
from bench.store.records import Failure, Session, Usage
from bench.store.store import Store
from tests.grid_text import write_grid
from tests.store.runs import finished_run, run_spec

GRID = """
replicates: 1
base: {data: digits, model: {depth: 10, width: 1}}
cells:
  - {name: dense, method: dense}
  - {name: DST, method: dst, sparsity: 0.8, members: 2}
scales: {tiny: {train_images: 64, validation_images: 32, test_images: 32}}
"""


class Here:
    """A store with a finished EDST run of no grid, and a failed and a begun run of a grid."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.grid, self.store, self._capsys = write_grid(folder, GRID), Store(folder / "results"), capsys
        self.edst = finished_run(self.store.root).path.name
        self.dense, self.dst, *_ = (run.id for run in make_plan(load_grid(self.grid), "paper", None).runs)
        for run in make_plan(load_grid(self.grid), "paper", None).runs[:2]:
            self.store.run(run.id).write_spec(run.spec)
        self.store.run(self.dense).write_failure(Failure(type="ValueError", message="diverged", attempt=2))

    def __call__(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--store", str(self.store.root)])
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out, err

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json")[1])


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("COLUMNS", "140")
    return Here(tmp_path, capsys)


# -- list --------------------------------------------------------------------------------------------------------------


def test_list_names_every_run_of_a_store(here: Here) -> None:
    code, out, err = here("list")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}
    assert lines[here.edst].startswith(f"{here.edst} edst wide_resnet 10-1 digits 0.8 18 done ")
    assert lines[here.dense].startswith(f"{here.dense} dense wide_resnet 10-1 digits - ")
    assert " failed " in lines[here.dense]
    assert " dst wide_resnet 10-1 digits 0.8 " in lines[here.dst]
    assert " unfinished " in lines[here.dst]
    assert out.splitlines()[-1].startswith("3 runs, ")


def test_list_says_which_grids_ask_for_a_run_at_which_scale(here: Here) -> None:
    users = {run["id"]: run["asked_for_by"] for run in here.json("list", str(here.grid))["runs"]}
    assert users == {here.dense: ["grid paper"], here.dst: ["grid paper"], here.edst: []}
    out = here("list", str(here.grid))[1]
    assert next(line for line in out.splitlines() if line.startswith(here.edst)).split()[-1] == "none"
    assert [run["id"] for run in here.json("list", str(here.grid), "--unasked")["runs"]] == [here.edst]
    code, _, err = here("list", "--unasked")
    assert (code, err) == (2, "error: --unasked: found without a grid; give the grids that you keep runs of\n")


def test_list_of_a_store_says_the_size_of_each_run(here: Here) -> None:
    for run in here.json("list")["runs"]:
        files = [path for path in here.store.run(run["id"]).path.rglob("*") if path.is_file()]
        assert run["bytes"] == sum(path.stat().st_size for path in files)


def test_what_is_damaged_is_named_and_the_rest_is_listed(here: Here) -> None:
    spec = here.store.run(here.dst).path / "spec.yaml"
    spec.write_text("[")
    code, out, err = here("list")
    assert code == 1
    assert err == f"damaged: {spec}: no spec of a run; it was truncated or altered\n"
    assert [line.split()[0] for line in out.splitlines()[2:5]] == sorted([here.edst, here.dense, here.dst])
    document = here.json("list")
    assert document["damage"] == [err.removeprefix("damaged: ").strip()]
    assert {run["id"]: run["method"] for run in document["runs"]}[here.dst] is None


# -- show --------------------------------------------------------------------------------------------------------------


def test_show_says_all_that_a_run_says_of_itself(here: Here) -> None:
    code, out, _ = here("show", here.edst[:6])
    assert code == 0
    text = " ".join(out.split())
    assert f"run {here.edst}: done; method edst, network wide_resnet 10-1, data digits, sparsity 0.8, seed 18" in text
    assert "epochs: 2 of 350" in text
    assert "2 train 0.1 1.2500 0.2500 - - 1.0000" in text
    assert "0 1 train - 1.0000" in text
    assert "test 1 validation 1" in text
    assert "exploration_epochs" not in text  # the spec is resolved
    assert "epochs: 150" in text
    document = here.json("show", here.edst)
    assert document["spec"] == run_spec().model_dump(mode="json")
    assert [ticket["index"] for ticket in document["tickets"]] == [0, 1]
    assert set(document["evaluated"]) == {"test", "validation"}
    assert document["sizes"]["tickets"]["files"] == 2
    assert [line["epoch"] for line in document["history"]] == [1, 2]


def test_show_says_what_each_session_used(here: Here) -> None:
    facts: dict[str, Any] = dict.fromkeys(("job", "git", "cuda", "cudnn"))
    facts |= {"host": "node7", "pid": 1, "command": (), "python": "3.11", "versions": {}, "device": "cuda"}
    facts |= {"device_name": "H100", "cpu_threads": 2, "deterministic": False}
    used = Usage(seconds=90, host_bytes=3 * 10**9, device_bytes=12 * 10**9)
    sessions = [
        Session(started="2026-01-02T03:04:05", ended="2026-01-02T03:05:35", usage=used, **facts),
        Session(started="2026-01-03T00:00:00", **facts),
    ]
    here.store.run(here.dst).write_provenance(sessions)
    lines = [" ".join(line.split()) for line in here("show", here.dst)[1].splitlines()]
    assert "2026-01-02 03:04 1.5 3.0 GB + 12 GB node7 H100 -" in lines
    assert "2026-01-03 00:00 - so far - node7 H100 -" in lines


def test_show_of_a_failed_run_says_why(here: Here) -> None:
    code, out, _ = here("show", here.dense)
    assert code == 0
    assert f"run {here.dense}: failed" in out
    assert "failed (attempt 2): ValueError: diverged" in out


@pytest.mark.parametrize(
    "file",
    ["result.json", "spec.yaml", "history.jsonl", "provenance.json", "evaluations.json", "tickets/0.safetensors"],
)
def test_show_of_a_damaged_run_names_what_is_and_shows_the_rest(here: Here, file: str) -> None:
    path = here.store.run(here.edst).path / file
    path.write_text("[")
    code, out, err = here("show", here.edst)
    assert code == 1
    assert f"run {here.edst}: " in out
    assert str(path) in err
    assert all(line.startswith("damaged: ") for line in err.splitlines())
    assert [path.name in sentence for sentence in here.json("show", here.edst)["damage"]].count(True) >= 1


def test_a_run_may_be_abbreviated_as_far_as_it_is_one(here: Here) -> None:
    twin = here.edst[:15] + ("0" if here.edst[15] != "0" else "1")
    here.store.run(twin).path.mkdir()
    code, _, err = here("show", here.edst[:15])
    first, second = sorted([here.edst, twin])
    assert (code, err) == (
        2,
        f"error: {here.edst[:15]}: begins the ids of 2 runs: {first}, {second}; give more of one\n",
    )
    assert here("diff", here.edst, "nothing")[0] == 2


# -- diff --------------------------------------------------------------------------------------------------------------


def test_diff_names_the_fields_in_which_two_runs_differ(here: Here) -> None:
    other = finished_run(here.store.root, seed=19, batch_size=64).path.name
    code, out, _ = here("diff", here.edst, other)
    assert code == 0
    head, _, *rows = (line.split() for line in out.splitlines())
    assert head == ["field", here.edst, other]
    assert rows == [["batch_size", "128", "64"], ["seed", "18", "19"]]
    assert here("diff", other, other)[1] == "no field differs: both are one run\n"


def test_diff_as_json_tells_absent_from_null(here: Here) -> None:
    found = here.json("diff", here.edst, here.dst)
    assert (found["a"], found["b"]) == (here.edst, here.dst)
    by_field = {entry["field"]: entry for entry in found["differences"]}
    assert "b" not in by_field["phases[1]"]
    assert by_field["phases[0].ticket"]["a"] is None


def test_diff_of_a_spec_that_cannot_be_read_is_a_mistake(here: Here) -> None:
    (here.store.run(here.dst).path / "spec.yaml").unlink()
    code, _, err = here("diff", here.dst, here.edst)
    assert (code, err.count("\n")) == (2, 1)
    assert "spec.yaml: No such file" in err


# -- du ----------------------------------------------------------------------------------------------------------------


def test_du_divides_a_store_by_kinds_of_files(here: Here) -> None:
    kinds = here.json("du")["kinds"]
    files = [path for path in here.store.root.rglob("*") if path.is_file()]
    assert sum(kind["bytes"] for kind in kinds.values()) == sum(path.stat().st_size for path in files)
    out = here("du")[1]
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["tickets", "logits", "records", "all"]


@pytest.mark.parametrize("command", [["list"], ["du"], ["show", "a"], ["diff", "a", "b"], ["gc", "digits"]])
def test_a_store_that_is_not_there_is_a_mistake(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--store", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert f"--store {tmp_path / 'nowhere'}: no such folder; give --store DIR" in capsys.readouterr().err


# -- gc ----------------------------------------------------------------------------------------------------------------


def test_gc_only_lists_unless_told(here: Here) -> None:
    for options in ([], ["--dry-run"]):
        code, out, _ = here("gc", str(here.grid), *options)
        assert code == 0
        assert here.edst in out
        assert here.dense not in out
        assert out.splitlines()[-1].startswith("1 run that this grid does not ask for, ")
    assert here.json("gc", str(here.grid))["unasked"][0]["id"] == here.edst
    assert len(here.json("list")["runs"]) == 3


def test_gc_removes_without_asking_if_told_so(here: Here) -> None:
    code, out, _ = here("gc", str(here.grid), "--yes")
    assert (code, out.splitlines()[-1]) == (0, "Removed 1 of 1.")
    assert {run["id"] for run in here.json("list")["runs"]} == {here.dense, here.dst}
    assert here("gc", str(here.grid), "--yes")[1] == "Nothing to remove; 2 runs in all.\n"


@pytest.mark.parametrize(("answer", "left"), [("y", 2), ("n", 3)])
def test_gc_asks_before_it_removes(here: Here, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or answer == "y")
    assert here("gc", str(here.grid), "--remove")[0] == 0
    assert asked[0].startswith("Remove 1 run that this grid does not ask for, ")
    assert len(here.json("list")["runs"]) == left


def test_gc_removes_nothing_where_nobody_can_answer_or_a_grid_is_wrong(here: Here) -> None:
    code, _, err = here("gc", str(here.grid), "--remove")
    assert (code, "nobody is there to answer" in err) == (2, True)
    wrong = here.grid.with_name("wrong.yaml")
    wrong.write_text("cells: [{name: a, metod: dense}]")
    assert here("gc", str(here.grid), str(wrong), "--yes")[0] == 2
    assert len(here.json("list")["runs"]) == 3


def test_gc_never_touches_a_locked_run(here: Here) -> None:
    with RunLock(here.store.run(here.edst).path / "lock"):
        code, out, _ = here("gc", str(here.grid), "--yes")
    assert code == 0
    assert f"kept: {here.store.run(here.edst).path}: another process works on it" in out
    assert len(here.json("list")["runs"]) == 3
