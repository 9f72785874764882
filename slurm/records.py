"""A submission: one array of identical workers, written into the store before SLURM is asked for it.

`<store>/slurm/<name>/` holds submission.json, work.json (the resolved plan) and submitit's files, the workers' logs
among them. The plan refers to no grid file, so editing a grid never changes what was submitted. The name is also the
job's name, by which SLURM is asked about it; no job id is kept.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from bench.data.loading import record_folders
from bench.errors import UserError, printable
from bench.spec.record import Record
from bench.store.files import regular_bytes, write_text
from bench.store.store import Store
from bench.work.items import Work

M = TypeVar("M", bound=BaseModel)
# How lines begin that SLURM and submitit add to a worker's log; and the most that is shown of one that it wrote itself.
OF_SLURM = ("srun: ", "slurmstepd", "submitit ")
MOST_LETTERS = 500


class Submission(Record):
    """What every worker of an array is given.

    name          unique; also the job's name
    cluster       of several that are one federation or share a database; None: the one that SLURM takes by itself
    grids         names and scales, for people
    created       UTC, ISO 8601
    processes, nodes, gpus, gpu_type, cpus, memory_gb, minutes   what a worker asks for; cpus, gpus and memory are of a
                  process, None leaves them to the cluster
    data, device, deterministic, checkpoint_seconds   as the options of `bench run`
    data_folder, scratch   folders as the node is to find them
    copy_data     whether images are read from copies in scratch
    """

    schema_version: Literal[1] = 1
    name: str
    grids: tuple[str, ...]
    site: str
    scheduler: Literal["slurm", "local"]
    cluster: str | None = None
    created: str
    workers: int = Field(ge=1)
    processes: int = Field(ge=1)
    nodes: int = Field(ge=1)
    gpus: int = Field(ge=0)
    gpu_type: str | None
    cpus: int | None
    memory_gb: int | None
    minutes: int = Field(ge=1)
    requeue: bool
    data: str | None
    device: str
    data_folder: str | None
    scratch: str | None
    copy_data: bool = False
    deterministic: bool
    checkpoint_seconds: float


class SubmissionFolder:
    """One submission on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, store: Store, submission: Submission, work: Work) -> "SubmissionFolder":
        """Write a submission down, submission.json last; UserError if the disk is full."""
        folder = cls(store.root / "slurm" / submission.name)
        with writing(folder.path):
            record_folders(store, (run.spec.data for run in work.runs))
            write_text(folder.path / "work.json", work.model_dump_json() + "\n")
            write_text(folder.path / "submission.json", submission.model_dump_json(indent=2) + "\n")
        return folder

    @cached_property
    def submission(self) -> Submission:
        """What every worker is given."""
        return _read(Submission, self.path / "submission.json")

    @cached_property
    def work(self) -> Work:
        """The work that its workers share."""
        return _read(Work, self.path / "work.json")

    @cached_property
    def owner(self) -> int:
        """The user, by number, who submitted it; UserError if it is gone."""
        try:
            return (self.path / "submission.json").stat().st_uid
        except OSError as error:
            raise UserError(f"{self.path / 'submission.json'}: {error.strerror}") from None

    @property
    def store(self) -> Store:
        """The store that it lies in."""
        return Store(self.path.parent.parent)

    def logs(self) -> list[Path]:
        """Return the logs of its workers, oldest first; those that are removed meanwhile are left out."""
        found: dict[Path, tuple[float, str]] = {}
        for path in self.path.glob("*_log.out"):
            with suppress(OSError):
                found[path] = path.stat().st_mtime, path.name
        return sorted(found, key=found.__getitem__)

    def last_words(self) -> str:
        """Return the newest log and the last line in it of a worker, else SLURM's first error; empty if none."""
        for path in self.logs()[-1:]:
            with suppress(OSError):
                lines = [line for line in regular_bytes(path).decode(errors="replace").splitlines() if line.strip()]
                own = [line for line in lines if not line.startswith(OF_SLURM)]
                own = own or [line for line in lines if "error: " in line][:1] or lines
                return printable(f"{path} ends: {own[-1][:MOST_LETTERS]}") if own else ""
        return ""


def submissions(store: Store) -> list[SubmissionFolder]:
    """Return the submissions of a store, oldest first; those of another version of the suite are not read."""
    found = [SubmissionFolder(path.parent) for path in (store.root / "slurm").glob("*/submission.json")]
    found = still_there(found, lambda folder: folder.submission)
    return sorted(found, key=lambda folder: (folder.submission.created, folder.submission.name))


def still_there(
    folders: Iterable[SubmissionFolder], read: Callable[[SubmissionFolder], object]
) -> list[SubmissionFolder]:
    """Return the submissions of which something can be read, without those that sbatch refused since they were listed.

    What was read is kept. UserError for one that is damaged.
    """
    found = []
    for folder in folders:
        try:
            read(folder)
        except UserError:
            if os.path.lexists(folder.path / "submission.json"):
                raise
        else:
            found.append(folder)
    return found


def require_submissions(store: Store) -> list[SubmissionFolder]:
    """Return the submissions of a store; UserError if there is none."""
    found = submissions(store)
    if not found:
        unread = [path for path in (store.root / "slurm").glob("*/") if path.name != "checks"]
        earlier = " by this version (those of an earlier one cannot be followed)" if unread else ""
        raise UserError(
            f"{store.root}: nothing was submitted from this store{earlier}; give --store DIR as `submit` named it, or "
            "`python -m slurm submit GRID --site NAME`"
        )
    return found


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk, and a folder that may not be written, into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full; free some space, then run the same command") from None
        raise UserError(f"{path}: {error.strerror}; nothing was submitted") from None


def _read(model: type[M], path: Path) -> M:
    try:
        return model.model_validate_json(regular_bytes(path))
    except FileNotFoundError:
        raise UserError(f"{path}: gone, though a submission wrote it; restore it, or delete its folder") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        reason = error.errors()[0]
        at = "".join(f"{key}." for key in reason["loc"]).rstrip(".")
        said = reason["msg"].removeprefix("Value error, ")
        where = f"{path}: {at}: " if at else f"{path}: "
        raise UserError(f"{where}{said}; it was altered, or written by another version") from None
