"""What is written down of submissions: read back as it was, damage and a full disk told in one line."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.evaluation.sets import AttackSet, CorruptedSet, OodSet
from bench.plan import make_plan, select
from bench.store.folders import Store
from slurm import ledger as ledger_module
from slurm.ledger import BatchFolder, Ledger, now, writing
from slurm.records import Batch, EnsembleItem, Mark, Resources, Unit
from slurm.todo import UnderWay, what_is_left
from slurm.units import make_arrays
from tests.grid_text import load_text
from tests.slurm.plans import SPEC, a_site, item, unit

EVERY_METHOD = """
base: {data: cifar10, model: {depth: 10, width: 1}}
replicates: 1
cells:
  - {name: dense, method: dense, members: 2}
  - {name: static, method: static, sparsity: 0.8}
  - {name: dst, method: dst, sparsity: 0.8, semantics: released}
  - {name: edst, method: edst, members: 3, sparsity: 0.8}
  - {name: pruned, method: prune_finetune, sparsity: 0.8}
  - {name: dropout, method: dense, model: {ensemble: {kind: mc_dropout}}}
  - {name: mimo, method: dense, model: {ensemble: {kind: mimo}}}
  - {name: batch ensemble, method: dense, model: {ensemble: {kind: batch_ensemble}}}
  - {name: trees, method: dense, model: {ensemble: {kind: tree_net, head_blocks: 1}}}
evaluations:
  cifar_c: {types: [fog], severities: [3]}
  local_c: {types: [fog, snow], severities: [1], images: 500}
  ood: {sets: [svhn], folders: {scans: some/where}, images: 9}
  fgsm: {budgets: [0.5, 8]}
  pgd: {budgets: [8], steps: 7, images: 100}
"""


def batch(name: str = "grid-0", units: int = 1, created: str = "2026-01-02T03:04:05+00:00") -> Batch:
    return Batch(
        name=name,
        grids=("grid paper",),
        site="site.yaml",
        scheduler="slurm",
        created=created,
        resources=Resources(processes=1, nodes=1, gpus=1, gpu_type="a100", cpus=4, memory_gb=8, minutes=30),
        after="41_7",
        data=None,
        device="cuda",
        data_folder="/data",
        scratch="$TMPDIR",
        requeue=True,
        deterministic=False,
        units=units,
    )


def a_folder(path: Path, *units: Unit) -> BatchFolder:
    own = units or (unit("a"), unit("b", "c"))
    return BatchFolder.create(path / "grid-0", batch(units=len(own)), own)


# -- round trips -------------------------------------------------------------------------------------------------------


def test_every_kind_of_run_and_set_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = make_plan(load_text(tmp_path, EVERY_METHOD), "paper", None)
    todo = what_is_left([(made, select(made, []))], UnderWay(), retry=False, waits=True)
    units = [one for array in make_arrays(todo, a_site(pack="0min"), UnderWay(), 10) for one in array.units]
    folder = a_folder(tmp_path, *units)
    again = BatchFolder(folder.path)
    assert again.units() == units
    assert again.batch == batch(units=len(units))
    runs = [run for one in again.units() for run in one.runs]
    assert all(run.spec.run_id == run.id for run in runs)
    assert {run.parent for run in runs} == {None, *(run.spec.parent.run_id for run in runs if run.spec.parent)}
    kinds = {type(one) for run in runs for one in run.evaluations}
    assert kinds == {CorruptedSet, OodSet}
    attacks = {tuple(attack.name for attack in one.evaluations) for own in again.units() for one in own.ensembles}
    assert attacks == {("fgsm/0.5", "fgsm/8", "pgd-7-100-images/8")}


def test_one_unit_is_that_of_the_list(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, *(unit(str(number)) for number in range(5)))
    assert [folder.unit(index) for index in range(5)] == folder.units()
    assert [one["train"] for one in folder.raw_units()] == [[str(number)] for number in range(5)]
    with pytest.raises(IndexError):
        folder.unit(5)


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(
    names=st.lists(NAMES, min_size=1, max_size=4),
    hours=st.floats(0, 1e6),
    sets=st.lists(
        st.builds(CorruptedSet, NAMES, NAMES, st.integers(1, 5), st.none() | st.integers(1, 9))
        | st.builds(OodSet, NAMES, st.none() | NAMES, st.none() | st.integers(1, 9)),
        max_size=3,
    ),
    budget=st.floats(0.001, 255),
)
def test_any_name_and_number_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    hours: float,
    sets: list[CorruptedSet | OodSet],
    budget: float,
) -> None:
    run = item("a", hours).model_copy(update={"cells": tuple(names), "evaluations": tuple(sets)})
    attack = EnsembleItem(
        runs=("a",), members=1, specs=(SPEC,), evaluations=(AttackSet(3, budget),), cells=tuple(names), hours=hours
    )
    units = [Unit(train=(), evaluate=("a",), runs=(run,), ensembles=(attack,)), unit("b")]
    folder = a_folder(tmp_path_factory.mktemp("ledger"), *units)
    assert folder.units() == units
    assert [folder.unit(0), folder.unit(1)] == units
    assert folder.raw_units()[0]["runs"][0]["cells"] == names


def test_batches_are_those_written_whole_oldest_first(tmp_path: Path) -> None:
    ledger = Ledger(Store(tmp_path))
    assert ledger.batches() == []
    for name, second in (("b", 7), ("a", 9), ("c", 8)):
        record = batch(name, created=f"2026-01-02T03:04:0{second}+00:00")
        BatchFolder.create(ledger.folder(name), record, [unit(name)])
    (ledger.folder("d")).mkdir()
    (ledger.folder("d") / "units.jsonl").write_text("{", encoding="utf-8")
    assert [folder.batch.name for folder in ledger.batches()] == ["b", "c", "a"]
    assert ledger.folder("b") == tmp_path / "slurm" / "b"


def test_how_slurm_calls_the_units(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    assert folder.submitted() is None
    assert folder.log(1) is None
    folder.submit(["7_0", "7_1"])
    assert folder.submitted() == ("7_0", "7_1")
    assert folder.log(1) is None
    (folder.path / "7_1_0_log.out").touch()
    assert folder.log(1) == folder.path / "7_1_0_log.out"


def test_marks_are_those_of_the_elements_that_started(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    assert (folder.mark(1), folder.marks()) == (None, {})
    mark = Mark(job="7_1", attempt=1, stalls=0, progress="x", node="node1", started=now())
    folder.write_mark(1, mark)
    assert folder.mark(1) == mark
    ended = mark.model_copy(update={"attempt": 2, "code": 75, "ended": now(), "message": "é"})
    folder.write_mark(1, ended)
    folder.write_mark(10, mark)
    assert folder.marks() == {1: ended, 10: mark}


def test_cancelled_elements_add_up(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    assert folder.cancelled() == set()
    folder.cancel({3, 1})
    folder.cancel({1, 10})
    assert folder.cancelled() == {1, 3, 10}


# -- damage ------------------------------------------------------------------------------------------------------------

READERS: list[tuple[str, Callable[[BatchFolder], object]]] = [
    ("batch.json", lambda folder: folder.batch),
    ("units.jsonl", lambda folder: folder.unit(1)),
    ("units.jsonl", lambda folder: folder.units()),
    ("units.jsonl", lambda folder: folder.raw_units()),
    ("submitted.json", lambda folder: folder.submitted()),
    ("elements/0.json", lambda folder: folder.mark(0)),
    ("elements/0.json", lambda folder: folder.marks()),
    ("cancelled.json", lambda folder: folder.cancelled()),
]


@pytest.mark.parametrize(("name", "read"), READERS)
@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda _: b"", lambda _: b"\xff\n{}\n", lambda _: b"[{]"])
def test_a_damaged_file_is_one_clear_line(
    tmp_path: Path, name: str, read: Callable[[BatchFolder], object], damage: Callable[[bytes], bytes]
) -> None:
    folder = a_folder(tmp_path)
    folder.submit(["7_0", "7_1"])
    folder.write_mark(0, Mark(job="7_0", attempt=1, stalls=0, progress="x", node="n", started=now()))
    folder.cancel({10, 11, 12})
    path = folder.path / name
    read(folder)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as told:
        read(BatchFolder(folder.path))
    assert str(told.value).startswith(f"{path}: not as it was written (")
    assert str(told.value).endswith("); it was truncated or altered")
    assert "\n" not in str(told.value)


def test_units_without_one_of_them_are_damaged(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    path = folder.path / "units.jsonl"
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="1 lines, where the batch has 2 units"):
        folder.raw_units()


def test_units_that_are_gone(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder.path / "units.jsonl").unlink()
    with pytest.raises(UserError, match=r"units\.jsonl: gone"):
        folder.unit(0)


# -- a full disk -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_folder(tmp_path)

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ledger_module, "write_text", full)
    for write in (
        lambda: BatchFolder.create(tmp_path / "new", batch(), [unit("a")]),
        lambda: folder.submit(["7"]),
        lambda: folder.cancel({1}),
    ):
        with pytest.raises(UserError, match=r": the disk is full; free some space, then run the same command$"):
            write()


def test_a_batch_cut_short_by_a_full_disk_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, written = Ledger(Store(tmp_path)), ledger_module.write_text

    def full(path: Path, text: str) -> None:
        if path.name == "batch.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        written(path, text)

    monkeypatch.setattr(ledger_module, "write_text", full)
    with pytest.raises(UserError):
        BatchFolder.create(ledger.folder("a"), batch("a"), [unit("a")])
    assert ledger.batches() == []


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x: Permission denied; nothing more was submitted"), writing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_file_in_the_place_of_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "slurm").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"slurm.a: Not a directory"):
        BatchFolder.create(Ledger(Store(tmp_path)).folder("a"), batch("a"), [unit("a")])


def test_what_is_written_is_json_for_other_programs(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    lines = (folder.path / "units.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["train"] for line in lines[:-1]] == [["a"], ["b", "c"]]
    assert json.loads((folder.path / "batch.json").read_text(encoding="utf-8"))["after"] == "41_7"
