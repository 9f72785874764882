"""What predicting with finished ensembles cost on a device: latency/DEVICE.json of a store."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from bench.errors import UserError
from bench.spec.record import Record
from bench.store.files import device_file, write_text
from bench.store.records import read_record

FOLDER = "latency"
Way = Literal["one after the other", "stacked"]
# Images of a batch: one, as a service sees them, and as many as fill a device.
ONE, MANY = 1, 256


class PredictionTime(Record):
    """The time of one prediction of a batch: the median over rounds, and the median ratio to the dense network's."""

    batch: int
    way: Way
    seconds: float = Field(gt=0)
    over_dense: float | None


class WeightBytes(Record):
    """Bytes that hold all weights of an ensemble, its unmasked parameters and statistics included, in three forms.

    dense   every weight
    bits    a bit a weight, and the weights that are kept
    csr     compressed sparse rows with 32-bit indices: each kept weight with its column, and the beginning of each row
    """

    dense: int
    bits: int
    csr: int


class SparseLinear(Record):
    """Masked linear layers of the first ticket as sparse matrices: their time over that of dense ones, at a batch."""

    layers: int
    batch: int
    over_dense: float


class EnsembleLatency(Record):
    """An ensemble: the first replicate of a cell, by the ids of its runs and the number of members.

    unstacked     why its networks were not stacked into one call, "" if they were
    two_to_four   whether each four weights in a row of its masked layers keep at most two, as 2:4 kernels need;
                  None: nothing is masked
    linear        None: no masked linear layer, or no sparse product on this device
    """

    cell: str
    runs: tuple[str, ...]
    members: int
    taken: str
    precision: str
    times: tuple[PredictionTime, ...]
    unstacked: str
    weights: WeightBytes
    two_to_four: bool | None
    linear: SparseLinear | None

    def same_ensemble(self, other: "EnsembleLatency") -> bool:
        """Return whether another measurement is of the same ensemble."""
        return (self.runs, self.members) == (other.runs, other.members)

    def fastest(self, batch: int) -> PredictionTime:
        """Return the faster of the ways to predict a batch of ONE or MANY."""
        return min((time for time in self.times if time.batch == batch), key=lambda time: time.seconds)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if {time.batch for time in self.times} != {ONE, MANY}:
            raise ValueError(f"allowed: times of {ONE} and of {MANY} images")
        return self


class Latencies(Record):
    """All ensembles measured on one device; the last measurement of each."""

    schema_version: Literal[1] = 1
    device_name: str
    threads: int
    torch: str
    ensembles: tuple[EnsembleLatency, ...]

    def after(self, earlier: "Latencies") -> "Latencies":
        """Return these, with the ensembles of earlier ones that were not measured again in the same circumstances."""
        if (earlier.device_name, earlier.threads, earlier.torch) != (self.device_name, self.threads, self.torch):
            return self
        kept = [old for old in earlier.ensembles if not any(old.same_ensemble(new) for new in self.ensembles)]
        return self.model_copy(update={"ensembles": (*kept, *self.ensembles)})


def latency_file(root: Path, device_name: str) -> Path:
    """Return the file of a device in a store."""
    return device_file(root / FOLDER, device_name)


def write_latencies(root: Path, latencies: Latencies) -> Path:
    """Write measurements into a store, with earlier ones of the same device, and return the file."""
    path = latency_file(root, latencies.device_name)
    if path.is_file():
        latencies = latencies.after(_read(path))
    write_text(path, latencies.model_dump_json(indent=2) + "\n")
    return path


def read_latencies(root: Path) -> tuple[list[Latencies], list[str]]:
    """Return the measurements in a store, by file, and of files that cannot be read a sentence each."""
    found: list[Latencies] = []
    problems: list[str] = []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            found.append(_read(path))
        except UserError as damaged:
            problems.append(str(damaged))
        except OSError as refused:
            problems.append(f"{path}: {refused.strerror}")
    return found, problems


def _read(path: Path) -> Latencies:
    return read_record(Latencies, path, "measured predictions")
