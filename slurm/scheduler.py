"""What SLURM knows of our jobs, asked once: squeue, and sacct of what squeue has forgotten where a site keeps accounts.

Jobs are recognised by name, which is unique to a batch: job ids are used again after a while. For the local executor of
submitit, the process list takes the place of squeue.
"""

import os
import shutil
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from bench.errors import UserError
from slurm.ledger import BatchFolder

TIMEOUT_SECONDS = 60
# An array of this many elements, should SLURM not tell how many it takes; its own default is 1001.
MAX_ARRAY_SIZE = 1000
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
# squeue: element, index in its array, state, reason, node; the name last, since only there anything may stand.
SQUEUE_FORMAT = "%i|%K|%T|%r|%N|%j"
SACCT_FORMAT = "JobID,State,Reason,NodeList,JobName"
# Of one argument Linux takes 128 KiB.
LONGEST_ARGUMENT = 100_000
# By these a user's settings would change what is asked: SQUEUE_PARTITION hides jobs, SCANCEL_INTERACTIVE waits for yes.
SETTINGS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_")


@dataclass(frozen=True)
class Known:
    """What SLURM says of an array element: its own name for it, and words of SLURM's."""

    element: str
    state: str
    reason: str
    node: str

    @property
    def waits(self) -> bool:
        """Whether it is in the queue."""
        return self.state in WAITING

    @property
    def active(self) -> bool:
        """Whether it is in the queue or runs."""
        return self.waits or self.state in RUNNING


# By batch and index of the element.
Answer = Mapping[tuple[str, int], Known]


def ask(batches: Sequence[BatchFolder], *, ended: bool = False) -> Answer:
    """Return what is known of the elements of these batches; `ended`: also of those that SLURM may have forgotten.

    UserError if SLURM should be asked and does not answer.
    """
    answer: dict[tuple[str, int], Known] = {}
    by_kind: defaultdict[str, list[BatchFolder]] = defaultdict(list)
    for folder in batches:
        by_kind[folder.batch.scheduler].append(folder)
    if by_kind["local"]:
        answer |= _ask_processes(by_kind["local"])
    if by_kind["slurm"]:
        there = _squeue([folder.batch.name for folder in by_kind["slurm"]])
        known = Counter(name for name, _ in there)
        forgotten = [folder.batch for folder in by_kind["slurm"] if known[folder.batch.name] < folder.batch.units]
        if ended and forgotten:
            answer |= _sacct([batch.name for batch in forgotten], min(batch.created for batch in forgotten))
        answer |= there
    return answer


def require_slurm() -> None:
    """UserError where there is no SLURM to submit to."""
    for program in ("sbatch", "squeue", "srun"):
        if shutil.which(program) is None:
            raise UserError(
                f"no {program} on this machine: submit from a login node of the cluster, or run the same on this "
                "machine alone with --site local"
            )


def max_array_size() -> int:
    """Return how many elements an array may have: indices go up to SLURM's MaxArraySize - 1."""
    for line in _output(["scontrol", "show", "config"]).splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize" and value.strip().isdigit():
            return max(1, int(value))
    return MAX_ARRAY_SIZE


def partitions() -> list[str]:
    """Return the names of the cluster's partitions, none if it does not say."""
    try:
        return sorted(set(_output(["sinfo", "--noheader", "--format=%R"]).split()))
    except UserError:
        return []


def cancel(elements: Iterable[tuple[BatchFolder, str]]) -> None:
    """Cancel elements, each of its batch; one that has ended meanwhile is no error."""
    elements = list(elements)
    jobs = [element for folder, element in elements if folder.batch.scheduler == "slurm"]
    # A thousand at a time: command lines have an end.
    for start in range(0, len(jobs), 1000):
        _output(["scancel", "--quiet", *jobs[start : start + 1000]])
    for pid in (element for folder, element in elements if folder.batch.scheduler == "local"):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)


def _squeue(names: Sequence[str]) -> dict[tuple[str, int], Known]:
    command = ["squeue", "--all", "--array", "--noheader", "--states=all"]
    answer = {}
    for fields in _lines([*command, f"--format={SQUEUE_FORMAT}"], names, 6):
        element, index, state, reason, node, name = fields
        answer[name, int(index) if index.isdigit() else 0] = Known(element, state, reason, node)
    return answer


def _sacct(names: Sequence[str], since: str) -> dict[tuple[str, int], Known]:
    """Return what the accounts say, nothing where there are none."""
    # sacct takes local time; a day more than needed does no harm, the names decide.
    start = (datetime.fromisoformat(since) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--starttime={start}"]
    answer = {}
    with suppress(UserError):
        for fields in _lines([*command, f"--format={SACCT_FORMAT}"], names, 5):
            element, state, reason, node, name = fields
            _, array, index = element.partition("_")
            # "CANCELLED by 1000"; and what never started has the node "None assigned"
            known = Known(element, state.partition(" ")[0], reason, "" if node == "None assigned" else node)
            # Of what is active squeue alone decides: a crash can leave jobs RUNNING in the accounts.
            if not known.active and (not array or index.isdigit()):
                answer[name, int(index or 0)] = known
    return answer


def _lines(command: Sequence[str], names: Sequence[str], fields: int) -> Iterator[list[str]]:
    """Yield the fields of each line about jobs of these names, the name last."""
    known, joined = set(names), ",".join(names)
    only = [f"--name={joined}"] if len(joined) <= LONGEST_ARGUMENT else []
    for line in _output([*command, *only]).splitlines():
        found = line.split("|", fields - 1)
        if len(found) == fields and found[-1] in known:
            yield found


def _ask_processes(batches: Sequence[BatchFolder]) -> dict[tuple[str, int], Known]:
    """Return the local batches whose process is there: its command line ends with the folder, a batch is one unit."""
    by_path = {str(folder.path): folder for folder in batches}
    answer = {}
    for line in _output(["ps", "-A", "-ww", "-o", "pid=,args="]).splitlines():
        pid, _, arguments = line.strip().partition(" ")
        program, found, path = arguments.partition("submitit.local._local ")
        if found and path in by_path and "python" in program:
            answer[by_path[path].batch.name, 0] = Known(pid, "RUNNING", "", "")
    return answer


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
