"""Evaluate finished runs on the sets that their grid asks for: what is missing, one set at a time, without training.

A set whose images are not to be had is named once and left; the others are made. After a signal the exit code is 75,
and the same command continues with the next set.
"""

import errno
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Protocol

from bench.data.sources import default_root
from bench.data.stream import StreamedImages
from bench.errors import UserError
from bench.evaluation.ensembles import Members, attack_ensemble
from bench.evaluation.networks import load_networks, normaliser
from bench.evaluation.open import EvaluationSets
from bench.evaluation.predict import Predictions, predict_all
from bench.evaluation.samples import lack_samples, write_samples
from bench.evaluation.sets import AttackSet, TicketSet
from bench.spec.run import DataSpec, McDropout, RunSpec
from bench.store.files import remove_temporaries
from bench.store.folders import Array, Store
from bench.store.lock import LockLostError, RunLock, RunLockedError
from bench.store.logits import Ensemble, Evaluated, describe_ensemble, ensemble_folder, evaluated_ensemble
from bench.work.executor import Executor
from bench.work.provenance import device_name
from bench.work.signals import EXIT_INTERRUPTED, InterruptedRunError, StopRequest

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class PlannedSets(Protocol):
    """What evaluation needs of a plan's run (bench.plan.RunPlan)."""

    @property
    def id(self) -> str: ...

    @property
    def spec(self) -> RunSpec: ...

    @property
    def cells(self) -> tuple[str, ...]: ...

    @property
    def evaluations(self) -> tuple[TicketSet, ...]: ...


class PlannedAttacks(Protocol):
    """What evaluation needs of a plan's ensemble (bench.plan.EnsemblePlan)."""

    @property
    def ensemble(self) -> Ensemble: ...

    @property
    def specs(self) -> tuple[RunSpec, ...]: ...

    @property
    def cells(self) -> tuple[str, ...]: ...

    @property
    def evaluations(self) -> tuple[AttackSet, ...]: ...


def evaluate_plan(
    runs: Sequence[PlannedSets],
    ensembles: Sequence[PlannedAttacks],
    store: Store,
    *,
    data: Path | None = None,
    device: str = "auto",
    retry: bool = False,
    deterministic: bool = False,
    stop: StopRequest | None = None,
) -> int:
    """Make the missing sets of all runs that are done, then of all ensembles; return 0 if none is left, 1, or 75.

    Ensembles of which a run is not done are left. With `retry`, sets are compared with their checksums, and damaged
    ones made again. `stop` is a request that the caller has entered, where it listens to signals itself.
    """
    with StopRequest() if stop is None else nullcontext(stop) as stop:
        executor = Executor(store, data=data, device=device, deterministic=deterministic, stop=stop)
        evaluator = Evaluator(executor, stop, deterministic=deterministic, retry=retry)
        done = [run for run in runs if run.evaluations and store.status(run.spec) == "done"]
        whole = [one for one in ensembles if all(store.status(spec) == "done" for spec in one.specs)]
        try:
            for number, run in enumerate(done, start=1):
                evaluator.evaluate_run(run, f"[{number}/{len(done)}] {run.cells[0]} {run.id[:8]}")
            for number, ensemble in enumerate(whole, start=1):
                evaluator.attack(ensemble, f"[{number}/{len(whole)}] {ensemble.cells[0]} {ensemble.ensemble.id[:8]}")
            evaluator.write_samples(done)
        except InterruptedRunError:
            log.warning(
                "stopped by %s; the same command continues", stop.received.name if stop.received else "a signal"
            )
            return EXIT_INTERRUPTED
    asked = sum(len(run.evaluations) for run in runs) + sum(len(one.evaluations) for one in ensembles)
    if asked:
        log.info("%d evaluation sets: %d there, %d left", asked, evaluator.there, asked - evaluator.there)
    return 0 if evaluator.there == asked else 1


class Evaluator:
    """Makes sets of one store on one device; what is opened stays open from run to run. `there` counts sets found."""

    def __init__(self, executor: Executor, stop: StopRequest, *, deterministic: bool, retry: bool) -> None:
        self.there = 0
        self._executor, self._stop = executor, stop
        self._store, self._device = executor.store, executor.device
        self._deterministic, self._retry = deterministic, retry
        self._images = EvaluationSets(default_root(), lambda data: executor.load_data(data).test)
        self._refused: set[str] = set()

    def evaluate_run(self, run: PlannedSets, title: str) -> None:
        """Make the missing sets of a finished run; InterruptedRunError after a signal."""
        spec, folder = run.spec, self._store.run(run.id)

        def make(evaluated: Evaluated, missing: set[str], lock: RunLock) -> None:
            networks = load_networks(spec, folder, self._device, deterministic=self._deterministic)
            progress = _Progress(title, len(missing))
            for asked in run.evaluations:
                if asked.name not in missing:
                    continue
                try:
                    opened = self._images.open(asked, spec.data)
                    images = StreamedImages(opened, normaliser(spec, self._device))
                    made = predict_all(networks, images, asked.name, self._between_batches(lock))
                except (UserError, OSError) as error:  # a file may show its damage as late as when it is decoded
                    self._refuse(asked, error)
                    continue
                lock.check()
                self._write(evaluated, asked.name, made, opened.labels, opened.source)
                progress.count(made, len(images))

        names = [one.name for one in run.evaluations]
        self._under_lock(folder.path, title, lambda: Evaluated.of_run(folder), names, make)

    def attack(self, plan: PlannedAttacks, title: str) -> None:
        """Make the missing attacks on an ensemble of finished runs; InterruptedRunError after a signal."""
        spec, ensemble = plan.specs[0], plan.ensemble
        drawn = isinstance(spec.model.ensemble, McDropout)

        def make(evaluated: Evaluated, missing: set[str], lock: RunLock) -> None:
            describe_ensemble(self._store, ensemble)
            test = self._executor.load_data(spec.data).test
            networks = [
                network
                for one in plan.specs
                for network in load_networks(
                    one,
                    self._store.run(one.run_id),
                    self._device,
                    deterministic=self._deterministic,
                    samples=ensemble.members,
                )
            ]
            members = Members(networks, ensemble.members, normaliser(spec, self._device))
            progress = _Progress(title, len(missing))
            for asked in plan.evaluations:
                if asked.name in missing:
                    source = test.first(asked.images)
                    made = attack_ensemble(
                        members,
                        source,
                        asked,
                        self._device,
                        singly=not drawn,
                        between_batches=self._between_batches(lock),
                    )
                    lock.check()
                    self._write(evaluated, asked.name, made, source.labels, f"test images of {spec.data.name}")
                    progress.count(made, len(source.labels))

        names = [one.name for one in plan.evaluations]
        folder = ensemble_folder(self._store, ensemble)
        self._under_lock(folder, title, lambda: evaluated_ensemble(self._store, ensemble), names, make)

    def write_samples(self, runs: Sequence[PlannedSets]) -> None:
        """Write what the first test image becomes under each corruption, for the report."""
        asked: dict[tuple[str, str], tuple[DataSpec, list[TicketSet]]] = {}
        for run in runs:
            data = run.spec.data
            asked.setdefault((data.name, data.variant), (data, list(run.evaluations)))
        for data, sets in asked.values():
            try:
                if lack_samples(self._store, data, sets):
                    self._stop.check()
                    write_samples(self._store, self._images, data, self._executor.load_data(data).test, sets)
            except UserError as error:  # nothing is computed from them
                log.warning("no samples of corrupted images were written: %s", error)

    def _under_lock(
        self,
        folder: Path,
        title: str,
        read: Callable[[], Evaluated],
        names: Sequence[str],
        make: Callable[[Evaluated, set[str], RunLock], None],
    ) -> None:
        """Make the missing sets of a folder, unless another process is at it; count those that are there afterwards."""
        try:
            if read().missing(names, deep=self._retry):
                with RunLock(folder / "lock") as lock:
                    remove_temporaries(folder)
                    evaluated = read()  # another process may have made some since
                    make(evaluated, set(evaluated.missing(names, deep=self._retry)), lock)
        except (RunLockedError, LockLostError) as locked:
            log.warning("%s: left to another process: %s", title, locked)
        except InterruptedRunError:
            raise
        except UserError as error:  # of this run: no reason to stop the others
            log.error("%s: %s", title, error)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"{folder}: the disk is full; free some space, then run the same command") from None
            log.error("%s: evaluation failed: %s: %s", title, type(error).__name__, error, exc_info=True)
        with suppress(UserError):  # said above
            self.there += len(names) - len(read().missing(names, deep=self._retry))

    def _between_batches(self, lock: RunLock) -> Callable[[], None]:
        """Return what ends the work after a signal, and when another process has taken the lock."""

        def check() -> None:
            self._stop.check()
            lock.check()

        return check

    def _write(self, evaluated: Evaluated, name: str, made: Predictions, labels: Array, source: str) -> None:
        evaluated.write(
            name,
            made.logits,
            labels,
            images=source,
            seconds=made.seconds,
            forward_seconds=made.forward_seconds,
            device=device_name(self._device),
        )

    def _refuse(self, asked: TicketSet, error: UserError | OSError) -> None:
        """Say once why a set can not be had."""
        if str(error) not in self._refused:
            self._refused.add(str(error))
            log.error("%s is left out: %s", asked.name, error)


class _Progress:
    """Log lines of how far the sets of a run or ensemble are."""

    def __init__(self, title: str, sets: int) -> None:
        self._title, self._sets = title, sets
        self._made, self._images, self._seconds = 0, 0, 0.0
        self._last_line = time.monotonic()

    def count(self, made: Predictions, images: int) -> None:
        """Note that a set is there."""
        self._made += 1
        self._images += images
        self._seconds += made.seconds
        now = time.monotonic()
        if self._made == self._sets or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            speed = self._images / self._seconds
            log.info("%s: %d of %d sets, %.0f images/s", self._title, self._made, self._sets, speed)
