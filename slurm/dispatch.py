"""Submits arrays with submitit. What is submitted is written down first, so that nothing is ever submitted twice.

Order: a batch folder, sbatch, then submitted.json. If this process dies in between, or sbatch reports an error of a job
that it accepted, the next call finds the job by the batch's name, which is the job's too (`adopt`).
"""

import io
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError, JobPaths

from bench.errors import UserError, did_you_mean
from slurm.element import Element
from slurm.ledger import BatchFolder, Ledger, now, writing
from slurm.records import Batch
from slurm.scheduler import Answer, Known, ask, partitions
from slurm.site import Site
from slurm.units import Array, Place

# Elements import this suite from here, whatever folder the command was given in.
ROOT = Path(__file__).resolve().parent.parent
# Of the name of a grid in that of a job.
MOST_LETTERS = 40
# The reason squeue gives for a job that sbatch refused for what it asks of a node.
REFUSED = "BadConstraints"
# What sbatch says when it can not know whether the job was accepted.
MAYBE_ACCEPTED = ("timed out", "unable to contact", "communication")


@dataclass(frozen=True)
class Options:
    """What the units of a submission have in common besides their site."""

    site: Site
    site_name: str
    data: Path | None
    deterministic: bool
    checkpoint_seconds: float = 120.0


def submit_arrays(arrays: Sequence[Array], ledger: Ledger, options: Options) -> list[BatchFolder]:
    """Submit the arrays in order and return their batches; UserError if one is refused, after those before it."""
    submitted: list[tuple[BatchFolder, tuple[str, ...]]] = []
    for array in arrays:
        after = array.after
        if isinstance(after, Place):
            after = submitted[after.array][1][after.index]
        batch = make_batch(array, after, options)
        folder = BatchFolder.create(ledger.folder(batch.name), batch, array.units)
        submitted.append((folder, _submit(folder, array.at_once, options)))
    return [folder for folder, _ in submitted]


def make_batch(array: Array, after: str | None, options: Options) -> Batch:
    """Return the record of an array about to be submitted."""
    site = options.site
    grids = tuple(dict.fromkeys(run.grid for unit in array.units for run in unit.runs))
    # Of a grid's file any name will do; a comma would divide it for squeue, and a % is replaced in paths.
    grid = re.sub(r"[^A-Za-z0-9._-]+", "-", grids[0].rpartition(" ")[0])[:MOST_LETTERS]
    return Batch(
        name=f"{grid}-{uuid.uuid4().hex[:10]}",
        grids=grids,
        site=options.site_name,
        scheduler=site.scheduler,
        created=now(),
        resources=array.resources,
        after=after,
        data=None if options.data is None else str(options.data.resolve()),
        device=site.device,
        data_folder=None if site.data is None else str(site.data.resolve()),
        scratch=site.scratch,
        requeue=site.requeue,
        deterministic=options.deterministic,
        checkpoint_seconds=options.checkpoint_seconds,
        units=len(array.units),
    )


def slurm_parameters(batch: Batch, site: Site, at_once: int) -> dict[str, Any]:
    """Return what submitit is told to ask sbatch for."""
    resources = batch.resources
    a_node = resources.processes // resources.nodes
    gpus = resources.gpus * a_node
    wanted = {
        "job_name": batch.name,
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "time": resources.minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": a_node,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": (f"{resources.gpu_type}:{gpus}" if resources.gpu_type else gpus) or None,
        "mem": f"{resources.memory_gb * a_node}G",
        "array_parallelism": at_once,
        "dependency": None if batch.after is None else f"afterok:{batch.after}",
        "signal_delay_s": site.signal_seconds,
        "stderr_to_stdout": True,
        # Not with another Python than the one that a failed line was to lead to.
        "setup": [f"{line} || exit 1" for line in site.setup] or None,
        # A task that fails takes the others with it; and since SLURM 22.05 srun does not take over --cpus-per-task.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus}"],
    }
    if site.mail is not None:
        wanted |= {"mail_user": site.mail.user, "mail_type": ",".join(site.mail.events)}
    further = {"chdir": str(ROOT), "kill-on-invalid-dep": "yes", "requeue" if batch.requeue else "no-requeue": True}
    parameters = {key: value for key, value in wanted.items() if value is not None}
    return {**parameters, "additional_parameters": {**further, **site.sbatch}}


def slurm_executor(folder: BatchFolder, site: Site, at_once: int) -> submitit.SlurmExecutor:
    """Return submitit's executor for a batch."""
    executor = submitit.SlurmExecutor(folder.path, python=site.python)
    executor.update_parameters(**slurm_parameters(folder.batch, site, at_once))
    return executor


def local_executor(folder: BatchFolder, site: Site) -> submitit.LocalExecutor:
    """Return submitit's executor that needs no SLURM."""
    resources = folder.batch.resources
    executor = submitit.LocalExecutor(folder.path, python=site.python)
    executor.update_parameters(
        timeout_min=resources.minutes,
        tasks_per_node=resources.processes,
        gpus_per_node=resources.gpus * resources.processes,
        signal_delay_s=site.signal_seconds,
        stderr_to_stdout=True,
        # Of a last command a shell without traps makes itself, and submitit takes the shell's parent for the job.
        setup=[*site.setup, "trap : EXIT"] if site.setup else [],
    )
    return executor


def adopt(batches: Sequence[BatchFolder], answer: Answer) -> None:
    """Find out what became of batches whose submission was cut short, by the name of their jobs or what these wrote."""
    for folder in batches:
        if folder.submitted() is None:
            known = [one for (name, _), one in answer.items() if name == folder.batch.name]
            job = _job_of(known) or next((mark.job for mark in folder.marks().values()), None)
            if job is not None:
                _record(folder, _elements(folder.batch, job))


def _submit(folder: BatchFolder, at_once: int, options: Options) -> tuple[str, ...]:
    functions = [Element(folder.path, index) for index in range(folder.batch.units)]
    try:
        # submitit prints what sbatch complains of, which is part of the error too.
        with writing(folder.path), _place_to_submit_from(), redirect_stderr(io.StringIO()):
            if folder.batch.scheduler == "local":
                with _output_closed():
                    jobs = local_executor(folder, options.site).submit_array(functions)
            else:
                jobs = slurm_executor(folder, options.site, at_once).submit_array(functions)
        folder.submit([job.job_id for job in jobs])
    except (FailedJobError, FailedSubmissionError) as error:
        _after_an_error(folder, str(error), options)
    return folder.submitted() or ()


def _after_an_error(folder: BatchFolder, said: str, options: Options) -> None:
    """Adopt a job that was accepted, though a time-out was reported; UserError if there is none."""
    try:
        adopt([folder], ask([folder]))
    except UserError as silent:
        perhaps = f"it may have been accepted all the same ({silent}); the same command finds out"
        raise UserError(f"{_refusal(said, options)}\n  {perhaps}") from None
    if folder.submitted() is None:
        if not any(word in said.lower() for word in MAYBE_ACCEPTED):
            shutil.rmtree(folder.path, ignore_errors=True)
        raise UserError(_refusal(said, options))


def _refusal(text: str, options: Options) -> str:
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in text.splitlines() if line.strip()]
    reason = "; ".join(dict.fromkeys(lines)) or "it gave no reason"
    where, partition = f"site {options.site_name}: sbatch refused the job: {reason}", options.site.partition
    if "partition" in reason and partition is not None and (there := partitions()):
        return f"{where}\n  partition: found {partition!r}{did_you_mean(partition, there)}"
    return where


def _job_of(known: Iterable[Known]) -> str | None:
    return next((one.element for one in known if one.active or one.reason != REFUSED), None)


def _elements(batch: Batch, job: str) -> tuple[str, ...]:
    if batch.units == 1:
        return (job,)
    return tuple(f"{job.partition('_')[0]}_{index}" for index in range(batch.units))


def _record(folder: BatchFolder, elements: Sequence[str]) -> None:
    """Write down how SLURM calls the units, after what submitit had no time for: the pickle of each."""
    for index, element in enumerate(elements):
        paths = JobPaths(folder.path, job_id=element)
        if not paths.submitted_pickle.exists():
            with writing(folder.path):
                temporary = folder.path / f"{uuid.uuid4().hex}.pkl"  # a task may be looking for the other name
                DelayedSubmission(Element(folder.path, index)).dump(temporary)
                paths.move_temporary_file(temporary, "submitted_pickle")
    folder.submit(elements)


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
def _output_closed() -> Iterator[None]:
    """Keep what is started from our output: who reads that through a pipe would wait for its end."""
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
