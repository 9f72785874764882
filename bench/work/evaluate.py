"""Evaluate finished runs and attack ensembles, one set at a time, under the lock of their folder.

A set whose images cannot be had is named once and left; the other sets are made.
"""

import errno
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench.data.cache import default_root
from bench.data.catalog import facts_of
from bench.data.stream import StreamedImages
from bench.errors import UserError
from bench.evaluation.ensembles import Members, attack_ensemble
from bench.evaluation.networks import load_networks, normaliser
from bench.evaluation.open import EvaluationSets
from bench.evaluation.predict import Predictions, predict_all
from bench.evaluation.samples import missing_samples, write_samples
from bench.evaluation.sets import AttackSet, OwnSet, RelabelledSet, TicketSet
from bench.spec.run import McDropout, RunSpec
from bench.store.files import remove_temporaries
from bench.store.lock import LockLostError, RunLock, RunLockedError
from bench.store.logits import StoredLogits, describe_ensemble, ensemble_folder, ensemble_logits
from bench.store.run_folder import Array
from bench.work.attempts import begin_attempt, forget_attempts
from bench.work.context import Context
from bench.work.items import EnsembleWork, RunWork
from bench.work.provenance import device_name
from bench.work.signals import InterruptedRunError

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class Evaluator:
    """Makes sets of one store on one device; what is opened stays open from run to run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._images = EvaluationSets(default_root(), context.images.load)
        self._refused: set[str] = set()

    def evaluate_run(self, run: RunWork, sets: Sequence[TicketSet], title: str) -> None:
        """Make those of the sets that a finished run lacks; InterruptedRunError after a signal."""
        spec, context = run.spec, self._context
        folder = context.store.run(run.id)
        asked_by_name = {asked.name: asked for asked in sets}

        def prepare() -> Callable[[str, RunLock], int | None]:
            networks = load_networks(spec, folder, context.device, deterministic=context.deterministic)

            def make(name: str, lock: RunLock) -> int | None:
                asked = asked_by_name[name]
                try:
                    opened = self._images.open(asked, spec.data)
                    if isinstance(asked, RelabelledSet):
                        lock.check()
                        return self._write_labels(StoredLogits.of_run(folder), asked, spec, opened.labels)
                    images = StreamedImages(opened, normaliser(spec, context.device))
                    made = predict_all(networks, images, name, self._between_batches(lock))
                except (UserError, OSError) as error:  # a file may show its damage as late as when it is decoded
                    self._refuse(name, error)
                    return None
                lock.check()
                half = not isinstance(asked, OwnSet)
                self._write(StoredLogits.of_run(folder), name, made, opened.labels, opened.source, half=half)
                return len(images)

            return make

        self._under_lock(folder.path, title, lambda: StoredLogits.of_run(folder), list(asked_by_name), prepare)

    def attack(
        self, ensemble: EnsembleWork, specs: Sequence[RunSpec], attacks: Sequence[AttackSet], title: str
    ) -> None:
        """Make those of the attacks that an ensemble of finished runs lacks; InterruptedRunError after a signal."""
        context, store, first = self._context, self._context.store, specs[0]
        attack_by_name = {attack.name: attack for attack in attacks}

        def read() -> StoredLogits:
            return ensemble_logits(store, ensemble.ensemble)

        def prepare() -> Callable[[str, RunLock], int | None]:
            describe_ensemble(store, ensemble.ensemble)
            test = context.images.load(first.data).test
            networks = [
                network
                for spec in specs
                for network in load_networks(
                    spec,
                    store.run(spec.run_id),
                    context.device,
                    deterministic=context.deterministic,
                    samples=ensemble.members,
                )
            ]
            members = Members(networks, ensemble.members, normaliser(first, context.device))

            def make(name: str, lock: RunLock) -> int:
                source = test.first(attack_by_name[name].images)
                made = attack_ensemble(
                    members,
                    source,
                    attack_by_name[name],
                    context.device,
                    singly=not isinstance(first.model.ensemble, McDropout),
                    between_batches=self._between_batches(lock),
                )
                lock.check()
                self._write(read(), name, made, source.labels, f"test images of {first.data.name}")
                return len(source.labels)

            return make

        folder = ensemble_folder(store, ensemble.ensemble)
        self._under_lock(folder, title, read, list(attack_by_name), prepare)

    def write_samples(self, runs: Sequence[RunWork]) -> None:
        """Write what the first test image becomes under each corruption, for the report."""
        store = self._context.store
        for data, sets in missing_samples(store, ((run.spec.data, run.evaluations) for run in runs)):
            try:
                self._context.stop.check()
                write_samples(store, self._images, data, self._context.images.load(data).test, sets)
            except (UserError, OSError) as error:  # nothing is computed from them
                log.warning("no samples of corrupted images were written: %s", error)

    def _under_lock(
        self,
        folder: Path,
        title: str,
        read: Callable[[], StoredLogits],
        names: Sequence[str],
        prepare: Callable[[], Callable[[str, RunLock], int | None]],
    ) -> None:
        """Make the missing sets of a folder, unless another process is at it.

        prepare   loads the networks and returns what makes a set and returns its number of images, None if it cannot
        """
        try:
            with RunLock(folder / "lock") as lock:
                remove_temporaries(folder)
                missing = read().missing(names)  # another process may have made some in the meantime
                if not missing:
                    return
                make = prepare()
                progress = _Progress(title, len(missing))
                for name in missing:
                    begin_attempt(folder, name)
                    try:
                        progress.count(make(name, lock))
                    finally:  # only a process that dies leaves its attempt counted
                        forget_attempts(folder, name)
        except (RunLockedError, LockLostError) as locked:
            log.warning("%s: left to another process: %s", title, locked)
        except InterruptedRunError:
            raise
        except UserError as error:  # of this folder: no reason to stop the others
            log.error("%s: %s", title, error)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"{folder}: the disk is full; free some space, then run the same command") from None
            log.error(
                "%s: evaluation failed: %s: %s",
                title,
                type(error).__name__,
                error,
                exc_info=not isinstance(error, OSError),
            )

    def _between_batches(self, lock: RunLock) -> Callable[[], None]:
        """Return what ends the work after a signal, and when another process has taken the lock."""

        def check() -> None:
            self._context.stop.check()
            if lock.lost:
                lock.check()

        return check

    def _write_labels(self, logits: StoredLogits, asked: RelabelledSet, spec: RunSpec, labels: Array) -> int:
        """Store other labels of the test images as a set without members; return the number of its images."""
        pairs, source = self._images.label_pairs(asked, spec.data)
        nothing = np.empty((0, len(labels), facts_of(spec.data).classes), np.float32)
        logits.write(asked.name, nothing, labels, label_pairs=pairs, images=source)
        return len(labels)

    def _write(
        self, logits: StoredLogits, name: str, made: Predictions, labels: Array, source: str, *, half: bool = True
    ) -> None:
        logits.write(
            name,
            made.logits,
            labels,
            half=half,
            images=source,
            seconds=made.seconds,
            forward_seconds=made.forward_seconds,
            device=device_name(self._context.device),
        )

    def _refuse(self, name: str, error: UserError | OSError) -> None:
        """Say once why a set cannot be had."""
        if str(error) not in self._refused:
            self._refused.add(str(error))
            log.error("%s is left out: %s", name, error)


class _Progress:
    """Log lines of how far the sets of a run or ensemble are."""

    def __init__(self, title: str, sets: int) -> None:
        self._title, self._sets = title, sets
        self._made, self._images = 0, 0
        self._started = self._last_line = time.monotonic()

    def count(self, images: int | None) -> None:
        """Note that a set was made of so many images, None if it could not be made."""
        if images is None:
            return
        self._made += 1
        self._images += images
        now = time.monotonic()
        if self._made == self._sets or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            speed = self._images / max(now - self._started, 1e-9)
            log.info("%s: %d of %d sets, %.0f images/s", self._title, self._made, self._sets, speed)
