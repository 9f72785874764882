"""Training and predicting as waits of drawn length; what surrounds them is real: lock, attempts, records of a run."""

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import bench.work.evaluate as evaluate_module
import bench.work.worker as worker_module
from bench.data.dataset import LabelledImages
from bench.evaluation.predict import Predictions
from bench.store.files import regular_bytes, write_text
from bench.store.lock import RunLock, RunLockedError
from bench.store.records import Session, Usage
from bench.store.run_folder import RunFolder
from bench.work import train
from bench.work.attempts import forget_attempts
from bench.work.context import Context
from bench.work.items import RunWork
from bench.work.signals import InterruptedRunError
from tests.simulation.clock import Process, current
from tests.simulation.outcome import Conditions, Outcome
from tests.store.runs import LABELS, LOGITS, MASK, WEIGHT, epoch, result_facts, ticket

SESSION = Session(
    started="",
    host="simulated",
    pid=1,
    job=None,
    command=(),
    git=None,
    python="",
    versions={},
    cuda=None,
    cudnn=None,
    device="cpu",
    device_name="simulated",
    cpu_threads=1,
    deterministic=False,
)


class DrawnError(Exception):
    """The failure that was drawn for a run."""


class Training:
    """Trains the runs of a simulation: how long each takes, and whether it fails, follows from seed and run alone."""

    def __init__(self, conditions: Conditions, outcome: Outcome) -> None:
        self._conditions, self._outcome = conditions, outcome

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Put waits in the place of training and predicting, and nothing in that of what is no part of the store."""
        patch.setattr(worker_module, "train_run", self.train)
        patch.setattr(train, "_checkpoint", lambda _, folder, __: self._checkpoint(folder))
        patch.setattr(train.provenance, "session", lambda *_, **__: SESSION)
        patch.setattr(train, "Meter", lambda _: SimpleNamespace(usage=lambda: Usage(seconds=0.0)))
        patch.setattr(RunFolder, "write_spec", lambda folder, spec: write_text(folder.path / "spec.yaml", spec.run_id))
        patch.setattr(evaluate_module, "load_networks", lambda *_, **__: [])
        patch.setattr(evaluate_module, "normaliser", lambda *_: None)
        patch.setattr(evaluate_module, "StreamedImages", lambda *_: None)
        patch.setattr(evaluate_module, "predict_together", self._predict)

    def seconds(self, run: str) -> tuple[float, bool]:
        """Return how long a run trains, and whether it fails at the end."""
        drawn = random.Random(f"{self._conditions.seed} {run}")
        seconds = self._conditions.seconds * drawn.lognormvariate(-0.5 * 0.3**2, 0.3)
        return seconds, drawn.random() < self._conditions.failures

    def train(self, run: RunWork, context: Context, _: str, held: ExitStack) -> None:
        """Do as bench.work.train.train_run."""
        process = current()
        assert process is not None
        folder = context.store.run(run.id)
        lock = RunLock(folder.path / "lock")
        sessions: list[Any] = []
        self._outcome.claims += 1
        try:
            begun = train._begin(run.spec, folder, context, held, lock, sessions)
        except RunLockedError:
            self._outcome.lost += 1
            raise
        if begun is None:
            self._outcome.lost += 1
            return
        try:
            self._train(process, run.id, folder, lock, begun[0])
        except InterruptedRunError:
            sessions[0].ended()
            forget_attempts(folder.path, "train")
            raise
        sessions[0].ended()
        lock.check()
        self._finish(run, folder)

    def _train(
        self, process: Process, run: str, folder: RunFolder, lock: RunLock, state: Mapping[str, float] | None
    ) -> None:
        seconds, fails = self.seconds(run)
        before = 0.0 if state is None else state["seconds"]
        process.training = folder.path, before, process.files.env.now
        passed = process.wait(seconds - before, "training", interruptible=True)
        process.training = None
        if process.interrupted:
            lock.check()
            write_text(folder.path / "checkpoint.pt", repr(before + passed))
            raise InterruptedRunError
        if fails:
            raise DrawnError("drawn")

    def _finish(self, run: RunWork, folder: RunFolder) -> None:
        folder.write_history([epoch(1)])
        folder.write_ticket(0, {"layer.weight": WEIGHT, "mask/layer.weight": MASK}, {})
        parent = run.spec.parent and run.spec.parent.run_id
        folder.finish(**result_facts([ticket(0)], run=run.id, parent=parent))
        forget_attempts(folder.path)
        self._outcome.finished.append((current().files.env.now, run.id))  # type: ignore[union-attr]

    def killed(self, process: Process) -> None:
        """Leave what a worker leaves that is killed: the checkpoint that it wrote last."""
        if process.training is None:
            return
        folder, before, since = process.training
        every = self._conditions.checkpoint_seconds
        kept = (process.files.env.now - since) // every * every
        self._outcome.repeated += process.files.env.now - since - kept
        if before + kept:
            write_text(folder / "checkpoint.pt", repr(before + kept))

    @staticmethod
    def _checkpoint(folder: RunFolder) -> dict[str, Any] | None:
        try:
            return {"seconds": float(regular_bytes(folder.path / "checkpoint.pt"))}
        except FileNotFoundError:
            return None

    def _predict(
        self, networks: Mapping[Any, Any], _: object, __: str, check: Callable[[], None], ___: object
    ) -> dict[Any, Predictions]:
        process = current()
        assert process is not None
        seconds = self._conditions.evaluation_seconds * len(networks)
        process.wait(seconds, "evaluation", interruptible=True)
        check()
        return {run: Predictions(LOGITS[:1], seconds, seconds) for run in networks}


def images() -> Any:
    """Return what loads the images of a run: five, none of which is looked at."""
    few = LabelledImages(np.zeros((len(LABELS), 1, 1, 3), np.uint8), LABELS)
    return SimpleNamespace(load=lambda _: SimpleNamespace(test=few, validation=few))


def context(store: Any, stop: Any) -> Context:
    """Return a worker's surroundings."""
    return Context(store, images(), torch.device("cpu"), stop, bars=False)
