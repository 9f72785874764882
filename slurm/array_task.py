"""What runs on the node: a worker (bench.work.worker) on the work of its submission, in one process or several.

The exit code is honest: 0 if the worker found nothing more to do, 1 if its processes lost each other, 2 for a mistake
that stops all runs (such as missing images), 75 after a signal. It is 76 where the job's shell is to put the worker
back into the queue (requeue.sh): after SIGUSR2, which SLURM sends ahead of the time limit, and where processes lost
each other, while work is left. SIGTERM is a preemption or the user's own scancel: the shell asks SLURM which.
"""

import atexit
import logging
import os
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import submitit

from bench.errors import UserError
from bench.work.options import Options, set_thread_variables
from bench.work.signals import AHEAD_OF_LIMIT, EXIT_INTERRUPTED, SIGNALS, InterruptedRunError, StopRequest
from bench.work.summary import is_finished
from slurm.records import Submission, SubmissionFolder
from slurm.site import expanded

log = logging.getLogger("bench.slurm")

# The job's shell is to put the worker back into the queue.
EXIT_REQUEUE = 76


class ArrayTask:
    """The callable that submitit pickles: where its submission is written down, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self) -> None:
        """Work; always ends in SystemExit."""
        folder, environment = SubmissionFolder(Path(self.folder)), submitit.JobEnvironment()
        atexit.register(_ignore_signals)
        log_to_stdout()
        with StopRequest() as stop:
            code = _guarded(folder, environment, stop)
            if environment.global_rank > 0:
                # The step ends with the highest code, and a process that fails takes the others along: rank 0 speaks.
                raise SystemExit(code if code == 1 else 0)
            # Processes that lost each other: one failed in a run, and the others remain, or was killed, and all do.
            comes_back = code == 1 or (code == EXIT_INTERRUPTED and stop.received in AHEAD_OF_LIMIT)
            if comes_back and folder.submission.requeue and not is_finished(folder.work, folder.store):
                code = EXIT_REQUEUE
            raise SystemExit(code)


def _ignore_signals() -> None:
    """Keep the exit code that was decided: Python ends its handlers seconds before torch has ended.

    A signal in between would kill this process: SIGTERM at the time limit, or from srun, as another process ended.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def log_to_stdout() -> None:
    """Log what this suite says; submitit and srun write to the same file."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("bench")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _guarded(folder: SubmissionFolder, environment: submitit.JobEnvironment, stop: StopRequest) -> int:
    try:
        set_environment(folder.submission)
        return _work(folder, environment, stop)
    except UserError as mistake:
        log.error("error: %s", mistake)
        return 2


def _work(folder: SubmissionFolder, environment: submitit.JobEnvironment, stop: StopRequest) -> int:
    from bench.training.ranks import ALONE, Ranks
    from bench.work.context import Context
    from bench.work.worker import Worker

    submission = folder.submission
    options = Options(
        None if submission.data is None else Path(submission.data),
        submission.device,
        submission.deterministic,
        submission.checkpoint_seconds,
        bars=False,
    )
    if submission.copy_data:
        # Before processes meet: one that copies for long would keep the others waiting.
        with suppress(InterruptedRunError):  # the worker, too, sees that it is to end
            _copy_data(folder, options.data, stop)
    several = environment.num_tasks > 1
    if several:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        _take_own_gpus(environment, submission.gpus)
    with Ranks.join(submission.device) if several else nullcontext(ALONE) as ranks:
        context = Context.make(folder.store, options, stop, ranks)
        return Worker(folder.work, context, leaves=True, anchor=folder.path / "submission.json").work()


def _copy_data(folder: SubmissionFolder, data: Path | None, stop: StopRequest) -> None:
    """Read the images of runs from copies in the node's scratch folder, as far as they can be copied."""
    from bench.data.copies import use_copy
    from bench.data.loading import ImageLoader

    if is_finished(folder.work, folder.store):
        return
    images = ImageLoader(folder.store, data)
    for spec in dict.fromkeys(run.spec.data for run in folder.work.runs):
        with suppress(UserError):  # of missing images: the worker says it too
            use_copy(spec.name, images.stored(spec), Path(os.environ["TMPDIR"]), stop.check)


def set_environment(submission: Submission) -> None:
    """Set the variables that libraries read when they are imported, or when they first write a temporary file."""
    set_thread_variables(submission.cpus)  # rounding follows the number of threads
    if submission.data_folder is not None:
        os.environ["FREETICKETS_DATA"] = submission.data_folder
    if submission.scratch is not None:
        try:
            scratch = expanded(submission.scratch)
            scratch.mkdir(parents=True, exist_ok=True)
        except (ValueError, OSError) as error:
            raise UserError(f"{submission.site}: scratch: {submission.scratch}: {error}") from None
        os.environ["TMPDIR"] = str(scratch)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(scratch / "inductor")
        os.environ["TRITON_CACHE_DIR"] = str(scratch / "triton")


def _take_own_gpus(environment: submitit.JobEnvironment, gpus: int) -> None:
    """Leave visible those of the node's GPUs that are this process's own."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    own = range(gpus * environment.local_rank, gpus * (environment.local_rank + 1))
    if not visible:  # nothing was asked for, and the node has them all the same
        numbers = [str(number) for number in own]
    else:  # their numbers need not begin at 0, where SLURM does not hide those of other jobs
        numbers = visible.split(",")
        if len(numbers) > gpus:  # with gpus-per-task SLURM has chosen already
            numbers = [numbers[place] for place in own if place < len(numbers)]
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(numbers)
