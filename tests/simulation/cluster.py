"""A cluster: SLURM starts workers, preempts and requeues them; each is the real worker on the real store."""

import logging
import random
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import simpy

import bench.work.worker as worker_module
from bench.recipes import Setting
from bench.recipes.pruning import prune_finetune
from bench.spec.run import RunSpec
from bench.store.store import Store
from bench.work.items import Work
from bench.work.readiness import StoreView
from bench.work.signals import AHEAD_OF_LIMIT, EXIT_INTERRUPTED, StopRequest
from bench.work.summary import is_finished
from bench.work.worker import Worker
from tests.simulation.clock import FileServer, KilledError, Process, Time, drive, purposeful
from tests.simulation.files import Files
from tests.simulation.heartbeats import OPERATIONS, Heartbeats
from tests.simulation.memory import Memory, paid
from tests.simulation.outcome import Conditions, Outcome
from tests.simulation.training import Training, context
from tests.training.runs import child_spec, dense_spec, work_of

# SLURM calls a node down that has not answered for so long.
DOWN_SECONDS = 300.0
# In the queue after that, after a time limit, and after a preemption.
QUEUED_SECONDS = {"killed": (60.0, 600.0), "limit": (60.0, 600.0), "preempted": (300.0, 1800.0)}
# What a checkpoint asks the file server: look at the lock, write the checkpoint, write the provenance.
CHECKPOINT_OPERATIONS = 17


class Cluster:
    """Simulates all of some work, from its submission until no worker is left.

    exact   whether every heartbeat and every look at a run is done for real, rather than what may have changed
    """

    def __init__(self, conditions: Conditions, root: Path, *, exact: bool = False) -> None:
        self._conditions, self._store, self._exact = conditions, Store(root), exact
        self._env = simpy.Environment()
        self._server = FileServer(self._env, conditions.latency, conditions.capacity)
        self.files = Files(root)
        self._heartbeats = Heartbeats(self._env, lazily=not exact)
        self.outcome = Outcome(conditions)
        self._training = Training(conditions, self.outcome)
        self._work = work_of(specs(conditions))
        self._items = list(self._work.items())
        self._alone = {run.id for run in self._work.runs if run.spec.parent is None}
        self._waited: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._dead: list[Process] = []
        self._process: Process | None = None

    def run(self) -> Outcome:
        """Simulate, and return what came of it."""
        level = logging.getLogger("bench").level
        logging.getLogger("bench").setLevel(logging.CRITICAL)
        try:
            with pytest.MonkeyPatch.context() as patch:
                self._watch(patch)
                tasks = [self._env.process(self._task(index)) for index in range(self._conditions.workers)]
                everything = self._env.all_of(tasks)
                self._env.process(self._background(everything))
                self._env.run(everything)
        finally:
            logging.getLogger("bench").setLevel(level)
        outcome = self.outcome
        outcome.ended = self._env.now
        outcome.waited, outcome.calls = dict(self._waited), dict(self._calls)
        outcome.by_purpose, outcome.busiest_minute = dict(self._server.by_purpose), max(self._server.by_minute.values())
        view = StoreView(self._store)
        outcome.states = dict(Counter(view.may_start(item).state for item in self._items))
        return outcome

    def _watch(self, patch: pytest.MonkeyPatch) -> None:
        self.files.watch(patch)
        self._heartbeats.watch(patch, self._conditions.seed)
        self._training.watch(patch)
        places = {run.id: place for place, run in enumerate(self._work.runs, start=1)}
        patch.setattr(worker_module, "time", Time(self._env))
        patch.setattr(Work, "items", lambda _: iter(self._items))
        patch.setattr(Worker, "_place", lambda _, item: places[item.run.id])
        patch.setattr(Worker, "_next", purposeful("choosing", Worker._next))
        patch.setattr(Worker, "_evaluated_with", purposeful("sharing", Worker._evaluated_with))
        patch.setattr(Worker, "_first_done", purposeful("ending", Worker._first_done))
        if self._exact:
            look = StoreView._look

            def look_when_paid(view: StoreView, spec: RunSpec) -> Any:
                paid()
                return look(view, spec)

            patch.setattr(StoreView, "_look", look_when_paid)
        else:
            Memory(self.files, self._heartbeats, lambda: self._env.now).watch(patch)

    # -- SLURM ---------------------------------------------------------------------------------------------------------

    def _task(self, index: int) -> Generator[simpy.Event, Any, None]:
        """Be an array task: a worker, put back into the queue until it ends by itself."""
        drawn = random.Random(f"{self._conditions.seed} task {index}")
        yield self._env.timeout(drawn.uniform(0, self._conditions.spread))
        for start in range(10**6):
            stop = StopRequest()
            process = Process(lambda stop=stop: self._work_on(stop), self._server, f"node{index}-{start}")
            began = self._env.now
            running = self._env.process(drive(self._env, process))
            accident = self._env.process(self._accident(running, stop, process, drawn))
            try:
                code = yield running
                ended = "limit" if stop.received in AHEAD_OF_LIMIT else "preempted" if stop.received else "done"
            except KilledError:
                code, ended = EXIT_INTERRUPTED, "killed"
                self.outcome.killed += 1
                process.end_wait()
                self._heartbeats.stop(process)
                self._training.killed(process)
                self._dead.append(process)  # or what is left of its code would run
            if accident.is_alive:
                accident.interrupt()
            self.outcome.allocated += self._env.now - began
            self._waited.update(process.waited)
            if ended == "killed":
                yield self._env.timeout(DOWN_SECONDS)
            if code == 0:
                self.outcome.early += bool(self._alone - self._store.begun())
                return
            assert code == EXIT_INTERRUPTED, f"a worker ended with {code}"
            yield self._env.timeout(drawn.uniform(*QUEUED_SECONDS[ended]))

    def _accident(
        self, running: simpy.Process, stop: StopRequest, process: Process, drawn: random.Random
    ) -> Generator[simpy.Event, Any, None]:
        """End a worker at its time limit, or before that by a preemption or by the death of its node."""
        conditions = self._conditions
        limit, preempted = conditions.walltime, drawn.expovariate(1 / conditions.preempted)
        killed = drawn.expovariate(1 / conditions.killed)
        try:
            yield self._env.timeout(min(limit, preempted, killed))
        except simpy.Interrupt:
            return
        if not running.is_alive:
            return
        if killed < min(limit, preempted):
            running.interrupt(None)
            return
        process.preempted = preempted < limit
        self.outcome.preempted += process.preempted
        number = signal.SIGTERM if process.preempted else signal.SIGUSR2
        running.interrupt(lambda: setattr(stop, "received", number))

    def _work_on(self, stop: StopRequest) -> int:
        """Do as slurm.array_task and slurm/requeue.sh: work, then go back to the queue if work is left."""
        code = Worker(self._work, context(self._store, stop), leaves=True).work()
        if code == EXIT_INTERRUPTED:
            if stop.received not in AHEAD_OF_LIMIT:
                self._calls["scontrol show"] += 1
            elif purposeful("ending", is_finished)(self._work, self._store):
                return 0
            self._calls["scontrol requeue"] += 1
        return code

    def _background(self, everything: simpy.Event) -> Generator[simpy.Event, Any, None]:
        """Ask the file server each minute for what workers do beside choosing: heartbeats and checkpoints."""
        while not everything.triggered:
            yield self._env.timeout(60)
            held = sum(holder.until > self._env.now for holder in self._heartbeats.holders.values())
            beats = held * OPERATIONS * 60 / 15
            checkpoints = held * CHECKPOINT_OPERATIONS * 60 / self._conditions.checkpoint_seconds
            self._server.count(beats, "heartbeats")
            self._server.count(checkpoints, "checkpoints")
            self._server.serve(beats + checkpoints)


def specs(conditions: Conditions) -> list[RunSpec]:
    """Return runs that differ in their seeds; the first `children` of them prune what another has trained."""
    children = round(conditions.runs * conditions.children)
    recipe = prune_finetune(Setting(members=1, learning_rate=0.05), epochs=1, dense_epochs=3)
    pruned = [child_spec(recipe, seed=seed) for seed in range(children // 2)]
    parents = [spec.parent for spec in pruned if spec.parent is not None]
    alone = dense_spec(seed=0)
    first = [spec for pair in zip(parents, pruned, strict=True) for spec in pair]
    return [*first, *(alone.model_copy(update={"seed": seed}) for seed in range(conditions.runs - len(first)))]
