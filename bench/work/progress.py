"""What a person sees while a run trains: a bar on a terminal, log lines everywhere else."""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.spec.run import RunSpec

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class RunProgress:
    """Progress of one run; a context manager, since a bar must give the terminal back."""

    def __init__(self, title: str, spec: RunSpec, steps_done: int, *, bars: bool = True) -> None:
        self._title, self._bars = title, bars
        self._epochs = spec.epochs
        self._steps = spec.epochs * spec.steps_per_epoch
        self._steps_done = steps_done
        self._bar: Any = None
        self._last_line = 0.0
        self._last_note = ""

    def __enter__(self) -> "RunProgress":
        if self._bars and sys.stderr.isatty():
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
            if self._last_note:  # the bar is gone, and what it said last is not
                log.info("%s: %s", self._title, self._last_note)

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
            short = f"epoch {line['epoch']}/{self._epochs}, {_accuracy(line)}"
            self._bar.update(self._task, completed=steps_done, note=short)
            self._last_note = note
            return
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES or line["epoch"] == self._epochs:
            self._last_line = now
            log.info("%s: %s", self._title, note)


def _accuracy(line: Mapping[str, Any]) -> str:
    """Return the accuracy that a history line knows; without validation images, that on the training images."""
    kind = "training" if line["validation_accuracy"] is None else "validation"
    return f"{kind} {100 * line['train_accuracy' if kind == 'training' else 'validation_accuracy']:.1f}%"
