"""Evaluate finished runs and attack ensembles, one set at a time, under the locks of their folders.

A set whose images cannot be had is named once and left; the other sets are made. An error of one run is its own.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from bench.data.cache import default_root
from bench.data.catalog import facts_of
from bench.data.stream import StreamedImages
from bench.errors import UserError
from bench.evaluation.ensembles import Members, attack_ensemble
from bench.evaluation.networks import Network, load_networks, normaliser
from bench.evaluation.open import EvaluationSets
from bench.evaluation.predict import Predictions, predict_together
from bench.evaluation.samples import missing_samples, write_samples
from bench.evaluation.sets import AttackSet, OwnSet, RelabelledSet, TicketSet
from bench.spec.run import McDropout, RunSpec
from bench.store.files import TRIES
from bench.store.logits import StoredLogits, describe_ensemble, ensemble_folder, ensemble_logits
from bench.store.run_folder import Array
from bench.work.context import Context
from bench.work.holding import Holding
from bench.work.items import EnsembleWork, EvaluateRun, RunWork
from bench.work.provenance import device_name
from bench.work.together import MOST_BYTES, bytes_in_pass

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True, eq=False)
class _HeldRun:
    """A run whose tickets are loaded and whose lock is this process's."""

    spec: RunSpec
    holding: Holding
    networks: list[Network]


class Evaluator:
    """Makes sets of one store on one device; what is opened stays open from run to run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._images = EvaluationSets(default_root(), context.images.load)
        self._refused: set[str] = set()
        self._repeated: Counter[EvaluateRun] = Counter()

    def evaluate(
        self, items: Sequence[EvaluateRun], enough: Callable[[], bool] = lambda: False
    ) -> tuple[EvaluateRun, ...]:
        """Make sets of finished runs that see the same images, each of which is read once for all of them.

        Runs are taken in their order, no more than fit in MOST_BYTES. Items that were not begun are returned: those of
        further runs, of runs that another process has, of runs from which the file system kept it for a moment (twice
        at most), and of the sets that were left when `enough` said so between two. InterruptedRunError after a signal.
        """
        by_run: dict[str, list[EvaluateRun]] = {}
        for item in items:
            by_run.setdefault(item.run.id, []).append(item)
        with ExitStack() as locks:
            runs: dict[str, _HeldRun] = {}
            left: list[EvaluateRun] = []
            room = float(MOST_BYTES)
            for id, asked in by_run.items():
                spec = asked[0].run.spec
                size = bytes_in_pass(spec, max(item.asked.count(spec.data) for item in asked))
                held = self._hold(asked, locks) if size <= room or not runs else None
                if held is None:
                    left += asked
                elif held.holding.open:
                    runs[id] = held
                    room -= size
            lacking = {name for run in runs.values() for name in run.holding.missing}
            sets = [asked for asked in dict.fromkeys(item.asked for item in items) if asked.name in lacking]
            begun = list(runs.values())
            progress = _Progress(_title(list(runs.values())), len(sets))
            for number, to_make in enumerate(sets):
                runs = {id: run for id, run in runs.items() if run.holding.open}
                if number and enough():
                    later = set(sets[number:])
                    return (*left, *(item for item in items if item.run.id in runs and item.asked in later))
                progress.count(
                    self._evaluate_on(to_make, [run for run in runs.values() if to_make.name in run.holding.missing])
                )
            passing = {run.spec.run_id for run in begun if run.holding.passing}
            again = [item for item in items if item.run.id in passing and self._repeated[item] < TRIES - 1]
            self._repeated.update(again)
            return (*left, *again)

    def _hold(self, asked: Sequence[EvaluateRun], locks: ExitStack) -> _HeldRun | None:
        """Return a run with its networks, open if it lacks sets and can make them; None if another process has it."""
        run, context = asked[0].run, self._context
        folder = context.store.run(run.id)
        holding = Holding(folder.path, f"{run.cell} {run.id[:8]}", lambda: StoredLogits.of_run(folder))
        if not holding.take([item.name for item in asked], locks):
            return None
        networks: list[Network] = []
        if holding.open:
            with holding.guarded():
                networks += load_networks(run.spec, folder, context.device, deterministic=context.deterministic)
        return _HeldRun(run.spec, holding, networks)

    def _evaluate_on(self, asked: TicketSet, runs: Sequence[_HeldRun]) -> int | None:
        """Make a set of each of the runs; return the number of its images, None if they are not to be had."""
        if not runs:
            return None
        name, spec = asked.name, runs[0].spec
        with ExitStack() as attempts:
            for run in runs:
                with run.holding.guarded():
                    attempts.enter_context(run.holding.attempt(name))
            networks = {run.holding: run.networks for run in runs if run.holding.open}
            made: dict[Holding, Predictions] = {}
            pairs, source = None, ""
            try:
                opened = self._images.open(asked, spec.data)
                if isinstance(asked, RelabelledSet):
                    pairs, source = self._images.label_pairs(asked, spec.data)
                else:
                    images = StreamedImages(opened, normaliser(spec, self._context.device))
                    made = predict_together(networks, images, name, self._context.stop.check, _unless_lost)
            except (UserError, OSError) as error:  # a file may show its damage as late as when it is decoded
                self._refuse(name, error)
                return None
            for holding in networks:
                with holding.guarded():
                    if pairs is not None:
                        nothing = np.empty((0, len(opened.labels), facts_of(spec.data).classes), np.float32)
                        holding.to_write().write(name, nothing, opened.labels, label_pairs=pairs, images=source)
                    elif holding in made:
                        half = not isinstance(asked, OwnSet)
                        logits = holding.to_write()
                        self._write(logits, name, made.pop(holding), opened.labels, opened.source, half=half)
            return len(opened.labels)

    def attack(
        self, ensemble: EnsembleWork, specs: Sequence[RunSpec], attacks: Sequence[AttackSet], title: str
    ) -> None:
        """Make those of the attacks that an ensemble of finished runs lacks; InterruptedRunError after a signal."""
        context, store, first = self._context, self._context.store, specs[0]
        attack_by_name = {attack.name: attack for attack in attacks}
        folder = ensemble_folder(store, ensemble.ensemble)
        holding = Holding(folder, title, lambda: ensemble_logits(store, ensemble.ensemble))

        def between_batches() -> None:
            context.stop.check()
            holding.check()

        with ExitStack() as locks:
            if not holding.take(list(attack_by_name), locks) or not holding.open:
                return
            with holding.guarded():
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
                progress = _Progress(title, len(holding.missing))
                for name in holding.missing:
                    with holding.attempt(name):
                        source = test.first(attack_by_name[name].images)
                        made = attack_ensemble(
                            members,
                            source,
                            attack_by_name[name],
                            context.device,
                            singly=not isinstance(first.model.ensemble, McDropout),
                            between_batches=between_batches,
                        )
                        images = f"test images of {first.data.name}"
                        self._write(holding.to_write(), name, made, source.labels, images)
                    progress.count(len(source.labels))

    def write_samples(self, runs: Sequence[RunWork]) -> None:
        """Write what the first test image becomes under each corruption, for the report."""
        store = self._context.store
        for data, sets in missing_samples(store, ((run.spec.data, run.evaluations) for run in runs)):
            try:
                self._context.stop.check()
                write_samples(store, self._images, data, self._context.images.load(data).test, sets)
            except (UserError, OSError) as error:  # nothing is computed from them
                log.warning("no samples of corrupted images were written: %s", error)

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


def _unless_lost(holding: Holding, predict: Callable[[], Array]) -> Array | None:
    """Return a prediction of a run; None after an error of its own, or if its lock was lost."""
    with holding.guarded():
        holding.check()
        return predict()
    return None


def _title(runs: Sequence[_HeldRun]) -> str:
    """Return what log lines call runs that are evaluated together."""
    first = runs[0].holding.title if runs else ""
    return first if len(runs) < 2 else f"{first} and {len(runs) - 1} more"


class _Progress:
    """Log lines of how far the sets of runs or of an ensemble are."""

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
