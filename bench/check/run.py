"""One check: the device first, then the distinct steps of a grid, within about as many minutes as were given."""

import logging
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
from bench.store.measured import Finding, Measured, MeasuredStep
from bench.work.provenance import now

log = logging.getLogger(__name__)


def check(plan: Plan | None, where: torch.device, minutes: float, places: Mapping[str, Path] | None = None) -> Measured:
    """Check a device, and the steps of a plan on it; nothing is written.

    minutes   divided among the distinct steps once the device is checked; each takes as few steps as tell something,
              whatever that takes
    places    where the images of a data set are, of those that are not the data folder's
    """
    deadline = time.monotonic() + 60 * minutes
    asked = [] if plan is None else distinct_steps(plan)
    tflops: dict[str, float] = {}
    findings = []
    for name, one in _device_checks(where, tflops, asked):
        log.info("%s", name)
        findings.append(attempt(name, one))
    measured, of_steps = _steps(asked, where, tflops, deadline)
    specs = {} if plan is None else {run.spec.data.name: run.spec for run in plan.runs}
    for name, spec in specs.items():
        taken = [step for step in measured if step.data == name]
        of_steps.append(attempt(f"images of {name}", partial(pipeline, spec, taken, where, places or {})))
    return Measured(
        taken=now(),
        host=socket.gethostname(),
        device="cuda" if where.type == "cuda" else "cpu",
        device_name=device.name_of(where),
        facts=device.facts(where),
        matrix_tflops=tflops,
        findings=(*findings, *of_steps),
        steps=tuple(measured),
    )


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


def _steps(
    asked: list[Asked], where: torch.device, tflops: dict[str, float], deadline: float
) -> tuple[list[MeasuredStep], list[Finding]]:
    measurer = Measurer(where)
    outcomes: list[tuple[Asked, Outcome]] = []
    findings: list[Finding] = []
    for place, one in enumerate(asked):
        log.info("%d of %d: %s", place + 1, len(asked), one.name)
        precision = one.spec.execution.precision
        try:
            # Again and again, as other work on the machine may have slowed an earlier product down.
            tflops[precision] = max(tflops.get(precision, 0.0), device.matrix_tflops(where, precision))
            left = deadline - time.monotonic()
            outcomes.append((one, measurer.measure(one, max(0.0, left / (len(asked) - place)))))
        except Exception as error:
            findings.append(Finding(name=one.name, state="wrong", detail=f"cannot be trained: {reason_of(error)}"))
    findings += [explain(one, outcome, tflops.get(one.spec.execution.precision)) for one, outcome in outcomes]
    return [outcome.measured for _, outcome in outcomes], findings
