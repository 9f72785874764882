"""What nobody asks for is removed whole; what a process works on, and what that starts from, is never touched."""

from pathlib import Path

import pytest

from bench.spec.phases import Inherit
from bench.store import removal
from bench.store.contents import contents
from bench.store.files import write_json
from bench.store.lock import RunLock
from bench.store.removal import removables, remove
from bench.store.store import Store
from tests.store.runs import finished_run, run_spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for seed in (1, 2, 3):
        finished_run(tmp_path, seed=seed)
    return Store(tmp_path)


def ids(store: Store) -> dict[int, str]:
    return {run.spec.seed: run.id for run in contents(store).runs if run.spec}


def chosen(store: Store, *asked: str, ensembles: tuple[str, ...] = ()) -> removal.Removables:
    return removables(store, contents(store).runs, asked, ensembles)


def test_what_is_asked_for_stays(store: Store) -> None:
    runs = ids(store)
    found = chosen(store, runs[1], runs[3])
    assert [(item.kind, item.path.name) for item in found.items] == [("run", runs[2])]
    assert found.items[0].bytes == sum(p.stat().st_size for p in found.items[0].path.rglob("*") if p.is_file())
    assert remove(store, found.items) == []
    assert ids(store) == {1: runs[1], 3: runs[3]}
    assert sorted(path.name for path in store.root.iterdir()) == ["runs"]


def test_ensembles_go_by_their_own_ids(store: Store) -> None:
    for name in ("a" * 16, "b" * 16, "notes"):
        (store.root / "ensembles" / name).mkdir(parents=True)
    found = chosen(store, *ids(store).values(), ensembles=("a" * 16,))
    assert [item.path.name for item in found.items] == ["b" * 16]
    assert remove(store, found.items) == []
    assert sorted(path.name for path in (store.root / "ensembles").iterdir()) == ["a" * 16, "notes"]


def test_what_a_process_works_on_stays_with_what_it_starts_from(store: Store) -> None:
    runs = ids(store)
    parent = next(run.spec for run in contents(store).runs if run.id == runs[1])
    first, *rest = run_spec().phases
    child = run_spec(seed=4, parent=parent, phases=(first.model_copy(update={"on_start": (Inherit(),)}), *rest))
    store.run(child.run_id).write_spec(child)
    with RunLock(store.run(child.run_id).path / "lock"):
        found = chosen(store)
        assert {item.path.name for item in found.items} == {runs[2], runs[3]}
        assert found.kept == (f"{store.run(child.run_id).path}: another process works on it",)


def test_a_run_that_is_taken_meanwhile_stays(store: Store) -> None:
    runs = ids(store)
    found = chosen(store)
    with RunLock(store.run(runs[2]).path / "lock"):
        (problem,) = remove(store, found.items)
    assert "held by process" in problem
    assert ids(store) == {2: runs[2]}
    assert contents(store).damage == ()


def test_what_a_run_that_began_meanwhile_starts_from_stays(store: Store) -> None:
    """Whoever is asked before anything is removed may answer an hour later."""
    runs = ids(store)
    found = chosen(store)
    parent = next(run.spec for run in contents(store).runs if run.id == runs[1])
    first, *rest = run_spec().phases
    child = run_spec(seed=4, parent=parent, phases=(first.model_copy(update={"on_start": (Inherit(),)}), *rest))
    store.run(child.run_id).write_spec(child)
    with RunLock(store.run(child.run_id).path / "lock"):
        (problem,) = remove(store, found.items)
    assert problem == (f"{store.run(runs[1]).path}: run {child.run_id} needs it, and another process works on that")
    assert ids(store) == {1: runs[1], 4: child.run_id}


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_the_runs_of_an_ensemble_under_attack_stay(when: str, store: Store) -> None:
    runs = ids(store)
    ensemble = store.root / "ensembles" / ("a" * 16)
    write_json(ensemble / "ensemble.json", {"runs": [runs[1], runs[2]], "members": 2})
    found = chosen(store)
    with RunLock(ensemble / "lock"):
        if when == "before":
            found = chosen(store)
            assert found.kept == (f"{ensemble}: another process works on it",)
        problems = remove(store, found.items)
    assert sorted(ids(store)) == [1, 2]
    assert [problem for problem in problems if f"ensemble {'a' * 16} needs it" in problem] == problems[:2]
    assert len(problems) == (0 if when == "before" else 3)


def test_what_the_system_refuses_is_named_and_the_rest_goes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ids(store)
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.name == runs[2]:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    assert remove(store, chosen(store).items) == [f"{store.run(runs[2]).path}: Permission denied"]
    assert ids(store) == {2: runs[2]}
