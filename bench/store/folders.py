"""The results directory: a contract that other programs read (README, "The store").

A run is done when its result.json says so, and that file is written last. Nothing read back can run code: safetensors,
JSON and YAML only. Torch-free, so that analysis and plans need no accelerator stack.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bench.errors import UserError
from bench.spec.record import Record
from bench.spec.run import MASK_PREFIX, RunSpec
from bench.store.files import atomic_path, read_json, sha256_of, write_json, write_text
from bench.store.lock import is_live

Status = Literal["done", "running", "failed", "damaged", "missing"]
Array = np.ndarray[Any, np.dtype[Any]]

THROUGHPUT = ("model", "execution", "device", "device_name", "images_per_second")


@dataclass(frozen=True)
class DataRecord:
    """The images that a store's runs of one data set saw: variant, where they were, a sentence for tables."""

    variant: str
    location: str | None
    note: str


_DATA_RECORDS = TypeAdapter(dict[str, DataRecord])


class _File(Record):
    bytes: int
    sha256: str


class _Result(BaseModel):
    """The part of result.json on which the store itself relies."""

    status: Literal["done"]
    files: dict[str, _File] = Field(min_length=1)


def _differs(file: Path, recorded: Mapping[str, Any], *, deep: bool) -> bool:
    if not file.is_file() or file.stat().st_size != recorded["bytes"]:
        return True
    return deep and sha256_of(file) != recorded["sha256"]


class RunFolder:
    """One run's folder; see the README for what each file holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- state ---------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the state from what is on disk, without hashing: damaged means a listed file is gone or resized."""
        if (self.path / "result.json").exists():
            return "damaged" if self.damaged_files(deep=False) else "done"
        if is_live(self.path / "lock"):
            return "running"
        return "failed" if (self.path / "error.json").exists() else "missing"

    def damaged_files(self, *, deep: bool) -> list[Path]:
        """Return the files of a finished run that are gone or differ from result.json; `deep` compares SHA-256 too."""
        try:
            files = self.result()["files"]
        except UserError:
            return [self.path / "result.json"]
        return [self.path / name for name, recorded in files.items() if _differs(self.path / name, recorded, deep=deep)]

    # -- reading -------------------------------------------------------------------------------------------------------

    def result(self) -> dict[str, Any]:
        """Return result.json; UserError if the run is not done, or the file was altered into something else."""
        path = self.path / "result.json"
        if not path.exists():
            raise UserError(f"{path}: missing, so the run is not done; `bench run` continues it")
        content = read_json(path)
        try:
            _Result.model_validate(content)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(f"{path}: not the result of a finished run ({reason}); it was altered") from None
        return dict(content)

    def error(self) -> dict[str, Any] | None:
        """Return error.json of a failed run: type, message, traceback tail, host, attempt."""
        path = self.path / "error.json"
        if not path.exists():
            return None
        try:
            content = read_json(path)
        except UserError as damage:
            content = str(damage)
        return content if isinstance(content, dict) else {"type": "unknown", "message": f"{path} was altered"}

    def history(self) -> list[dict[str, Any]]:
        """Return the epochs so far, oldest first; a last line cut short by a kill is left out."""
        path = self.path / "history.jsonl"
        if not path.exists():
            return []
        epochs = []
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                epochs.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return epochs

    def spec(self) -> RunSpec:
        """Return the spec the run was made from."""
        return RunSpec.model_validate_json(json.dumps(yaml.safe_load((self.path / "spec.yaml").read_text("utf-8"))))

    def logits(self, evaluation_set: str) -> tuple[Array, Array]:
        """Return logits float32 [members, images, classes] and labels int64 [images] of a finished run.

        UserError that names the file if it is missing or its SHA-256 is not the recorded one.
        """
        tensors = self._verified(f"logits/{evaluation_set}.safetensors")
        return tensors["logits"].astype(np.float32, copy=False), tensors["labels"].astype(np.int64, copy=False)

    def ticket(self, index: int) -> dict[str, Array]:
        """Return all tensors of ticket `index` of a finished run, masks under "mask/<parameter>"; errors as logits."""
        return self.weights("tickets", index)

    def weights(self, kind: Literal["tickets", "kept"], index: int) -> dict[str, Array]:
        """Return all tensors of a ticket, or of the weights kept early, of a finished run; errors as logits."""
        return self._verified(str(self.tensor_file(kind, index).relative_to(self.path)))

    def tensor_file(self, kind: Literal["tickets", "kept"], index: int) -> Path:
        """Return the file of a ticket, or of weights kept early."""
        return self.path / kind / f"{index}.safetensors"

    def tensors(self, kind: str) -> list[Path]:
        """Return the files of tensors under tickets/, kept/ or logits/."""
        return sorted((self.path / kind).rglob("*.safetensors"))

    def masks(self, index: int) -> dict[str, Array]:
        """Return the boolean masks of ticket `index` by parameter name; empty for a dense ticket."""
        tensors = self.ticket(index)
        return {name.removeprefix(MASK_PREFIX): t for name, t in tensors.items() if name.startswith(MASK_PREFIX)}

    def _verified(self, name: str) -> dict[str, Array]:
        from safetensors.numpy import load

        recorded = self.result()["files"].get(name)
        file = self.path / name
        if recorded is None or not file.is_file():
            raise UserError(f"{file}: missing from the store; train or evaluate the run again with `bench run --retry`")
        if _differs(file, recorded, deep=True):
            raise UserError(
                f"{file}: its SHA-256 is not the one in result.json, so it was truncated or altered; restore it, or "
                "make the run again with `bench run --retry`"
            )
        return dict(load(file.read_bytes()))

    # -- writing (only while holding the run's lock) -------------------------------------------------------------------

    def write_spec(self, spec: RunSpec) -> None:
        """Write the resolved spec; the run id is its hash."""
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)
        write_text(
            self.path / "spec.yaml", f"# the SHA-256 of this spec as canonical JSON begins {spec.run_id}\n{text}"
        )

    def write_history(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Replace the history, as a resumed run does with what its checkpoint knows."""
        write_text(self.path / "history.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in epochs))

    def append_history(self, epoch: Mapping[str, Any]) -> None:
        """Add one epoch."""
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(epoch) + "\n")

    def write_ticket(self, index: int, tensors: Mapping[str, Array], metadata: Mapping[str, object]) -> str:
        """Write weights (and masks, under "mask/<parameter>") of a ticket; metadata go into the header as JSON.

        Returns the SHA-256 of the file.
        """
        # One entry, because safetensors writes several in no fixed order and equal tickets should be equal bytes.
        file = self.tensor_file("tickets", index)
        self._write_tensors(file, tensors, {"ticket": json.dumps(metadata)})
        return sha256_of(file)

    def write_kept(self, index: int, tensors: Mapping[str, Array]) -> str:
        """Write the weights of an early epoch, for runs that start from them; returns the SHA-256 of the file."""
        file = self.tensor_file("kept", index)
        self._write_tensors(file, tensors, None)
        return sha256_of(file)

    def write_logits(self, evaluation_set: str, logits: Array, labels: Array) -> None:
        """Write logits [members, images, classes], members of a ticket side by side, and labels [images]."""
        file = self.path / "logits" / f"{evaluation_set}.safetensors"
        self._write_tensors(file, {"logits": logits, "labels": labels}, None)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json with the checksums of everything else, then remove what only an unfinished run needs."""
        names = ["spec.yaml", "provenance.json", "history.jsonl"]
        for kind in ("tickets", "kept"):
            names += [str(file.relative_to(self.path)) for file in self.tensors(kind)]
        # Of the logits only the run's own: other sets come and go, each with a receipt (bench.store.logits).
        names += [str(file.relative_to(self.path)) for file in sorted((self.path / "logits").glob("*.safetensors"))]
        files = {n: {"bytes": (self.path / n).stat().st_size, "sha256": sha256_of(self.path / n)} for n in names}
        write_json(self.path / "result.json", {"status": "done", **result, "files": files})
        (self.path / "error.json").unlink(missing_ok=True)
        (self.path / "checkpoint.pt").unlink(missing_ok=True)

    @staticmethod
    def _write_tensors(file: Path, tensors: Mapping[str, Array], metadata: dict[str, str] | None) -> None:
        from safetensors.numpy import save_file

        with atomic_path(file) as temporary:
            save_file({key: np.asarray(t, order="C") for key, t in tensors.items()}, temporary, metadata=metadata)


class Store:
    """A results directory; nothing is created until something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run, which need not exist yet."""
        return RunFolder(self.root / "runs" / run_id)

    def blocked_by(self, spec: RunSpec) -> str | None:
        """Return why a run can not start from its parent now, None if it can, has no parent, or has started already."""
        begun = any((self.run(spec.run_id).path / name).exists() for name in ("checkpoint.pt", "result.json"))
        if spec.parent is None or begun:
            return None
        parent = spec.parent.run_id
        folder = self.run(parent)
        match folder.status():
            case "done":
                return None
            case "running":
                return f"its parent {parent} is being trained by another process"
            case "failed":
                error = folder.error() or {}
                return f"its parent {parent} failed ({error.get('type')}: {error.get('message')})"
            case "damaged":
                return f"its parent {parent} is damaged"
            case _:
                return f"its parent {parent} is not trained yet"

    def status(self, spec: RunSpec) -> Status:
        """Return the state of a run; one made from weights that its parent no longer has is damaged."""
        status = self.run(spec.run_id).status()
        return "damaged" if status == "done" and self.is_stale(spec) else status

    def is_stale(self, spec: RunSpec) -> bool:
        """Whether a finished run started from weights that differ from those its finished parent has now."""
        if spec.parent is None:
            return False
        try:
            taken = self.run(spec.run_id).result().get("inherited") or {}
            there = self.run(spec.parent.run_id).result()["files"]
        except UserError:  # one of them is not done, which their states say
            return False
        return any(there.get(name, {}).get("sha256") != checksum for name, checksum in taken.items())

    def data_records(self) -> dict[str, DataRecord]:
        """Return which images this store's runs saw, by data set: a store never mixes two variants of one."""
        path = self.root / "data.json"
        if not path.exists():
            return {}
        try:
            return _DATA_RECORDS.validate_python(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"]))
            reason = f"{at}: {first['msg']}" if at else first["msg"]
            raise UserError(f"{path}: not the images of a store by data set ({reason}); it was altered") from None

    def record_data(self, name: str, record: DataRecord) -> None:
        """Remember the images of a data set; UserError if the store was made from others."""
        records = self.data_records()
        known = records.get(name)
        if known is not None and known.variant != record.variant:
            raise UserError(
                f"{self.root}: its {name} runs were made from {known.variant} images, not {record.variant}; mixing "
                "them would make tables that compare unlike things: give another --store, or --data as before"
            )
        if known != record:
            self.root.mkdir(parents=True, exist_ok=True)
            everything = {key: asdict(value) for key, value in {**records, name: record}.items()}
            write_json(self.root / "data.json", everything)

    def throughputs(self) -> list[dict[str, Any]]:
        """Return model, execution, device and images_per_second of every finished run, for estimates of hours."""
        measured = []
        for path in sorted(self.root.glob("runs/*/result.json")):
            try:
                result = RunFolder(path.parent).result()
                if result.get("processes", 1) > 1:
                    continue  # hours are those of a process alone
                float(result["images_per_second"])
                measured.append({key: result[key] for key in THROUGHPUT})
            except (UserError, KeyError, TypeError, ValueError):  # status() says what is wrong with it
                continue
        return measured


def samples_file(store: Store, dataset: str, family: str) -> Path:
    """Return where one image of a data set under each corruption of a family is kept (bench.evaluation.samples)."""
    return store.root / "samples" / dataset / f"{family}.safetensors"
