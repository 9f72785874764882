"""`slurm check`: what is submitted, what a node finds, how the answer is told, and its exit codes."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.store.measured import Finding
from slurm import check
from slurm.check import clock_finding
from slurm.check_task import SCONTROL, Answer, CheckTask
from slurm.records import submissions
from tests.slurm.fakes import FakeSlurm
from tests.slurm.place import Place


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the device to the tests of `bench check`, and wait for nothing."""
    monkeypatch.setattr("bench.check.run.check", lambda *_: None)
    for name in ("LOOK_SECONDS", "ASK_SECONDS", "LATE_SECONDS"):
        monkeypatch.setattr(check, name, 0.0)


def checked(place: Place, *options: str) -> tuple[int, str]:
    return place.call("check", "--site", str(place.site), "--store", str(place.store.root), *options)


def folder_of(place: Place) -> Path:
    (folder,) = (place.store.root / "slurm" / "checks").iterdir()
    return folder


def test_one_job_is_submitted_and_counts_as_no_worker(place: Place, slurm: FakeSlurm) -> None:
    code, out = checked(place, str(place.grid), "--no-wait")
    assert code == 0
    assert "one job of 0 h 20 min, no GPU, 2 CPU cores, 8 GB" in out
    assert f"the answer will be in {folder_of(place)}/answer.json" in out
    assert len(slurm.calls("sbatch")) == len(slurm.queue()) == 1
    assert submissions(place.store) == []


@pytest.mark.parametrize(("finding", "expected"), [("ok", 0), ("slow", 0), ("wrong", 1)])
def test_the_answer_decides_the_exit_code(
    place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, finding: Any, expected: int
) -> None:
    answer = Answer(
        host="node7", started=0.0, progress=None, findings=(Finding(name="store", state=finding, detail="9 MB/s"),)
    )
    monkeypatch.setattr(check, "_read", lambda _: answer)
    monkeypatch.setattr(check, "clock_finding", lambda *_: Finding(name="clocks", state="ok"))
    code, out = checked(place)
    assert slurm.queue()
    assert (code, "node7" in out, "9 MB/s" in out) == (expected, True, True)


def test_a_job_that_ends_without_an_answer_shows_why(place: Place, slurm: FakeSlurm) -> None:
    slurm.answer("squeue")
    code, out = checked(place)
    assert code == 1
    assert "the job has ended before it wrote anything to the store" in out
    assert "the node does not see that folder, or may not write there" in out


def test_where_a_check_runs_is_known_from_its_answer_before_the_queue_tells(
    place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Answer(host="node7", started=0.0, progress="store")
    answers = iter([None, begun, begun.model_copy(update={"progress": None})])
    monkeypatch.setattr(check, "_read", lambda _: next(answers))
    _, out = checked(place)
    assert slurm.queue()
    said = [line.partition(" ")[2] for line in out.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert said == ["queued (Priority)", "running on node7: store"]


def test_what_sbatch_refuses_is_a_mistake(place: Place, slurm: FakeSlurm) -> None:
    slurm.answer("sbatch", stderr="sbatch: error: invalid partition specified: main\n", code=1)
    assert checked(place)[0] == 2


@pytest.mark.parametrize(("scontrol", "state"), [("/usr/bin/scontrol", "ok"), ("", "not here")])
def test_a_node_says_what_it_finds(
    place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, scontrol: str, state: str
) -> None:
    assert checked(place, str(place.grid), "--no-wait")[0] == 0
    assert slurm.queue()
    monkeypatch.setenv(SCONTROL, scontrol)  # of the job's shell, outside of a container
    monkeypatch.setattr("slurm.array_task.set_environment", lambda _: None)
    monkeypatch.setattr("bench.work.context.find_device", lambda name: SimpleNamespace(type=name))
    CheckTask(folder_of(place))()
    answer = Answer.model_validate_json((folder_of(place) / "answer.json").read_text())
    found = {finding.name: finding for finding in answer.findings}
    assert list(found) == ["python", "store", "CPU cores", "requeue", "data digits"]
    assert answer.progress is None
    assert [found[name].state for name in ("python", "requeue", "data digits")] == ["ok", state, "ok"]
    assert "locks a second" in found["store"].detail


def test_a_gpu_that_a_node_does_not_see_is_wrong(
    place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.site.write_text("{partition: main, cpus: 1}")
    assert checked(place, "--no-wait")[0] == 0
    assert slurm.queue()
    monkeypatch.setattr("slurm.array_task.set_environment", lambda _: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    CheckTask(folder_of(place))()
    answer = Answer.model_validate_json((folder_of(place) / "answer.json").read_text())
    (found,) = [finding for finding in answer.findings if finding.name == "GPU"]
    assert found.state == "wrong"
    assert "sees 0, and the site has 1 a process (CUDA_VISIBLE_DEVICES 3)" in found.detail
    assert answer.wrong


@pytest.mark.parametrize(
    ("started", "state", "words"),
    [
        (100.5, "ok", "agrees"),
        (300.0, "wrong", "199 s or more ahead of"),
        (20.0, "wrong", "80 s or more behind"),
        (150.0, "ok", "agrees"),
    ],
)
def test_clocks_are_compared_by_when_a_file_was_first_seen(started: float, state: str, words: str) -> None:
    finding = clock_finding(started, absent=100.0, seen=101.0)
    assert finding.state == state
    assert words in finding.detail


def test_a_submission_can_check_first(place: Place, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm.__main__.checked", lambda *_, **__: False)
    code, out = place.submit("--check")
    assert (code, slurm.queue()) == (1, {})
    assert "nothing was submitted" in out
    monkeypatch.setattr("slurm.__main__.checked", lambda *_, **__: True)
    assert place.submit("--check")[0] == 0
    assert len(slurm.queue()) == 3
