"""The weights that a run in training reads and writes in the store, while the lock is its own."""

from pathlib import Path
from typing import Any, Literal

import torch

from bench.errors import UserError
from bench.store.files import sha256_of
from bench.store.lock import RunLock
from bench.store.records import Result
from bench.store.run_folder import Array, RunFolder
from bench.training.ranks import Ranks
from bench.training.weights import ParentLostError


class BlockedRunError(ParentLostError):
    """The run cannot be trained now, for its parent mostly; the message says which and why."""


class StoreWriter:
    """Writes the weights of a run into its folder, while the lock is its own."""

    def __init__(self, folder: RunFolder, lock: RunLock, ranks: Ranks) -> None:
        self._folder, self._lock, self._ranks = folder, lock, ranks

    def write_ticket(self, index: int, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> str:
        return self._ranks.from_first(lambda: self._locked().write_ticket(index, _on_host(tensors), metadata))

    def write_rewind_checkpoint(self, index: int, tensors: dict[str, torch.Tensor]) -> str:
        return self._ranks.from_first(lambda: self._locked().write_kept(index, _on_host(tensors)))

    def _locked(self) -> RunFolder:
        self._lock.check()
        return self._folder


class StoreParent:
    """Reads the weights of a finished run, every file against its checksum."""

    def __init__(self, folder: RunFolder, device: torch.device, ranks: Ranks) -> None:
        self._folder, self._device, self._ranks = folder, device, ranks

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every file that a child may take weights from."""
        files = self._ranks.from_first(lambda: dict(self._result().files))
        return {name: file.sha256 for name, file in files.items() if name.startswith(("tickets/", "kept/"))}

    def tickets(self) -> list[dict[str, torch.Tensor]]:
        return self._read("tickets")

    def rewind_checkpoints(self) -> list[dict[str, torch.Tensor]]:
        return self._read("kept")

    def _read(self, kind: Literal["tickets", "kept"]) -> list[dict[str, torch.Tensor]]:
        read = self._ranks.from_first(lambda: self._weights(kind))
        return [{name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()} for arrays in read]

    def _weights(self, kind: Literal["tickets", "kept"]) -> list[dict[str, Array]]:
        result = self._result()
        listed = result.tickets if kind == "tickets" else result.kept
        try:
            return [self._folder.weights(kind, record.index) for record in listed]
        except UserError as damage:  # of another run: no reason to stop the others
            raise BlockedRunError(f"its parent is damaged: {damage}") from None

    def _result(self) -> Result:
        try:
            return self._folder.result()
        except UserError as damage:  # since this run found it done
            raise BlockedRunError(f"its parent is damaged: {damage}") from None


def _on_host(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def damaged_weights(folder: RunFolder, at: dict[str, Any]) -> list[Path]:
    """Return the files of tickets and rewind checkpoints, as a checkpoint lists them, that are not as written."""
    kinds: tuple[Literal["tickets", "kept"], ...] = ("tickets", "kept")
    files = {folder.tensor_file(kind, record["index"]): record["sha256"] for kind in kinds for record in at[kind]}
    return [file for file, checksum in files.items() if not file.is_file() or sha256_of(file) != checksum]
