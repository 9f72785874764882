"""The folder of one run: a contract that other programs read (docs/store.md).

A run is done when its result.json says so, and that file is written last. Nothing read back can run code: safetensors,
JSON and YAML only. Torch-free, so that analysis and plans need no accelerator stack.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from bench.errors import UserError
from bench.spec.run import MASK_PREFIX, RunSpec
from bench.store.files import atomic_path, discard, read_json, regular_bytes, sha256_of, size_of, write_json, write_text
from bench.store.lock import is_live
from bench.store.records import (
    EpochRecord,
    Failure,
    NotExported,
    Provenance,
    Result,
    Session,
    StoredFile,
    checksum_of,
    parsed,
    read_record,
)

# What training leaves of a run; whether it may start is more than that (bench.work.readiness).
Status = Literal["done", "running", "failed", "damaged", "missing"]
Array = np.ndarray[Any, np.dtype[Any]]
RESULT_SCHEMA: Literal[2] = 2
# The result of a run that is trained again, kept until there is a new one.
REPLACED_RESULT = "result.json.replaced"
NOT_EXPORTED = "not_exported.json"
# What a user can do whose run came without its weights.
NO_WEIGHTS = (
    "weights were not exported with the run; import an archive made with --weights into a new store, or delete the "
    f"folders of runs that hold {NOT_EXPORTED}, and `bench run` trains them again"
)


def _differs(file: Path, recorded: StoredFile, *, deep: bool) -> bool:
    try:
        if size_of(file) != recorded.bytes:
            return True
        return deep and sha256_of(file) != recorded.sha256
    except OSError:  # what cannot be read is as good as gone
        return True


class RunFolder:
    """One run's folder; docs/store.md says what each file holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- state ---------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the state from what is on disk, without hashing.

        Damaged means that a listed file is gone or resized, or that the file system refuses the folder.
        """
        try:
            return self.look()
        except OSError:
            return "damaged"

    def look(self) -> Status:
        """Return the state as `status` does; OSError if the file system refuses the folder."""
        if (self.path / "result.json").exists():
            return "damaged" if self.damaged_files(deep=False) else "done"
        if is_live(self.path / "lock"):
            return "running"
        return "failed" if (self.path / "error.json").exists() else "missing"

    def damaged_files(self, *, deep: bool) -> list[Path]:
        """Return the files of a finished run that are gone or differ from result.json; `deep` compares SHA-256 too.

        Logits are not among them: they have records of their own, and are made again without training. Nor are weights
        that were not exported.
        """
        try:
            files = self.result().files
        except UserError:
            return [self.path / "result.json"]
        try:
            apart, damaged = set(self.absent_weights()), []
        except UserError:
            apart, damaged = set(), [self.path / NOT_EXPORTED]
        training = {name: file for name, file in files.items() if not name.startswith("logits/") and name not in apart}
        return damaged + [
            self.path / name for name, file in training.items() if _differs(self.path / name, file, deep=deep)
        ]

    # -- reading -------------------------------------------------------------------------------------------------------

    def result(self) -> Result:
        """Return result.json; UserError if the run is not done, or the file was altered into something else."""
        path = self.path / "result.json"
        try:
            content = read_json(path)
        except UserError:
            if path.exists():
                raise
            raise UserError(f"{path}: missing, so the run is not done; `bench run` continues it") from None
        result = parsed(TypeAdapter(Result), content, path, "the result of a finished run")
        if result.checksum is not None and result.checksum != checksum_of(content):
            raise UserError(f"{path}: its checksum is not that of its content; it was altered")
        return result

    def spec(self) -> RunSpec:
        """Return the spec of the run; UserError if it is missing, or was altered."""
        path = self.path / "spec.yaml"
        text = self._checked(path)
        if text is None:
            raise UserError(f"{path}: missing, so this is no folder of a run")
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:
            content = None
        return parsed(TypeAdapter(RunSpec), content, path, "the spec of a run")

    def not_exported(self) -> NotExported:
        """Return what was left out when the run was exported: nothing of most; UserError if the record was altered."""
        path = self.path / NOT_EXPORTED
        if not path.exists():
            return NotExported(files=(), families=())
        return read_record(NotExported, path, "the record of what was not exported")

    def absent_weights(self) -> tuple[str, ...]:
        """Return the files of weights that were not exported, and are not there; UserError as not_exported."""
        return tuple(name for name in self.not_exported().files if not os.path.lexists(self.path / name))

    def error(self) -> Failure | None:
        """Return how training failed last, None if it did not."""
        path = self.path / "error.json"
        if not path.exists():
            return None
        try:
            return read_record(Failure, path, "the record of a failed run")
        except UserError as damage:
            return Failure(type="unknown", message=str(damage))

    def history(self) -> list[EpochRecord]:
        """Return the epochs so far, oldest first; a last line cut short by a kill is left out.

        UserError for a line that is no epoch, and where the history of a finished run is not as it was written.
        """
        path = self.path / "history.jsonl"
        text = self._checked(path)
        if text is None:
            return []
        epochs = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                json.loads(line)
            except ValueError:
                break
            try:
                epochs.append(EpochRecord.model_validate_json(line))
            except ValidationError as error:
                reason = error.errors()[0]
                at = ".".join(map(str, reason["loc"]))
                raise UserError(f"{path}: line {number}: {at}: {reason['msg']}; it was altered") from None
        if not epochs and (self.path / "result.json").exists():
            raise UserError(f"{path}: empty, since it was damaged once; the other files of the run are as written")
        return epochs

    def sessions(self) -> tuple[Session, ...]:
        """Return the sessions of work on the run; UserError if provenance.json was altered."""
        path = self.path / "provenance.json"
        if self._checked(path) is None:
            return ()
        return read_record(Provenance, path, "the provenance of a run").sessions

    def _checked(self, path: Path) -> str | None:
        """Return the text of a file, None if there is none; of a finished run compared with its checksum."""
        if (self.path / "result.json").exists():
            try:
                recorded = self.result().files.get(path.name)
            except UserError:  # its own fault, said where the result is read
                recorded = None
            if recorded is not None and _differs(path, recorded, deep=True):
                raise UserError(
                    f"{path}: gone, truncated or altered since it was written; `bench run --retry` sets it aside"
                )
        if not path.exists():
            return None
        try:
            return regular_bytes(path).decode()
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8 text; it was altered") from None
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None

    def ticket(self, index: int) -> dict[str, Array]:
        """Return all tensors of ticket `index` of a finished run, masks under "mask/<parameter>".

        UserError that names the file if it is missing or its SHA-256 is not the recorded one.
        """
        return self.weights("tickets", index)

    def weights(self, kind: Literal["tickets", "kept"], index: int) -> dict[str, Array]:
        """Return all tensors of a ticket, or of a rewind checkpoint, of a finished run; errors as ticket."""
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

        recorded = self.result().files.get(name)
        file = self.path / name
        if name in self.absent_weights():
            raise UserError(f"{file}: {NO_WEIGHTS}")
        if recorded is None or not file.is_file():
            raise UserError(f"{file}: missing from the store; train the run again with `bench run --retry`")
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
        write_text(self.path / "history.jsonl", "".join(map(_history_line, epochs)))

    def append_history(self, epoch: Mapping[str, Any]) -> None:
        """Add one epoch."""
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(_history_line(epoch))

    def write_provenance(self, sessions: Sequence[Session]) -> None:
        """Write the sessions of work on the run, oldest first."""
        write_json(self.path / "provenance.json", Provenance(sessions=tuple(sessions)).model_dump(mode="json"))

    def write_failure(self, failure: Failure) -> None:
        """Write how training failed."""
        write_json(self.path / "error.json", failure.model_dump(mode="json"))

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

    def finish(self, **facts: Any) -> None:
        """Write result.json with the checksums of everything else, then remove what only an unfinished run needs.

        facts   the fields of bench.store.records.Result, but for the schema, the status and the files
        """
        names = ["spec.yaml", "provenance.json", "history.jsonl"]
        for kind in ("tickets", "kept"):
            names += [str(file.relative_to(self.path)) for file in self.tensors(kind)]
        files = {name: self._stored(name) for name in names}
        self._write_result(Result(schema_version=RESULT_SCHEMA, status="done", **facts, files=files))
        for name in ("error.json", "checkpoint.pt", REPLACED_RESULT, NOT_EXPORTED):
            discard(self.path / name)

    def record_again(self, *names: str) -> None:
        """Take files of a finished run as they are now into its result."""
        result = self.result()
        files = {**result.files, **{name: self._stored(name) for name in names}}
        self._write_result(result.model_copy(update={"files": files}))

    def _stored(self, name: str) -> StoredFile:
        file = self.path / name
        return StoredFile(bytes=file.stat().st_size, sha256=sha256_of(file))

    def _write_result(self, result: Result) -> None:
        content = result.model_dump(mode="json")
        write_json(self.path / "result.json", {**content, "checksum": checksum_of(content)})

    @staticmethod
    def _write_tensors(file: Path, tensors: Mapping[str, Array], metadata: dict[str, str] | None) -> None:
        from safetensors.numpy import save_file

        with atomic_path(file) as temporary:
            save_file({key: np.asarray(t, order="C") for key, t in tensors.items()}, temporary, metadata=metadata)


def _history_line(epoch: Mapping[str, Any]) -> str:
    """Return an epoch as a line; ValidationError for what is no epoch, which only a bug writes."""
    record = EpochRecord.model_validate_json(json.dumps(epoch))
    return json.dumps(record.model_dump(mode="json")) + "\n"
