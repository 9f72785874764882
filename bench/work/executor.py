"""Bring one run to "done": recipe -> tickets -> logits, under its lock, from wherever an earlier process left it.

A run that starts from another one's weights finds them in the store, where that parent is done. Of several processes
that train a run, rank 0 alone has the lock, and reads and writes the store; the others do as it finds.
"""

import logging
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bench.data.augment import NONE, DeviceImages
from bench.data.catalog import facts_of
from bench.data.dataset import LabelledImages, Split
from bench.data.loading import ImageLoader
from bench.errors import UserError
from bench.models.predict import predict
from bench.spec.run import MASK_PREFIX, DataSpec, RunSpec
from bench.spec.seeds import derived_seed
from bench.store.files import read_json, remove_temporaries, sha256_of, write_json
from bench.store.folders import Array, RunFolder, Store
from bench.store.lock import LockLostError, RunLock
from bench.store.logits import RECEIPTS
from bench.training.checkpoint import load_checkpoint, save_checkpoint
from bench.training.ranks import ALONE, Ranks
from bench.training.trainer import Trainer
from bench.work import provenance
from bench.work.progress import RunProgress
from bench.work.signals import InterruptedRunError, StopRequest

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120.0


class BlockedRunError(Exception):
    """The run waits for its parent, or the parent can not be had; the message says which and why."""


class Executor:
    """Trains and evaluates runs of one store on one device; loaded images are kept from run to run.

    ranks   the processes that share the training of a run, each with an executor of its own
    """

    def __init__(
        self,
        store: Store,
        *,
        data: Path | None = None,
        device: str = "auto",
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        deterministic: bool = False,
        stop: StopRequest | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.store = store
        self.ranks = ranks
        self.device = _device(device)
        self._images = ImageLoader(store, data, progress=ranks.first)
        self._checkpoint_seconds = checkpoint_seconds
        self._deterministic = deterministic
        self._stop = stop or StopRequest()

    def load_data(self, spec: DataSpec) -> Split:
        """Return the images of a run; UserError if they are not to be had. Rank 0 loads them first."""

        def load_first() -> None:
            self._images.load(spec)

        self.ranks.from_first(load_first)
        return self._images.load(spec)

    def execute(self, spec: RunSpec, title: str) -> None:
        """Bring one run to "done", from wherever an earlier process left it.

        RunLockedError if another process has it; InterruptedRunError after a signal; BlockedRunError while its parent
        is not done; other exceptions are the run's.
        """
        folder = self.store.run(spec.run_id)
        split = self.load_data(spec.data)
        lock = RunLock(folder.path / "lock")  # rank 0 takes it; as the others see it, it is never lost
        with ExitStack() as held:
            begun = self.ranks.from_first(lambda: self._begin(spec, folder, held, lock))
            if begun is None:
                return  # another process did it since the plan was made
            result, state, sessions = begun
            trainer = self._trainer(spec, split, folder, resumes=not (result is None and state is None))
            if state is not None:
                trainer.load_state_dict(state)
            if self.ranks.first:
                if result is None:
                    sessions[-1]["resumed_from"] = _resumed(trainer, folder, from_checkpoint=state is not None)
                write_json(folder.path / "provenance.json", {"sessions": sessions})
            del begun, state  # weights and momenta, which the trainer now has
            if result is None:
                self._train(trainer, folder, lock, title)
                result = _training_result(trainer, self.device, self.ranks.size)
            self.ranks.from_first(lambda: self._conclude(trainer, folder, split, lock, result, sessions))

    def _begin(
        self, spec: RunSpec, folder: RunFolder, held: ExitStack, lock: RunLock
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None, list[dict[str, Any]]] | None:
        """Take the lock, and return training result and checkpoint as far as there are, and all sessions up to this.

        None if the run is done.
        """
        held.enter_context(lock)
        if self.store.status(spec) == "done" and not folder.damaged_files(deep=True):
            return None
        remove_temporaries(folder.path)
        folder.write_spec(spec)
        result = self._intact_tickets(spec, folder)
        state = None if result is not None else self._checkpoint(folder)
        if result is None and state is None and (reason := self.store.blocked_by(spec)) is not None:
            raise BlockedRunError(reason)
        session = provenance.session(self.device, deterministic=self._deterministic, processes=self.ranks.size)
        return result, state, [*_sessions(folder), session]

    def _conclude(
        self,
        trainer: Trainer,
        folder: RunFolder,
        split: Split,
        lock: RunLock,
        result: dict[str, Any],
        sessions: list[dict[str, Any]],
    ) -> None:
        self._evaluate(trainer, folder, split, result["tickets"])
        sessions[-1]["ended"] = provenance.now()
        write_json(folder.path / "provenance.json", {"sessions": sessions})
        lock.check()
        folder.finish(result)

    def _trainer(self, spec: RunSpec, split: Split, folder: RunFolder, *, resumes: bool) -> Trainer:
        validation = None
        if spec.data.validation_images and self.ranks.first:
            validation = self._place(split.validation, spec, augmented=spec.validation_augmented)
        parent = None
        if spec.parent is not None:
            parent = _StoredParent(self.store.run(spec.parent.run_id), self.device, self.ranks)
        return Trainer(
            spec,
            self._place(split.train, spec, augmented=True),
            validation,
            self.device,
            _FolderWriter(folder, self.ranks),
            classes=facts_of(spec.data).classes,
            parent=parent,
            resumes=resumes,
            deterministic=self._deterministic,
            ranks=self.ranks,
        )

    def _place(self, source: LabelledImages, spec: RunSpec, *, augmented: bool) -> DeviceImages:
        facts = facts_of(spec.data)
        return DeviceImages(
            source,
            facts.mean,
            facts.std,
            augmentation=spec.augmentation if augmented else NONE,
            device=self.device,
            channels_last=spec.execution.channels_last,
        )

    def _checkpoint(self, folder: RunFolder) -> dict[str, Any] | None:
        """Return the state to continue from, None if there is none or something it relies on was damaged."""
        state = load_checkpoint(folder.path / "checkpoint.pt", self.device)
        if state is not None and (damaged := _damaged_weights(folder, state["at"])):
            log.warning("%s was lost, truncated or altered; the run starts over", ", ".join(map(str, damaged)))
            return None
        return state

    def _train(self, trainer: Trainer, folder: RunFolder, lock: RunLock, title: str) -> None:
        saved = time.monotonic()
        begun_with = trainer.at.steps

        def between_steps() -> None:
            nonlocal saved
            if progress is not None:
                progress.step()
            due = time.monotonic() - saved >= self._checkpoint_seconds
            lost, stopped, due = self.ranks.any(_is_lost(lock), self._stop.received is not None, due)
            if lost:
                lock.check()
                raise LockLostError(f"{lock.path} now belongs to another process, says rank 0")
            if due or stopped:
                self._save(trainer, folder)
                saved = time.monotonic()
            if stopped:
                self._stop.check()
                raise InterruptedRunError("stopped by a signal to another rank")

        shown = RunProgress(title, trainer.spec, trainer.at.steps) if self.ranks.first else nullcontext()
        with shown as progress:
            while not trainer.finished:
                line = trainer.train_epoch(between_steps)
                if self.ranks.first:
                    folder.append_history(line)
                if progress is not None:
                    progress.epoch(line, trainer.at.steps)
                between_steps()
            # Training is over, and evaluation should never have to repeat it.
            if trainer.at.steps > begun_with:
                self._save(trainer, folder)
            if self.ranks.first:
                folder.write_history(trainer.at.history)  # whole, whatever a process that lost its lock appended

    def _save(self, trainer: Trainer, folder: RunFolder) -> None:
        """Write the checkpoint; no rank goes on, or ends, before it is there."""
        state = trainer.state_dict()
        self.ranks.from_first(lambda: save_checkpoint(folder.path / "checkpoint.pt", state))

    def _evaluate(self, trainer: Trainer, folder: RunFolder, split: Split, tickets: list[dict[str, Any]]) -> None:
        """Store the logits of every ticket on the test and validation images."""
        if not tickets:
            raise RuntimeError("the run left no ticket at all: no epoch of a ticket's phase beat those before it")
        sets = [("test", split.test), ("validation", split.validation)]
        for name, source in sets if trainer.spec.data.validation_images else sets[:1]:
            images = self._place(source, trainer.spec, augmented=False)
            logits = []
            for ticket in tickets:
                self._stop.check()
                trainer.model.load_state_dict(_weights(folder, ticket["index"]))
                seed = derived_seed(trainer.spec.stream, "sampling", name, ticket["index"])
                logits.append(predict(trainer.model, trainer.forward, images, sampling=seed).cpu().numpy())
            folder.write_logits(name, np.concatenate(logits), source.labels)

    def _intact_tickets(self, spec: RunSpec, folder: RunFolder) -> dict[str, Any] | None:
        """Return the training result of a run of which only logits were damaged; otherwise clear what is left of it."""
        result_file = folder.path / "result.json"
        if not result_file.exists():
            return None
        damaged = folder.damaged_files(deep=True)
        log.warning("%s: damaged (%s)", folder.path, ", ".join(str(f.relative_to(folder.path)) for f in damaged))
        if not self.store.is_stale(spec) and all(file.parent.name == "logits" for file in damaged):
            return {key: value for key, value in folder.result().items() if key not in ("status", "files")}
        # Other evaluation sets too: they were made with the tickets that go.
        for file in [result_file, *(f for kind in ("tickets", "kept", "logits") for f in folder.tensors(kind))]:
            file.unlink()
        (folder.path / RECEIPTS).unlink(missing_ok=True)
        return None


def _resumed(trainer: Trainer, folder: RunFolder, *, from_checkpoint: bool) -> dict[str, int] | None:
    """Write what the trainer knows into the history; return where a resumed one stands, None of one that starts."""
    folder.write_history(trainer.at.history)
    if not from_checkpoint:
        return None
    log.info("resuming at epoch %d, step %d", trainer.at.epoch + 1, trainer.at.step)
    return {"epoch": trainer.at.epoch + 1, "step": trainer.at.step}


def _is_lost(lock: RunLock) -> bool:
    try:
        lock.check()
    except LockLostError:
        return True
    return False


def _training_result(trainer: Trainer, device: torch.device, processes: int) -> dict[str, Any]:
    """Return the part of result.json that training decides."""
    history = trainer.at.history
    spec = trainer.spec
    # Validation included, since plans estimate hours from it; the median, since a resumed epoch timed only its end.
    rates = sorted(spec.data.train_images / line["seconds"] for line in history)
    sparse = trainer.masking.sparse
    return {
        "run": spec.run_id,
        "parent": spec.parent.run_id if spec.parent else None,
        "inherited": trainer.at.inherited,
        "tickets": trainer.at.tickets,
        "tickets_expected": spec.tickets,
        "members_a_ticket": spec.model.members,
        "kept": trainer.at.kept,
        "checks": {
            "density": sparse.density() if sparse else 1.0,
            "density_wanted": spec.topology.density if spec.topology else 1.0,
            "nonzeros": sum(sparse.nonzeros().values()) if sparse else None,
        },
        "seconds": sum(line["seconds"] for line in history),
        "images_per_second": rates[len(rates) // 2],
        "model": spec.model.model_dump(),
        "execution": spec.execution.model_dump(),
        "batch_size": spec.batch_size,
        "processes": processes,
        "device": device.type,
        "device_name": provenance.device_name(device),
    }


class _FolderWriter:
    """Writes the weights of a run into its folder."""

    def __init__(self, folder: RunFolder, ranks: Ranks) -> None:
        self._folder, self._ranks = folder, ranks

    def write_ticket(self, index: int, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> str:
        return self._ranks.from_first(lambda: self._folder.write_ticket(index, _on_host(tensors), metadata))

    def write_rewind_checkpoint(self, index: int, tensors: dict[str, torch.Tensor]) -> str:
        return self._ranks.from_first(lambda: self._folder.write_kept(index, _on_host(tensors)))


class _StoredParent:
    """Reads the weights of a finished run, every file against its checksum."""

    def __init__(self, folder: RunFolder, device: torch.device, ranks: Ranks) -> None:
        self._folder, self._device, self._ranks = folder, device, ranks

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every file that a child may take weights from."""
        files = self._ranks.from_first(lambda: dict(self._folder.result()["files"]))
        return {name: file["sha256"] for name, file in files.items() if name.startswith(("tickets/", "kept/"))}

    def tickets(self) -> list[dict[str, torch.Tensor]]:
        return self._read("tickets")

    def rewind_checkpoints(self) -> list[dict[str, torch.Tensor]]:
        return self._read("kept")

    def _read(self, kind: Literal["tickets", "kept"]) -> list[dict[str, torch.Tensor]]:
        read = self._ranks.from_first(lambda: self._weights(kind))
        return [{name: torch.from_numpy(tensor).to(self._device) for name, tensor in one.items()} for one in read]

    def _weights(self, kind: Literal["tickets", "kept"]) -> list[dict[str, Array]]:
        listed = self._folder.result()[kind]
        try:
            return [self._folder.weights(kind, one["index"]) for one in listed]
        except UserError as damage:  # of another run: no reason to stop the others
            raise BlockedRunError(f"its parent is damaged: {damage}") from None


def _on_host(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def _weights(folder: RunFolder, index: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(folder.tensor_file("tickets", index))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(MASK_PREFIX)}


def _damaged_weights(folder: RunFolder, at: dict[str, Any]) -> list[Path]:
    """Return the files of tickets and kept weights, described as in a checkpoint, that are not as they were written."""
    files = {folder.tensor_file(kind, one["index"]): one["sha256"] for kind in ("tickets", "kept") for one in at[kind]}
    return [file for file, checksum in files.items() if not file.is_file() or sha256_of(file) != checksum]


def _sessions(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the sessions so far; provenance that was altered is no reason to stop, but is said."""
    path = folder.path / "provenance.json"
    try:
        return list(read_json(path)["sessions"]) if path.exists() else []
    except (UserError, KeyError, TypeError):
        log.warning("%s was truncated or altered: earlier sessions of the run are lost", path)
        return []


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu or auto")
    return torch.device(name)
