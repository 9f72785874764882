"""The distinct steps of a grid, measured beside our own dense step of the same network, and watched."""

import ctypes
import gc
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.check.asked import STEPS, Asked, MadeUpImages, step_key
from bench.check.clock import Timed, take_steps, time_parts, time_steps, time_update
from bench.check.evaluation import evaluation
from bench.check.pipeline import images_per_second
from bench.check.watch import Watch, formats_watched, graph_breaks
from bench.data.catalog import facts_of
from bench.evaluation.clock import wait
from bench.spec.run import ResizedCrop, RunSpec
from bench.store.measured import MeasuredStep
from bench.training.trainer import Trainer
from bench.work.meter import Meter

# Of the time that a step may take: the rest is for building it, for its parts, and for evaluation.
TIMED_SHARE, DENSE_SHARE, EVALUATION_SHARE = 0.4, 0.2, 0.15
WATCHED = 2


class _NoWriter:
    """Writes nothing: no phase ends here."""

    def write_ticket(self, *_: Any) -> str:
        raise AssertionError("a phase ended")

    write_rewind_checkpoint = write_ticket


@dataclass(frozen=True)
class Watched:
    """What a step does that it need not, in a few steps: waits, copies of weights, convolutions in another format.

    accumulated   gradients that autograd copies
    breaks        why torch.compile made several graphs of the network, each reason once
    """

    waits: tuple[str, ...]
    copies: tuple[str, ...]
    formats: tuple[str, ...]
    accumulated: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Times:
    """Seconds of a step and of its parts."""

    step: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A step as it is stored, and what explains it: the parts of our dense step, and what was seen while it ran."""

    measured: MeasuredStep
    times: Times
    dense: Times
    watched: Watched


class Measurer:
    """Measures steps on a device; what several of them need is measured once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._dense: dict[str, Times] = {}
        self._peaks: dict[str, int] = {}
        self._evaluated: set[str] = set()

    def measure(self, asked: Asked, seconds: float) -> Outcome:
        """Return the measurements of a step, of about so many seconds."""
        spec, device = asked.spec, self._device
        give_memory_back(device)
        meter = Meter(device)
        images = MadeUpImages(spec, device)
        trainer = make_trainer(spec, images, device)
        with graph_breaks(compiled=spec.execution.compile) as breaks:
            timed = time_steps(trainer, TIMED_SHARE * seconds)
        times = Times(timed.step, time_parts(trainer))
        update = self._update(trainer, spec)
        trainer.snapshot()  # as of the best epoch: a run holds one
        evaluated = self._evaluation(trainer, EVALUATION_SHARE * seconds)
        usage = meter.usage()
        decoded = isinstance(spec.augmentation, ResizedCrop)  # then what is on the device says nothing
        rate = None if decoded else images_per_second(images, spec.batch_size, device)
        del trainer
        dense = self._dense_times(asked, times, DENSE_SHARE * seconds)
        measured = MeasuredStep(
            data=spec.data.name,
            image_size=facts_of(spec.data).image_size,
            method=asked.method,
            model=spec.model,
            execution=spec.execution,
            batch_size=spec.batch_size,
            images_per_second=spec.batch_size / timed.step,
            seconds=timed.step,
            steps=timed.steps,
            over_dense=timed.step / dense.step,
            update_over_step=None if update is None else update / timed.step,
            tflops=asked.flops / timed.step / 1e12,
            parts=shares(times.parts),
            input_images_per_second=rate,
            evaluated_per_second=evaluated[0] if evaluated else None,
            over_forward=evaluated[1] if evaluated else None,
            host_bytes=usage.host_bytes,
            device_bytes=self._peak(asked, usage.device_bytes),
            compile_seconds=_compile_seconds(timed) if spec.execution.compile else None,
        )
        return Outcome(measured, times, dense, replace(watched(spec, device), breaks=tuple(breaks)))

    def _peak(self, asked: Asked, device_bytes: int | None) -> int | None:
        """Return the most memory of a GPU that a run with this step has, if it is a process of its own.

        Such a run tries algorithms for its convolutions, in memory beside its own. Here a step of the same convolutions
        may have done that before.
        """
        if device_bytes is None:
            return None
        key = step_key(asked.dense)
        self._peaks[key] = max(device_bytes, self._peaks.get(key, 0))
        return self._peaks[key]

    def _update(self, trainer: Trainer, spec: RunSpec) -> float | None:
        """Return the seconds of an update of the masks, None where no phase updates them."""
        phase = spec.phases[0]
        if phase.rewire is not None:
            return time_update(trainer, phase.rewire.every)
        if phase.pruning is not None:
            return _seconds(lambda: trainer.masking.prune(1, 0.5), self._device)
        return None

    def _evaluation(self, trainer: Trainer, seconds: float) -> tuple[float, float | None] | None:
        """Return what bench.check.evaluation does of a network, once of each."""
        spec = trainer.spec
        key = repr((spec.data.name, spec.model, spec.execution))
        if key in self._evaluated:
            return None
        self._evaluated.add(key)
        return evaluation(trainer, seconds)

    def _dense_times(self, asked: Asked, times: Times, seconds: float) -> Times:
        key = step_key(asked.dense)
        if asked.spec.topology is None and asked.spec.model.ensemble is None:
            self._dense.setdefault(key, times)
        if key not in self._dense:
            give_memory_back(self._device)
            trainer = make_trainer(asked.dense, MadeUpImages(asked.dense, self._device), self._device)
            step = time_steps(trainer, seconds).step
            self._dense[key] = Times(step, time_parts(trainer))
        return self._dense[key]


def make_trainer(spec: RunSpec, images: MadeUpImages, device: torch.device) -> Trainer:
    """Return a trainer that leaves nothing behind."""
    return Trainer(spec, images, None, device, _NoWriter(), classes=facts_of(spec.data).classes)


def watched(spec: RunSpec, device: torch.device) -> Watched:
    """Return what a few steps do that they need not; compiled or not, the loop around the network is the same.

    They are steps between two updates of the masks, which may wait and copy, even where a run has none of those.
    """
    (phase,) = spec.phases
    if phase.rewire is not None:
        phase = phase.model_copy(update={"rewire": phase.rewire.model_copy(update={"every": STEPS})})
    execution = spec.execution.model_copy(update={"compile": False})
    spec = spec.model_copy(update={"execution": execution, "phases": (phase,)})
    trainer = make_trainer(spec, MadeUpImages(spec, device), device)
    masked = trainer.masking.sparse.weights.values() if trainer.masking.sparse else trainer.model.parameters()
    watch = Watch({tuple(weight.shape) for weight in masked if weight.ndim > 1})
    with formats_watched(trainer.model) as formats, ExitStack() as watching:
        began = False

        def begin() -> None:
            nonlocal began
            if not began:  # before this an epoch began: what it draws and reads is no step's
                began = True
                formats.clear()
                watching.enter_context(watch)

        take_steps(trainer, WATCHED, begin)
    return Watched(
        waits=tuple(watch.waits),
        copies=tuple(watch.copies),
        accumulated=tuple(watch.accumulated),
        formats=tuple(formats) if spec.execution.channels_last else (),
    )


def shares(seconds: dict[str, float]) -> dict[str, float]:
    """Return what parts have of their sum."""
    total = sum(seconds.values())
    return {part: value / total for part, value in seconds.items()} if total > 0 else {}


def give_memory_back(device: torch.device) -> None:
    """Give the system what is free, so that the next peak is of what comes next."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)


def _compile_seconds(timed: Timed) -> float:
    """Return how much longer the first step took than a later one: its graphs were made."""
    return max(0.0, timed.warm_up[0] - timed.step)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started
