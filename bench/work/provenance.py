"""Where numbers come from: code, versions, machine and times of every process that worked on a run."""

import os
import platform
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import distribution

import torch

from bench.store.records import Resumed, Session
from bench.store.run_folder import RunFolder
from bench.work.code import git_state
from bench.work.meter import Meter

# Annotated here because torch leaves it untyped.
CUDNN_VERSION: Callable[[], int | None] = torch.backends.cudnn.version
PACKAGES = ("torch", "torchvision", "numpy", "safetensors", "pydantic")


def session(device: torch.device, *, deterministic: bool, processes: int = 1) -> Session:
    """Return a description of this process, which is one of so many that train together."""
    return Session(
        started=now(),
        host=socket.gethostname(),
        pid=os.getpid(),
        processes=processes,
        job=_slurm_job(),
        command=tuple(sys.argv),
        git=git_state(),
        python=platform.python_version(),
        versions={name: distribution(name).version for name in PACKAGES},
        cuda=torch.version.cuda,
        cudnn=CUDNN_VERSION() if device.type == "cuda" else None,
        device=device.type,
        device_name=device_name(device),
        cpu_threads=torch.get_num_threads(),
        processor=torch.backends.cpu.get_cpu_capability(),
        deterministic=deterministic,
    )


class SessionLog:
    """The session in progress, among those before it, in the provenance of a run: written whenever it changes."""

    def __init__(self, folder: RunFolder, earlier: Sequence[Session], session: Session, meter: Meter) -> None:
        self._folder, self._earlier, self._session, self._meter = folder, earlier, session, meter
        self._write()

    def resumed(self, at: Resumed | None) -> None:
        """Say where the session continues."""
        self._write(resumed_from=at)

    def used(self) -> None:
        """Say what was used up to now, should nothing more be heard of the session."""
        self._write(usage=self._meter.usage())

    def ended(self) -> None:
        """Say that the session ends now."""
        self._write(usage=self._meter.usage(), ended=now())

    def _write(self, **changes: object) -> None:
        self._session = self._session.model_copy(update=changes)
        self._folder.write_provenance([*self._earlier, self._session])


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or the processor architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def now() -> str:
    """Return the time in UTC, ISO 8601: a failure and what was asked before it may fall into one second."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _slurm_job() -> str | None:
    """Return the job that this process is part of: "123", of an array "123_4", of a local site its pid; else None."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array is not None and task is not None:
        return f"{array}_{task}"
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID")
