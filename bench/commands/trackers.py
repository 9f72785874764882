"""Curves of runs for TensorBoard and for Weights & Biases, from the history that each run leaves in its store.

Both are optional extras, off by default. A tracker takes each epoch of each run once: it knows what it was given
before, in an earlier process too, and one process at a time gives it anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from bench.errors import UserError
from bench.plan.records import method_of_run
from bench.spec.run import RunSpec
from bench.store.contents import StoredRun, contents
from bench.store.files import read_json, write_json
from bench.store.lock import RunLock, RunLockedError
from bench.store.records import EpochRecord
from bench.store.store import Store

# What a history says of an epoch, by the name of its curve.
CURVES = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "lr",
    "density": "density",
    "images_per_second": "images_per_second",
}
LOCK = "freetickets.lock"
NOTES = "freetickets.json"


class Tracker(Protocol):
    """Where curves go; a context manager, which ends what it has open."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def last(self, run_id: str, title: str) -> int:
        """Return the last epoch of a run that was given, 0 if none was."""

    def give(self, run: StoredRun, spec: RunSpec, history: Sequence[EpochRecord], after: int, *, ended: bool) -> None:
        """Take the epochs of a history after this one; `ended`: no more will come."""


class Feed:
    """Gives trackers what is new in a store; a run that ended is read no more."""

    def __init__(self, store: Store, trackers: Sequence[Tracker]) -> None:
        self._store, self._trackers = store, trackers
        self._given: dict[tuple[int, str], int] = {}
        self._ended: set[str] = set()

    def send(self) -> list[str]:
        """Send the epochs that are new; return a sentence for each run whose history cannot be read."""
        damage = []
        for run in contents(self._store).runs if self._trackers else ():
            if run.id in self._ended or (spec := run.spec) is None:
                continue
            ended = (run.folder.path / "result.json").exists()
            try:
                history = run.folder.history()
            except UserError as error:
                damage.append(str(error))
                continue
            title = title_of(spec)
            for number, tracker in enumerate(self._trackers):
                key = number, run.id
                if key not in self._given:
                    self._given[key] = tracker.last(run.id, title)
                if history and history[-1].epoch > self._given[key]:
                    tracker.give(run, spec, history, self._given[key], ended=ended)
                    self._given[key] = history[-1].epoch
            if ended:
                self._ended.add(run.id)
        return damage


def title_of(spec: RunSpec) -> str:
    """Return what a run is called there: its method, and its sparsity where it has one."""
    sparsity = "" if spec.topology is None else f" S={round(1 - spec.topology.density, 10):g}"
    return f"{method_of_run(spec)}{sparsity}"


def curves_of(line: EpochRecord) -> Iterator[tuple[str, float]]:
    """Yield the numbers of an epoch that there are, with the names of their curves."""
    for name, field in CURVES.items():
        value = getattr(line, field)
        if value is not None:
            yield name, float(value)


class _OneProcess:
    """The lock of a folder that one process at a time writes to."""

    def __init__(self, option: str, folder: Path) -> None:
        self._option, self.folder, self._held = option, folder, ExitStack()

    def take(self) -> None:
        """UserError if another process has it."""
        try:
            self._held.enter_context(RunLock(self.folder / LOCK))
        except RunLockedError as locked:
            raise UserError(f"{self._option}: another `bench watch` writes there ({locked}); stop it first") from None

    def release(self) -> None:
        """Give the lock back."""
        self._held.close()


class TensorBoard:
    """Event files in FOLDER/METHOD/RUN; what they hold already is read back from them."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as missing:
            raise _lacks("tensorboard", missing) from None
        self._loader, self._event, self._summary, self._writer = RawEventFileLoader, Event, Summary, EventFileWriter
        self._lock = _OneProcess(f"--tensorboard {folder}", folder)
        self._open: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._lock.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._open.values():
            writer.close()
        self._lock.release()

    def last(self, run_id: str, title: str) -> int:
        """Return the step of the last event in the files of a run."""
        steps = [0]
        for path in sorted((self._lock.folder / title / run_id).glob("events.out.tfevents.*")):
            records = list(self._loader(str(path)).Load())  # a last one cut short by a kill is left out
            steps += [self._event.FromString(records[-1]).step] if records else []
        return max(steps)

    def give(self, run: StoredRun, spec: RunSpec, history: Sequence[EpochRecord], after: int, *, ended: bool) -> None:
        """Write an event an epoch, all curves in one, so that a kill leaves no half of it."""
        if run.id not in self._open:
            self._open[run.id] = self._writer(str(self._lock.folder / title_of(spec) / run.id))
        writer, clock = self._open[run.id], _started(run)
        for line in history:
            clock += line.seconds
            if line.epoch > after:
                values = [self._summary.Value(tag=name, simple_value=value) for name, value in curves_of(line)]
                writer.add_event(self._event(wall_time=clock, step=line.epoch, summary=self._summary(value=values)))
        writer.flush()
        if ended:
            self._open.pop(run.id).close()


class Wandb:
    """A run of a project of Weights & Biases for each run; what was sent is noted in wandb/."""

    def __init__(self, project: str, folder: Path = Path("wandb")) -> None:
        try:
            import wandb
        except ImportError as missing:
            raise _lacks("wandb", missing) from None
        self._wandb, self._project = wandb, project
        self._lock = _OneProcess(f"--wandb {project}", folder)
        self._open: dict[str, Any] = {}
        self._notes: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._lock.take()
        if self._noted.exists():
            self._notes = dict(read_json(self._noted))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for run in self._open.values():
            run.finish()
        self._lock.release()

    @property
    def _noted(self) -> Path:
        return self._lock.folder / NOTES

    def last(self, run_id: str, title: str) -> int:
        """Return the last epoch of a run that was sent from here."""
        del title
        return self._notes.get(f"{self._project}/{run_id}", 0)

    def give(self, run: StoredRun, spec: RunSpec, history: Sequence[EpochRecord], after: int, *, ended: bool) -> None:
        """Send the epochs, each as the step of its number; a server that has a later step keeps what it has."""
        if run.id not in self._open:
            self._open[run.id] = self._wandb.init(
                project=self._project,
                id=run.id,
                name=f"{title_of(spec)} {run.id[:8]}",
                group=title_of(spec),
                config=spec.model_dump(mode="json"),
                resume="allow",
                reinit="create_new",
                dir=str(self._lock.folder.parent),
                settings=self._wandb.Settings(console="off", disable_git=True, save_code=False, silent=True),
            )
        begun = self._open[run.id]
        for line in history:
            if line.epoch > after and line.epoch >= begun.step:
                begun.log(dict(curves_of(line)), step=line.epoch)
        self._notes[f"{self._project}/{run.id}"] = history[-1].epoch
        write_json(self._noted, self._notes)
        if ended:
            self._open.pop(run.id).finish()


def _started(run: StoredRun) -> float:
    """Return when work on a run began, in seconds since 1970; 0 if that cannot be read."""
    try:
        sessions = run.folder.sessions()
        return datetime.fromisoformat(sessions[0].started).timestamp() if sessions else 0.0
    except (UserError, ValueError):
        return 0.0


def _lacks(extra: str, missing: ImportError) -> UserError:
    return UserError(
        f"--{extra}: {missing}; install freetickets-bench[{extra}], the extra of that name, or {extra} itself: "
        f"python -m pip install {extra}"
    )
