"""Several runs at once in processes of their own: the bits of one after another, whatever dies or is interrupted."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from bench.__main__ import main
from bench.errors import UserError
from bench.recipes import Setting
from bench.recipes.pruning import prune_finetune
from bench.spec.run import DataSpec, RunSpec
from bench.store.files import write_json
from bench.store.folders import Store
from bench.work import parallel
from bench.work.progress import RunProgress, RunState, table_of
from bench.work.runner import run_plan
from bench.work.signals import EXIT_INTERRUPTED
from tests.grid_text import PAPER_CONFIGS
from tests.training.runs import Planned, dense_spec, edst_spec, outcome, run_spec

# A worker takes seconds to start, so the runs take as little as they can.
DATA = DataSpec(name="digits", train_images=64, validation_images=32, test_images=32)


def child_of(parent: RunSpec) -> RunSpec:
    phases = prune_finetune(Setting(members=1, learning_rate=0.1), epochs=1).phases
    return run_spec(phases, density=0.2, parent=parent, data=DATA)


PARENT, BAD = dense_spec(data=DATA), dense_spec(learning_rate=1e4, data=DATA)
CHILD, BAD_CHILD = child_of(PARENT), child_of(BAD)
LONG, OTHER = edst_spec(data=DATA), edst_spec(seed=19, data=DATA)
GOOD = [LONG, OTHER, PARENT, CHILD]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Here, and so in each worker: no share is less than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("sequential")
    assert finish(store, GOOD) == 0
    return store


def two(store: Path | str, specs: Sequence[RunSpec]) -> int:
    return parallel.run_parallel([Planned(spec) for spec in specs], Store(Path(store)), parallel=2, device="cpu")


def finish(store: Path, specs: Sequence[RunSpec]) -> int:
    return run_plan([Planned(spec) for spec in specs], Store(store), device="cpu")


def folder(store: Path, spec: RunSpec) -> Path:
    return Store(store).run(spec.run_id).path


def holder(store: Path, spec: RunSpec) -> int:
    """Return the process that trains a run, 0 if none does."""
    try:
        return int(json.loads((folder(store, spec) / "lock").read_text())["pid"])
    except FileNotFoundError:
        return 0


def past_an_epoch(store: Path, spec: RunSpec, epochs: int = 0) -> bool:
    return bool(holder(store, spec)) and len(Store(store).run(spec.run_id).history()) > epochs


def sessions(store: Path, spec: RunSpec) -> list[dict[str, Any]]:
    return list(json.loads((folder(store, spec) / "provenance.json").read_text())["sessions"])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(ready: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.01)


@contextmanager
def meanwhile(ready: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Act once, as soon as something is ready, while the block runs in the main thread."""

    def watch() -> None:
        wait_until(lambda: ready() or over.is_set())
        if not over.is_set():
            act()

    over = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_run_fails_another_is_killed_and_the_rest_comes_to_the_bits_of_one_after_another(
    tmp_path: Path, sequential: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One long test, for each call takes as long as its workers need to start."""
    killed = 0

    def kill() -> None:
        nonlocal killed
        killed = holder(tmp_path, LONG)
        os.kill(killed, signal.SIGKILL)

    with meanwhile(lambda: past_an_epoch(tmp_path, LONG), kill), caplog.at_level(logging.WARNING):
        assert two(tmp_path, [BAD, BAD_CHILD, *GOOD]) == 1

    # the child of a failed run is blocked, and its parent named
    assert f"{BAD_CHILD.run_id[:8]}: blocked, its parent {BAD.run_id} failed (DivergedError: " in caplog.text
    assert not folder(tmp_path, BAD_CHILD).exists()
    assert Store(tmp_path).run(BAD.run_id).status() == "failed"
    # a killed worker takes one run along, and is replaced
    assert f"{LONG.run_id[:8]} was killed by signal 9; the run continues" in caplog.text
    assert Store(tmp_path).run(LONG.run_id).status() == "missing"
    last = {spec.run_id: sessions(tmp_path, spec)[-1] for spec in GOOD}
    workers = {session["pid"] for session in last.values()}
    assert killed in workers
    assert len(workers) == 3
    # the others are done, a child after its parent
    assert last[CHILD.run_id]["started"] >= last[PARENT.run_id]["ended"]
    assert {session["cpu_threads"] for session in last.values()} == {1}
    for spec in (OTHER, PARENT, CHILD):
        assert outcome(tmp_path, spec) == outcome(sequential, spec)
    # the same command finishes what was killed
    assert finish(tmp_path, GOOD) == 0
    assert outcome(tmp_path, LONG) == outcome(sequential, LONG)


@pytest.mark.slow
def test_a_mistake_ends_everything_and_the_others_save_what_they_have(tmp_path: Path) -> None:
    long = dense_spec(epochs=400, data=DATA)
    # Each but the first looks again at which images the store was made from.
    short = [dense_spec(seed=seed, data=DATA.model_copy(update={"train_images": 32 + seed})) for seed in range(30)]

    def other_images() -> None:
        write_json(tmp_path / "data.json", {"digits": {"variant": "others", "location": None, "note": ""}})

    with (
        meanwhile(lambda: past_an_epoch(tmp_path, long), other_images),
        pytest.raises(UserError, match="its digits runs were made from others images"),
    ):
        two(tmp_path, [long, *short])
    assert (folder(tmp_path, long) / "checkpoint.pt").exists()
    assert not (folder(tmp_path, long) / "lock").exists()
    assert not folder(tmp_path, short[-1]).exists()


# -- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_signals_stop_all_with_checkpoints_and_the_same_command_continues(tmp_path: Path, sequential: Path) -> None:
    """As of a batch system and of an impatient person: Ctrl-C at a terminal reaches the workers as well."""
    runs = [LONG, OTHER]

    def interrupt() -> None:
        for worker in filter(None, (holder(tmp_path, spec) for spec in runs)):
            os.kill(worker, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(lambda: past_an_epoch(tmp_path, LONG), interrupt):
        assert two(tmp_path, runs) == EXIT_INTERRUPTED
    assert (folder(tmp_path, LONG) / "checkpoint.pt").exists()
    assert not [spec for spec in runs if (folder(tmp_path, spec) / "lock").exists()]
    assert finish(tmp_path, runs) == 0
    for spec in runs:
        assert outcome(tmp_path, spec) == outcome(sequential, spec)
    assert [bool(session["resumed_from"]) for session in sessions(tmp_path, LONG)] == [False, True]


@pytest.mark.slow
def test_workers_whose_parent_is_killed_save_and_end(tmp_path: Path, sequential: Path) -> None:
    parent = get_context("fork").Process(target=two, args=(tmp_path, [LONG, OTHER]))
    parent.start()
    try:
        wait_until(lambda: past_an_epoch(tmp_path, LONG) or not parent.is_alive())
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    finally:
        parent.kill()
        parent.join()
    assert len(children) >= 2
    wait_until(lambda: not any(alive(int(pid)) for pid in children))
    assert (folder(tmp_path, LONG) / "checkpoint.pt").exists()
    assert not (folder(tmp_path, LONG) / "lock").exists()
    assert finish(tmp_path, [LONG]) == 0
    assert outcome(tmp_path, LONG) == outcome(sequential, LONG)


# -- what a person asks for and sees -----------------------------------------------------------------------------------


def test_the_command_line_hands_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def run_parallel(runs: Sequence[Any], store: Store, **options: Any) -> int:
        asked.update(options, runs=len(runs), store=store.root)
        return 1

    monkeypatch.setattr(parallel, "run_parallel", run_parallel)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(PAPER_CONFIGS / "digits.yaml"), "--store", str(tmp_path), "--parallel", "3", "--limit", "2"])
    assert ended.value.code == 1
    assert (asked["parallel"], asked["limit"], asked["store"]) == (3, 2, tmp_path)


LINE = {
    "epoch": 1,
    "phase": "train",
    "train_loss": 2.0,
    "train_accuracy": 0.25,
    "validation_accuracy": 0.5,
    "images_per_second": 400.0,
    "seconds": 60.0,
}


def test_the_table_shows_a_run_a_row_and_the_counts() -> None:
    begun, fresh = RunState("[1/3] a [cell]", 4), RunState("[2/3] another", 4)
    begun.hear(LINE)
    console = Console(file=StringIO(), width=80)
    console.print(table_of([begun, fresh], {"done": 1, "failed": 0, "blocked": 0, "left": 2}))
    _, *rows, counts = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert rows[0] == "[1/3] a [cell] 1/4 validation 50.0% 400 0:03:00"
    assert rows[1] == "[2/3] another -/4 - - -"
    assert counts == "1 done, 0 failed, 0 blocked, 2 left"


def test_without_validation_images_progress_is_of_the_training_images(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), RunProgress("a run", PARENT, 0) as progress:
        progress.epoch({**LINE, "validation_accuracy": None}, 4)
    assert "training 25.0%, 400 images/s" in caplog.text
