"""What a store holds, read without a grid: each run as far as it can be read, and one by the start of its id."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import UserError
from bench.spec.phases import Inherit
from bench.store.contents import contents, find_run, read_spec
from bench.store.lock import RunLock
from bench.store.records import Failure
from bench.store.store import Store
from tests.store.runs import finished_run, run_spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    finished_run(tmp_path)
    return Store(tmp_path)


def test_a_run_is_what_its_spec_says_and_as_far_as_its_files_say(store: Store) -> None:
    specs = [run_spec(seed=seed) for seed in range(3)]
    for spec in specs:
        store.run(spec.run_id).write_spec(spec)
    store.run(specs[0].run_id).write_failure(Failure(type="ValueError", message="no"))
    with RunLock(store.run(specs[1].run_id).path / "lock"):
        states = {run.spec and run.spec.seed: run.state for run in contents(store).runs}
        assert states == {0: "failed", 1: "running", 2: "unfinished", 18: "done"}
    assert contents(store).damage == ()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("spec.yaml", "spec.yaml: no spec of a run"),
        ("result.json", "result.json: not a complete JSON document"),
        ("evaluations.json", "evaluations.json: not a complete JSON document"),
        ("tickets/1.safetensors", "1.safetensors: gone, truncated or altered"),
        ("history.jsonl", "history.jsonl: gone, truncated or altered"),
        ("logits/test.safetensors", "test.safetensors: gone, truncated, or made with other tickets"),
    ],
)
def test_what_is_damaged_is_named_and_the_rest_is_there(store: Store, file: str, said: str) -> None:
    (run,) = contents(store).runs
    (run.folder.path / file).write_text("[")
    other = finished_run(store.root, seed=19)
    found = contents(store)
    assert {run.id for run in found.runs} == {run.id, other.path.name}
    (sentence,) = found.damage
    assert sentence.startswith(f"{run.folder.path}/")
    assert said in sentence


def test_a_folder_that_cannot_be_read_is_named_for_its_size_is_not_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir

    def refusing(self: Path) -> Iterator[Path]:
        if self.name == "tickets":
            raise PermissionError(13, "Permission denied")
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refusing)
    (run,) = contents(store).runs
    assert contents(store).damage == (f"{run.folder.path / 'tickets'}: Permission denied",)
    assert "tickets" not in run.sizes


def test_a_run_whose_parent_was_made_again_says_so(store: Store) -> None:
    (parent,) = contents(store).runs
    phases = run_spec().phases
    first = phases[0].model_copy(update={"on_start": (Inherit(),)})
    child = finished_run(store.root, parent=parent.spec, phases=(first, *phases[1:]))
    content = json.loads((child.path / "result.json").read_text())
    content["inherited"] = {"tickets/0.safetensors": "0" * 64}
    content["checksum"] = None
    (child.path / "result.json").write_text(json.dumps(content))
    assert contents(store).damage == (f"{child.path}: made from weights that its parent no longer has",)


def test_what_is_no_run_is_named(store: Store) -> None:
    runs = store.root / "runs"
    (runs / "notes.txt").touch()
    (runs / "0123456789abcdef").touch()
    (runs / "f000000000000000").symlink_to(runs)
    found = contents(store)
    assert len(found.runs) == 1
    assert [sentence.rpartition("/")[2] for sentence in found.others] == [
        "0123456789abcdef: not the folder of a run",
        "f000000000000000: not the folder of a run",
        "notes.txt: not the folder of a run",
    ]


def test_a_store_without_runs_is_empty_and_no_store_is_a_mistake(tmp_path: Path) -> None:
    assert contents(Store(tmp_path)).runs == ()
    (tmp_path / "runs").touch()
    assert contents(Store(tmp_path)).damage == (f"{tmp_path / 'runs'}: Not a directory",)
    with pytest.raises(UserError, match="no such folder; give --store DIR"):
        contents(Store(tmp_path / "nowhere"))


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(UserError, match=r"abc: no such run; .* holds none"):
        find_run(store, "abc")
    ids = ["a" * 16, "ab" * 8, *(f"b{number:015d}" for number in range(9))]
    for run in ids:
        store.run(run).path.mkdir(parents=True)
    assert find_run(store, "aa").id == find_run(store, "AA").id == "a" * 16
    assert find_run(store, "ab" * 8).id == "ab" * 8
    with pytest.raises(UserError, match=f"a: begins the ids of 2 runs: {ids[0]}, {ids[1]}; give more of one"):
        find_run(store, "a")
    with pytest.raises(UserError, match=r"b: begins the ids of 9 runs: .*, \.\.\. and 1 more; give more"):
        find_run(store, "b")
    with pytest.raises(UserError, match=f"bba: no run in .* begins so; did you mean 'ab.'.* there are {ids[0]}, "):
        find_run(store, "bba")


def test_the_spec_that_a_run_was_made_from_is_read_back(store: Store) -> None:
    (run,) = contents(store).runs
    assert read_spec(run.folder.path) == run_spec()


ALTERED: dict[str, tuple[Any, str]] = {
    "another run's": (lambda text: text.replace("seed: 18", "seed: 19"), "the spec of run "),
    "unknown key": (lambda text: f"{text}\nmore: 1\n", "more: Extra inputs are not permitted"),
    "cut": (lambda text: text[: len(text) // 2], "spec.yaml: "),
    "no mapping": (lambda _: "7", "spec.yaml: "),
    "date": (lambda text: text.replace("seed: 18", "seed: 2024-01-01"), "no spec of a run"),
    "deep": (lambda _: "[" * 100_000, "no spec of a run"),
    "an alias": (lambda text: f"a: &a [1]\nb: *a\n{text}", "no spec of a run"),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_spec_is_refused(store: Store, kind: str) -> None:
    (run,) = contents(store).runs
    path = run.folder.path / "spec.yaml"
    alter, said = ALTERED[kind]
    path.write_text(alter(path.read_text()))
    with pytest.raises(UserError, match=f"^{path}") as refused:
        read_spec(run.folder.path)
    assert said in str(refused.value)


def test_a_star_in_a_name_is_no_alias(store: Store) -> None:
    spec = run_spec(topology=run_spec().topology.model_copy(update={"dense": ("*.bias", "&x")}))
    store.run(spec.run_id).write_spec(spec)
    assert "*" in yaml.safe_dump(spec.model_dump(mode="json"))
    assert read_spec(store.run(spec.run_id).path) == spec
