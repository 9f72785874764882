"""Submission against a faked SLURM: how many workers, what they ask for, what is refused, what status says."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.commands.options import make_console
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan
from bench.store.lock import RunLock
from bench.store.records import Failure
from bench.work.attempts import begin_attempt
from slurm.dispatch import _accepted
from slurm.queue import QueuedWorker
from slurm.records import SubmissionFolder, still_there, submissions
from slurm.share import workers_wanted
from slurm.status import _idle, overview
from slurm.submit import cancel_workers
from tests.slurm.fakes import FakeSlurm
from tests.slurm.place import GRID, RUNS, Place
from tests.store.runs import epoch
from tests.training.runs import do


def scripts(place: Place) -> list[str]:
    return list({path.read_text() for folder in submissions(place.store) for path in folder.path.glob("*.sh")})


# -- how many ----------------------------------------------------------------------------------------------------------


@given(
    open_ids=st.sets(st.integers(0, 30).map(str)),
    known=st.sets(st.integers(0, 30).map(str)),
    working=st.integers(0, 20),
    most=st.integers(1, 12),
)
def test_workers_are_enough_for_the_open_work_and_never_more_than_wanted(
    open_ids: set[str], known: set[str], working: int, most: int
) -> None:
    covered = open_ids & known
    wanted = workers_wanted(open_ids, covered, working, most)
    assert 0 <= wanted <= most
    assert wanted <= len(open_ids)
    if open_ids - covered:
        assert wanted >= 1, "work that no worker knows of gets one"
    elif working >= min(most, len(open_ids)):
        assert wanted == 0


def test_one_array_of_identical_workers_and_the_same_command_again_submits_nothing(
    place: Place, slurm: FakeSlurm
) -> None:
    code, out = place.submit()
    assert code == 0, out
    assert "submitted 3 workers as my-grid-" in out
    (script,) = scripts(place)
    assert "#SBATCH --array=0-2%3" in script
    assert "#SBATCH --time=120" in script
    assert "#SBATCH --cpus-per-task=2" in script
    assert "#SBATCH --mem=2G" in script
    assert "#SBATCH --requeue" in script
    assert "dependency" not in script
    assert len(slurm.calls("sbatch")) == 1
    assert "Nothing to submit." in place.submit()[1]
    assert len(slurm.calls("sbatch")) == 1


def test_ended_workers_are_replaced_while_work_is_left(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    first, *_ = slurm.queue()
    slurm.set(first, "FAILED")
    code, out = place.submit()
    assert code == 0
    assert "submitted 1 worker as" in out


def test_a_finished_plan_wants_no_workers(place: Place, slurm: FakeSlurm) -> None:
    plan = make_plan(load_grid(place.grid), "paper", place.store)
    assert do([run.spec for run in plan.runs], place.store) == 0
    assert "Nothing to submit." in place.submit()[1]
    assert slurm.calls("sbatch") == []


def test_never_more_workers_than_an_array_may_have(place: Place, slurm: FakeSlurm) -> None:
    slurm.max_array_size(2)
    assert "submitted 2 workers" in place.submit()[1]


def test_work_of_another_grid_gets_workers_of_its_own(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    place.grid.write_text(GRID.replace("width: 1", "width: 2"))
    assert "submitted 3 workers" in place.submit()[1]
    assert len(slurm.queue()) == 6


def test_retry_clears_failures_and_what_was_given_up(place: Place, slurm: FakeSlurm) -> None:
    failed, _, given_up, _ = place.ids()  # each dense run before the one pruned from it
    place.store.run(failed).write_failure(Failure(type="ValueError", message="no"))
    for _ in range(3):
        begin_attempt(place.store.run(given_up).path, "train")
    # Both parents failed, and their children are blocked.
    hint = "Nothing to submit. 4 runs failed, or cannot start for what failed: --retry tries again."
    assert hint in place.submit()[1]
    assert "submitted 3 workers" in place.submit("--retry")[1]
    assert place.store.run(failed).status() == "missing"
    assert len(slurm.queue()) == 3


@pytest.mark.usefixtures("slurm")
def test_what_a_dead_worker_on_another_machine_evaluated_wants_a_worker(place: Place) -> None:
    plan = make_plan(load_grid(place.grid), "paper", place.store)
    assert do([run.spec for run in plan.runs], place.store) == 0
    folder = place.store.run(place.ids()[0])
    (folder.path / "evaluations.json").unlink()
    lock = folder.path / "lock"
    with RunLock(lock):
        content = json.loads(lock.read_text())
    for age, said in ((0, "Nothing to submit."), (600, "submitted 1 worker ")):
        lock.write_text(json.dumps({**content, "host": "n1", "heartbeat": content["heartbeat"] - age}))
        assert said in place.submit()[1]
    assert "Nothing to submit." in place.submit()[1]


# -- what is asked for -------------------------------------------------------------------------------------------------


def test_resources_can_be_left_out_and_anything_else_passed_on(place: Place, slurm: FakeSlurm) -> None:
    place.site.write_text("{gpus: 0, cpus: null, memory: null, sbatch: {mem-per-cpu: 4G, reservation: workshop}}")
    assert place.submit()[0] == 0
    assert slurm.queue()
    (script,) = scripts(place)
    assert "--mem=" not in script
    assert "cpus-per-task" not in script
    assert "#SBATCH --mem-per-cpu=4G" in script
    assert "#SBATCH --reservation=workshop" in script


RESOURCES = ("--mem", "--cpus", "--gpus", "--gres")


@pytest.mark.parametrize(
    ("site", "asked"),
    [
        ("{cpus: null, memory: null, gpus: null}", set()),
        ("{cpus: null, sbatch: {mem-per-gpu: 40G}}", {"--mem-per-gpu=40G", "--gpus-per-node=1"}),
        ("{memory: null, sbatch: {gres: 'gpu:a100:1', cpus-per-gpu: 12}}", {"--gres=gpu:a100:1", "--cpus-per-gpu=12"}),
        ("{memory: null, cpus: null, processes: 2, sbatch: {gpus-per-task: 1}}", {"--gpus-per-task=1"}),
        ("{gpus: 0, sbatch: {mem: 0, cpus-per-task: 3}}", {"--mem=0", "--cpus-per-task=3"}),
    ],
)
def test_sbatch_gets_what_the_site_asks_for_and_no_other_resource(
    place: Place, slurm: FakeSlurm, site: str, asked: set[str]
) -> None:
    place.site.write_text(site)
    assert place.submit()[0] == 0
    assert slurm.queue()
    (script,) = scripts(place)
    options = [line.removeprefix("#SBATCH ").replace("'", "") for line in script.splitlines() if "#SBATCH" in line]
    assert {option for option in options if option.startswith(RESOURCES)} == asked
    srun = script.rpartition("srun ")[2]
    assert ("--cpus-per-task=3" in srun) == ("--cpus-per-task=3" in asked)  # srun does not take it over


def test_a_dry_run_writes_nothing(place: Place, slurm: FakeSlurm) -> None:
    code, out = place.submit("--dry-run")
    assert code == 0
    assert "would submit 3 workers, each of 2 h 0 min, no GPU, 2 CPU cores, 2 GB" in out
    assert not place.store.root.exists()
    assert slurm.calls("sbatch") == []
    shown = out.partition("sbatch would be asked for:\n")[2]
    place.submit()
    (script,) = scripts(place)
    (folder,) = submissions(place.store)
    assert shown.strip() == script.replace(folder.submission.name, "NAME").strip()


def test_a_plan_in_the_store_no_longer_depends_on_the_grid(place: Place, slurm: FakeSlurm) -> None:
    before = place.ids()
    place.submit()
    place.grid.write_text("broken: [")
    (folder,) = submissions(place.store)
    assert [run.id for run in folder.work.runs] == before
    assert slurm.queue()


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_sbatch_refuses_is_one_line_and_leaves_nothing(place: Place, slurm: FakeSlurm) -> None:
    place.site.write_text("{partition: mian, gpus: 0}")
    slurm.answer("sbatch", stderr="sbatch: error: invalid partition specified: mian\n", code=1)
    code, out = place.submit()
    assert code == 2
    assert "sbatch refused the job: invalid partition specified: mian" in out
    assert "did you mean 'main'?" in out
    assert "Traceback" not in out
    assert submissions(place.store) == []


@pytest.mark.usefixtures("slurm")
def test_status_of_a_submission_that_is_refused_and_removed_meanwhile_is_that_of_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.submit()
    (kept,) = submissions(place.store)
    refused = SubmissionFolder.create(place.store, kept.submission.model_copy(update={"name": "refused"}), kept.work)
    found, rmtree = submissions(place.store), shutil.rmtree
    assert len(found) == 2

    def removing(path: Path, **options: Any) -> None:
        assert not (path / "submission.json").exists()
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", removing)
    assert not _accepted(refused, "sbatch: error: invalid partition")
    assert [run.state for run in overview(found, place.store).runs] == ["missing", "waiting"] * 2
    assert still_there([SubmissionFolder(refused.path)], lambda folder: folder.submission) == []
    (kept.path / "work.json").unlink()
    with pytest.raises(UserError, match="gone, though a submission wrote it"):
        overview(submissions(place.store), place.store)


def test_a_job_that_was_accepted_after_all_is_not_submitted_twice(place: Place, slurm: FakeSlurm) -> None:
    slurm.answer("sbatch", stderr="sbatch: error: Batch job submission failed: Socket timed out\n", code=1)
    code, _ = place.submit()
    assert code == 2
    (folder,) = submissions(place.store)  # kept, since nobody knows
    slurm.enqueue(folder.submission.name, 3)
    assert "Nothing to submit." in place.submit()[1]


def test_without_slurm_the_way_out_is_named(place: Place, slurm: FakeSlurm) -> None:
    slurm.remove("sbatch")
    code, out = place.submit()
    assert code == 2
    assert "no sbatch on this machine" in out
    assert "--site local" in out


def test_two_submissions_at_once_are_one(place: Place, slurm: FakeSlurm) -> None:
    with RunLock(place.store.root / "slurm" / "lock"):
        code, out = place.submit()
    assert code == 2
    assert "another submission to this store is being made" in out
    assert slurm.calls("sbatch") == []


def test_a_scale_that_needs_a_gpu_is_not_sent_where_there_is_none(place: Place, slurm: FakeSlurm) -> None:
    place.grid.write_text(GRID + "scales: {paper: {needs_gpu: true}}\n")
    code, out = place.submit()
    assert code == 2
    assert "needs a GPU, and the site has none" in out
    dry = place.submit("--dry-run")
    assert (dry[0], dry[1].splitlines()[-1]) == (2, out.strip())  # it ends as the submission does, after showing all
    assert "would submit 3 workers" in dry[1]
    code, out = place.submit("--dry-run", "--force")
    assert (code, "warning: my grid: the scale 'paper' needs a GPU" in " ".join(out.split())) == (0, True)
    assert place.submit("--force")[0] == 0
    assert slurm.queue()


@pytest.mark.usefixtures("slurm")
def test_a_dry_run_where_nothing_can_be_submitted_from_shows_all_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    refused = place.submit()
    shown = place.submit("--dry-run")
    assert refused[0] == shown[0] == 2
    assert "would submit 3 workers" in shown[1]
    assert shown[1].splitlines()[-1] == refused[1].strip()


@pytest.mark.usefixtures("slurm")
def test_failures_are_not_forgotten_for_a_submission_that_is_refused(place: Place) -> None:
    place.grid.write_text(GRID + "scales: {paper: {needs_gpu: true}}\n")
    failed = place.store.run(place.ids()[0])
    failed.write_failure(Failure(type="ValueError", message="diverged"))
    assert place.submit("--retry")[0] == 2
    assert failed.status() == "failed"


# -- status, cancel, logs ----------------------------------------------------------------------------------------------


def test_status_is_the_store_and_the_queue(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    ids = place.ids()
    place.store.run(ids[0]).write_failure(Failure(type="DivergedError", message="loss is nan"))
    first, *_ = slurm.queue()
    slurm.set(first, "RUNNING", node="node7")
    code, out = place.on_store("status")
    assert code == 1
    assert (
        f"{RUNS} runs: 1 failed, 1 blocked, 1 missing, 1 waiting; 0 of 8 evaluation sets of runs are made"
        in " ".join(out.split())
    )
    assert "workers: 1 running, 2 queued (2 Priority)" in out
    assert "DivergedError: loss is nan" in " ".join(out.split())
    _, text = place.on_store("status", "--json")
    document: dict[str, Any] = json.loads(text)
    assert [run["state"] for run in document["runs"]].count("blocked") == 1
    assert {worker["state"] for worker in document["workers"]} == {"RUNNING", "PENDING"}


def test_status_tells_of_a_running_run_whose_worker_may_be_dead(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    assert slurm.queue()
    lock = place.store.run(place.ids()[0]).path / "lock"
    with RunLock(lock):
        content = json.loads(lock.read_text())
    for age, silent in ((0, False), (600, True)):
        lock.write_text(json.dumps({**content, "host": "n1", "heartbeat": content["heartbeat"] - age}))
        assert ("silent for 10 min" in " ".join(place.on_store("status")[1].split())) == silent


def test_status_tells_what_a_run_warns_of(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    assert slurm.queue()
    warnings = ["at chance for 2 epochs: a training loss of 2.335, and guessing has 2.303"]
    first = place.ids()[0]
    place.store.run(first).path.mkdir(parents=True)
    place.store.run(first).append_history(epoch(1) | {"warnings": warnings})
    _, out = place.on_store("status")
    assert f" {first[:8]}: {warnings[0]}" in " ".join(out.split())
    _, text = place.on_store("status", "--json")
    found = {run["id"]: run["warnings"] for run in json.loads(text)["runs"]}
    assert (found[first], set(map(len, found.values()))) == (warnings, {0, 1})


def test_status_without_an_answer_of_slurm_still_tells_of_the_store(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    slurm.answer("squeue", stderr="slurm_load_jobs error: Unable to contact slurm controller\n", code=1)
    code, out = place.on_store("status")
    assert code == 1
    assert "squeue failed: slurm_load_jobs error" in out
    assert f"{RUNS} runs" in out
    assert out.splitlines()[-2].startswith("Whether anything more happens by itself is not known")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("JobHeldUser", "1 worker is held; `scontrol release` frees it"),
        (
            "PartitionTimeLimit",
            "1 worker is refused a start (PartitionTimeLimit); `cancel`, correct the site file and `submit` again, "
            "or use `scontrol update`",
        ),
    ],
)
def test_what_to_do_for_one_worker_is_said_of_one(reason: str, said: str) -> None:
    assert list(_idle([QueuedWorker("a", None, "1_0", "PENDING", reason, "")])) == [said]


def test_status_ends_in_what_will_happen_by_itself(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    workers = "The work that is left goes on by itself: 3 workers are queued or running."
    assert place.on_store("status")[1].splitlines()[-1] == workers
    for task in slurm.queue():
        slurm.set(task, "PENDING", "JobHeldUser")
    _, out = place.on_store("status")
    held = "Nothing more happens by itself: 3 workers are held; `scontrol release` frees them."
    assert out.splitlines()[-1] == held
    slurm.set("100_0", "RUNNING")
    assert place.on_store("status")[1].splitlines()[-1] == workers
    for run in place.ids():
        place.store.run(run).write_failure(Failure(type="ValueError", message="diverged"))
    stuck = "What is left has failed or waits for what failed, so nothing more happens by itself: `submit --retry`."
    assert place.on_store("status")[1].splitlines()[-1] == stuck
    slurm.forget()
    assert place.on_store("status")[1].splitlines()[-1] == stuck


@pytest.mark.parametrize(
    ("state", "reason", "last", "code"),
    [
        ("PENDING", "JobHeldUser", "Nothing more happens by itself: 3 workers are held; `scontrol release` frees", 1),
        ("PENDING", "JobHoldMaxRequeue", "Nothing more happens by itself: 3 workers are held", 1),
        ("PENDING", "launch failed requeued held", "Nothing more happens by itself: 3 workers are held", 1),
        ("PENDING", "PartitionTimeLimit", "Nothing more happens by itself: 3 workers are refused a start (Part", 1),
        ("PENDING", "PartitionConfig", "Nothing more happens by itself: 3 workers are refused a start (Part", 1),
        ("PENDING", "QOSMaxCpuPerJobLimit", "Nothing more happens by itself: 3 workers are refused a start (QOS", 1),
        ("PENDING", "QOSMaxJobsPerUserLimit", "The work that is left goes on by itself", 0),
        ("PENDING", "BeginTime", "The work that is left goes on by itself", 0),
        ("SUSPENDED", "None", "3 workers are suspended, and nothing more happens until", 0),
    ],
)
def test_workers_that_do_not_start_by_themselves_are_said_and_are_the_user_s_to_see_to(
    place: Place, slurm: FakeSlurm, state: str, reason: str, last: str, code: int
) -> None:
    place.submit()
    for task in slurm.queue():
        slurm.set(task, state, reason)
    found, out = place.on_store("status")
    assert out.splitlines()[-1].startswith(last)
    assert found == code
    assert ("of which 3 wait for you: `status` says why\n" in place.submit()[1]) == bool(code)
    slurm.set("100_0", "RUNNING")
    assert place.on_store("status")[0] == 0


def test_a_reason_may_hold_anything(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    for task in slurm.queue():
        slurm.set(task, "PENDING", f"prolog: a|b | {'long ' * 200}\nand a | line | of | its | own")
    assert "Nothing to submit" in place.submit()[1]
    assert "workers: 0 running, 3 queued (3 prolog: a|b" in place.on_store("status")[1]


def test_status_can_be_read_on_80_columns(place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    place.submit()
    assert len(slurm.queue()) == 3
    failed = place.ids()[0]
    place.store.run(failed).write_failure(Failure(type="ValueError", message="a long message " * 10))
    place.store.run(failed).append_history(epoch(1))
    _, out = place.on_store("status")
    lines = out.splitlines()
    (head,) = [line for line in lines if line.startswith("run ")]
    assert head.split() == ["run", "cell", "state", "epoch", "images/s", "left", "node", "why"]
    (line,) = [line for line in lines if line.startswith(failed[:8])]
    assert line.split()[:6] == [failed[:8], "dense", "failed", "1/3", "100", "ValueError:"]  # and no time that is left
    assert "its parent" in out


def test_work_without_workers_is_said(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    slurm.forget()
    code, out = place.on_store("status")
    assert code == 1
    assert "workers left no log in" in out
    assert "Work is left and no worker is queued or running" in out


def test_where_no_worker_is_left_the_last_words_of_the_last_one_are_shown(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    (folder,) = submissions(place.store)
    (folder.path / "100_0_0_log.out").write_text("an older one\n")
    os.utime(folder.path / "100_0_0_log.out", (1, 1))
    log = folder.path / "100_1_0_log.out"
    log.write_text("loading modules\nFATAL: \x1b[31mno image\nsrun: error: n1: task 0: Exited with exit code 255\n\n")
    said = f"{log} ends: FATAL: \\x1b[31mno image"
    assert "ends:" not in place.on_store("status")[1], "its workers are in the queue"
    slurm.forget()
    assert said in place.on_store("status")[1]
    code, out = place.on_store("logs", place.ids()[0])
    assert code == 2
    assert said in out
    log.write_text("srun: error: Unable to create step\n")
    assert "ends: srun: error: Unable to create step" in place.on_store("status")[1]
    for run in place.ids():
        place.store.run(run).write_failure(Failure(type="ValueError", message="diverged"))
    assert "ends:" not in place.on_store("status")[1], "each run says why it failed"


def test_nothing_was_submitted(place: Place, slurm: FakeSlurm) -> None:
    for command in ("status", "cancel"):
        code, out = place.on_store(command, *(["--yes"] if command == "cancel" else []))
        assert code == 2
        assert "nothing was submitted from this store; give" in out
    assert slurm.calls("squeue") == []
    (place.store.root / "slurm" / "checks" / "check-1").mkdir(parents=True)
    (place.store.root / "slurm" / "lock").touch()
    assert "nothing was submitted from this store; give" in place.on_store("status")[1]
    (place.store.root / "slurm" / "of an earlier version").mkdir()
    assert "nothing was submitted from this store by this version" in place.on_store("status")[1]


def test_cancel_asks_and_names_the_grid(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    assert place.on_store("cancel")[0] == 2, "nobody is there to answer"
    code, out = place.on_store("cancel", "my grit", "--yes")
    assert code == 2
    assert "did you mean 'my grid'?" in out
    code, out = place.on_store("cancel", "my grid", "--yes")
    assert code == 0
    assert "cancelled 3 workers" in out
    assert set(slurm.queue().values()) == {"CANCELLED"}


def test_a_worker_that_ends_while_the_user_thinks_is_not_cancelled(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    first, *others = slurm.queue()

    def thinks(question: str) -> bool:
        assert question.startswith("Cancel 3 workers?")
        slurm.set(first, "COMPLETED")
        return True

    cancel_workers(place.store.root, [], console=make_console(), confirm=thinks)
    (call,) = slurm.calls("scancel")
    assert call[-2:] == others
    assert first not in call


def test_logs_of_a_run_nobody_has_trained(place: Place, slurm: FakeSlurm) -> None:
    place.submit()
    run = place.ids()[0]
    code, out = place.on_store("logs", run[:8])
    assert code == 2
    assert "no worker has trained it yet" in out
    code, out = place.on_store("logs", "zz")
    assert code == 2
    assert "no run submitted from this store has an id that begins so" in out
    assert slurm.queue()


@pytest.mark.slow
def test_a_local_site_takes_the_same_path_without_slurm(place: Place) -> None:
    python = json.dumps(shlex.quote(sys.executable))  # a command, and the path may hold a blank
    place.site.write_text(f"{{scheduler: local, cpus: 1, max_jobs: 2, python: {python}}}")
    code, out = place.submit()
    assert code == 0, out
    import time

    end = time.monotonic() + 900
    while time.monotonic() < end:
        code, out = place.on_store("status")
        if "8 of 8 evaluation sets" in out:  # which follow training
            break
        time.sleep(1)
    assert f"{RUNS} runs: {RUNS} done; 8 of 8 evaluation sets of runs are made" in out
    run = place.ids()[0]
    assert len(place.store.run(run).sessions()) == 1
    code, out = place.on_store("logs", run[:8])
    assert code == 0
    assert f"{run[:8]}: done in" in out
