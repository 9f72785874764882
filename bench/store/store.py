"""The results directory: runs by their ids, and which images they saw. docs/store.md says what lies in it.

Torch-free, so that analysis and plans need no accelerator stack.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.errors import UserError
from bench.spec.run import RunSpec
from bench.store.files import parsed_yaml, read_json, regular_bytes, write_json
from bench.store.measured import MeasuredStep, read_measured
from bench.store.records import parsed
from bench.store.run_folder import RunFolder, Status

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataRecord:
    """The images that a store's runs of one data set saw: variant, where they were, a sentence for tables."""

    variant: str
    location: str | None
    note: str


_DATA_RECORDS = TypeAdapter(dict[str, DataRecord])


@dataclass(frozen=True)
class Throughput:
    """A measured training speed, for estimates of hours: of a finished run, its validation included, or of a check.

    step   what a check measured, None of a run; it counts for runs of the same images and batch alone
    """

    model: Mapping[str, Any]
    execution: Mapping[str, Any]
    device: str
    device_name: str
    images_per_second: float
    step: MeasuredStep | None = None


class Store:
    """A results directory; nothing is created until something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run, which need not exist yet."""
        return RunFolder(self.root / "runs" / run_id)

    def begun(self) -> set[str]:
        """Return the ids of the runs that have a folder; lists one folder, where a look at each run asks for files."""
        try:
            return {path.name for path in (self.root / "runs").iterdir()}
        except FileNotFoundError:
            return set()

    def status(self, spec: RunSpec) -> Status:
        """Return the state of a run; one made from weights that its parent no longer has is damaged."""
        status = self.run(spec.run_id).status()
        return "damaged" if status == "done" and self.is_stale(spec) else status

    def is_stale(self, spec: RunSpec) -> bool:
        """Whether a finished run started from weights that differ from those its finished parent has now."""
        if spec.parent is None:
            return False
        try:
            taken = self.run(spec.run_id).result().inherited
            present = self.run(spec.parent.run_id).result().files
        except UserError:  # one of them is not done, which their states say
            return False
        return any(name not in present or present[name].sha256 != checksum for name, checksum in taken.items())

    def data_records(self) -> dict[str, DataRecord]:
        """Return which images this store's runs saw, by data set: a store never mixes two variants of one."""
        try:
            return self.written_data_records()
        except UserError as damage:
            log.warning("%s; the specs of the runs say which images they saw", damage)
            return self._data_of_runs()

    def written_data_records(self) -> dict[str, DataRecord]:
        """Return what data.json says of the images; UserError if it cannot be used."""
        path = self.root / "data.json"
        if not path.exists():
            return {}
        return parsed(_DATA_RECORDS, read_json(path), path, "the images of a store by data set")

    def _data_of_runs(self) -> dict[str, DataRecord]:
        """Return the variant of each data set that runs of the store saw; where images were is not known."""
        records = {}
        for path in sorted(self.root.glob("runs/*/spec.yaml")):
            try:
                data = parsed_yaml(regular_bytes(path).decode())["data"]
                records[str(data["name"])] = DataRecord(str(data["variant"]), None, "")
            except (OSError, ValueError, KeyError, TypeError):  # another run says the same
                continue
        return records

    def check_data(self, name: str, record: DataRecord) -> None:
        """Raise UserError if the store was made from other images of a data set."""
        known = self.data_records().get(name)
        if known is not None and known.variant != record.variant:
            raise UserError(
                f"{self.root}: its {name} runs were made from {known.variant} images, not {record.variant}; mixing "
                "them would make tables that compare unlike things: give another --store, or --data as before"
            )

    def record_data(self, name: str, record: DataRecord) -> None:
        """Remember the images of a data set; UserError if the store was made from others."""
        self.check_data(name, record)
        records = self.data_records()
        if records.get(name) != record:
            self.root.mkdir(parents=True, exist_ok=True)
            everything = {key: asdict(value) for key, value in {**records, name: record}.items()}
            write_json(self.root / "data.json", everything)

    def throughputs(self) -> list[Throughput]:
        """Return the measured speed of every finished run that one process trained, and of every step of a check."""
        measured = []
        for path in sorted(self.root.glob("runs/*/result.json")):
            try:
                result = RunFolder(path.parent).result()
            except UserError:  # status() says what is wrong with it
                continue
            if result.processes == 1:
                model, execution = result.model.model_dump(), result.execution.model_dump()
                speed = result.images_per_second
                measured.append(Throughput(model, execution, result.device, result.device_name, speed))
        for checked in read_measured(self.root):
            for step in checked.steps:
                model, execution = step.model.model_dump(), step.execution.model_dump()
                speed, name = step.images_per_second, checked.device_name
                measured.append(Throughput(model, execution, checked.device, name, speed, step))
        return measured
