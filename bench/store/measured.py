"""What `bench check` found and measured on a device: measured/DEVICE.json, one file a device.

Plans take hours from it, and SLURM requests memory, wherever no finished run says better.
"""

from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.errors import UserError
from bench.spec.record import Record
from bench.spec.run import Execution, ModelSpec
from bench.store.files import device_file, write_text
from bench.store.records import read_record

# Worst first, as they are shown: needs a change, costs time, could not be tried on this machine, works.
FindingState = Literal["wrong", "slow", "not here", "ok"]


class Finding(Record):
    """What one check came to; `detail` says what was found, and what to do where something is."""

    name: str
    state: FindingState
    detail: str = ""


class MeasuredStep(Record):
    """The training step of one network and method, and what its process needed.

    method                   as a plan says
    images_per_second        of training alone, without validation
    seconds                  of a step, the median
    steps                    how many were timed
    over_dense               the step over our own dense step of the same network on as many inputs
    update_over_step         an update of the masks over a step, None where the method has none
    tflops                   dense FLOPs of a step over its time, in 1e12 a second
    parts                    shares of a step by part: input, forward, backward, optimiser, masks
    input_images_per_second  of the images alone
    evaluated_per_second     images a second of an evaluation; over_forward: over its bare forward passes
    host_bytes               the most memory of the process at once, beside the images of a run
    device_bytes             the most memory that torch had on its GPU at once
    """

    data: str
    image_size: int
    method: str
    model: ModelSpec
    execution: Execution
    batch_size: int
    images_per_second: float = Field(gt=0)
    seconds: float = Field(gt=0)
    steps: int = Field(ge=1)
    over_dense: float | None = None
    update_over_step: float | None = None
    tflops: float
    parts: dict[str, float] = Field(default={})
    input_images_per_second: float | None = None
    evaluated_per_second: float | None = None
    over_forward: float | None = None
    host_bytes: int | None = None
    device_bytes: int | None = None
    compile_seconds: float | None = None

    def same_step(self, other: "MeasuredStep") -> bool:
        """Return whether another measurement is of the same step."""
        return self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        return self.data, self.image_size, self.method, self.model, self.execution, self.batch_size


class Measured(Record):
    """measured/DEVICE.json: the last check of a device, and the last measurement of every step on it.

    facts           what the machine says of itself, in words
    matrix_tflops   what a large matrix product reached, in 1e12 FLOPs a second, by precision
    """

    schema_version: Literal[1] = 1
    taken: str
    host: str
    device: Literal["cpu", "cuda"]
    device_name: str
    facts: dict[str, str]
    matrix_tflops: dict[str, float] = Field(default={})
    findings: tuple[Finding, ...] = ()
    steps: tuple[MeasuredStep, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether anything is."""
        return any(finding.state == "wrong" for finding in self.findings)

    def after(self, earlier: "Measured") -> "Measured":
        """Return this check, with the steps of an earlier one that it did not measure again."""
        kept = [step for step in earlier.steps if not any(step.same_step(new) for new in self.steps)]
        return self.model_copy(update={"steps": (*self.steps, *kept)})


def measured_file(root: Path, device_name: str) -> Path:
    """Return the file of a device in a store."""
    return device_file(root / "measured", device_name)


def write_measured(root: Path, measured: Measured) -> Path:
    """Write a check into a store, over that of the same device, and return its file."""
    path = measured_file(root, measured.device_name)
    with suppress(UserError):  # none, or one that was altered: this one takes its place
        measured = measured.after(_read(path))
    write_text(path, measured.model_dump_json(indent=2) + "\n")
    return path


def read_measured(root: Path) -> list[Measured]:
    """Return the checks in a store, by file; one that cannot be read counts as none."""
    found = []
    for path in sorted((root / "measured").glob("*.json")):
        with suppress(UserError):
            found.append(_read(path))
    return found


def _read(path: Path) -> Measured:
    return read_record(Measured, path, "a check of a device")
