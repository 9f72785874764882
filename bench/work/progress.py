"""What a person sees while runs train: a bar, or a table of several runs, on a terminal; log lines everywhere else."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bench.spec.run import RunSpec

if TYPE_CHECKING:
    from rich.console import Group

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class RunProgress:
    """Progress of one run; a context manager, since a bar must give the terminal back."""

    def __init__(self, title: str, spec: RunSpec, steps_done: int) -> None:
        self._title = title
        self._epochs = spec.epochs
        self._steps = spec.epochs * spec.steps_per_epoch
        self._steps_done = steps_done
        self._bar: Any = None
        self._last_line = 0.0

    def __enter__(self) -> "RunProgress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.table import Column

            self._bar = Progress(
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=34)),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=self._steps, completed=self._steps_done, note="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self) -> None:
        """Count one optimiser step."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def epoch(self, line: Mapping[str, Any], steps_done: int) -> None:
        """Report an epoch by its history line."""
        note = (
            f"epoch {line['epoch']}/{self._epochs} ({line['phase']}): loss {line['train_loss']:.3f}, "
            f"{_accuracy(line)}, {line['images_per_second']:.0f} images/s"
        )
        if self._bar is not None:
            short = f"{line['epoch']}/{self._epochs} {_accuracy(line).split()[1]}"
            self._bar.update(self._task, completed=steps_done, note=short)
            return
        now = time.monotonic()
        due = now - self._last_line >= SECONDS_BETWEEN_LINES or line["epoch"] == self._epochs
        if due:
            self._last_line = now
        # Every epoch is logged, most at a level that nobody reads but the parent of a worker (bench.work.worker).
        log.log(logging.INFO if due else logging.DEBUG, "%s: %s", self._title, note, extra={"epoch": dict(line)})


class RunState:
    """How far a run is, as its history lines tell."""

    def __init__(self, title: str, epochs: int) -> None:
        self.title = title
        self.epochs = epochs
        self.line: Mapping[str, Any] | None = None
        self._seconds: list[float] = []
        self._heard = 0.0

    def hear(self, line: Mapping[str, Any]) -> None:
        """Note the latest epoch."""
        self.line = line
        self._seconds.append(line["seconds"])
        self._heard = time.monotonic()

    def seconds_left(self) -> float | None:
        """Return the time to the end of training, None before the first epoch."""
        if self.line is None:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        epochs_left = self.epochs - int(self.line["epoch"])
        return max(0.0, epochs_left * mean - (time.monotonic() - self._heard))


class RunsTable:
    """Live table of several runs at once on a terminal, and nothing elsewhere; a context manager, as RunProgress."""

    def __init__(self) -> None:
        self._live: Any = None
        self._moved: list[tuple[logging.StreamHandler[Any], Any]] = []

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return self._live is not None

    def __enter__(self) -> "RunsTable":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            terminal = sys.stderr
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
            # rich puts a stream in place of stderr that writes above the table; the log holds the one of before.
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is terminal:
                    self._moved.append((handler, handler.setStream(sys.stderr)))
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        for handler, stream in self._moved:
            handler.setStream(stream)

    def refresh(self, states: Sequence[RunState], counts: Mapping[str, int]) -> None:
        """Show the runs in progress, and how many there are of each kind."""
        if self._live is not None:
            self._live.update(table_of(states, counts), refresh=True)


def table_of(states: Sequence[RunState], counts: Mapping[str, int]) -> "Group":
    """Return the table of runs in progress, with a line of counts below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("run", no_wrap=True, max_width=34)
    for title in ("epoch", "accuracy", "images/s", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    for state in states:
        line, left = state.line, state.seconds_left()
        cells = [f"-/{state.epochs}", "-", "-", "-"]
        if line is not None and left is not None:
            speed, time_left = f"{line['images_per_second']:.0f}", str(timedelta(seconds=round(left)))
            cells = [f"{line['epoch']}/{state.epochs}", _accuracy(line), speed, time_left]
        table.add_row(Text(state.title), *cells)
    return Group(*[table] * bool(states), Text(", ".join(f"{count} {kind}" for kind, count in counts.items())))


def _accuracy(line: Mapping[str, Any]) -> str:
    """Return the accuracy that a history line knows; without validation images, that on the training images."""
    kind = "training" if line["validation_accuracy"] is None else "validation"
    return f"{kind} {100 * line['train_accuracy' if kind == 'training' else 'validation_accuracy']:.1f}%"
