"""A site file: what a cluster is called, allows and needs, checked as a grid is before anything is submitted."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from bench.errors import UserError, did_you_mean, without_controls
from bench.grid.text import parse_yaml, read_text
from bench.spec.messages import key_path, validated
from bench.spec.record import Record
from slurm.options import CPUS, GPUS, MEMORY, asking, line, problems

SITES = Path(__file__).with_name("sites")
# submitit takes every interruption of a job of 10 minutes or less for a timeout (its issue 1656).
SHORTEST_MINUTES = 15
SIGNAL_SECONDS = (30, 300)
LEAST_GB = 2
MOST_DAYS = 1_000
MOST_TB = 1_000
# Memory as estimated for the largest run.
AUTO: Literal["auto"] = "auto"

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_MEGABYTES = {"MB": 1, "GB": 1024, "TB": 1024**2}
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
# What YAML 1.1 reads as a number to the base 60, where a site has a length of time.
_CLOCK = re.compile(r"^ *(walltime|signal) *: *([1-9]\d{0,8}(?::[0-5]?\d){1,3}) *(?:#.*)?$", re.MULTILINE)


def _with_unit(value: object, units: dict[str, int], examples: str) -> str:
    if isinstance(value, str) and _parts(value, units) is not None:
        return value
    bare = not isinstance(value, bool) and isinstance(value, int | float)
    reason = "a number without a unit can be misread; " if bare else ""
    raise ValueError(f"{reason}allowed: a whole number with its unit ({', '.join(units)}), such as {examples}")


def _parts(text: str, units: dict[str, int]) -> int | None:
    """Return a text such as 90min in the smallest of the units, None if it is none."""
    match = re.fullmatch(rf"(\d{{1,9}}) ?({'|'.join(units)})", text, re.ASCII)
    return None if match is None else int(match[1]) * units[match[2]]


def _pattern(units: dict[str, int], *words: str) -> WithJsonSchema:
    """Return the JSON Schema of a text such as 90min, or one of these words."""
    texts = "|".join((rf"[0-9]{{1,9}} ?({'|'.join(units)})", *words))
    return WithJsonSchema({"type": "string", "pattern": f"^({texts})$"})


def _duration(value: object) -> str:
    return _with_unit(value, _SECONDS, "90min, 24h or 2d")


def _memory(value: object) -> str:
    return value if value == AUTO else _with_unit(value, _MEGABYTES, f"16GB; or {AUTO}, or null")


def _size_text(value: object) -> str:
    return _with_unit(value, _MEGABYTES, "80GB")


def expanded(text: str) -> Path:
    """Return a path with ~ and $VARIABLES replaced; ValueError that says which is not to be had here."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"${name} is not set here")
        return os.environ[name]

    path = Path(_VARIABLE.sub(value, text))
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no user {path.parts[0].removeprefix('~')!r} here") from None


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("allowed: a path")
    return expanded(without_controls(value))


def _word(text: str) -> str:
    if re.search(r"\s", text):
        raise ValueError("allowed: text without blanks")
    return line(text)


Line = Annotated[str, AfterValidator(line), Field(max_length=4_000, json_schema_extra={"pattern": r"^[^\s-]"})]
Word = Annotated[str, AfterValidator(_word), Field(max_length=250, json_schema_extra={"pattern": r"^[^\s-]\S*$"})]
Duration = Annotated[str, BeforeValidator(_duration), _pattern(_SECONDS)]
Memory = Annotated[str, BeforeValidator(_memory), _pattern(_MEGABYTES, AUTO)]
Size = Annotated[str, BeforeValidator(_size_text), _pattern(_MEGABYTES)]
PathText = Annotated[Path, BeforeValidator(_path)]


class Mail(Record):
    """Whom SLURM writes to, and of which events: BEGIN, END, FAIL, REQUEUE, ALL."""

    user: Word
    events: list[Literal["BEGIN", "END", "FAIL", "REQUEUE", "ALL"]] = Field(default=["END", "FAIL"], min_length=1)


class Site(Record):
    """The keys of a site file. A worker is a task of a job array: it takes what work it finds in the store.

    scheduler       "slurm", or "local": processes on this machine, by submitit's local executor
    partition, account, qos, constraint   as sbatch takes them; null leaves them to the cluster
    gpus            GPUs of a process, 0 for none; 1 unless given, 0 of a local site. null asks for none where nodes
                    have one all the same
    gpu_type        which GPUs, by the cluster's name for them; null takes any
    gpu_memory      of a GPU, in MB, GB or TB: runs whose steps `bench check` measured to need more are left to other
                    sites; null leaves none
    device          where to train: cuda, unless a process has no GPUs
    cpus            CPU cores of a process; null leaves them to the cluster
    memory          of a process: auto, what the largest run needs by estimate; or the most of that, in MB, GB or TB (1
                    GB is 1024 MB, as SLURM counts); null leaves it to the cluster
    walltime        of every worker, in min, h or d; a run that takes longer is continued after a requeue
    max_jobs        the most workers: 64 unless given, 1 of a local site
    requeue         whether a worker that is preempted, killed or out of time goes back to the queue
    processes       processes that train one run together
    nodes           nodes over which these are divided
    signal          how long before its end a worker is asked to write its checkpoint
    tflops          speed in TFLOP/s to assume of a device where the store has measured none; null: 20 of a GPU, 0.1 of
                    a CPU
    store           the results directory; null: results/ where the command runs
    data            the data folder, $FREETICKETS_DATA of the workers; null leaves that as it is
    scratch         folder on the node for temporary files and compile caches, whose $VARIABLES are those of the node
    copy_data       whether the images that workers train on are copied to scratch, once a node, and read from there
    setup           commands of shell that run on the node before Python; each has to succeed
    python          command that starts Python on the node; null: the interpreter that submits
    mail            whom to write to
    sbatch          further options of sbatch by their long names; true for an option without a value. One that asks for
                    memory, cores or GPUs takes the place of memory, of cpus, or of how gpus asks

    In store and data, $VARIABLES are replaced as the file is read.
    """

    scheduler: Literal["slurm", "local"] = "slurm"
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    gpus: int | None = Field(default=1, ge=0, le=1_000)
    gpu_type: Word | None = None
    gpu_memory: Size | None = None
    device: Literal["cpu", "cuda"] = "cuda"
    cpus: int | None = Field(default=4, ge=1, le=100_000)
    memory: Memory | None = AUTO
    walltime: Duration = "24h"
    max_jobs: int = Field(default=64, ge=1, le=100_000)
    requeue: bool = True
    processes: int = Field(default=1, ge=1, le=10_000)
    nodes: int = Field(default=1, ge=1, le=10_000)
    signal: Duration = "2min"
    tflops: float | None = Field(default=None, gt=0, le=1_000_000_000)
    store: PathText | None = None
    data: PathText | None = None
    scratch: Line | None = None
    copy_data: bool = False
    setup: list[Line] = Field(default=[], max_length=1_000)
    python: Line | None = None
    mail: Mail | None = None
    sbatch: dict[str, Any] = Field(default={}, max_length=100)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("scheduler") == "local":
            values = {"gpus": 0, "max_jobs": 1, **values}
        if isinstance(values, dict) and values.get("gpus") == 0:
            values = {"device": "cpu", **values}
        if isinstance(values, dict) and isinstance(options := values.get("sbatch"), dict):
            replaced = {"memory": MEMORY, "cpus": CPUS}
            values = {**{key: None for key, names in replaced.items() if asking(options, names)}, **values}
        return values

    @field_validator("walltime")
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if _size(value, _SECONDS) < SHORTEST_MINUTES * 60:
            raise ValueError(
                f"allowed: at least {SHORTEST_MINUTES}min, since submitit takes every interruption of a job of 10 "
                "minutes or less for a timeout"
            )
        return value

    @field_validator("signal")
    @classmethod
    def _in_time(cls, value: str) -> str:
        least, most = SIGNAL_SECONDS
        if not least <= _size(value, _SECONDS) <= most:
            raise ValueError(
                f"allowed: {least}s, the time that a checkpoint may take, to {most // 60}min, since the "
                f"shortest walltime is {SHORTEST_MINUTES}min"
            )
        return value

    @field_validator("memory")
    @classmethod
    def _large_enough(cls, value: str | None) -> str | None:
        if value not in (None, AUTO) and _size(value, _MEGABYTES) < LEAST_GB * 1024:
            raise ValueError(f"allowed: at least {LEAST_GB}GB, since Python and torch alone take about 1GB")
        return value

    @field_validator("walltime", "memory", "gpu_memory")
    @classmethod
    def _not_too_large(cls, value: str | None) -> str | None:
        if value is not None and (_parts(value, _SECONDS) or 0) > MOST_DAYS * 86400:
            raise ValueError(f"allowed: at most {MOST_DAYS}d")
        if value is not None and (_parts(value, _MEGABYTES) or 0) > MOST_TB * 1024**2:
            raise ValueError(f"allowed: at most {MOST_TB}TB")
        return value

    @property
    def processes_on_node(self) -> int:
        """How many processes of a run share a node."""
        return self.processes // self.nodes

    @property
    def gpus_of_process(self) -> int:
        """The GPUs that a process has, however they are asked for."""
        return int(self.device == "cuda") if self.gpus is None else self.gpus

    @property
    def cpus_of_process(self) -> int | None:
        """The cores that a process has, by key or by option; None where the cluster decides."""
        by_option = self.sbatch.get("cpus-per-task")
        return by_option if self.cpus is None and isinstance(by_option, int) else self.cpus

    @property
    def gpus_by_key(self) -> int:
        """The GPUs to ask for by the keys gpus and gpu_type; 0 where an option of sbatch asks, or nothing does."""
        return 0 if self.gpus is None or asking(self.sbatch, GPUS) else self.gpus

    @property
    def walltime_minutes(self) -> int:
        """The walltime of every worker."""
        return _size(self.walltime, _SECONDS) // 60

    @property
    def memory_cap_gb(self) -> int | None:
        """The most memory to ask for a process, in whole GB of 1024 MB; None: no cap."""
        return None if self.memory in (None, AUTO) else _size(str(self.memory), _MEGABYTES) // 1024

    @property
    def gpu_memory_gb(self) -> float | None:
        """The memory of a GPU, in GB of 1024 MB; None where the site does not tell."""
        return None if self.gpu_memory is None else _size(self.gpu_memory, _MEGABYTES) / 1024

    @property
    def signal_seconds(self) -> int:
        """How long before its end a task is asked to write its checkpoint."""
        return _size(self.signal, _SECONDS)


def _size(text: str, units: dict[str, int]) -> int:
    size = _parts(text, units)
    if size is None:
        raise ValueError(f"{text!r} has no unit")
    return size


def load_site(name: str) -> Site:
    """Return the site of a file, or of slurm/sites/NAME.yaml by NAME alone; UserError, a line a mistake."""
    path = _find(name)
    content = _read(path)
    try:
        if content is None:
            raise UserError(f"an empty file; {SITES.name}/example.yaml is one to copy and edit")
        site = validated(Site, content, lambda *keys: key_path(*keys) or "the site")
        if found := list(problems(site)):
            raise UserError("\n".join(found))
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None
    return site


def site_path(name: str) -> str:
    """Return the absolute path of a site by its name or file; UserError if there is none."""
    return str(_find(name).resolve())


def _find(name: str) -> Path:
    named = Path(name).name == name and not name.endswith((".yaml", ".yml"))
    path = SITES / f"{name}.yaml" if named else Path(name)
    if path.is_file():
        return path
    known = sorted(site.stem for site in SITES.glob("*.yaml"))
    if named:
        raise UserError(f"--site {name}: no such site{did_you_mean(name, known)}, or the path of a site file (*.yaml)")
    raise UserError(f"--site {name}: no such file; allowed: the path of a site file, or one of {', '.join(known)}")


def _read(path: Path) -> Any:
    """Return the content of a site file; UserError that begins with the file."""
    content = read_text(path, "site file")
    for key, text in _CLOCK.findall(content):
        number = 0
        for digits in text.split(":"):
            number = number * 60 + int(digits)
        raise UserError(
            f"{path}: {key}: YAML reads {text} as the number {number}; write a whole number with its unit "
            f"({', '.join(_SECONDS)}), such as 90min, 24h or 2d"
        )
    return parse_yaml(content, path)
