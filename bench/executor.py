"""Bring one run to "done": recipe -> tickets -> logits, under its lock, from wherever an earlier process left it."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import provenance
from bench.data.augment import NONE, DeviceImages
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages, Split, cut
from bench.data.sources import default_root, describe, load
from bench.errors import UserError
from bench.files import read_json, remove_temporaries, sha256_of, write_json
from bench.lock import RunLock
from bench.progress import RunProgress
from bench.signals import StopRequest
from bench.spec import MASK_PREFIX, DataSpec, RunSpec
from bench.store import DataRecord, RunFolder, Store
from bench.training.checkpoint import load_checkpoint, save_checkpoint
from bench.training.evaluate import predict
from bench.training.trainer import Trainer

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120.0


class Executor:
    """Trains and evaluates runs of one store on one device; loaded images are kept from run to run."""

    def __init__(
        self,
        store: Store,
        *,
        data: Path | None = None,
        device: str = "auto",
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        deterministic: bool = False,
        stop: StopRequest | None = None,
    ) -> None:
        self.store = store
        self.device = _device(device)
        self._data = data
        self._checkpoint_seconds = checkpoint_seconds
        self._deterministic = deterministic
        self._stop = stop or StopRequest()
        self._split: tuple[DataSpec, Split] | None = None

    def load_data(self, spec: DataSpec) -> Split:
        """Return the images of a run, and record in the store which they are; UserError if they are not to be had."""
        if self._split is None or self._split[0] != spec:
            record = self.store.data_records().get(spec.name)
            location = self._data if spec.name != "digits" else None
            if location is None and record is not None and record.location is not None:
                location = Path(record.location)
            dataset = load(spec.name, location, root=default_root(), progress=True)
            place = str(location.resolve()) if location is not None and dataset.variant != "official" else None
            self.store.record_data(spec.name, DataRecord(dataset.variant, place, describe(dataset.variant)))
            self._split = spec, cut(dataset, spec)
        return self._split[1]

    def execute(self, spec: RunSpec, title: str) -> None:
        """Bring one run to "done", from wherever an earlier process left it.

        RunLockedError if another process has it; InterruptedRunError after a signal; other exceptions are the run's.
        """
        split = self.load_data(spec.data)
        folder = self.store.run(spec.run_id)
        with RunLock(folder.path / "lock") as lock:
            if folder.status() == "done" and not folder.damaged_files(deep=True):
                return  # another process did it since the plan was made
            remove_temporaries(folder.path)
            folder.write_spec(spec)
            result = self._intact_tickets(folder)
            session = provenance.session(self.device, deterministic=self._deterministic)
            sessions = _sessions(folder)
            trainer = self._trainer(spec, split, folder)
            if result is None:
                session["resumed_from"] = self._resume(trainer, folder)
            write_json(folder.path / "provenance.json", {"sessions": [*sessions, session]})
            if result is None:
                self._train(trainer, folder, lock, title)
                result = _training_result(trainer, self.device)
            self._evaluate(trainer, folder, split, result["tickets"])
            session["ended"] = provenance.now()
            write_json(folder.path / "provenance.json", {"sessions": [*sessions, session]})
            lock.check()
            folder.finish(result)

    def _trainer(self, spec: RunSpec, split: Split, folder: RunFolder) -> Trainer:
        def write_ticket(index: int, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> str:
            folder.write_ticket(index, {name: tensor.cpu().numpy() for name, tensor in tensors.items()}, metadata)
            return sha256_of(_ticket_file(folder, index))

        return Trainer(
            spec,
            self._place(split.train, spec, augmented=True),
            self._place(split.validation, spec, augmented=spec.validation_augmented),
            self.device,
            write_ticket,
            classes=DATASETS[spec.data.name].classes,
            deterministic=self._deterministic,
        )

    def _place(self, source: LabelledImages, spec: RunSpec, *, augmented: bool) -> DeviceImages:
        facts = DATASETS[spec.data.name]
        return DeviceImages(
            source,
            facts.mean,
            facts.std,
            augmentation=spec.augmentation if augmented else NONE,
            device=self.device,
            channels_last=spec.execution.channels_last,
        )

    def _resume(self, trainer: Trainer, folder: RunFolder) -> dict[str, int] | None:
        """Load the checkpoint, if there is one, into the trainer and the history; return where it stood."""
        state = load_checkpoint(folder.path / "checkpoint.pt", self.device)
        if state is not None and (damaged := _damaged_tickets(folder, state["at"]["tickets"])):
            log.warning("%s was lost, truncated or altered; the run starts over", ", ".join(map(str, damaged)))
            state = None
        if state is not None:
            trainer.load_state_dict(state)
            log.info("resuming at epoch %d, step %d", trainer.at.epoch + 1, trainer.at.step)
        folder.write_history(trainer.at.history)
        return None if state is None else {"epoch": trainer.at.epoch + 1, "step": trainer.at.step}

    def _train(self, trainer: Trainer, folder: RunFolder, lock: RunLock, title: str) -> None:
        checkpoint = folder.path / "checkpoint.pt"
        saved = time.monotonic()

        def between_steps() -> None:
            nonlocal saved
            progress.step()
            lock.check()
            due = time.monotonic() - saved >= self._checkpoint_seconds
            if due or self._stop.received is not None:
                save_checkpoint(checkpoint, trainer.state_dict())
                saved = time.monotonic()
                self._stop.check()

        with RunProgress(title, trainer.spec, trainer.at.steps) as progress:
            while not trainer.finished:
                line = trainer.train_epoch(between_steps)
                folder.append_history(line)
                progress.epoch(line, trainer.at.steps)
                between_steps()
            # Training is over, and evaluation should never have to repeat it.
            save_checkpoint(checkpoint, trainer.state_dict())
            folder.write_history(trainer.at.history)  # whole, whatever a process that lost its lock appended

    def _evaluate(self, trainer: Trainer, folder: RunFolder, split: Split, tickets: list[dict[str, Any]]) -> None:
        """Store the logits of every ticket on the test and validation images."""
        if not tickets:
            raise RuntimeError("the run left no ticket at all: no epoch of a ticket's phase beat those before it")
        for name, source in (("test", split.test), ("validation", split.validation)):
            images = self._place(source, trainer.spec, augmented=False)
            logits = []
            for ticket in tickets:
                self._stop.check()
                trainer.model.load_state_dict(_weights(folder, ticket["index"]))
                logits.append(predict(trainer.model, trainer.forward, images).cpu().numpy())
            folder.write_logits(name, np.stack(logits), source.labels)

    def _intact_tickets(self, folder: RunFolder) -> dict[str, Any] | None:
        """Return the training result of a run of which only logits were damaged; otherwise clear what is left of it."""
        result_file = folder.path / "result.json"
        if not result_file.exists():
            return None
        damaged = folder.damaged_files(deep=True)
        log.warning("%s: damaged (%s)", folder.path, ", ".join(str(f.relative_to(folder.path)) for f in damaged))
        if all(file.parent.name == "logits" for file in damaged):
            return {key: value for key, value in folder.result().items() if key not in ("status", "files")}
        for file in [result_file, *folder.path.glob("tickets/*"), *folder.path.glob("logits/**/*.safetensors")]:
            file.unlink()
        return None


def _training_result(trainer: Trainer, device: torch.device) -> dict[str, Any]:
    """Return the part of result.json that training decides."""
    history = trainer.at.history
    spec = trainer.spec
    # Validation included, since plans estimate hours from it; the median, since a resumed epoch timed only its end.
    rates = sorted(spec.data.train_images / line["seconds"] for line in history)
    sparse = trainer.sparse
    return {
        "run": spec.run_id,
        "tickets": trainer.at.tickets,
        "tickets_expected": spec.tickets,
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
        "device": device.type,
        "device_name": provenance.device_name(device),
    }


def _weights(folder: RunFolder, index: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(_ticket_file(folder, index))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(MASK_PREFIX)}


def _ticket_file(folder: RunFolder, index: int) -> Path:
    return folder.path / f"tickets/{index}.safetensors"


def _damaged_tickets(folder: RunFolder, tickets: list[dict[str, Any]]) -> list[Path]:
    """Return the files of tickets, described as in a checkpoint, that are not as they were written."""
    files = {_ticket_file(folder, ticket["index"]): ticket["sha256"] for ticket in tickets}
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
