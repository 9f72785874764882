"""What SLURM is asked, once, and how its answers are read; jobs are known by the name of their batch."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.errors import UserError
from slurm import scheduler
from slurm.ledger import BatchFolder
from slurm.scheduler import Known, ask, cancel, max_array_size, partitions, require_slurm
from tests.slurm.fakes import FakeSlurm, arguments, batch_record

CREATED = "2026-11-24T15:12:21+00:00"
# As squeue 22.05 printed it, of an array whose last element waits for its turn, and of jobs of other names.
SQUEUE = """\
1_0|0|COMPLETED|None|localhost|digits-0
1_1|1|FAILED|NonZeroExitCode|localhost|digits-0
1_2|2|CANCELLED|None|localhost|digits-0
1_3|3|PENDING|JobArrayTaskLimit||digits-0
2|N/A|PENDING|DependencyNeverSatisfied||child
4_0|0|CANCELLED|DependencyNeverSatisfied||a | name
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "fake", monkeypatch)


def batch_of(
    folder: Path, name: str, *, units: int = 1, scheduler: str = "slurm", created: str = CREATED
) -> BatchFolder:
    batch_folder = BatchFolder(folder / name)
    # Of which nothing is read from disk.
    vars(batch_folder)["batch"] = batch_record(name, units=units, created=created, scheduler=scheduler)
    return batch_folder


# -- squeue ------------------------------------------------------------------------------------------------------------


def test_squeue_is_read_by_name_and_index(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.answer("squeue", SQUEUE)
    answer = ask([batch_of(tmp_path, "digits-0", units=4), batch_of(tmp_path, "child"), batch_of(tmp_path, "a | name")])
    assert answer == {
        ("digits-0", 0): Known("1_0", "COMPLETED", "None", "localhost"),
        ("digits-0", 1): Known("1_1", "FAILED", "NonZeroExitCode", "localhost"),
        ("digits-0", 2): Known("1_2", "CANCELLED", "None", "localhost"),
        ("digits-0", 3): Known("1_3", "PENDING", "JobArrayTaskLimit", ""),
        ("child", 0): Known("2", "PENDING", "DependencyNeverSatisfied", ""),
        ("a | name", 0): Known("4_0", "CANCELLED", "DependencyNeverSatisfied", ""),
    }
    assert [index for (name, index), one in answer.items() if name == "digits-0" and one.waits] == [3]


def test_squeue_is_asked_for_every_element_and_for_ended_ones(fake: FakeSlurm, tmp_path: Path) -> None:
    ask([batch_of(tmp_path, "digits-0"), batch_of(tmp_path, "digits-1")])
    [call] = fake.calls("squeue")
    assert {"--array", "--all", "--noheader", "--states=all"} <= set(call)
    assert arguments(call)["name"] == "digits-0,digits-1"


def test_a_job_id_used_again_by_a_job_of_another_name_changes_nothing(fake: FakeSlurm, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, "digits-0")
    batch.submit(["1"])
    fake.answer("squeue", "1|N/A|RUNNING|None|node7|training of somebody else\n")
    assert ask([batch]) == {}


def test_lines_that_are_no_answer_are_passed_over(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.answer("squeue", "squeue: maintenance at noon\n1|N/A|RUNNING|None|node7|digits-0\n")
    assert ask([batch_of(tmp_path, "digits-0")]) == {("digits-0", 0): Known("1", "RUNNING", "None", "node7")}


@pytest.mark.parametrize(
    ("state", "waits", "active"),
    [
        ("PENDING", True, True),
        ("CONFIGURING", True, True),
        ("REQUEUED", True, True),
        ("RUNNING", False, True),
        ("COMPLETING", False, True),
        ("SUSPENDED", False, True),
        *((state, False, False) for state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")),
        *((state, False, False) for state in ("OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL")),
    ],
)
def test_what_states_mean(state: str, waits: bool, active: bool) -> None:
    known = Known("1", state, "None", "")
    assert (known.waits, known.active) == (waits, active)


def test_thousands_of_batches_are_one_call_of_squeue_that_the_system_takes(fake: FakeSlurm, tmp_path: Path) -> None:
    # 128 KiB are the most that Linux takes of one argument.
    names = [f"digits-{number:0240d}" for number in range(560)]
    fake.answer("squeue", f"7|N/A|RUNNING|None|node1|{names[-1]}\n8|N/A|RUNNING|None|node1|of somebody else\n")
    batches = [batch_of(tmp_path, name) for name in names]
    assert ask(batches) == {(names[-1], 0): Known("7", "RUNNING", "None", "node1")}
    assert len(fake.calls("squeue")) == 1


def test_settings_of_the_user_do_not_change_what_is_asked(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.script("squeue", 'echo "1|N/A|RUNNING|$SQUEUE_PARTITION|$SLURM_CONF|digits-0"')
    monkeypatch.setenv("SQUEUE_PARTITION", "debug")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    assert ask([batch_of(tmp_path, "digits-0")])["digits-0", 0] == Known("1", "RUNNING", "", "/etc/slurm.conf")


def test_without_batches_nothing_is_asked(fake: FakeSlurm) -> None:
    assert ask([], ended=True) == {}
    assert fake.calls() == []


# -- squeue does not answer --------------------------------------------------------------------------------------------


def complaint_of(batch: BatchFolder) -> str:
    with pytest.raises(UserError) as complaint:
        ask([batch])
    assert "\n" not in str(complaint.value)
    return str(complaint.value)


def test_squeue_that_fails_is_quoted(fake: FakeSlurm, tmp_path: Path) -> None:
    said = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    fake.answer("squeue", stderr=f"squeue: warning\n{said}\n", code=1)
    assert complaint_of(batch_of(tmp_path, "digits-0")) == f"squeue failed: {said}"
    fake.answer("squeue", code=1)
    assert complaint_of(batch_of(tmp_path, "digits-0")) == "squeue failed: no reason given"


def test_squeue_that_is_missing(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.remove("squeue")
    assert complaint_of(batch_of(tmp_path, "digits-0")).startswith("no squeue on this machine: ask on a login node")


def test_squeue_that_hangs(fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "TIMEOUT_SECONDS", 0.2)
    fake.answer("squeue", seconds=30)
    started = time.monotonic()
    assert "squeue did not answer within 0.2 s" in complaint_of(batch_of(tmp_path, "digits-0"))
    assert time.monotonic() - started < 10


# -- sacct -------------------------------------------------------------------------------------------------------------


def test_sacct_adds_only_what_squeue_does_not_know(fake: FakeSlurm, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, "digits-0", units=4)
    fake.knows("digits-0", Known("1_1", "PENDING", "BeginTime", ""))
    fake.accounts(
        "digits-0",
        Known("1_0", "CANCELLED by 1000", "None", "node3"),
        Known("1_1", "NODE_FAIL", "None", "node3"),
        Known("1_2", "CANCELLED", "None", "None assigned"),
        Known("1_[3-9%2]", "PENDING", "None", "None assigned"),
    )
    assert ask([batch], ended=True) == {
        ("digits-0", 0): Known("1_0", "CANCELLED", "None", "node3"),
        ("digits-0", 1): Known("1_1", "PENDING", "BeginTime", ""),
        ("digits-0", 2): Known("1_2", "CANCELLED", "None", ""),
    }
    assert ("digits-0", 0) not in ask([batch])  # only where ended ones matter


def test_sacct_is_asked_once_of_batches_that_squeue_has_forgotten(fake: FakeSlurm, tmp_path: Path) -> None:
    later = (datetime.fromisoformat(CREATED) + timedelta(days=3)).isoformat()
    batches = [
        batch_of(tmp_path, "known", units=2, created="2026-01-01T00:00:00+00:00"),
        *(batch_of(tmp_path, f"gone-{number}", created=later) for number in range(20)),
        batch_of(tmp_path, "older"),
    ]
    fake.knows("known", Known("9_0", "RUNNING", "None", "n"), Known("9_1", "COMPLETED", "None", "n"))
    ask(batches, ended=True)
    assert len(fake.calls("squeue")) == 1
    [call] = fake.calls("sacct")
    assert arguments(call)["name"].split(",") == [*(f"gone-{number}" for number in range(20)), "older"]
    # sacct takes the time as local: no zone is more than 14 h away.
    start = datetime.fromisoformat(arguments(call)["starttime"]).replace(tzinfo=UTC)
    assert timedelta(hours=14) < datetime.fromisoformat(CREATED) - start < timedelta(days=2)


def test_sacct_is_not_asked_of_what_squeue_knows(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.knows("digits-0", Known("1_0", "COMPLETED", "None", "n"), Known("1_1", "RUNNING", "None", "n"))
    ask([batch_of(tmp_path, "digits-0", units=2)], ended=True)
    assert fake.calls("sacct") == []


@pytest.mark.parametrize("missing", [False, True])
def test_without_accounts_there_is_no_complaint(
    fake: FakeSlurm, tmp_path: Path, missing: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    if missing:
        fake.remove("sacct")
    assert ask([batch_of(tmp_path, "digits-0")], ended=True) == {}
    assert len(fake.calls("sacct")) == int(not missing)
    assert capfd.readouterr() == ("", "")


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def process(tmp_path: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Something whose command line is that of submitit's local controller."""
    (tmp_path / "submitit" / "local").mkdir(parents=True)
    (tmp_path / "submitit" / "__init__.py").touch()
    (tmp_path / "submitit" / "local" / "_local.py").write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "submitit.local._local", str(tmp_path / "here it is")]
    started = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE)
    assert started.stdout is not None
    started.stdout.readline()
    yield started
    started.kill()
    started.wait()
    started.stdout.close()


def test_a_local_batch_is_its_process(fake: FakeSlurm, tmp_path: Path, process: "subprocess.Popen[bytes]") -> None:
    here, gone = (batch_of(tmp_path, name, scheduler="local") for name in ("here it is", "gone"))
    assert ask([here, gone], ended=True) == {("here it is", 0): Known(str(process.pid), "RUNNING", "", "")}
    assert fake.calls() == []
    cancel([(here, str(process.pid))])
    assert process.wait(10) == -signal.SIGTERM
    assert ask([here, gone]) == {}
    cancel([(here, str(process.pid))])  # it has ended meanwhile


def test_without_ps_there_is_one_line(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.remove("ps")
    assert complaint_of(batch_of(tmp_path, "digits-0", scheduler="local")) == "no ps on this machine: install procps"


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_cancel_takes_elements_of_both_kinds_from_an_iterator(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    cluster, local = batch_of(tmp_path, "digits-0"), batch_of(tmp_path, "digits-1", scheduler="local")
    cancel(iter([(cluster, "7_0"), (local, "4321"), (cluster, "7_3")]))
    assert fake.calls() == [["scancel", "--quiet", "7_0", "7_3"]]
    assert killed == [(4321, signal.SIGTERM)]


def test_thousands_are_cancelled_by_a_thousand(fake: FakeSlurm, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, "digits-0", units=2500)
    cancel((batch, f"7_{index}") for index in range(2500))
    named = [call[2:] for call in fake.calls("scancel")]
    assert [len(elements) for elements in named] == [1000, 1000, 500]
    assert [element for elements in named for element in elements] == [f"7_{index}" for index in range(2500)]


def test_an_array_has_as_many_elements_as_max_array_size(fake: FakeSlurm) -> None:
    """Measured: with MaxArraySize 21, --array=0-20 is accepted and 0-21 refused."""
    fake.answer("scontrol", "MailProg                = /bin/mail\nMaxArraySize            = 21\nMaxDBDMsgs = 20\n")
    assert max_array_size() == 21
    fake.answer("scontrol", "MaxArraySize            = 0\n")  # arrays are off
    assert max_array_size() == 1
    fake.answer("scontrol", "nothing of the kind\n")
    assert max_array_size() == 1000


def test_partitions_once_each(fake: FakeSlurm) -> None:
    assert partitions() == ["main", "short"]
    fake.remove("sinfo")
    assert partitions() == []


@pytest.mark.parametrize("program", ["sbatch", "squeue", "srun"])
def test_slurm_is_required_whole(fake: FakeSlurm, program: str) -> None:
    require_slurm()
    fake.remove(program)
    with pytest.raises(UserError, match=f"no {program} on this machine.*--site local"):
        require_slurm()
