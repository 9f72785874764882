"""One check: the device first, then the distinct steps of a grid, within about as many minutes as were given."""

import logging
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

from bench.check import agreement, device
from bench.check.asked import Asked, distinct_steps
from bench.check.explain import explain
from bench.check.finding import attempt, reason_of
from bench.check.pipeline import pipeline
from bench.check.ranks import ranks
from bench.check.steps import Measurer, Outcome
from bench.plan.records import Plan
from bench.store.measured import Finding, Measured
from bench.work.provenance import now

# Steps that a measurement takes at least, those of our dense step among them, and what of a chip's speed they reach.
AT_LEAST, SHARE_OF_CHIP = 20, 0.5
# Of steps that are measured however little time there is.
ALWAYS_SECONDS = 30.0

log = logging.getLogger(__name__)


def check(
    plan: Plan | None,
    where: torch.device,
    minutes: float,
    places: Mapping[str, Path] | None = None,
    save: Callable[[Measured], object] = lambda _: None,
) -> Measured:
    """Check a device, and the steps of a plan on it.

    minutes   divided among the distinct steps once the device is checked; one that would take far longer than its
              share is left out, and said to be
    places    where the images of a data set are, of those that are not the data folder's
    save      is given what is known after the device and after each step, so that a check that is killed leaves it
    """
    deadline = time.monotonic() + 60 * minutes
    asked = [] if plan is None else distinct_steps(plan)
    known = _Known(where)
    for name, tried in _device_checks(where, known.tflops, asked):
        log.info("%s", name)
        known.findings.append(attempt(name, tried))
    measurer = Measurer(where)
    for place, one in enumerate(asked):
        save(known.measured())
        log.info("%d of %d: %s", place + 1, len(asked), one.name)
        known.measure(measurer, one, max(0.0, (deadline - time.monotonic()) / (len(asked) - place)), len(asked))
    specs = {} if plan is None else {run.spec.data.name: run.spec for run in plan.runs}
    for name, spec in specs.items():
        taken = [outcome.measured for _, outcome in known.outcomes if outcome.measured.data == name]
        known.findings.append(attempt(f"images of {name}", partial(pipeline, spec, taken, where, places or {})))
    measured = known.measured()
    save(measured)
    return measured


class _Known:
    """What is known of a device so far."""

    def __init__(self, where: torch.device) -> None:
        self.where = where
        self.tflops: dict[str, float] = {}
        self.findings: list[Finding] = []
        self.outcomes: list[tuple[Asked, Outcome]] = []

    def measure(self, measurer: Measurer, one: Asked, seconds: float, steps: int) -> None:
        """Measure one of so many steps in about so many seconds, or find that it cannot be."""
        precision = _precision(one)
        try:
            # Again and again, as other work on the machine may have slowed an earlier product down.
            tflops = device.matrix_tflops(self.where, precision)
            self.tflops[precision] = max(self.tflops.get(precision, 0.0), tflops)
            needed = AT_LEAST * one.flops / (SHARE_OF_CHIP * self.tflops[precision] * 1e12)
            if needed > max(2 * seconds, ALWAYS_SECONDS):
                detail = (
                    f"not measured: {AT_LEAST} steps of about {needed / AT_LEAST:,.1f} s do not fit into its share of "
                    f"the time; --minutes {math.ceil(needed * steps / 60)} would do"
                )
                self.findings.append(Finding(name=one.name, state="not here", detail=detail))
            else:
                self.outcomes.append((one, measurer.measure(one, seconds)))
        except Exception as error:
            self.findings.append(Finding(name=one.name, state="wrong", detail=f"cannot be trained: {reason_of(error)}"))

    def measured(self) -> Measured:
        """Return it as it is stored."""
        explained = (explain(one, outcome, self.tflops.get(_precision(one))) for one, outcome in self.outcomes)
        return Measured(
            taken=now(),
            host=socket.gethostname(),
            device="cuda" if self.where.type == "cuda" else "cpu",
            device_name=device.name_of(self.where),
            facts=device.facts(self.where),
            matrix_tflops=dict(self.tflops),
            findings=(*self.findings, *explained),
            steps=tuple(outcome.measured for _, outcome in self.outcomes),
        )


def _precision(asked: Asked) -> str:
    return asked.spec.execution.precision


def _device_checks(
    where: torch.device, tflops: dict[str, float], asked: list[Asked]
) -> Iterator[tuple[str, Callable[[], Finding]]]:
    """Yield the checks of a device by name; those of precisions leave what a matrix product reaches in `tflops`."""
    if where.type == "cpu" and not torch.cuda.is_available():
        yield "GPU", lambda: Finding(name="GPU", state="not here", detail="torch sees none: nothing of one was tried")
    compiles = any(one.spec.execution.compile for one in asked)

    def precision(name: str) -> Finding:
        tflops[name] = device.matrix_tflops(where, name)
        return device.precision(where, name, tflops)

    for name in device.PRECISIONS:
        yield name, partial(precision, name)
        yield f"network in {name}", partial(agreement.network, where, name)
    yield "channels_last", lambda: device.memory_format(where)
    yield "torch.compile", lambda: device.compilation(where, wanted=compiles)
    yield "deterministic", lambda: agreement.determinism(where)
    yield "mask selection", lambda: agreement.selection(where)
    yield "short run of DST", lambda: agreement.short_run(where)
    yield "corruptions", lambda: agreement.corruptions(where)
    yield "ranks", lambda: ranks(where)
