"""Submits one array of identical workers with submitit. What is submitted is written into the store first.

The job has the submission's name. So if this process dies after sbatch, or sbatch reports an error for a job that it
accepted, the workers are found in the queue by that name, and the same command submits nothing twice.
"""

import io
import os
import re
import shlex
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _make_sbatch_string

from bench.errors import UserError, counted, did_you_mean
from bench.spec.messages import shown
from bench.store.store import Store
from bench.work.items import Work
from slurm.array_task import ArrayTask
from slurm.options import CPUS, GPUS, MEMORY, asking
from slurm.queue import partitions, queued_workers
from slurm.records import Submission, SubmissionFolder, writing
from slurm.resources import memory_gb
from slurm.site import Site

# Workers import this suite from here, whatever folder the command was given in.
ROOT = Path(__file__).resolve().parent.parent
# Letters of a grid's name in that of a job.
MOST_LETTERS = 40
REQUEUE = f". {shlex.quote(str(ROOT / 'slurm' / 'requeue.sh'))}"
# sbatch says one of these when it cannot know whether the job was accepted.
MAYBE_ACCEPTED = ("timed out", "unable to contact", "communication")
# Variables that name clusters to sbatch, the first one that is set.
CLUSTERS = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")
# What sbatch complains of -> the key of a site that is wrong, the first that fits; and where to look up what is right.
COMPLAINTS = {
    "invalid account": "account",
    "qos": "qos",
    "feature": "constraint",
    "gres": "gpu_type",
    "time limit": "walltime",
    "cpu count": "cpus",
    "cpus-per-task": "cpus",
    "memory": "memory",
    "node count": "nodes",
    "reservation": "sbatch.reservation",
    "cluster": "sbatch.clusters",
    "partition": "partition",
}
# sbatch says one of these when a user or an account has as many jobs in the queue as it may.
FULL = re.compile(r"Submit\w*Limit\b|job submit limit")
LISTS = {
    "account": "sacctmgr show associations user=$USER",
    "qos": "sacctmgr show associations user=$USER",
    "constraint": 'sinfo -o "%P %f"',
    "gpu_type": 'sinfo -o "%P %G"',
    "walltime": 'sinfo -o "%P %l"',
    "partition": "sinfo",
}


class QueueFullError(UserError):
    """A user, or the account, may not have so many workers in the queue."""


def cluster_of(site: Site) -> str | None:
    """Return the one cluster that a site, or a variable of sbatch, names; UserError for several."""
    named = {"sbatch.clusters": site.sbatch.get("clusters"), **{name: os.environ.get(name) for name in CLUSTERS}}
    for place, cluster in named.items():
        if site.scheduler == "slurm" and cluster is not None:
            if not re.fullmatch(r"[^\s,-][^\s,]*", str(cluster)) or cluster == "all":
                raise UserError(f"{place}: found {cluster!r}; allowed: one cluster, where all workers of a store are")
            return str(cluster)
    return None


def make_submission(
    site: Site,
    site_name: str,
    grids: Sequence[str],
    work: Work,
    workers: int,
    *,
    data: Path | None,
    deterministic: bool,
    checkpoint_seconds: float,
    peaks: Mapping[str, int] | None = None,
) -> Submission:
    """Return the record of a submission that is about to be made; peaks: as of memory_gb."""
    # A grid's file may have any name; a comma would divide it for squeue, and a % is replaced in paths.
    grid = re.sub(r"[^A-Za-z0-9._-]+", "-", grids[0].rpartition(" ")[0])[:MOST_LETTERS]
    return Submission(
        schema_version=1,
        name=f"{grid}-{uuid.uuid4().hex[:10]}",
        grids=tuple(grids),
        site=site_name,
        scheduler=site.scheduler,
        cluster=cluster_of(site),
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        workers=workers,
        processes=site.processes,
        nodes=site.nodes,
        gpus=site.gpus_of_process,
        gpu_type=site.gpu_type,
        cpus=site.cpus_of_process,
        memory_gb=memory_gb(work, site, peaks),
        minutes=site.walltime_minutes,
        requeue=site.scheduler == "slurm" and site.requeue,
        data=None if data is None else str(data.resolve()),
        device=site.device,
        data_folder=None if site.data is None else str(site.data.resolve()),
        scratch=site.scratch,
        copy_data=site.copy_data,
        deterministic=deterministic,
        checkpoint_seconds=checkpoint_seconds,
    )


def submit(store: Store, submission: Submission, work: Work, site: Site) -> SubmissionFolder:
    """Write a submission down and submit its workers; UserError if sbatch refuses them, QueueFullError for so many."""
    folder = SubmissionFolder.create(store, submission, work)
    launch(folder, site, [ArrayTask(folder.path) for _ in range(submission.workers)])
    return folder


def launch(folder: SubmissionFolder, site: Site, tasks: Sequence[Callable[[], None]]) -> None:
    """Submit what a folder is written down for; UserError if sbatch refuses it, QueueFullError for so many."""
    submission = folder.submission
    try:
        # submitit prints what sbatch complains of, which is part of the error too.
        with writing(folder.path), _place_to_submit_from(), _own_line_of_sbatch(), redirect_stderr(io.StringIO()):
            if submission.scheduler == "local":
                with _output_closed():
                    _local_executor(folder, site).submit_array(tasks)
            else:
                slurm_executor(folder, site).submit_array(tasks)
    except (FailedJobError, FailedSubmissionError) as error:
        if not _accepted(folder, str(error)):
            refusal = _refusal(str(error), submission, site)
            raise (QueueFullError if FULL.search(str(error)) else UserError)(refusal) from None


def asks(submission: Submission, site: Site) -> str:
    """Return what a worker asks for, in words."""
    by_option = [name for names in (GPUS, CPUS, MEMORY) for name in asking(site.sbatch, names)]
    parts = (
        f"{submission.minutes // 60} h {submission.minutes % 60} min",
        f"{submission.processes} processes" if submission.processes > 1 else "",
        counted(submission.gpus, "GPU") if submission.gpus else "no GPU",
        counted(submission.cpus, "CPU core") if submission.cpus else "",
        f"{submission.memory_gb} GB" if submission.memory_gb else "",
        *(f"{name} {site.sbatch[name]}" for name in by_option),
    )
    return ", ".join(part for part in parts if part)


def submit_what_fits(store: Store, submission: Submission, work: Work, site: Site) -> SubmissionFolder:
    """Submit half as many workers as long as a limit of jobs refuses them; UserError if it refuses a single one."""
    while True:
        try:
            return submit(store, submission, work, site)
        except QueueFullError:
            if submission.workers == 1:
                raise
            submission = submission.model_copy(update={"workers": submission.workers // 2})


def slurm_parameters(submission: Submission, site: Site) -> dict[str, Any]:
    """Return what submitit is told to ask sbatch for; resources that are None are left to the cluster."""
    on_a_node = submission.processes // submission.nodes
    gpus = site.gpus_by_key * on_a_node
    wanted = {
        "job_name": submission.name,
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "time": submission.minutes,
        "nodes": submission.nodes,
        "ntasks_per_node": on_a_node,
        "cpus_per_task": site.cpus,
        "gpus_per_node": (f"{submission.gpu_type}:{gpus}" if submission.gpu_type else gpus) or None,
        "mem": None if submission.memory_gb is None else f"{submission.memory_gb * on_a_node}G",
        "array_parallelism": submission.workers,
        "signal_delay_s": site.signal_seconds,
        "stderr_to_stdout": True,
        # A line that fails must not lead to another Python than the one it was to make available.
        "setup": [*map(_or_ends, site.setup), *([REQUEUE] if submission.requeue else ())] or None,
        # A process that fails takes the others along; since SLURM 22.05 srun does not take over --cpus-per-task.
        "srun_args": ["--kill-on-bad-exit=1", *([f"--cpus-per-task={submission.cpus}"] if submission.cpus else [])],
    }
    if site.mail is not None:
        wanted |= {"mail_user": site.mail.user, "mail_type": ",".join(site.mail.events)}
    further = {"chdir": str(ROOT), "requeue" if submission.requeue else "no-requeue": True}
    parameters = {key: value for key, value in wanted.items() if value is not None}
    on = {} if submission.cluster is None else {"clusters": submission.cluster}
    return {**parameters, "additional_parameters": {**further, **site.sbatch, **on}}


def _or_ends(line: str) -> str:
    return f"{line} || {{ echo {shlex.quote(f'error: setup: {line}: failed')}; exit 1; }}"


def script_text(store: Store, submission: Submission, site: Site) -> str:
    """Return the script that submitit would hand to sbatch, of a submission that is still without a name."""
    named = submission.model_copy(update={"name": "NAME"})
    folder = store.root.resolve() / "slurm" / named.name
    python = site.python or shlex.quote(sys.executable)
    return _make_sbatch_string(
        f"{python} -u -m submitit.core._submit {shlex.quote(str(folder))}",
        folder,
        map_count=named.workers if named.workers > 1 else None,
        **slurm_parameters(named, site),
    )


def slurm_executor(folder: SubmissionFolder, site: Site) -> submitit.SlurmExecutor:
    """Return submitit's executor for a submission."""
    executor = submitit.SlurmExecutor(folder.path, python=site.python)
    executor.update_parameters(**slurm_parameters(folder.submission, site))
    return executor


def _local_executor(folder: SubmissionFolder, site: Site) -> submitit.LocalExecutor:
    submission = folder.submission
    executor = submitit.LocalExecutor(folder.path, python=site.python)
    executor.update_parameters(
        timeout_min=submission.minutes,
        tasks_per_node=submission.processes,
        gpus_per_node=submission.gpus * submission.processes,
        signal_delay_s=site.signal_seconds,
        stderr_to_stdout=True,
        # A shell without traps replaces itself by its last command, and submitit takes the shell's parent for the job.
        setup=[*site.setup, "trap : EXIT"] if site.setup else [],
    )
    return executor


def _accepted(folder: SubmissionFolder, said: str) -> bool:
    """Whether a job is in the queue though sbatch reported an error; the folder of a refused one is removed."""
    try:
        if queued_workers([folder]):
            return True
    except UserError:  # the same command finds out later
        return False
    if not any(words in said.lower() for words in MAYBE_ACCEPTED):
        with suppress(OSError):  # first, so that nobody takes what is left for a submission
            (folder.path / "submission.json").unlink()
        shutil.rmtree(folder.path, ignore_errors=True)
    return False


def _refusal(text: str, submission: Submission, site: Site) -> str:
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in text.splitlines() if line.strip()]
    reason = "; ".join(dict.fromkeys(lines)) or "it gave no reason"
    refused = f"site {submission.site}: sbatch refused the job: {reason}"
    if FULL.search(text):
        return f"{refused}\n  as many jobs as you may have are queued; when some have ended, the same command goes on"
    key = next((key for words, key in COMPLAINTS.items() if words in reason.lower()), None)
    if key is None:
        return refused
    found = site.sbatch.get(key.removeprefix("sbatch.")) if "." in key else getattr(site, key)
    names = partitions(submission.cluster) if key == "partition" and found else []
    if names and not set(str(found).split(",")) <= set(names):
        return f"{refused}\n  partition: found {found!r}{did_you_mean(found, names)}"
    look = f"; `{LISTS[key]}` lists what there is" if key in LISTS else ""
    if key in ("memory", "cpus") and found is not None:
        look = "; null asks for none"
    return f"{refused}\n  {key}: found {shown(found)}{look}"


@contextmanager
def _place_to_submit_from() -> Iterator[None]:
    """Go to the checkout's root, and hide what a job that submits would hand on to its jobs."""
    before = Path.cwd()
    found_by = {key: value for key, value in os.environ.items() if key == "SLURM_CONF"}
    os.chdir(ROOT)
    try:
        with submitit.helpers.clean_env():
            os.environ.update(found_by)
            yield
    finally:
        os.chdir(before)


@contextmanager
def _own_line_of_sbatch() -> Iterator[None]:
    """Let submitit read the job's id in sbatch's own line; it would take the first "job N", be it a wrapper's."""
    name = "_get_job_id_from_submission_command"
    before = vars(submitit.SlurmExecutor)[name]

    def job_id(said: bytes | str) -> str:
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        own = re.findall(r"^Submitted batch job (\d+)(?: on cluster \S+)?$", text, re.MULTILINE)
        return str(own[-1] if own else before.__func__(text))

    setattr(submitit.SlurmExecutor, name, staticmethod(job_id))
    try:
        yield
    finally:
        setattr(submitit.SlurmExecutor, name, before)


@contextmanager
def _output_closed() -> Iterator[None]:
    """Keep what is started from our output: a reader of that through a pipe would wait for its end."""
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in saved:
            os.dup2(nowhere, descriptor)
        yield
    finally:
        os.close(nowhere)
        for descriptor, before in saved.items():
            os.dup2(before, descriptor)
            os.close(before)
