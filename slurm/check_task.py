"""What `slurm check` runs on a node: whether the site file gives what it promises there, and how fast that is.

Each check is a Finding, as of `bench check`, which follows on the device. The answer is a file in the store, written
anew after every check, so that a job that is killed leaves what it knew.
"""

import logging
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.errors import UserError
from bench.spec.record import Record
from bench.spec.run import DataSpec
from bench.store.files import write_text
from bench.store.lock import RunLock
from bench.store.measured import Finding, Measured
from bench.store.records import read_record
from bench.store.store import Store
from slurm.records import SubmissionFolder

if TYPE_CHECKING:
    from bench.data.loading import ImageLoader

# The variable in which the job's shell says where its scontrol is; empty: nowhere.
SCONTROL = "FREETICKETS_SCONTROL"
PACKAGES = ("torch", "torchvision", "numpy", "safetensors", "pydantic", "submitit")
# What is written and read back to tell a speed, and how many small files, as a lock or a record is.
BYTES, FILES = 64 * 2**20, 50
# Below this a file system delays what works on it: a checkpoint of a large network, ten heartbeats at once.
SLOW_BYTES, SLOW_FILES = 20e6, 10.0


class Asked(Record):
    """check.json: what to check, and what the machine that submits is like.

    grids, scale, data   as of `bench check`; the node reads the grids itself
    root                 where the suite is imported from
    python, versions     of the machine that submits; own_python: whether the site names another one for the node
    """

    schema_version: Literal[1] = 1
    grids: tuple[str, ...]
    scale: str
    minutes: float
    root: str
    python: str
    versions: dict[str, str]
    own_python: bool
    cpus: int | None
    gpus: int


class Answer(Record):
    """answer.json: what is known so far; `progress` is what is being checked, None at the end.

    started   seconds since 1970, by the node's clock, when this file was first written
    measured  what `bench check` found, None if it did not get so far
    """

    schema_version: Literal[1] = 1
    host: str
    started: float
    progress: str | None
    findings: tuple[Finding, ...] = ()
    measured: Measured | None = None

    @property
    def wrong(self) -> bool:
        """Whether anything is."""
        return any(finding.state == "wrong" for finding in self.all_findings)

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """What was found on the node, then on its device."""
        return (*self.findings, *(() if self.measured is None else self.measured.findings))


def versions_here() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on, as this Python finds them."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class CheckTask:
    """The callable that submitit pickles: where the check is written down, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self) -> None:
        """Check, and leave the answer in the folder; its table is also in the job's log."""
        _Check(SubmissionFolder(Path(self.folder))).run()


class _Check:
    def __init__(self, folder: SubmissionFolder) -> None:
        self._folder = folder
        self._store = Store(folder.path.parents[2])
        self._file = folder.path / "answer.json"
        self._answer = Answer(host=socket.gethostname(), started=time.time(), progress="the node")
        write_text(self._file, self._answer.model_dump_json())

    def run(self) -> None:
        from slurm.array_task import log_to_stdout, set_environment

        asked = read_record(Asked, self._folder.path / "check.json", "what a check is to do")
        log_to_stdout()
        try:
            set_environment(self._folder.submission)
        except UserError as refused:
            self._found(Finding(name="scratch", state="wrong", detail=str(refused)))
        from bench.check.finding import attempt

        for name, check in self._checks(asked):
            self._say(name)
            self._found(attempt(name, check))
        self._measure(asked)
        self._write(progress=None)
        self._print()

    def _checks(self, asked: Asked) -> Iterator[tuple[str, Callable[[], Finding]]]:
        submission = self._folder.submission
        yield "python", partial(_python, asked)
        yield "store", partial(_disk, "store", self._folder.path, locks=True)
        if submission.scratch is not None and "TMPDIR" in os.environ:
            yield "scratch", partial(_disk, "scratch", Path(os.environ["TMPDIR"]), locks=False)
        yield "CPU cores", partial(_cores, asked)
        if submission.device == "cuda":
            yield "GPU", partial(_gpus, asked)
        if SCONTROL in os.environ:
            yield "requeue", _requeue

    def _measure(self, asked: Asked) -> None:
        """Check the device, and the steps and images of the grids."""
        from bench.check.finding import NotHereError, attempt, reason_of
        from bench.check.run import check
        from bench.data.cache import default_root
        from bench.data.loading import ImageLoader
        from bench.grid import load_grid
        from bench.plan import make_plan, variants_of
        from bench.store.measured import write_measured
        from bench.work.context import find_device

        submission = self._folder.submission
        data = None if submission.data is None else Path(submission.data)
        progress = _Progress(self._say)
        logging.getLogger("bench.check").addHandler(progress)
        try:
            plans = []
            for path in asked.grids:
                grid = load_grid(Path(path))
                variants = variants_of(grid, asked.scale, self._store, data)
                plans.append(make_plan(grid, asked.scale, self._store, variants))
            for name in dict.fromkeys(run.spec.data.name for plan in plans for run in plan.runs):
                self._found(_images(name, self._store, data))
            if plans and submission.copy_data and "TMPDIR" in os.environ:
                data_specs = dict.fromkeys(run.spec.data for plan in plans for run in plan.runs)
                self._found(attempt("copy_data", partial(_room, tuple(data_specs), ImageLoader(self._store, data))))
            if not plans:
                root = default_root()
                there = "is there" if root.is_dir() else "no such folder on the node"
                detail = f"{root}: {there}; a GRID says which images it needs"
                self._found(Finding(name="data", state="ok" if root.is_dir() else "not here", detail=detail))
            runs = {run.id: run for plan in plans for run in plan.runs}
            plan = replace(plans[0], runs=tuple(runs.values())) if plans else None
            places = {k: Path(r.location) for k, r in self._store.data_records().items() if r.location}

            def save(measured: Measured) -> None:
                write_measured(self._store.root, measured)
                self._write(measured=measured)

            check(plan, find_device(submission.device), asked.minutes, places, save)
        except (UserError, NotHereError, OSError) as refused:
            self._found(Finding(name="measurement", state="wrong", detail=str(refused)))
        except Exception as error:
            self._found(Finding(name="measurement", state="wrong", detail=reason_of(error)))
        finally:
            logging.getLogger("bench.check").removeHandler(progress)

    def _found(self, finding: Finding) -> None:
        self._write(findings=(*self._answer.findings, finding))

    def _say(self, what: str) -> None:
        self._write(progress=what)

    def _write(self, **changes: object) -> None:
        self._answer = self._answer.model_copy(update=changes)
        write_text(self._file, self._answer.model_dump_json())

    def _print(self) -> None:
        from bench.commands.options import make_console
        from slurm.check import print_answer

        print_answer(self._answer, make_console())


class _Progress(logging.Handler):
    """Passes on what `bench check` says it does."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def _python(asked: Asked) -> Finding:
    """Compare interpreter, packages and code with those of the machine that submits."""
    import bench

    root = str(Path(bench.__file__).resolve().parent.parent)
    here = versions_here()
    if root != asked.root:
        detail = f"the suite is imported from {root}, and was submitted from {asked.root}; see setup and python"
        return Finding(name="python", state="wrong", detail=detail)
    other = [
        f"{name} {here.get(name, 'is missing')} ({known} where you submit)"
        for name, known in {**asked.versions, "Python": asked.python}.items()
        if {**here, "Python": platform.python_version()}.get(name) != known
    ]
    missing = [name for name in PACKAGES if name not in here]
    found = f"{sys.executable}, Python {platform.python_version()}, torch {here.get('torch', 'missing')}"
    if missing or (other and not asked.own_python):
        return Finding(name="python", state="wrong", detail=f"{found}: {', '.join(other or missing)}")
    return Finding(name="python", state="ok", detail=f"{found}{': ' if other else ''}{', '.join(other)}")


def _disk(name: str, folder: Path, *, locks: bool) -> Finding:
    """Write and read in a folder, and take a lock in it if the suite does."""
    text, free = folder / f".{name}-{os.getpid()}", shutil.disk_usage(folder).free
    block = os.urandom(2**20)
    try:
        started = time.perf_counter()
        with text.open("wb") as file:
            for _ in range(BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        written = BYTES / (time.perf_counter() - started)
        if text.stat().st_size != BYTES:
            return Finding(name=name, state="wrong", detail=f"{folder}: a file is not as long as what was written")
        started = time.perf_counter()
        for _ in range(FILES):
            if locks:
                with RunLock(folder / ".lock"):
                    pass
            else:
                text.with_suffix(".small").write_text("1")
        made = FILES / (time.perf_counter() - started)
    finally:
        text.unlink(missing_ok=True)
        text.with_suffix(".small").unlink(missing_ok=True)
    what = "locks" if locks else "small files"
    detail = f"{folder}: writes {written / 1e6:,.0f} MB/s, {made:,.0f} {what} a second, {free / 1e9:,.0f} GB free"
    slow = written < SLOW_BYTES or made < SLOW_FILES
    return Finding(name=name, state="slow" if slow else "ok", detail=detail)


def _cores(asked: Asked) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked.cpus is not None and cores < asked.cpus:
        detail = f"found {cores}, and the site asks for {asked.cpus}; training would share them among more threads"
        return Finding(name="CPU cores", state="wrong", detail=detail)
    return Finding(name="CPU cores", state="ok", detail=f"{cores} to run on")


def _gpus(asked: Asked) -> Finding:
    from bench.check.device import facts, name_of
    from bench.work.context import find_device

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    try:
        device = find_device("cuda")
    except UserError:
        count, names = 0, ""
    else:
        count, names = int(facts(device)["GPUs"]), name_of(device)
    if count < asked.gpus:
        detail = f"torch {version('torch')} sees {count}, and the site has {asked.gpus} a process"
        return Finding(name="GPU", state="wrong", detail=f"{detail} (CUDA_VISIBLE_DEVICES {visible})")
    return Finding(name="GPU", state="ok", detail=f"{count} of {names} (CUDA_VISIBLE_DEVICES {visible})")


def _requeue() -> Finding:
    if not os.environ[SCONTROL]:
        detail = "no scontrol on the node: a worker at its time limit ends, and `submit` again continues"
        return Finding(name="requeue", state="not here", detail=detail)
    return Finding(name="requeue", state="ok", detail="scontrol is on the node")


def _images(name: str, store: Store, data: Path | None) -> Finding:
    """Return whether a node has the images of a data set, by names and sizes."""
    from bench.data.cache import default_root
    from bench.data.inventory import inventory

    record = store.data_records().get(name)
    place = data or (None if record is None or record.location is None else Path(record.location))
    if place is not None:
        there = place.exists()
        detail = f"{place}: {'is there' if there else 'not on the node'}"
        return Finding(name=f"data {name}", state="ok" if there else "wrong", detail=detail)
    rows = [row for row in inventory(default_root()) if row.name == name]
    usable = next((row for row in rows if row.state in ("embedded", "ready", "archive only")), None)
    if usable is not None:
        return Finding(name=f"data {name}", state="ok", detail=str(usable.where or usable.state))
    if not rows:
        return Finding(name=f"data {name}", state="not here", detail="a data set of your own: nothing is known of it")
    return Finding(name=f"data {name}", state="wrong", detail=f"not in {default_root().resolve()}. {rows[0].note}")


def _room(data: Sequence[DataSpec], images: "ImageLoader") -> Finding:
    """Return whether the images of runs can be copied to the node's scratch folder."""
    from bench.data.copies import room

    scratch = Path(os.environ["TMPDIR"])
    found = [room(spec.name, images.stored(spec), scratch) for spec in data]
    needed, free = sum(needed for needed, _ in found), min(free for _, free in found)
    detail = f"{scratch}: {needed / 1e6:,.0f} MB to copy, room for {free / 1e6:,.0f} MB"
    if needed > free:
        return Finding(name="copy_data", state="slow", detail=f"{detail}: workers read the rest from where it is")
    return Finding(name="copy_data", state="ok", detail=detail)
