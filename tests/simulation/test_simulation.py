"""A small cluster in simulated time: nothing is trained twice, nothing is lost, and workers have work.

With it, that the simulation counts what the real code asks the file server.
"""

import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import simpy

from bench.store.lock import RunLock
from bench.store.run_folder import RunFolder
from bench.store.store import Store
from bench.training.checkpoint import save_checkpoint
from bench.work.peers import Peers
from tests.grid_text import REPOSITORY
from tests.simulation.__main__ import HEAD, main
from tests.simulation.clock import FileServer, Process, Time, drive
from tests.simulation.cluster import CHECKPOINT_OPERATIONS, Cluster, specs
from tests.simulation.files import Files
from tests.simulation.heartbeats import OPERATIONS, Heartbeats
from tests.simulation.outcome import HOUR, Conditions, Outcome
from tests.simulation.training import Training
from tests.store.runs import finished_run

# Accidents far more often than on any cluster; all begin at once, and race on slow files; some runs start from others.
SMALL = Conditions(
    runs=60,
    workers=8,
    spread=0,
    latency=0.02,
    failures=0.1,
    preempted=5 * HOUR,
    killed=8 * HOUR,
    walltime=6 * HOUR,
    children=0.2,
)


def simulate(conditions: Conditions, folder: Path, *, exact: bool = False) -> Outcome:
    return Cluster(conditions, folder / "store", exact=exact).run()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Store]:
    folder = tmp_path_factory.mktemp("simulated")
    return simulate(SMALL, folder), Store(folder / "store")


def test_every_run_is_done_once_or_failed_as_drawn(small: tuple[Outcome, Store]) -> None:
    outcome, store = small
    assert min(outcome.killed, outcome.preempted, outcome.lost) > 1, "accidents and races are what is simulated"
    drawn = Training(SMALL, outcome)
    failing = {spec.run_id for spec in specs(SMALL) if drawn.seconds(spec.run_id)[1]}
    assert failing
    expected = {}
    for spec in specs(SMALL):
        if spec.parent is not None and spec.parent.run_id in failing:
            expected[spec.run_id] = "missing"  # it waits for its parent
        else:
            expected[spec.run_id] = "failed" if spec.run_id in failing else "done"
    assert {run: store.run(run).status() for run in expected} == expected
    done = Counter(run for run in expected if expected[run] == "done")
    assert Counter(run for _, run in outcome.finished) == done
    assert outcome.states["done"] == 3 * len(done), "trained, and evaluated on two sets"
    assert set(outcome.states) <= {"done", "failed", "blocked"}
    assert not list(store.root.glob("runs/*/lock*"))


def test_workers_train_nearly_all_the_time(small: tuple[Outcome, Store]) -> None:
    outcome, _ = small
    trained = outcome.waited["training"] - outcome.repeated
    assert trained == pytest.approx(sum(_seconds(outcome, run) for _, run in outcome.finished), rel=0.15)
    assert outcome.repeated <= outcome.killed * SMALL.checkpoint_seconds
    assert outcome.idle < 0.02
    assert outcome.early == 0, "workers ended though nobody had begun some run"
    assert outcome.calls == {"scontrol show": outcome.preempted, "scontrol requeue": outcome.calls["scontrol requeue"]}


def _seconds(outcome: Outcome, run: str) -> float:
    return Training(SMALL, outcome).seconds(run)[0]


def test_a_simulation_is_the_same_each_time(tmp_path: Path) -> None:
    few = replace(SMALL, runs=20, workers=4)
    first = simulate(few, tmp_path / "first")
    assert simulate(few, tmp_path / "again") == first
    assert simulate(replace(few, seed=1), tmp_path / "other").finished != first.finished


def test_what_is_remembered_of_runs_changes_next_to_nothing(tmp_path: Path) -> None:
    few = replace(SMALL, runs=30, workers=6)
    exact, fast = simulate(few, tmp_path / "exact", exact=True), simulate(few, tmp_path / "fast")
    assert fast.lost > 0
    assert [run for _, run in exact.finished] == [run for _, run in fast.finished]
    assert (exact.killed, exact.preempted, exact.states) == (fast.killed, fast.preempted, fast.states)
    assert exact.ended == pytest.approx(fast.ended, abs=1)
    for purpose, operations in fast.by_purpose.items():
        assert exact.by_purpose[purpose] == pytest.approx(operations, rel=0.01), purpose


# -- what is counted ---------------------------------------------------------------------------------------------------

COUNTED = """
import sys
from pathlib import Path
import pytest, simpy
from bench.store.run_folder import RunFolder
from bench.store.store import Store
from bench.work.readiness import StoreView
from tests.simulation.clock import FileServer, Process, drive
from tests.simulation.files import Files
from tests.store.runs import run_spec
env, root = simpy.Environment(), Path(sys.argv[1])
server = FileServer(env, 0.001)
spec = run_spec()
def look():
    assert StoreView(Store(root)).run(spec).state == "done"
process = Process(look, server, "here")
with pytest.MonkeyPatch.context() as patch:
    Files(root).watch(patch)
    Path("/proc/self/comm").read_text()  # the trace begins
    env.run(env.process(drive(env, process)))
    Path("/proc/self/comm").read_text()
print(process.operations)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_look_at_a_finished_run_asks_for_as_many_files_as_the_system_sees(tmp_path: Path) -> None:
    finished_run(tmp_path / "store")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=%file", "-o", str(trace), sys.executable, "-c", COUNTED]
    traced = subprocess.run(
        [*command, str(tmp_path / "store")], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if "ptrace" in traced.stderr:
        pytest.skip(f"strace may not trace here: {traced.stderr.strip()}")
    assert traced.returncode == 0, traced.stderr
    _, looked, _ = trace.read_text().split('"/proc/self/comm"')
    assert int(traced.stdout) == looked.count(f'"{tmp_path / "store"}/') > 5


def test_heartbeats_and_checkpoints_ask_for_what_is_charged_for_them(tmp_path: Path) -> None:
    def beaten() -> None:
        with RunLock(tmp_path / "run" / "lock") as lock:
            counted.append(process.operations)
            lock._write_temporary().replace(lock.path) if lock._is_mine() else None
            counted.append(process.operations)
            lock.check()
            save_checkpoint(tmp_path / "run" / "checkpoint.pt", {"at": 1})
            RunFolder(tmp_path / "run").write_provenance(())
            counted.append(process.operations)

    env, counted = simpy.Environment(), list[int]()
    process = Process(beaten, FileServer(env, 0.0), "here")
    with pytest.MonkeyPatch.context() as patch:
        Files(tmp_path).watch(patch)
        Heartbeats(env, lazily=True).watch(patch, 0)
        env.run(env.process(drive(env, process)))
    opened_by_torch = 1  # which is seen by the system alone
    assert counted[1] - counted[0] == OPERATIONS
    assert counted[2] - counted[1] == CHECKPOINT_OPERATIONS - opened_by_torch


def test_workers_that_wait_see_each_other(tmp_path: Path) -> None:
    """Or each would take itself for the only one, wait for a share of what others evaluate, and idle to the end."""
    env, counted = simpy.Environment(), list[int]()

    def waits() -> None:
        peers = Peers(Store(tmp_path))
        peers.join()
        Time(env).sleep(60)
        counted.append(peers.count())
        Time(env).sleep(60)
        peers.leave()

    with pytest.MonkeyPatch.context() as patch:
        Files(tmp_path).watch(patch)
        Heartbeats(env, lazily=True).watch(patch, 0)
        for name in ("one", "two", "three"):
            env.process(drive(env, Process(waits, FileServer(env, 0.001), name)))
        env.run()
    assert counted == [3, 3, 3]
    assert not list((tmp_path / "workers").iterdir())


def test_a_file_server_answers_no_more_than_it_can() -> None:
    env = simpy.Environment()
    server = FileServer(env, 0.001, capacity=100)
    assert server.serve(10) == pytest.approx(0.1)
    assert server.serve(10) == pytest.approx(0.2), "it is busy with those before"
    env.run(until=1)
    assert server.serve(0.05) == pytest.approx(0.0005)
    assert FileServer(env, 0.001).serve(10) == pytest.approx(0.01)


def test_the_table_has_a_line_for_each_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--row", "4x2@1", "--row", "4x2@5", "--folder", str(tmp_path)])
    head, _, *lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert head.count("|") == len(HEAD) + 1
    assert [line.split(" | ")[:3] for line in lines] == [["| 4", "2", "1"], ["| 4", "2", "5"]]
    assert not list(tmp_path.iterdir())
