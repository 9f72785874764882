"""slurm/requeue.sh: the shell of a job puts back into the queue a worker that asks, is preempted or was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.dispatch import REQUEUE

PREEMPTED = "JobId=9 JobState=RUNNING PreemptTime=2026-11-28T01:02:03 Requeue=1"
# What is ended has yet to end: scontrol hides whether it was cancelled.
NOT_PREEMPTED = "JobId=9 JobState=COMPLETING Reason=None PreemptTime=None Requeue=1"
CANCELLED_IN_GRACE = "JobId=9 JobState=COMPLETING Reason=None PreemptTime=2026-11-28T01:02:03 Requeue=1"
OUT_OF_TIME = "JobId=9 JobState=COMPLETING Reason=TimeLimit PreemptTime=None Requeue=1"


def program(folder: Path, name: str, lines: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{lines}\n")
    path.chmod(0o755)


def shell_of_job(
    folder: Path, srun: str, *, setup: str = "", says: str = NOT_PREEMPTED, **variables: str
) -> tuple[int, list[str], str]:
    """Return the exit code of a job's script, what it requeued, and what it printed; `srun` is what srun does."""
    program(folder, "srun", srun)
    program(folder, "scontrol", f'[ "$1" = show ] && echo "{says}"; [ "$1" = show ] || echo "$1 $2" >> {folder}/asked')
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "9", **variables}
    script = "\n".join(("#!/bin/bash", setup, REQUEUE, "srun --output x python -m worker"))
    (folder / "script").write_text(script)
    shell = subprocess.run(["bash", folder / "script"], env=environment, capture_output=True, text=True, check=False)
    asked = folder / "asked"
    return shell.returncode, asked.read_text().splitlines() if asked.exists() else [], shell.stdout + shell.stderr


ENDS = [
    pytest.param("exit 76", NOT_PREEMPTED, {}, True, id="asks for it"),
    pytest.param("exit 76", NOT_PREEMPTED, {"SLURM_RESTART_COUNT": "500"}, True, id="asks for it for weeks"),
    pytest.param("kill -TERM $PPID; exit 76", OUT_OF_TIME, {}, True, id="asks for it too late"),
    pytest.param("kill -TERM $PPID; exit 76", NOT_PREEMPTED, {}, False, id="asks for it, and is cancelled"),
    pytest.param(
        "kill -USR2 $PPID; exit 76", NOT_PREEMPTED, {}, True, id="asks for it, as all processes are signalled"
    ),
    pytest.param("exit 75", PREEMPTED, {}, True, id="preempted, and the shell is not signalled"),
    pytest.param("kill -TERM $PPID; exit 75", PREEMPTED, {}, True, id="preempted"),
    pytest.param("kill -TERM $PPID; exit 75", CANCELLED_IN_GRACE, {}, False, id="preempted, then cancelled"),
    pytest.param("kill -TERM $PPID; exit 75", NOT_PREEMPTED, {}, False, id="cancelled"),
    pytest.param("exit 75", NOT_PREEMPTED, {}, False, id="signalled by a user"),
    pytest.param("exit 137", NOT_PREEMPTED, {}, True, id="killed"),
    pytest.param("exit 134", NOT_PREEMPTED, {}, True, id="ended as NCCL does when it lost another process"),
    pytest.param("exit 137", NOT_PREEMPTED, {"SLURM_RESTART_COUNT": "29"}, True, id="killed for the 30th time"),
    pytest.param("exit 137", NOT_PREEMPTED, {"SLURM_RESTART_COUNT": "30"}, False, id="killed too often"),
    pytest.param("kill -TERM $PPID; exit 137", NOT_PREEMPTED, {}, False, id="cancelled, and then killed"),
    pytest.param("exit 0", NOT_PREEMPTED, {}, False, id="done"),
    pytest.param("exit 1", NOT_PREEMPTED, {}, False, id="a traceback"),
    pytest.param("exit 2", NOT_PREEMPTED, {}, False, id="a mistake"),
    pytest.param("exit 255", NOT_PREEMPTED, {}, False, id="no container"),
]


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("setup", ["", "set -euo pipefail"])
@pytest.mark.parametrize(("ends", "says", "variables", "requeued"), ENDS)
def test_a_worker_goes_back_to_the_queue(
    tmp_path: Path, ends: str, says: str, variables: dict[str, str], requeued: bool, setup: str, array: bool
) -> None:
    if array:
        variables = {**variables, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
    code, asked, out = shell_of_job(tmp_path, ends, setup=setup, says=says, **variables)
    assert code == int(ends.split()[-1])
    assert asked == ([f"requeue {'7_0' if array else '9'}"] if requeued else [])
    assert ("back to the queue: " in out) == requeued


def test_setup_keeps_its_traps_and_its_own_calls_of_srun(tmp_path: Path) -> None:
    setup = "trap 'echo cleaned' EXIT\nsrun --ntasks-per-node=1 cp images /scratch || echo copied nothing"
    code, asked, out = shell_of_job(tmp_path, "exit 76", setup=setup)
    assert (code, asked) == (76, ["requeue 9"])
    assert out.splitlines() == [
        "copied nothing",
        "back to the queue: the next worker continues from the checkpoint",
        "cleaned",
    ]


def test_a_signal_of_slurm_does_not_kill_what_asks_and_what_requeues(tmp_path: Path) -> None:
    """SLURM signals every process of a job, and may do so twice within a moment."""
    program(tmp_path, "srun", "exit 75")
    program(
        tmp_path, "scontrol", f"kill -TERM $PPID $$; kill -USR2 $$; echo $1 >> {tmp_path}/calls; echo '{PREEMPTED}'"
    )
    script = "\n".join((REQUEUE, "srun python"))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "9"}
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == 75
    assert (tmp_path / "calls").read_text() == "show\nrequeue\n"


def test_setup_may_leave_options_of_the_shell_and_an_alias(tmp_path: Path) -> None:
    setup = "shopt -s expand_aliases extdebug failglob; alias srun='srun --mpi=none'; IFS=0; set -Eaeufo pipefail"
    code, asked, _ = shell_of_job(tmp_path, f'echo "$*" > {tmp_path}/called; exit 76', setup=setup)
    assert (code, asked) == (76, ["requeue 9"])
    assert (tmp_path / "called").read_text() == "--mpi=none --output x python -m worker\n"


LATE_SIGNALS = """
import os, signal, sys
from pathlib import Path

import submitit
from slurm import array_task


class Library:
    def __del__(self, kill=os.kill, process=os.getpid(), signals=(signal.SIGTERM, signal.SIGUSR2)):
        for number in signals:
            kill(process, number)


sys.ends_last = Library()
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda *_: None)  # as submitit does
array_task._guarded = lambda *_: 75
submitit.JobEnvironment = type("Environment", (), {"global_rank": int(sys.argv[1])})
array_task.ArrayTask(Path("/nowhere"))()
"""


@pytest.mark.parametrize(("rank", "code"), [("0", 75), ("1", 0)])
def test_a_signal_while_its_libraries_end_does_not_change_how_a_worker_ends(rank: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", LATE_SIGNALS, rank], check=False)
    assert done.returncode == code


def test_what_is_not_requeued_is_said(tmp_path: Path) -> None:
    code, _, out = shell_of_job(tmp_path, "exit 137", SLURM_RESTART_COUNT="30")
    assert code == 137
    assert out == "a process was killed: exit code 137; not put back into the queue, after 30 restarts\n"
    program(tmp_path, "srun", "exit 76")
    (tmp_path / "scontrol").unlink()
    environment = {"PATH": str(tmp_path), "SLURM_JOB_ID": "9"}
    shell = subprocess.run(["/bin/bash", tmp_path / "script"], env=environment, capture_output=True, check=False)
    assert shell.returncode == 76
    assert b"not put back into the queue; `python -m slurm submit` goes on with its work" in shell.stdout


AWAY = "slurm_requeue error: Unable to contact slurm controller (connect failure)"
BUSY = "slurm_requeue error: Socket timed out on send/recv operation"
RUNS = "JobId=9 JobState=RUNNING Reason=None PreemptTime=None"


@pytest.mark.parametrize(
    ("answers", "tries", "shown", "comes_back"),
    [
        ([AWAY, BUSY, ""], 3, RUNS, True),
        ([AWAY, ""], 2, OUT_OF_TIME, True),
        ([AWAY] * 30, 20, RUNS, False),
        (["Requested operation is presently disabled"] * 2, 1, RUNS, False),
        ([AWAY, AWAY], 1, NOT_PREEMPTED, False),
    ],
    ids=["away for a while", "away at the time limit", "away for long", "refused", "cancelled as it is back"],
)
def test_a_controller_that_does_not_answer_is_asked_again(
    tmp_path: Path, answers: list[str], tries: int, shown: str, comes_back: bool
) -> None:
    (tmp_path / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    lines = (
        f'if [ "$1" = show ]; then echo "{shown}"; exit; fi',
        f"echo $1 >> {tmp_path}/asked",
        f"answer=$(head -1 {tmp_path}/answers); sed -i 1d {tmp_path}/answers",
        '[ -z "$answer" ] || { echo "$answer" >&2; exit 1; }',
    )
    program(tmp_path, "srun", "exit 137")
    program(tmp_path, "scontrol", "\n".join(lines))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "9"}
    script = "\n".join(
        ("set -euo pipefail", REQUEUE.replace("BETWEEN_REQUESTS=15", "BETWEEN_REQUESTS=0"), "srun python")
    )
    shell = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert shell.returncode == 137
    assert (tmp_path / "asked").read_text() == "requeue\n" * tries
    said = f"not put back into the queue; `python -m slurm submit` goes on with its work. {answers[tries - 1]}"
    assert (said in shell.stdout) == (not comes_back)
