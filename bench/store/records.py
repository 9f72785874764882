"""The records of the store, typed: what training leaves (result, history, provenance, failure), what evaluation leaves.

Other programs read these files, so every record has a schema number and refuses unknown fields. `python -m bench schema
store` prints their JSON Schema. A record without a number was written before there were numbers, and is of schema 1.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from bench.errors import UserError
from bench.spec.record import Record
from bench.spec.run import Execution, ModelSpec
from bench.store.files import read_json

R = TypeVar("R", bound=Record)


class StoredFile(Record):
    """Size and SHA-256 of a file, as it was written."""

    bytes: int = Field(ge=0)
    sha256: str


class TicketRecord(Record):
    """One ticket of a run: the epoch (1-based) and phase it was taken from, and its density over layers."""

    index: int = Field(ge=0)
    sha256: str
    epoch: int
    phase: str
    validation_accuracy: float | None
    density: float
    layer_density: dict[str, float] | None = None


class RewindRecord(Record):
    """Weights of an early epoch (1-based), in kept/<index>.safetensors, to which lottery tickets are rewound."""

    index: int = Field(ge=0)
    epoch: int
    sha256: str


class DensityCheck(Record):
    """The density of the network at the end of training, the density asked for, and the number of active weights."""

    density: float
    density_wanted: float
    nonzeros: int | None


class Result(Record):
    """result.json: written last, when all tickets of a run are there; `files` are the files that must stay unchanged.

    Schema 1 also listed logits/test and logits/validation among the files. They count as evaluation records.

    warnings   those of all epochs
    checksum   of this record (checksum_of), so that an altered number is found; None: written before there was one
    """

    schema_version: Literal[1, 2] = 1
    status: Literal["done"]
    run: str
    parent: str | None
    inherited: dict[str, str]
    tickets: tuple[TicketRecord, ...]
    tickets_expected: int
    members_a_ticket: int
    kept: tuple[RewindRecord, ...]
    checks: DensityCheck
    seconds: float
    images_per_second: float
    model: ModelSpec
    execution: Execution
    batch_size: int
    processes: int = 1
    device: str
    device_name: str
    files: dict[str, StoredFile] = Field(min_length=1)
    warnings: tuple[str, ...] = ()
    checksum: str | None = None


class UpdateRecord(Record):
    """One change of the topology: after which step of the run, and how many weights it dropped and grew."""

    kind: str
    step: int
    fraction: float
    dropped: int
    grown: int
    density: float


class EpochRecord(Record):
    """A line of history.jsonl: one epoch (1-based). Losses are in nats, accuracies and densities shares of 1.

    `predictions` are probe predictions: class probabilities on the first validation images (bench.store.probe).

    warnings   what the epoch showed for the first time: the run is at chance, its weights never moved, a layer is empty
    """

    schema_version: Literal[1] = 1
    epoch: int = Field(ge=1)
    phase: str
    lr: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    predictions: str | None = None
    density: float
    seconds: float
    images_per_second: float
    updates: tuple[UpdateRecord, ...]
    warnings: tuple[str, ...] = ()


class GitState(Record):
    """The commit that the code ran from, and whether files differed from it."""

    commit: str
    dirty: bool


class Resumed(Record):
    """Where a session continued: 1-based epoch, and steps done of it."""

    epoch: int
    step: int


class Usage(Record):
    """What a session of training used, as of its last checkpoint or its end; what the machine does not tell is absent.

    seconds        wall-clock, of all its processes together
    delayed        seconds of these in which its first process could have run and had no core, because others had them
    host_bytes     the most memory of its first process at once, without the processes that decode images
    device_bytes   the most memory that torch had on its GPU at once
    joules         of the whole GPU of the first process ("gpu"), and of all processors of its machine ("processors")
    """

    seconds: float = Field(ge=0)
    delayed: float | None = Field(default=None, ge=0)
    host_bytes: int | None = None
    device_bytes: int | None = None
    joules: dict[str, float] = Field(default={})


class Session(Record):
    """One process (or group of processes) at work on a run, for provenance; times are UTC, ISO 8601.

    processor   the instructions that torch's kernels for CPUs use, such as AVX512: bits differ between them
    """

    schema_version: Literal[1] = 1
    started: str
    host: str
    pid: int
    processes: int = 1
    job: str | None
    command: tuple[str, ...]
    git: GitState | None
    python: str
    versions: dict[str, str]
    cuda: str | None
    cudnn: int | None
    device: str
    device_name: str
    cpu_threads: int
    processor: str | None = None
    deterministic: bool
    resumed_from: Resumed | None = None
    ended: str | None = None
    usage: Usage | None = None


class Provenance(Record):
    """provenance.json: every session of work on a run, oldest first."""

    sessions: tuple[Session, ...]


class Failure(Record):
    """error.json: how training failed last; `attempt` counts failures, `rank` is the process that failed first."""

    schema_version: Literal[1] = 1
    status: Literal["failed"] = "failed"
    type: str
    message: str
    traceback: tuple[str, ...] = ()
    host: str = ""
    rank: int | None = None
    attempt: int = 1
    time: str = ""


class EvaluationRecord(Record):
    """One evaluation set of a run or an ensemble, in evaluations.json by the set's name.

    tickets           SHA-256 of each ticket that the logits were made with, by file name
    images            which images these are, in words; None, as the rest, where a result of schema 1 lists the logits
    seconds           of the whole pass, which other runs may share; forward_seconds are those spent in networks
    nonfinite         number of logits that are infinite or no numbers
    checksum          of this record, as in Result
    """

    schema_version: Literal[1] = 1
    bytes: int
    sha256: str
    tickets: dict[str, str]
    images: str | None = None
    count: int | None = Field(default=None, ge=1)
    seconds: float | None = None
    forward_seconds: float | None = None
    device: str | None = None
    nonfinite: int = Field(default=0, ge=0)
    checksum: str | None = None


class Attempts(Record):
    """How often a work item was started, and how many starts in a row found nothing further than the one before."""

    schema_version: Literal[1] = 1
    attempts: int = Field(ge=1)
    without_progress: int = Field(ge=1)
    progress: str


class NotExported(Record):
    """not_exported.json: what `bench export` left out of a run: files of weights, and families of evaluation sets."""

    schema_version: Literal[1] = 1
    files: tuple[Annotated[str, Field(pattern=r"^(tickets|kept)/[0-9]+\.safetensors$")], ...]
    families: tuple[str, ...]


# What `python -m bench schema store` prints, by the file that holds it.
STORE_RECORDS: dict[str, type[Record]] = {
    "result.json": Result,
    "history.jsonl": EpochRecord,
    "provenance.json": Provenance,
    "error.json": Failure,
    "evaluations.json": EvaluationRecord,
    "attempts.json": Attempts,
    "not_exported.json": NotExported,
}

EVALUATIONS: TypeAdapter[dict[str, EvaluationRecord]] = TypeAdapter(dict[str, EvaluationRecord])
ATTEMPTS: TypeAdapter[dict[str, Attempts]] = TypeAdapter(dict[str, Attempts])


def read_record(model: type[R], path: Path, what: str) -> R:
    """Return the record in a file; UserError that says why the file is not `what` ("the result of a finished run")."""
    return parsed(TypeAdapter(model), read_json(path), path, what)


def checksum_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object as canonical JSON, its own `checksum` left out."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


M = TypeVar("M")


def parsed(adapter: TypeAdapter[M], content: Any, path: Path, what: str) -> M:
    """Return content of a file as typed records; UserError, in one sentence, if it is something else."""
    try:
        return adapter.validate_json(json.dumps(content))  # JSON's own types: strict records take lists for tuples
    except ValidationError as error:
        raise UserError(f"{path}: not {what} ({_reason(error, content)}); it was altered") from None


def _reason(error: ValidationError, content: Any) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if where.endswith("schema_version") and isinstance(content, dict):
        return f"{where}: {first['input']!r} is a schema that this version of the suite does not know"
    return f"{where}: {first['msg']}" if where else str(first["msg"])
