"""Runs that are evaluated together: each image decoded once, the bits of each run alone, and each worker its share."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.data.sources import variant_of
from bench.data.streamed import decode
from bench.evaluation.networks import Network
from bench.evaluation.sets import CorruptedSet, OwnSet
from bench.models.build import build_model
from bench.plan import Plan, make_plan, work_of
from bench.store.lock import RunLock
from bench.store.logits import StoredLogits
from bench.store.store import Store
from bench.work import evaluate as module
from bench.work import worker
from bench.work.context import Context
from bench.work.items import EvaluateRun, RunWork, Work
from bench.work.options import Options
from bench.work.parallel import run_parallel
from bench.work.peers import Peers
from bench.work.signals import StopRequest
from bench.work.together import bytes_in_pass, share_of, sharing
from bench.work.worker import Worker
from tests.data.shifts import write_openood
from tests.data.streamed.photographs import write_imagenet
from tests.grid_text import load_text
from tests.training.runs import dense_spec, do
from tests.work.test_evaluate import evaluate, finish, finished, logits_files, plan_of

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = """
base:
  data: {name: imagenet, image_size: 32, train_images: 60, validation_images: 30, test_images: 10}
  model: {name: resnet_imagenet, depth: 18}
replicates: 1
cells:
  - {name: dense, method: dense, members: 2, recipe: {epochs: 3}}
  - {name: snapshots, method: snapshot, members: 2, recipe: {cycle_epochs: 2}}
evaluations:
  ood: {sets: [ninco]}
"""
DRAWN = """
base:
  data: {name: digits, train_images: 60, validation_images: 30, test_images: 30}
  model: {name: wide_resnet, depth: 10, width: 1}
replicates: 1
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
  - {name: dropout, method: dense, members: 3, model: {ensemble: {kind: mc_dropout, samples: 3}}, recipe: {epochs: 3}}
  - {name: snapshots, method: snapshot, members: 2, recipe: {cycle_epochs: 2}}
"""
FOG = "evaluations: {local_c: {types: [fog], severities: [1, 3, 5]}}"


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list that gets the set and the number of runs of each pass."""
    made: list[tuple[str, int]] = []
    real = module.predict_together

    def noting(runs: Any, images: Any, name: str, *rest: Any) -> Any:
        made.append((name, len(runs)))
        return real(runs, images, name, *rest)

    monkeypatch.setattr(module, "predict_together", noting)
    return made


def files_of(store: Store) -> dict[str, bytes]:
    return {str(f.relative_to(store.root)): f.read_bytes() for f in store.root.rglob("logits/**/*.safetensors")}


# -- one pass for all runs ---------------------------------------------------------------------------------------------


def test_every_image_is_decoded_once_for_three_runs(
    data_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: list[tuple[str, int]]
) -> None:
    write_imagenet(data_folder / "imagenet")
    write_openood(data_folder, "ninco")
    variant = variant_of("imagenet", data_folder / "imagenet")
    decoded: list[bytes] = []
    real = decode.evaluated

    def counting(data: bytes, size: int) -> Any:
        decoded.append(data)
        return real(data, size)

    monkeypatch.setattr(decode, "evaluated", counting)

    def planned() -> Plan:
        return make_plan(load_text(tmp_path, PHOTOGRAPHS), "paper", store, {"imagenet": variant})

    runs = planned().runs
    assert len(runs) == 3
    for run in runs:
        finish(store, run.spec, 1000)
    assert evaluate(planned(), store) == 0
    assert planned().finished
    assert passes == [("test", 3), ("validation", 3), ("ood/ninco", 3)]
    assert len(decoded) == 10 + 30 + 3  # those to test on, to validate on, out of distribution


def test_runs_together_give_the_bytes_of_each_alone(tmp_path: Path, passes: list[tuple[str, int]]) -> None:
    stores = [Store(tmp_path / "together"), Store(tmp_path / "alone")]
    for where in stores:
        plan = finished(tmp_path, where, FOG, DRAWN)
        for run in plan.runs:
            StoredLogits.of_run(where.run(run.id)).forget(["test", "validation"])
    assert evaluate(plan_of(tmp_path, stores[0], FOG, DRAWN), stores[0]) == 0
    assert passes == [(name, 3) for name in ("test", "validation", *(f"local-c/fog/{s}" for s in (1, 3, 5)))]
    plan = plan_of(tmp_path, stores[1], FOG, DRAWN)
    for run in plan.runs:
        assert do(work_of(plan, [run]), stores[1]) == 0
    assert {runs for _, runs in passes[5:]} == {1}
    assert files_of(stores[0]) == files_of(stores[1])
    assert len(files_of(stores[0])) == 3 * 5


def test_a_run_whose_network_fails_within_a_pass_leaves_the_others_theirs(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = finished(tmp_path, store, FOG)
    bad, real = plan.runs[1].spec, Network.logits

    def logits(self: Network, batch: Any, *names: Any) -> Any:
        if self.stream == bad.stream:
            raise RuntimeError("an illegal memory access")
        return real(self, batch, *names)

    monkeypatch.setattr(Network, "logits", logits)
    assert evaluate(plan, store) == 1
    assert [run.evaluated for run in plan_of(tmp_path, store, FOG).runs] == [5, 2, 5, 5]
    assert caplog.text.count("evaluation failed: RuntimeError: an illegal memory access") == 1


def test_runs_that_do_not_fit_are_evaluated_after_the_others(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, passes: list[tuple[str, int]]
) -> None:
    plan = finished(tmp_path, store, FOG)
    sizes = [bytes_in_pass(run.spec, 30) for run in plan.runs]
    assert sizes[3] == 2 * sizes[0]  # of two tickets
    monkeypatch.setattr(module, "MOST_BYTES", 2 * sizes[0])
    assert evaluate(plan, store) == 0
    assert [runs for _, runs in passes] == [2] * 3 + [1] * 6


def test_a_network_and_its_logits_count() -> None:
    spec = dense_spec()
    weights = sum(tensor.numel() for tensor in build_model(spec.model, 10, 0).parameters())
    for images in (0, 1000):
        assert bytes_in_pass(spec, images) == pytest.approx(4 * (weights + 10 * images), rel=0.01)


def test_runs_share_what_they_see_alike() -> None:
    def items(*specs: Any) -> list[EvaluateRun]:
        return [
            EvaluateRun(RunWork(spec=spec, cell="a cell"), asked)
            for spec in specs
            for asked in (OwnSet("test"), CorruptedSet("local-c", "fog", 1))
        ]

    first = dense_spec()
    fewer = first.model_copy(update={"data": first.data.model_copy(update={"validation_images": 10})})
    others = first.model_copy(update={"data": first.data.model_copy(update={"test_images": 10})})
    bf16 = first.model_copy(update={"execution": first.execution.model_copy(update={"precision": "bf16"})})
    all_items = items(first, dense_spec(seed=19), fewer, others, bf16)
    assert sharing(all_items[0], all_items) == [all_items[0], all_items[2]]
    assert sharing(all_items[1], all_items) == [all_items[1], all_items[3], all_items[5]]


# -- a kill ------------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from bench.store.store import Store
from bench.work import evaluate
from tests.work.test_evaluate import evaluate as run, plan_of
from tests.work.test_together import FOG
real = evaluate.predict_together
def killing(runs, images, name, *rest):
    made = real(runs, images, name, *rest)
    if name == "local-c/fog/3":
        os.kill(os.getpid(), signal.SIGKILL)
    return made
evaluate.predict_together = killing
store = Store(Path(sys.argv[2]))
run(plan_of(Path(sys.argv[1]), store, FOG), store)
"""


def test_a_kill_costs_a_pass_and_its_runs_repeat_that_set_one_by_one(
    tmp_path: Path, store: Store, passes: list[tuple[str, int]]
) -> None:
    plan = finished(tmp_path, store, FOG)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(store.root)]
    assert subprocess.run(command, cwd=ROOT, check=False, env={**os.environ}).returncode == -signal.SIGKILL
    before = logits_files(store)
    assert {name.rpartition("logits/")[2] for name in before} == {"local-c/fog/1.safetensors"}
    assert len(before) == 4
    assert evaluate(plan, store) == 0
    # one of them may be what killed the process
    assert sorted(passes) == [*[("local-c/fog/3", 1)] * 4, ("local-c/fog/5", 4)]
    after = logits_files(store)
    assert {name: after[name] for name in before} == before
    assert not list(store.root.rglob("attempts.json"))
    assert not list(store.root.glob("workers/*"))


# -- several workers ---------------------------------------------------------------------------------------------------


def test_a_worker_takes_its_share_of_what_is_free_and_what_others_have() -> None:
    runs = [RunWork(spec=dense_spec(seed=seed), cell="a cell") for seed in range(5)]
    items = [EvaluateRun(run, OwnSet("test")) for run in runs]
    for running, workers, share in ((0, 1, 5), (0, 2, 3), (5, 2, 5), (3, 4, 2), (0, 9, 1)):
        assert share_of(items, running, workers) == items[:share]


def test_a_worker_leaves_another_half_of_the_runs(
    tmp_path: Path, store: Store, passes: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives way after the set during which the other has come."""
    plan = finished(tmp_path, store, FOG)
    other, real = Peers(store), module.Evaluator._evaluate_on

    def joined(self: Any, asked: Any, runs: Any) -> Any:
        other.join()
        return real(self, asked, runs)

    monkeypatch.setattr(module.Evaluator, "_evaluate_on", joined)
    assert evaluate(plan, store) == 0
    assert [runs for _, runs in passes] == [4] + [2] * 2 + [1] * 4  # the other, here, takes none
    other.leave()


def test_a_worker_that_comes_second_takes_what_the_first_left(
    tmp_path: Path, store: Store, passes: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = finished(tmp_path, store, FOG)
    other = Peers(store)
    other.join()
    locks = [RunLock(store.run(run.id).path / "lock") for run in plan.runs[:2]]
    for lock in locks:
        lock.__enter__()

    def release(_: float) -> None:
        other.leave()
        for lock in locks:
            lock.__exit__()

    monkeypatch.setattr(worker.time, "sleep", release)
    assert evaluate(plan, store) == 0
    assert [runs for _, runs in passes] == [2] * 6


def test_peers_are_the_live_ones(store: Store) -> None:
    mine, other = Peers(store), Peers(store)
    assert mine.count() == 1
    for _ in range(2):
        mine.join()
    other.join()
    (store.root / "workers" / "dead").write_text('{"pid": 0}')
    assert mine.count() == 2
    assert not (store.root / "workers" / "dead").exists()
    other.leave()
    assert mine.count() == 1
    mine.leave()
    assert not list((store.root / "workers").iterdir())


def test_a_file_where_the_marks_lie_stops_nobody(tmp_path: Path, store: Store) -> None:
    plan = finished(tmp_path, store, FOG)
    (store.root / "workers").write_text("")
    assert evaluate(plan, store) == 0


def test_a_worker_that_waits_asks_the_others_for_a_share(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = finished(tmp_path, store, FOG)
    locks = [RunLock(store.run(run.id).path / "lock") for run in plan.runs]
    for lock in locks:
        lock.__enter__()
    asking = []

    def release(_: float) -> None:
        asking.append(len(list((store.root / "workers").iterdir())))
        for lock in locks:
            lock.__exit__()

    monkeypatch.setattr(worker.time, "sleep", release)
    assert evaluate(plan, store) == 0
    assert asking == [1]


@pytest.mark.parametrize(("held", "waits"), [(1, False), (2, True)])
def test_a_worker_that_may_leave_waits_for_a_share_of_several_runs(
    held: int, waits: bool, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the one that evaluates them, two workers."""
    plan = finished(tmp_path, store, FOG)
    work = work_of(plan, plan.runs[:held])
    locks = [RunLock(store.run(run.id).path / "lock") for run in plan.runs[:held]]
    other, slept = Peers(store), []
    other.join()
    for lock in locks:
        lock.__enter__()

    def release(_: float) -> None:
        slept.append(1)
        for lock in locks:
            lock.__exit__()

    monkeypatch.setattr(worker, "has_moved", lambda _: True)
    monkeypatch.setattr(worker.time, "sleep", release)
    assert leaving(work, store) == 0
    assert bool(slept) == waits
    assert len(logits_files(store)) == (3 * held if waits else 0)
    other.leave()
    if not waits:
        release(0)


def leaving(work: Work, store: Store) -> int:
    with StopRequest() as stop:
        return Worker(work, Context.make(store, Options(device="cpu"), stop), leaves=True).work()


@pytest.mark.slow
def test_two_processes_share_what_is_to_evaluate(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "one"), Store(tmp_path / "two")]
    for where in stores:
        finished(tmp_path, where, FOG)
    assert evaluate(plan_of(tmp_path, stores[0], FOG), stores[0], threads=1) == 0
    plan = plan_of(tmp_path, stores[1], FOG)
    assert run_parallel(work_of(plan, plan.runs), stores[1], Options(device="cpu"), 2) == 0
    assert plan_of(tmp_path, stores[1], FOG).sets_left == 0
    ours, theirs = files_of(stores[0]), files_of(stores[1])
    assert ours == theirs
