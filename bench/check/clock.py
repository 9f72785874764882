"""Steps of the trainer's own loop, timed from outside: as they run, and part by part with the device waited for."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.evaluation.clock import wait
from bench.training.trainer import Trainer

PARTS = ("input", "forward", "backward", "optimiser", "masks")
# Steps before the clock starts: libraries choose their algorithms, memory is got, a graph is compiled. Of steps that
# take long, as many as WARM_UP_SHARE of the time allows, which is one at least.
WARM_UP, WARM_UP_SHARE = 3, 0.3
LEAST, MOST = 2, 1_000
# Of steps whose parts are timed.
FEW = 3
# On a GPU the clock is read after so many steps, so that the host can run ahead as it does in a run.
GPU_STEPS = 10


class _EnoughError(Exception):
    """Ends an epoch where enough of it was seen."""


@dataclass
class Timed:
    """Seconds of steps, each a mean of `together` in a row; those before the clock started are in `warm_up`."""

    together: int
    seconds: list[float] = field(default_factory=list)
    warm_up: list[float] = field(default_factory=list)

    @property
    def step(self) -> float:
        """Seconds of a step, the median."""
        return median(self.seconds)

    @property
    def steps(self) -> int:
        """How many steps were timed."""
        return self.together * len(self.seconds)


def time_steps(trainer: Trainer, seconds: float) -> Timed:
    """Return the time of steps as a run takes them, of as many as fit into some seconds but LEAST at least."""
    timed = Timed(GPU_STEPS if trainer.device.type == "cuda" else 1)
    started = last = time.perf_counter()
    warm, since = False, 0

    def between_steps() -> None:
        nonlocal last, warm, since
        _no_update_next(trainer)
        since += 1
        if warm and since < timed.together:
            return
        wait(trainer.device)
        now = time.perf_counter()
        if warm:
            timed.seconds.append((now - last) / timed.together)
            if (now - started > seconds and len(timed.seconds) >= LEAST) or timed.steps >= MOST:
                raise _EnoughError
        else:
            timed.warm_up.append(now - last)
            warm = len(timed.warm_up) == WARM_UP or now - started > WARM_UP_SHARE * seconds
        last, since = time.perf_counter(), 0

    _train(trainer, between_steps)
    return timed


def time_parts(trainer: Trainer, steps: int = FEW) -> dict[str, float]:
    """Return the seconds of each part of a step, the median of some; the device is waited for between parts."""
    with _parts_timed(trainer) as parts:
        take_steps(trainer, steps, parts.begin)
    return {part: median(step[part] for step in parts.steps) for part in PARTS}


def time_update(trainer: Trainer, every: int) -> float:
    """Return the seconds of an update of the masks by the rule of the phase, the optimiser's not among them."""

    def begin() -> None:
        trainer.at.steps = every - 1
        parts.begin()

    with _parts_timed(trainer) as parts:
        take_steps(trainer, 2, begin)
    return parts.steps[-1]["masks"]


def take_steps(trainer: Trainer, steps: int, before_each: Callable[[], None]) -> None:
    """Take some steps after one in which an epoch begins, which is not asked about."""
    done = -1

    def between_steps() -> None:
        nonlocal done
        done += 1
        if done == steps:
            raise _EnoughError
        _no_update_next(trainer)
        before_each()

    _train(trainer, between_steps)


def _train(trainer: Trainer, between_steps: Callable[[], None]) -> None:
    trainer.at.step = 0  # the epoch never ends
    _no_update_next(trainer)
    try:
        while True:
            trainer.train_epoch(between_steps)
    except _EnoughError:
        wait(trainer.device)


def _no_update_next(trainer: Trainer) -> None:
    trainer.at.steps = 0


class _Parts:
    """Seconds of each part of each step that was begun."""

    def __init__(self, device: torch.device) -> None:
        self.steps: list[defaultdict[str, float]] = []
        self._device = device
        self._last = 0.0

    def begin(self) -> None:
        """Begin a step."""
        wait(self._device)
        self.steps.append(defaultdict(float))
        self._last = time.perf_counter()

    def end(self, part: str) -> None:
        """End a part of the step, or a piece of it; nothing before the first step."""
        if self.steps:
            wait(self._device)
            now = time.perf_counter()
            self.steps[-1][part] += now - self._last
            self._last = now


@contextmanager
def _parts_timed(trainer: Trainer) -> Iterator[_Parts]:
    parts = _Parts(trainer.device)
    forward, move = trainer._training_forward, trainer.masking.move

    def timed_forward(images: Tensor) -> Tensor:
        parts.end("input")
        logits = forward(images)
        parts.end("forward")
        return logits

    def timed_move(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        parts.end("backward")
        changes = move(*args, **kwargs)
        parts.end("masks")
        return changes

    optimizer = trainer._optimizer.torch
    # Masks are at work before the optimiser's step, where they mask gradients, and after it.
    hooks = (
        optimizer.register_step_pre_hook(lambda *_: parts.end("masks")),
        optimizer.register_step_post_hook(lambda *_: parts.end("optimiser")),
    )
    trainer._training_forward = timed_forward
    vars(trainer.masking)["move"] = timed_move
    try:
        yield parts
    finally:
        trainer._training_forward = forward
        del vars(trainer.masking)["move"]
        for hook in hooks:
            hook.remove()
