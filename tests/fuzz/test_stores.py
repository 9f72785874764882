"""Damaged stores: every command says what it cannot use and goes on; what is not damaged stays as it is."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis.__main__
import bench.__main__
import slurm.__main__
from bench.grid import load_grid
from bench.plan import make_plan
from bench.store.files import discard
from tests.fuzz.calls import COUNTS, Ended, call, inputs
from tests.fuzz.stores import INSTEAD, copy, damage, files, make, put


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        make(folder, patch)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the grid; each input gets a copy of the store in it."""
    (tmp_path / "grid.yaml").write_bytes((made / "grid.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def damaged(data: st.DataObject, made: Path, here: Path) -> tuple[Path, list[Path]]:
    """Return a copy of the store in which up to three files are not as they were, and these files."""
    store = copy(made / "results", here / "results")
    hit = data.draw(st.lists(st.sampled_from(files(made / "results")), min_size=1, max_size=3, unique=True))
    for path in hit:
        content = data.draw(damage(path, (store / path).read_bytes()))
        put(store / path, content, data.draw(st.sampled_from(INSTEAD)))
    COUNTS["inputs"] += 1
    return store, hit


def state(store: Path, without: list[Path]) -> dict[Path, str]:
    """Return the checksum of every file outside of the folders, of a run or of another kind, that were hit."""
    hit = {path.parts[:2] for path in without}
    kept = [path for path in files(store) if path.parts[:2] not in hit]
    return {path: hashlib.sha256((store / path).read_bytes()).hexdigest() for path in kept}


def ask(program: object, here: Path, *words: str) -> Ended:
    return call(program, *words, "--store", str(here / "results"))  # type: ignore[arg-type]


def test_a_damaged_store_can_be_looked_into(made: Path, here: Path) -> None:
    @inputs(25)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        store, _ = damaged(data, made, here)
        before = state(store, [])
        json_too = data.draw(st.sampled_from([[], ["--json"]]))
        runs = sorted(path.name for path in (store / "runs").iterdir())
        run = data.draw(st.sampled_from(runs))
        listed = ask(bench.__main__, here, "list", *data.draw(st.sampled_from([[], ["grid.yaml"]])), *json_too)
        assert all(run in listed.out for run in runs)  # all that is there, whatever is damaged of it
        assert run in ask(bench.__main__, here, "show", run, *json_too).out
        ask(bench.__main__, here, "diff", runs[0], run, *json_too)
        ask(bench.__main__, here, "du", *json_too)
        assert ask(bench.__main__, here, "gc", "grid.yaml", *json_too).code == 0
        assert state(store, []) == before

    check()


def test_what_nobody_asks_for_is_removed_and_nothing_else(made: Path, here: Path) -> None:
    (here / "other.yaml").write_bytes((here / "grid.yaml").read_bytes().split(b"  - {name: PF")[0])

    @inputs(10)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        store, hit = damaged(data, made, here)
        asked = {run.id for run in make_plan(load_grid(here / "other.yaml"), "paper", None).runs}
        others = {
            path: content
            for path, content in state(store, hit).items()
            if path.parts[0] not in ("runs", "ensembles") or path.parts[1] in asked
        }
        ask(bench.__main__, here, "gc", "other.yaml", "--yes")
        after = state(store, hit)
        assert {path: after.get(path) for path in others} == others
        assert ask(bench.__main__, here, "list", "other.yaml", "--json").code in (0, 1)

    check()


def test_what_only_reads_says_what_it_cannot_use(made: Path, here: Path) -> None:
    @inputs(250)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        store, hit = damaged(data, made, here)
        before = state(store, [])
        ask(bench.__main__, here, "plan", "grid.yaml", "--json")
        ask(analysis.__main__, here, "tables", "grid.yaml", "--out", str(here / "report"))
        whole, damaged_one = str(made / "results"), str(here / "results")
        call(analysis.__main__, "compare", "grid.yaml", damaged_one, whole)
        if any(path.parts[0] == "slurm" for path in hit):
            ask(slurm.__main__, here, "status")
            ask(slurm.__main__, here, "logs", "abc")
        assert state(store, []) == before

    check()


def test_what_is_exported_is_imported(made: Path, here: Path) -> None:
    @inputs(60)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        store, _ = damaged(data, made, here)
        before = state(store, [])
        archive, imported = here / "archive.tar", here / "imported"
        if ask(bench.__main__, here, "export", "grid.yaml", "--out", str(archive)).code == 0:
            assert call(bench.__main__, "import", str(archive), "--store", str(imported)).code == 0
            discard(imported)
        assert state(store, []) == before

    check()


def test_what_trains_mends_what_it_can_and_leaves_the_rest(made: Path, here: Path) -> None:
    @inputs(40)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        store, hit = damaged(data, made, here)
        for lock in store.glob("runs/*/lock"):  # `run` would wait two minutes for its holder
            discard(lock)
        others = state(store, [*hit, *started(made)])
        retry = data.draw(st.sampled_from([[], ["--retry"]]))
        ask(bench.__main__, here, "run", "grid.yaml", "--device", "cpu", *retry)
        after = state(store, hit)
        assert {path: after.get(path) for path in others} == others
        ask(analysis.__main__, here, "tables", "grid.yaml", "--out", str(here / "report"))

    check()


def test_reports_are_made_of_what_is_left(made: Path, here: Path) -> None:
    @inputs(2)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        damaged(data, made, here)
        ask(analysis.__main__, here, "report", "grid.yaml", "--out", str(here / "report"))

    check()


def started(made: Path) -> list[Path]:
    """Return a file of the run that was interrupted, with which `run` goes on."""
    return [path.relative_to(made / "results") for path in (made / "results").glob("runs/*/checkpoint.pt")]
