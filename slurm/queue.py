"""What is queued or running, asked once by the names of our jobs: squeue, and of a local site the process list."""

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import UserError
from slurm.records import SubmissionFolder

TIMEOUT_SECONDS = 60
# An array may have so many elements if SLURM does not tell; its own default is 1001.
MAX_ARRAY_SIZE = 1000
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
SUSPENDED = ("STOPPED", "SUSPENDED")
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", *SUSPENDED)
# A worker in a state of neither of these and the above may still do its work, as far as this suite knows.
ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
)
# Array task, state, node, name; the reason last, since it may hold anything, such as what a prolog printed.
FORMAT = "%i|%T|%N|%j|%r"
HELD = re.compile(r"JobH[eo]ld|requeued[_ ](in[_ ])?held")
# What a worker asks for is refused as long as nobody changes it, or the limit.
NEVER = re.compile(
    r"(Partition(TimeLimit|NodeLimit|Config)|BadConstraints|Dependency(NeverSatisfied|Problem)|Invalid(Account|QOS)|ReservationDeleted"
    r"|QOSMin\w+|(Assoc|QOS)Max\w+PerJob(Limit)?)$"
)
# A user's variables of these would change what is asked: SQUEUE_PARTITION hides jobs, SCANCEL_INTERACTIVE waits. The
# cluster is the submission's.
SETTINGS = ("SQUEUE_", "SCANCEL_", "SINFO_", "SLURM_CLUSTERS")


@dataclass(frozen=True)
class QueuedWorker:
    """A worker that has not ended: its array task ("123_4"), cluster, and state, reason and node in SLURM's words.

    site   the name of its site's file
    """

    submission: str
    cluster: str | None
    task: str
    state: str
    reason: str
    node: str
    site: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is still in the queue."""
        return self.state in WAITING

    @property
    def held(self) -> bool:
        """Whether it waits for a person to release it."""
        return self.waits and HELD.search(self.reason) is not None

    @property
    def never_starts(self) -> bool:
        """Whether it waits for what does not come by itself: it asks for more than its partition or a limit allows."""
        return self.waits and NEVER.match(self.reason) is not None

    @property
    def idle(self) -> bool:
        """Whether it does nothing before a person does something."""
        return self.held or self.never_starts

    @property
    def suspended(self) -> bool:
        """Whether it began, and was stopped for the time being."""
        return self.state in SUSPENDED

    @property
    def known(self) -> bool:
        """Whether this suite knows what its state means."""
        return self.state in (*WAITING, *RUNNING)


def queued_workers(folders: Sequence[SubmissionFolder]) -> list[QueuedWorker]:
    """Return the workers of submissions that are queued or running; UserError if SLURM does not answer.

    Several users may submit from one store, and each is told of the workers of all.
    """
    found: list[QueuedWorker] = []
    names, users = defaultdict(set), {os.getuid()}
    for folder in folders:
        if folder.submission.scheduler == "slurm":
            names[folder.submission.cluster].add(folder.submission.name)
            with suppress(KeyError):  # squeue refuses a user who has no account here
                users.add(pwd.getpwuid(folder.owner).pw_uid)
    for cluster, own in names.items():
        found += _squeue(own, cluster, users)
    if any(folder.submission.scheduler == "local" for folder in folders):
        found += _processes(folders)
    sites = {folder.submission.name: Path(folder.submission.site).stem for folder in folders}
    return [replace(worker, site=sites[worker.submission]) for worker in found]


def cancel(workers: Iterable[QueuedWorker], scheduler: str) -> None:
    """Ask workers to end; one that has ended in the meantime is no error."""
    tasks = defaultdict(list)
    for worker in workers:
        tasks[worker.cluster].append(worker.task)
    if scheduler == "local":
        for pid in tasks[None]:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        return
    for cluster, own in tasks.items():
        for start in range(0, len(own), 1000):  # command lines have an end
            _output(["scancel", *_on(cluster), "--quiet", *own[start : start + 1000]])


def require_slurm() -> None:
    """UserError where there is no SLURM to submit to."""
    for program in ("sbatch", "squeue", "srun"):
        if shutil.which(program) is None:
            raise UserError(
                f"no {program} on this machine: submit from a login node of the cluster, or run the same on this "
                "machine alone with --site local"
            )


def max_array_size(cluster: str | None) -> int:
    """Return how many tasks an array may have: indices go up to SLURM's MaxArraySize - 1."""
    found = re.search(
        r"^MaxArraySize\s*=\s*(\d+)\s*$", _output(["scontrol", *_on(cluster), "show", "config"]), re.MULTILINE
    )
    return max(1, int(found[1])) if found else MAX_ARRAY_SIZE


def partitions(cluster: str | None) -> list[str]:
    """Return the names of a cluster's partitions, none if it does not say."""
    try:
        return sorted(set(_output(["sinfo", *_on(cluster), "--noheader", "--format=%R"]).split()))
    except UserError:
        return []


def _squeue(names: set[str], cluster: str | None, users: set[int]) -> list[QueuedWorker]:
    found = []
    of = f"--user={','.join(map(str, sorted(users)))}"
    asked = ["squeue", *_on(cluster), "--all", "--array", "--noheader", of, f"--format={FORMAT}"]
    for line in _output(asked).splitlines():
        fields = line.split("|", 4)
        if len(fields) == 5 and fields[3] in names and fields[1] not in ENDED:
            task, state, node, name, reason = fields
            found.append(QueuedWorker(name, cluster, task, state, reason, node))
    return found


def _on(cluster: str | None) -> list[str]:
    return [] if cluster is None else [f"--clusters={cluster}"]


def _processes(folders: Sequence[SubmissionFolder]) -> list[QueuedWorker]:
    """Return the local workers whose process is alive; its command line ends with the submission's folder."""
    by_path = {str(folder.path): folder.submission.name for folder in folders}
    found = []
    for line in _output(["ps", "-A", "-ww", "-o", "pid=,args="]).splitlines():
        pid, _, arguments = line.strip().partition(" ")
        program, marked, path = arguments.partition("submitit.local._local ")
        if marked and path in by_path and "python" in program:
            found.append(QueuedWorker(by_path[path], None, pid, "RUNNING", "", os.uname().nodename))
    return found


def _output(command: Sequence[str]) -> str:
    """Return what a command prints; UserError that says what it complained of."""
    try:
        done = subprocess.run(
            command,
            env={key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        hint = "install procps" if command[0] == "ps" else "ask on a login node of the cluster"
        raise UserError(f"no {command[0]} on this machine: {hint}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} did not answer within {TIMEOUT_SECONDS} s; try again later") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"{command[0]} failed: {said[-1]}") from None
    return done.stdout
