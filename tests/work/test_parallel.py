"""Several workers on one store: the bits of one worker, whatever dies or is interrupted, and nothing done twice."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.__main__ import main
from bench.recipes import Setting
from bench.recipes.pruning import prune_finetune
from bench.spec.run import DataSpec, RunSpec
from bench.store.files import write_json
from bench.store.lock import holder
from bench.store.store import Store
from bench.work import parallel
from bench.work.items import Work
from bench.work.options import Options
from bench.work.progress import RunProgress
from bench.work.signals import EXIT_INTERRUPTED, StopRequest
from bench.work.summary import summarise
from tests.grid_text import PAPER_CONFIGS
from tests.store.runs import epoch
from tests.training.runs import dense_spec, do, edst_spec, outcome, run_spec, work_of
from tests.training.slow import SLOW

# A worker takes seconds to start, so the runs take as little as they can.
DATA = DataSpec(name="digits", train_images=64, validation_images=32, test_images=32)


def child_of(parent: RunSpec) -> RunSpec:
    phases = prune_finetune(Setting(members=1, learning_rate=0.1), epochs=1).phases
    return run_spec(phases, density=0.2, parent=parent, data=DATA)


PARENT, BAD = dense_spec(data=DATA), dense_spec(learning_rate=1e4, data=DATA)
CHILD, BAD_CHILD = child_of(PARENT), child_of(BAD)
LONG, OTHER = edst_spec(data=DATA, model=SLOW), edst_spec(seed=19, data=DATA, model=SLOW)
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
    assert do(GOOD, Store(store)) == 0
    return store


def two(store: Path | str, specs: Sequence[RunSpec]) -> int:
    work = work_of(specs)
    options = Options(device="cpu")
    return parallel.run_parallel(work, Store(Path(store)), options, 2) or summarise(work, Store(Path(store)))


def folder(store: Path, spec: RunSpec) -> Path:
    return Store(store).run(spec.run_id).path


def trains(store: Path, spec: RunSpec) -> int:
    """Return the process that trains a run, 0 if none does."""
    return int(holder(folder(store, spec) / "lock").get("pid", 0))


def past_an_epoch(store: Path, spec: RunSpec) -> bool:
    return bool(trains(store, spec)) and len(Store(store).run(spec.run_id).history()) > 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(ready: Callable[[], bool], seconds: float = 600.0) -> None:
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
def test_a_worker_is_killed_and_another_goes_on_from_its_checkpoint_to_the_same_bits(
    tmp_path: Path, sequential: Path, slower: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One long test, for each call takes as long as its workers need to start."""
    killed = 0

    def kill() -> None:
        nonlocal killed
        killed = trains(tmp_path, LONG)
        assert killed, "0 would be the processes of the tests"
        os.kill(killed, signal.SIGKILL)
        slower.unlink()

    with meanwhile(lambda: past_an_epoch(tmp_path, LONG), kill), caplog.at_level(logging.WARNING):
        assert two(tmp_path, [BAD, BAD_CHILD, *GOOD]) == 1
    # the child of a failed run is blocked, and its parent named
    assert f"{BAD_CHILD.run_id[:8]}: blocked: its parent {BAD.run_id} failed (DivergedError: " in caplog.text
    assert not folder(tmp_path, BAD_CHILD).exists()
    assert Store(tmp_path).run(BAD.run_id).status() == "failed"
    assert "was killed by signal 9; the others go on" in caplog.text
    # everything else is done once, a child after its parent, with the share of the threads that a worker has
    sessions = {spec.run_id: Store(tmp_path).run(spec.run_id).sessions() for spec in GOOD}
    assert [session.pid == killed for session in sessions[LONG.run_id]] == [True, False]
    assert all(len(sessions[spec.run_id]) == 1 or killed in {s.pid for s in sessions[spec.run_id]} for spec in GOOD)
    assert sessions[CHILD.run_id][-1].started >= (sessions[PARENT.run_id][-1].ended or "")
    assert {session.cpu_threads for some in sessions.values() for session in some} == {1}
    for spec in GOOD:
        assert outcome(tmp_path, spec) == outcome(sequential, spec)


@pytest.mark.long
def test_a_mistake_ends_everything_and_the_others_save_what_they_have(tmp_path: Path) -> None:
    long = dense_spec(epochs=400, data=DATA)
    # Each but the first looks again at which images the store was made from.
    short = [dense_spec(seed=seed, data=DATA.model_copy(update={"train_images": 32 + seed})) for seed in range(30)]

    def other_images() -> None:
        write_json(tmp_path / "data.json", {"digits": {"variant": "others", "location": None, "note": ""}})

    with meanwhile(lambda: past_an_epoch(tmp_path, long), other_images):
        assert two(tmp_path, [long, *short]) == 2
    assert (folder(tmp_path, long) / "checkpoint.pt").exists()
    assert not (folder(tmp_path, long) / "lock").exists()
    assert not folder(tmp_path, short[-1]).exists()


# -- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_signals_stop_all_with_checkpoints_and_the_same_command_continues(
    tmp_path: Path, sequential: Path, slower: Path
) -> None:
    """As a batch system and an impatient person do: Ctrl-C at a terminal reaches the workers as well."""
    runs = [LONG, OTHER]

    def interrupt() -> None:
        for process in filter(None, (trains(tmp_path, spec) for spec in runs)):
            os.kill(process, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(lambda: past_an_epoch(tmp_path, LONG), interrupt):
        assert two(tmp_path, runs) == EXIT_INTERRUPTED
    assert (folder(tmp_path, LONG) / "checkpoint.pt").exists()
    assert not [spec for spec in runs if (folder(tmp_path, spec) / "lock").exists()]
    slower.unlink()
    assert do(runs, Store(tmp_path)) == 0
    for spec in runs:
        assert outcome(tmp_path, spec) == outcome(sequential, spec)
    first, *later = Store(tmp_path).run(LONG.run_id).sessions()
    assert not first.resumed_from
    # A worker that trained nothing when the others were interrupted may have gone on with their run for a moment.
    assert later
    assert all(session.resumed_from for session in later)


@pytest.mark.slow
def test_workers_whose_parent_is_killed_save_and_end(tmp_path: Path, sequential: Path, slower: Path) -> None:
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
    slower.unlink()
    assert do([LONG], Store(tmp_path)) == 0
    assert outcome(tmp_path, LONG) == outcome(sequential, LONG)


# -- what a person asks for and sees -----------------------------------------------------------------------------------


def test_the_command_line_hands_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run_parallel(work: Work, store: Store, options: Options, workers: int, _: object) -> int:
        asked.extend([len(work.runs), store.root, options.checkpoint_seconds, workers])
        return EXIT_INTERRUPTED

    monkeypatch.setattr(parallel, "run_parallel", run_parallel)
    arguments = ["--store", str(tmp_path), "--parallel", "3", "--limit", "2", "--checkpoint-seconds", "7"]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(PAPER_CONFIGS / "digits.yaml"), *arguments])
    assert ended.value.code == EXIT_INTERRUPTED
    assert asked == [2, tmp_path, 7.0, 3]


def test_what_is_left_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    said = iter(["about 20 min on a CPU, 10 min with 2 workers", "", ""])
    child = get_context("spawn").Process(target=time.sleep, args=(0.5,))
    child.start()
    monkeypatch.setattr(parallel, "LEFT_SECONDS", 0.2)
    with caplog.at_level(logging.INFO):
        assert parallel._watch([child], StopRequest(), lambda: next(said, "")) == [0]
    assert caplog.messages == ["left: about 20 min on a CPU, 10 min with 2 workers"]


def test_without_validation_images_progress_is_of_the_training_images(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), RunProgress("a run", PARENT, 0) as progress:
        progress.epoch(epoch(4, train_accuracy=0.25, images_per_second=400.0), 4)
    assert "training 25.0%, 400 images/s" in caplog.text
