"""What became of runs: the store's word first, then what elements wrote down, then SLURM's."""

import json
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.evaluation.sets import AttackSet, CorruptedSet
from bench.recipes import METHODS, Setting
from bench.spec.run import RunSpec
from bench.store.files import write_json
from bench.store.folders import RunFolder, Store
from bench.store.lock import RunLock
from bench.store.logits import Ensemble, Evaluated, evaluated_ensemble
from slurm.ledger import BatchFolder, Ledger
from slurm.owners import Owners, under_way
from slurm.records import EnsembleItem, Mark, RunItem, Unit
from slurm.scheduler import Known
from slurm.states import Observer, RunState, lacking_sets, needing_retry
from tests.slurm.fakes import batch_record
from tests.store.runs import finished_run, run_spec

HOST = socket.gethostname()
SUBMITTED, BEFORE, AFTER = (f"2026-11-24T1{hour}:00:00+00:00" for hour in (2, 1, 3))
FOG = (CorruptedSet(family="local-c", type="fog", severity=1), CorruptedSet(family="local-c", type="fog", severity=3))
FACTS = {"images": "synthetic", "seconds": 1.0, "forward_seconds": 0.5, "device": "cpu"}


class Stage:
    """A store, its submissions, and what SLURM answers."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.answer: dict[tuple[str, int], Known] | None = {}

    def submit(
        self,
        *units: Unit,
        name: str = "b",
        elements: tuple[str, ...] | None = ("1_0", "1_1", "1_2"),
        created: str = SUBMITTED,
        scheduler: str = "slurm",
    ) -> BatchFolder:
        batch = batch_record(name, units=len(units), created=created, scheduler=scheduler)
        folder = BatchFolder.create(Ledger(self.store).folder(name), batch, units)
        if elements is not None:
            folder.submit(elements[: len(units)])
        return folder

    def slurm_says(self, state: str, reason: str = "None", node: str = "", *, index: int = 0, name: str = "b") -> None:
        assert self.answer is not None
        self.answer[name, index] = Known(f"1_{index}", state, reason, node)

    def fails(self, spec: RunSpec, message: str, *, type: str = "RuntimeError", time: str = AFTER) -> None:
        record = {"status": "failed", "type": type, "message": message, "host": "n", "attempt": 1, "time": time}
        write_json(self.store.run(spec.run_id).path / "error.json", record)

    def trains(self, spec: RunSpec, epochs: int) -> RunFolder:
        """Write the history of so many epochs: the first took 100 s, later ones 10 s."""
        folder = self.store.run(spec.run_id)
        folder.path.mkdir(parents=True)
        for epoch in range(epochs):
            folder.append_history({"epoch": epoch + 1, "seconds": 10.0 if epoch else 100.0, "images_per_second": 99.5})
        return folder

    def states(self) -> dict[str, RunState]:
        owners = Owners.of(Ledger(self.store).batches())
        return {one.id: one for one in Observer(self.store, owners, self.answer).states()}

    def state(self, spec: RunSpec) -> RunState:
        return self.states()[spec.run_id]

    def told(self, spec: RunSpec) -> tuple[str, str]:
        one = self.state(spec)
        return one.state, one.reason


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "results")


def item(spec: RunSpec, **changes: Any) -> RunItem:
    parent = None if spec.parent is None else spec.parent.run_id
    fields = {"id": spec.run_id, "grid": "digits paper", "cells": ("EDST M=2",), "spec": spec, "parent": parent}
    return RunItem(**{**fields, "evaluations": (), "hours": 1.0, "evaluation_hours": 0.0, **changes})


def unit(*specs: RunSpec, **changes: Any) -> Unit:
    """Return a unit that trains and evaluates runs."""
    ids = tuple(spec.run_id for spec in specs)
    return Unit(**{"train": ids, "evaluate": ids, "runs": tuple(map(item, specs)), **changes})


def mark(**changes: Any) -> Mark:
    return Mark(
        **{"job": "1_0", "attempt": 1, "stalls": 0, "progress": "", "node": "node1", "started": AFTER, **changes}
    )


PRUNED = METHODS["prune_finetune"].recipe(Setting(members=2, learning_rate=0.1)).phases


def family() -> tuple[RunSpec, RunSpec]:
    """Return a parent and a run that starts from it."""
    parent = run_spec(phases=METHODS["dense"].recipe(Setting(members=1, learning_rate=0.1)), topology=None)
    return parent, run_spec(phases=PRUNED, parent=parent)


SPEC = run_spec()
OTHER = run_spec(seed=19)
EPOCHS = sum(phase.epochs for phase in SPEC.phases)


# -- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Priority", "for jobs of a higher priority"),
        ("Resources", "for a free node"),
        ("JobArrayTaskLimit", "for others of its array: max_jobs of the site"),
        ("Dependency", "for its parent"),
        ("BeginTime", "back in the queue after an interruption"),
        ("QOSMaxJobsPerUserLimit", "SLURM: QOSMaxJobsPerUserLimit"),
        ("None", ""),
    ],
)
def test_what_a_pending_run_waits_for(stage: Stage, reason: str, told: str) -> None:
    stage.submit(unit(SPEC))
    stage.slurm_says("PENDING", reason)
    assert stage.told(SPEC) == ("waiting", told)


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig"])
def test_a_task_that_can_never_start_is_said_to(stage: Stage, reason: str) -> None:
    stage.submit(unit(SPEC))
    stage.slurm_says("PENDING", reason)
    state, told = stage.told(SPEC)
    assert state == "waiting"
    assert told.startswith(f"SLURM: {reason}: it asks for more than its partition gives and will not start")


def test_a_run_waits_in_a_task_that_trains_another_first(stage: Stage) -> None:
    stage.submit(unit(SPEC, OTHER)).write_mark(0, mark(node=HOST))
    stage.slurm_says("RUNNING", node=HOST)
    with RunLock(stage.trains(SPEC, 1).path / "lock"):
        states = stage.states()
    assert states[SPEC.run_id].state == "running"
    assert (states[OTHER.run_id].state, states[OTHER.run_id].reason) == (
        "waiting",
        "in a task that has started, and comes to it",
    )


def test_a_run_back_in_the_queue_keeps_its_epochs_and_has_no_node(stage: Stage) -> None:
    stage.submit(unit(SPEC)).write_mark(0, mark(code=75, attempt=2))
    stage.trains(SPEC, 3)
    stage.slurm_says("PENDING", "BeginTime")
    one = stage.state(SPEC)
    assert (one.state, one.epoch, one.attempt, one.node) == ("waiting", 3, 2, None)
    assert (one.images_per_second, one.seconds_left) == (None, None)


# -- running and done --------------------------------------------------------------------------------------------------


def test_a_run_with_a_live_lock_is_running_though_slurm_has_forgotten_its_job(stage: Stage) -> None:
    folder = stage.submit(unit(SPEC))
    folder.write_mark(0, mark(node=HOST))
    (folder.path / "1_0_0_log.out").touch()
    with RunLock(stage.trains(SPEC, 4).path / "lock"):
        one = stage.state(SPEC)
    assert (one.state, one.reason, one.epoch, one.epochs) == ("running", "", 4, EPOCHS)
    # The median of the last five epochs, of which one was slow.
    assert (one.images_per_second, one.seconds_left) == (99.5, (EPOCHS - 4) * 10.0)
    assert (one.node, one.element, one.attempt, one.log) == (HOST, "1_0", 1, folder.path / "1_0_0_log.out")


def test_a_run_that_another_process_trains_is_running_there(stage: Stage) -> None:
    stage.submit(unit(SPEC))
    stage.slurm_says("PENDING", "Priority")
    with RunLock(stage.store.run(SPEC.run_id).path / "lock"):
        one = stage.state(SPEC)
    assert (one.state, one.reason, one.node, one.epoch) == ("running", "by a process outside of its task", HOST, 0)
    assert (one.images_per_second, one.seconds_left) == (None, None)


@pytest.mark.parametrize("said", ["FAILED", "NODE_FAIL", "PENDING", None])
def test_a_finished_run_is_done_whatever_slurm_says(stage: Stage, said: str | None) -> None:
    finished_run(stage.store.root)
    stage.submit(unit(SPEC)).write_mark(0, mark(code=1, message="no images"))
    if said is not None:
        stage.slurm_says(said)
    one = stage.state(SPEC)
    assert (one.state, one.reason, one.epoch, one.epochs) == ("done", "", EPOCHS, EPOCHS)
    assert needing_retry([one], cancelled=True) == lacking_sets([one]) == []


def evaluates(folder: RunFolder, *sets: CorruptedSet) -> None:
    for one in sets:
        Evaluated.of_run(folder).write(one.name, np.zeros((1, 4, 3), np.float32), np.arange(4), **FACTS)


def test_sets_of_a_finished_run_are_counted(stage: Stage) -> None:
    run = finished_run(stage.store.root)
    stage.submit(unit(SPEC, runs=(item(SPEC, evaluations=FOG),)))
    evaluates(run, FOG[0])
    one = stage.state(SPEC)
    assert (one.state, one.sets, one.sets_asked, one.evaluating) == ("done", 1, 2, False)
    assert one.reason == "sets are missing; `retry` makes them"
    assert lacking_sets([one]) == [one]
    evaluates(run, FOG[1])
    one = stage.state(SPEC)
    assert (one.sets, one.sets_asked, one.reason) == (2, 2, "")
    assert lacking_sets([one]) == []


def test_sets_that_an_element_still_makes_are_not_lacking(stage: Stage) -> None:
    finished_run(stage.store.root)
    stage.submit(unit(SPEC, runs=(item(SPEC, evaluations=FOG),)))
    stage.slurm_says("RUNNING")
    one = stage.state(SPEC)
    assert (one.state, one.sets, one.sets_asked, one.evaluating) == ("done", 0, 2, True)
    assert one.reason == "its sets are being made, or wait for that"
    assert lacking_sets([one]) == []


def test_why_sets_are_lacking_is_what_their_own_element_wrote(stage: Stage) -> None:
    finished_run(stage.store.root)
    stage.submit(unit(SPEC, evaluate=(), runs=(item(SPEC, evaluations=FOG),)), name="a").write_mark(0, mark(code=0))
    evaluation = stage.submit(unit(SPEC, train=(), runs=(item(SPEC, evaluations=FOG),)), created=AFTER, elements=("2",))
    evaluation.write_mark(0, mark(code=2, message="data/fog.npy: not there"))
    assert stage.told(SPEC) == ("done", "data/fog.npy: not there")


def test_a_run_made_from_weights_that_its_parent_no_longer_has_is_damaged(stage: Stage) -> None:
    parent, child = family()
    finished_run(stage.store.root, phases=parent.phases, topology=None)
    folder = finished_run(stage.store.root, phases=PRUNED, parent=parent)
    stage.submit(unit(parent, child))
    assert stage.told(child) == ("done", "")
    result = json.loads((folder.path / "result.json").read_text())
    write_json(folder.path / "result.json", {**result, "inherited": {"tickets/0.safetensors": "of before"}})
    assert stage.told(child) == ("failed", "damaged: its parent was made again since")


# -- attacks on ensembles ----------------------------------------------------------------------------------------------


ATTACKS = (AttackSet(steps=0, budget=2.0), AttackSet(steps=5, budget=8.0))


def ensemble_of(*specs: RunSpec) -> EnsembleItem:
    runs = tuple(spec.run_id for spec in specs)
    return EnsembleItem(runs=runs, members=2, specs=specs, evaluations=ATTACKS, cells=("EDST M=2",), hours=0.1)


def attack(stage: Stage, *specs: RunSpec) -> None:
    evaluated = evaluated_ensemble(stage.store, Ensemble(tuple(spec.run_id for spec in specs), 2))
    for one in ATTACKS:
        evaluated.write(one.name, np.zeros((3, 2, 4, 3), np.float32), np.arange(4), **FACTS)


def test_attacks_count_once_with_the_last_run_of_their_ensemble(stage: Stage) -> None:
    finished_run(stage.store.root), finished_run(stage.store.root, seed=19)
    whole = ensemble_of(SPEC, OTHER)
    stage.submit(unit(SPEC, ensembles=(whole,)), unit(OTHER, ensembles=(whole,)))
    first, last = stage.state(SPEC), stage.state(OTHER)
    assert (first.sets_asked, last.sets, last.sets_asked) == (0, 0, 2)
    assert last.reason == "attacks on its ensemble are missing; `retry` makes them"
    assert lacking_sets([first, last]) == [last]
    attack(stage, SPEC, OTHER)
    last = stage.state(OTHER)
    assert (last.sets, last.sets_asked, last.reason) == (2, 2, "")


@pytest.mark.parametrize("active", [0, 1])
def test_any_task_of_its_runs_sees_to_an_ensemble(stage: Stage, active: int) -> None:
    finished_run(stage.store.root), finished_run(stage.store.root, seed=19)
    whole = ensemble_of(SPEC, OTHER)
    stage.submit(unit(SPEC, ensembles=(whole,)), unit(OTHER, ensembles=(whole,)))
    stage.slurm_says("RUNNING", index=active)
    one = stage.state(OTHER)
    assert (one.sets, one.sets_asked, one.reason, lacking_sets([one])) == (0, 2, "", [])


def test_an_ensemble_waits_for_its_other_runs(stage: Stage) -> None:
    finished_run(stage.store.root, seed=19)
    whole = ensemble_of(SPEC, OTHER)
    stage.submit(unit(SPEC, ensembles=(whole,)), unit(OTHER, ensembles=(whole,)))
    stage.fails(SPEC, "no")
    one = stage.state(OTHER)
    assert (one.state, one.sets, one.sets_asked, one.reason, lacking_sets([one])) == ("done", 0, 2, "", [])


# -- failed ------------------------------------------------------------------------------------------------------------


def test_a_failed_run_has_its_error_attempt_node_and_log(stage: Stage) -> None:
    folder = stage.submit(unit(SPEC))
    folder.write_mark(0, mark(attempt=3, code=1))
    (folder.path / "1_0_0_log.out").write_text("...")
    stage.fails(SPEC, "CUDA error: out of memory\nTried to allocate 20 MiB\n")
    stage.slurm_says("FAILED", "NonZeroExitCode", "node1")
    one = stage.state(SPEC)
    assert (one.state, one.reason) == ("failed", "RuntimeError: Tried to allocate 20 MiB")
    assert (one.attempt, one.node, one.log) == (3, "node1", folder.path / "1_0_0_log.out")


def test_an_error_without_a_message_is_its_type(stage: Stage) -> None:
    stage.submit(unit(SPEC))
    stage.fails(SPEC, "", type="KeyboardInterrupt")
    assert stage.told(SPEC) == ("failed", "KeyboardInterrupt: -")


def test_a_run_that_failed_in_a_task_which_still_runs_has_failed(stage: Stage) -> None:
    folder = stage.submit(unit(SPEC, OTHER))
    folder.write_mark(0, mark())
    stage.slurm_says("RUNNING")
    stage.fails(SPEC, "no")
    assert stage.told(SPEC) == ("failed", "RuntimeError: no")
    assert stage.state(OTHER).state == "waiting"


def test_an_error_of_before_a_retry_does_not_count(stage: Stage) -> None:
    stage.submit(unit(SPEC), name="first", created=BEFORE, elements=("1",))
    stage.fails(SPEC, "no", time=BEFORE)
    assert stage.state(SPEC).state == "failed"
    again = stage.submit(unit(SPEC), elements=("2",))
    stage.slurm_says("PENDING", "Priority")
    assert stage.state(SPEC).state == "waiting"
    again.write_mark(0, mark(node=HOST))
    stage.slurm_says("RUNNING")
    with RunLock(stage.store.run(SPEC.run_id).path / "lock"):
        assert stage.state(SPEC).state == "running"
    stage.slurm_says("OUT_OF_MEMORY")
    state, reason = stage.told(SPEC)
    assert (state, "OUT_OF_MEMORY" in reason) == ("failed", True)


def test_a_mistake_that_stops_a_task_is_told_of_all_its_runs(stage: Stage) -> None:
    message = "data/cifar10: no such folder; `python -m bench data download cifar10`"
    stage.submit(unit(SPEC, OTHER)).write_mark(0, mark(code=2, message=message))
    stage.slurm_says("FAILED", "NonZeroExitCode")
    assert [stage.told(spec) for spec in (SPEC, OTHER)] == [("failed", message)] * 2


@pytest.mark.parametrize(
    ("said", "reason", "told"),
    [
        ("OUT_OF_MEMORY", "None", "SLURM: OUT_OF_MEMORY; raise margin (or memory) in the site file, then `retry`"),
        ("NODE_FAIL", "None", "SLURM: NODE_FAIL, without a word from the run itself; the log may say why"),
        ("TIMEOUT", "TimeLimit", "SLURM: TIMEOUT (TimeLimit), without a word from the run itself; the log may say why"),
    ],
)
def test_what_slurm_says_of_a_task_killed_without_a_word(stage: Stage, said: str, reason: str, told: str) -> None:
    stage.submit(unit(SPEC)).write_mark(0, mark())
    stage.slurm_says(said, reason, "node1")
    assert stage.told(SPEC) == ("failed", told)


def test_a_task_that_failed_before_python_started_names_its_log(stage: Stage) -> None:
    """A line of the site's setup that fails: the commonest first mistake."""
    folder = stage.submit(unit(SPEC))
    stage.slurm_says("FAILED", "NonZeroExitCode", "node1")
    state, reason = stage.told(SPEC)
    assert (state, reason) == (
        "failed",
        f"SLURM: FAILED (NonZeroExitCode), without a log: do the nodes see {folder.path}?",
    )
    (folder.path / "1_0_0_log.out").write_text("module: command not found")
    one = stage.state(SPEC)
    assert one.reason.startswith("SLURM: FAILED (NonZeroExitCode) before the run began; the log says why")
    assert one.log == folder.path / "1_0_0_log.out"


def test_a_task_that_ended_with_an_error_is_not_lost_when_slurm_forgets_it(stage: Stage) -> None:
    stage.submit(unit(SPEC)).write_mark(0, mark(code=1))
    assert stage.told(SPEC) == ("failed", "its task ended with exit code 1; the log may say why")


def test_a_damaged_run_has_failed_until_it_is_made_again(stage: Stage) -> None:
    run = finished_run(stage.store.root)
    stage.submit(unit(SPEC))
    (run.path / "tickets" / "0.safetensors").unlink()
    assert stage.told(SPEC) == ("failed", "damaged: tickets/0.safetensors gone, truncated or altered")
    shutil.rmtree(run.path / "tickets")
    assert stage.told(SPEC) == ("failed", "damaged: tickets/0.safetensors and 1 more gone, truncated or altered")
    (run.path / "result.json").write_text("{")
    assert stage.told(SPEC) == ("failed", "damaged: result.json gone, truncated or altered")
    stage.slurm_says("PENDING", "Priority")
    assert stage.state(SPEC).state == "waiting"


# -- lost, blocked, cancelled ------------------------------------------------------------------------------------------


def test_a_run_of_which_nobody_knows_is_lost(stage: Stage) -> None:
    stage.submit(unit(SPEC)).write_mark(0, mark())
    assert stage.told(SPEC) == ("lost", "SLURM no longer knows its job, and there is no result")


def test_a_run_whose_local_process_is_gone_is_lost(stage: Stage) -> None:
    stage.submit(unit(SPEC), scheduler="local").write_mark(0, mark())
    assert stage.told(SPEC) == ("lost", "its process is gone, and there is no result")


def test_a_run_without_a_result_of_a_job_that_completed_is_lost(stage: Stage) -> None:
    stage.submit(unit(SPEC)).write_mark(0, mark(code=0))
    stage.slurm_says("COMPLETED")
    assert stage.told(SPEC) == ("lost", "its task ended well, but its result is not there")


def test_a_submission_cut_short_is_lost_not_failed(stage: Stage) -> None:
    stage.submit(unit(SPEC), elements=None)
    one = stage.state(SPEC)
    assert (one.state, one.element) == ("lost", None)
    assert one.reason == "was never submitted: sbatch refused it, or the call of `submit` was cut short"


def test_without_an_answer_of_slurm_nothing_is_said_to_be_lost(stage: Stage) -> None:
    finished, failed, ended, asked = (run_spec(seed=seed) for seed in range(4))
    finished_run(stage.store.root, seed=0)
    stage.fails(failed, "no")
    folder = stage.submit(unit(finished), unit(failed), unit(ended), elements=("1_0", "1_1", "1_2"))
    folder.write_mark(2, mark(code=1))
    stage.submit(unit(asked, runs=(item(asked, evaluations=FOG),)), name="other", elements=("2",))
    stage.answer = None
    states = stage.states()
    assert [states[spec.run_id].state for spec in (finished, failed, ended, asked)] == [
        "done",
        "failed",
        "failed",
        "waiting",
    ]
    assert states[asked.run_id].reason == "as far as is known without an answer of SLURM"
    finished_run(stage.store.root, seed=3)
    assert lacking_sets([stage.state(asked)]) == []


def test_children_of_a_failed_parent_are_blocked(stage: Stage) -> None:
    parent, child = family()
    stage.submit(unit(parent), name="a", elements=("1",))
    stage.submit(unit(child), elements=("2",), created=AFTER)
    stage.fails(parent, "no")
    assert stage.told(child) == ("blocked", f"by its parent {parent.run_id[:8]}, which is failed")
    stage.slurm_says("CANCELLED", "DependencyNeverSatisfied")
    assert stage.state(child).state == "blocked"
    assert needing_retry([*stage.states().values()], cancelled=False) == [stage.state(parent), stage.state(child)]


def test_slurm_ended_a_child_whose_parent_was_made_since(stage: Stage) -> None:
    parent, child = family()
    finished_run(stage.store.root, phases=parent.phases, topology=None)
    stage.submit(unit(parent), name="a", elements=("1",))
    stage.submit(unit(child), elements=("2",))
    stage.slurm_says("CANCELLED", "DependencyNeverSatisfied")
    assert stage.told(child) == (
        "blocked",
        "SLURM cancelled it because its parent failed; `retry` submits it again",
    )


def test_a_child_waits_while_its_parent_may_still_be_trained(stage: Stage) -> None:
    parent, child = family()
    stage.submit(unit(parent), name="a", elements=("1",))
    stage.submit(unit(child), elements=("2",))
    stage.slurm_says("RUNNING", name="a")
    stage.slurm_says("PENDING", "Dependency")
    assert stage.told(child) == ("waiting", "for its parent")


@pytest.mark.parametrize(("status", "told"), [("missing", "not trained"), ("failed", "failed"), ("damaged", "damaged")])
def test_a_parent_that_was_never_submitted_blocks_too(stage: Stage, status: str, told: str) -> None:
    parent, child = family()
    stage.submit(unit(child), elements=("2",))
    if status == "failed":
        stage.fails(parent, "no", time=BEFORE)
    elif status == "damaged":
        (finished_run(stage.store.root, phases=parent.phases, topology=None).path / "result.json").write_text("")
    assert stage.told(child) == ("blocked", f"by its parent {parent.run_id[:8]}, which is {told}")


def test_a_parent_trained_by_somebody_else_does_not_block(stage: Stage) -> None:
    parent, child = family()
    stage.submit(unit(child), elements=("2",)).write_mark(0, mark(code=1))
    with RunLock(stage.store.run(parent.run_id).path / "lock"):
        assert stage.told(child) == ("failed", "its task ended with exit code 1; the log may say why")


def test_what_the_user_cancelled_is_cancelled_with_its_children(stage: Stage) -> None:
    """`retry` without names then leaves both alone."""
    parent, child = family()
    stage.submit(unit(parent), unit(OTHER), name="a").cancel({0})
    stage.submit(unit(child), elements=("2",))
    stage.slurm_says("CANCELLED", name="a")
    stage.slurm_says("RUNNING", name="a", index=1)
    stage.slurm_says("CANCELLED", "DependencyNeverSatisfied")
    assert [stage.told(spec) for spec in (parent, child)] == [
        ("cancelled", "by the user"),
        ("cancelled", "with its parent"),
    ]
    assert stage.state(OTHER).state == "waiting"
    states = [*stage.states().values()]
    assert needing_retry(states, cancelled=False) == []
    assert {one.id for one in needing_retry(states, cancelled=True)} == {parent.run_id, child.run_id}


def test_what_scancel_ended_is_cancelled(stage: Stage) -> None:
    stage.submit(unit(SPEC), unit(OTHER)).write_mark(1, mark(code=75))
    stage.slurm_says("CANCELLED")
    assert stage.told(SPEC) == ("cancelled", "SLURM: CANCELLED")
    # Nobody cancelled it, as far as anyone knows: `retry` takes it.
    assert stage.told(OTHER) == (
        "failed",
        "stopped by a signal, and not put back in the queue; `retry` goes on from its checkpoint",
    )


# -- who decides -------------------------------------------------------------------------------------------------------


def test_the_last_submission_of_a_run_decides(stage: Stage) -> None:
    stage.submit(unit(SPEC), name="b1", created=BEFORE, elements=("1",))
    stage.submit(unit(SPEC), name="a2", created=AFTER, elements=("7",))
    stage.slurm_says("FAILED", name="b1")
    stage.slurm_says("PENDING", "Priority", name="a2")
    assert (stage.state(SPEC).state, stage.state(SPEC).element) == ("waiting", "7")


def test_under_way_is_what_active_elements_are_still_to_do(stage: Stage) -> None:
    pending, failing, ended, old = (run_spec(seed=seed) for seed in range(4))
    first = stage.submit(unit(pending), unit(failing, old), unit(ended))
    stage.slurm_says("PENDING", index=0)
    stage.slurm_says("RUNNING", index=1)
    stage.slurm_says("FAILED", index=2)
    stage.fails(failing, "no")
    stage.fails(old, "no", time=BEFORE)
    found = under_way(stage.store, [first], stage.answer or {})
    assert found.train == {pending.run_id: "1_0", old.run_id: "1_1"}
    assert found.evaluate == {pending.run_id: "1_0", failing.run_id: "1_1", old.run_id: "1_1"}


def test_needing_retry_by_state() -> None:
    every = {
        state: RunState("id", "grid", "cell", state)
        for state in ("waiting", "running", "done", "failed", "lost", "blocked", "cancelled")
    }
    without = [one.state for one in needing_retry([*every.values()], cancelled=False)]
    assert without == ["failed", "lost", "blocked"]
    assert [one.state for one in needing_retry([*every.values()], cancelled=True)] == [*without, "cancelled"]
    done = replace(every["done"], sets=1, sets_asked=2)
    assert lacking_sets([done, replace(done, evaluating=True), replace(done, sets=2), every["failed"]]) == [done]


def test_ten_thousand_runs_take_seconds(stage: Stage) -> None:
    """Measured: 1 to 2 s; what takes time with the square of the runs would take minutes."""
    template = item(SPEC)
    known: dict[tuple[str, int], Known] = {}
    for batch in range(10):
        runs = [f"{batch * 1000 + index:016x}" for index in range(1000)]
        units = [
            Unit.model_construct(train=(run,), evaluate=(run,), runs=(template.model_copy(update={"id": run}),))
            for run in runs
        ]
        elements = tuple(f"{batch}_{index}" for index in range(1000))
        stage.submit(*units, name=f"b{batch}", elements=elements)
        states = zip(elements, ("PENDING", "FAILED") * 500, strict=True)
        known |= {(f"b{batch}", index): Known(one, state, "None", "") for index, (one, state) in enumerate(states)}
    stage.answer = known
    started = time.process_time()
    found = stage.states()
    busy = under_way(stage.store, Ledger(stage.store).batches(), known)
    assert time.process_time() - started < 15
    assert len(found) == 10_000
    assert len(busy.train) == 5_000
