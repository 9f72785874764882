"""What a person reads: tables at the width of any terminal with nothing cut, reasons once, JSON whole."""

import io
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.store.folders import Store
from slurm.dispatch import Options
from slurm.ledger import BatchFolder, Ledger
from slurm.records import Resources, RunItem, Unit
from slurm.show import (
    MOST_RUNS,
    asked,
    counted,
    print_sbatch,
    print_states,
    print_submission,
    print_submitted,
    states_to_json,
)
from slurm.site import Site
from slurm.states import STATES, RunState, State
from slurm.todo import Todo
from slurm.units import Array, Place
from tests.slurm.fakes import batch_record
from tests.store.runs import run_spec

LOG = Path("/scratch/project_12/results/slurm/cifar10-0a1b2c3d4e/4711234_3_0_log.out")


def printed(print_it: Any, *arguments: Any, width: int = 200, **options: Any) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    print_it(*arguments, console, **options)
    return stream.getvalue()


def state(number: int, state: State, **changes: Any) -> RunState:
    fields = {"grid": "cifar10 paper", "cell": "EDST M=7 S=0.9", "epochs": 450, "sets_asked": 97}
    return RunState(**{"id": f"{number:08x}4e1d9c02", "state": state, **fields, **changes})


RUNNING = state(
    1,
    "running",
    element="4711234_117",
    node="gpu-node-0013.cluster.example.org",
    attempt=3,
    epoch=123,
    images_per_second=10123.4,
    seconds_left=7250.0,
    cell="[bold] global magnitude pruning at high learning rate M=3 S=0.95",
)
FAILED = [
    state(number, "failed", element="4711234_3", attempt=1, node="node1", reason="RuntimeError: no", log=LOG)
    for number in (2, 3, 4)
]
EVERY = [
    RUNNING,
    *FAILED,
    state(5, "lost", element="4711234_4", reason="SLURM no longer knows its job, and there is no result"),
    state(6, "blocked", reason="by its parent 00000002, which is failed", grid="cifar100 long"),
    state(7, "waiting", element="4711234_20", reason="for a free node"),
    state(8, "cancelled", element="4711234_20", reason="by the user"),
    state(9, "done", element="4711234_20", sets=97, epoch=450),
    state(10, "done", sets=90, reason="sets are missing; `retry` makes them"),
]


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_cut_at_the_width_of_a_terminal(width: int) -> None:
    text = printed(print_states, EVERY, width=width)
    assert "…" not in text
    table = text.split("\n\n")[1].partition("\nfailed: ")[0]
    assert max(map(len, table.splitlines())) <= width
    for word in ("00000001", "[bold]", "magnitude", "S=0.95", "running", "123/450", "10,123", "2.0 h"):
        assert word in text
    # Wrapped between words only.
    for word in ("4711234_117", "gpu-node-0013", "attempt"):
        assert word in text
    assert "cluster.example.org" not in text


def test_counts_are_by_grid_and_of_the_states_that_there_are() -> None:
    lines = printed(print_states, EVERY).splitlines()
    assert re.split(r" {2,}", lines[0].strip()) == [
        *("grid", "waiting", "running", "done", "failed", "lost", "blocked", "cancelled", "sets")
    ]
    assert lines[2].split() == ["cifar10", "paper", "1", "1", "2", "3", "1", "-", "1", "187/873"]
    assert lines[3].split() == ["cifar100", "long", *"-----1-", "0/97"]
    done = printed(print_states, [EVERY[8]])
    assert done.splitlines()[0].split() == ["grid", "done", "sets"]
    assert len(done.splitlines()) == 3  # of what is done without a remark, nothing more
    assert "00000009" in printed(print_states, [EVERY[8]], everything=True)


def test_reasons_are_told_once_with_the_first_log() -> None:
    text = printed(print_states, EVERY)
    assert f"failed: 00000002 and 2 more: RuntimeError: no  (log: {LOG})\n" in text
    assert "lost: 00000005: SLURM no longer knows its job, and there is no result\n" in text
    assert "blocked: 00000006: by its parent 00000002, which is failed\n" in text
    assert "done: 0000000a: sets are missing; `retry` makes them\n" in text
    assert text.endswith("`retry` submits 5 runs again; `logs RUN` prints what a task wrote\n")
    assert "`retry`" not in printed(print_states, [RUNNING, EVERY[8]])


def test_what_people_want_to_know_first_comes_first() -> None:
    lines = printed(print_states, EVERY[::-1]).split("\n\n")[1].splitlines()
    assert [line[:8] for line in lines[2:10]] == [
        *("00000001", "00000004", "00000003", "00000002", "00000005", "00000006", "00000008", "00000007")
    ]


def test_thousands_of_runs_and_reasons_fill_no_screens() -> None:
    many = [state(number, "failed", reason=f"ValueError: {number}") for number in range(10_000)]
    done = [state(number, "done") for number in range(10_000, 20_000)]
    started = time.process_time()
    text = printed(print_states, [*many, *done])
    assert time.process_time() - started < 5
    assert text.count("\n") < 3 * MOST_RUNS
    assert "... and 9,980 more; --all shows them" in text
    assert "... and 9,980 more reasons; --all shows them" in text
    assert printed(print_states, many[:50], everything=True).count("ValueError") == 50


def test_json_has_all_there_is() -> None:
    document = json.loads(states_to_json(EVERY))
    assert document["counts"] == dict(zip(STATES, (1, 1, 2, 3, 1, 1, 1), strict=True))
    assert [run["id"] for run in document["runs"]] == [one.id for one in EVERY]
    assert document["runs"][1] == {**asdict(FAILED[0]), "log": str(LOG)}
    assert document["runs"][0]["log"] is None


# -- submissions -------------------------------------------------------------------------------------------------------


SITE = Site(partition="gpu", walltime="24h", margin=1.5)


def item(number: int, hours: float, evaluation_hours: float = 0.0) -> RunItem:
    fields = {"grid": "cifar10 paper", "cells": ("c",), "spec": run_spec(), "parent": None, "evaluations": ()}
    return RunItem(id=f"{number:016x}", hours=hours, evaluation_hours=evaluation_hours, **fields)


def array(*items: RunItem, after: str | Place | None = None, minutes: int = 60, **resources: Any) -> Array:
    asks = {"processes": 1, "nodes": 1, "gpus": 1, "gpu_type": None, "cpus": 4, "memory_gb": 12, "minutes": minutes}
    units = tuple(Unit(train=(one.id,), evaluate=(one.id,), runs=(one,)) for one in items)
    return Array(Resources.model_validate({**asks, **resources}), units, after, at_once=len(units))


def submission(
    items: Sequence[RunItem], arrays: Sequence[Array], site: Site = SITE, width: int = 80, **left: int
) -> str:
    todo = Todo(tuple(items), (), (), left)
    return printed(print_submission, todo, arrays, Options(site, "gpu", None, False), width=width)


def test_a_submission_is_shown_whole_at_eighty_columns() -> None:
    items = [item(number, 3.0) for number in range(4)]
    wide = {"processes": 8, "nodes": 2, "gpu_type": "a100-sxm-80gb", "memory_gb": 384, "minutes": 5760}
    arrays = [array(*items[:2], **wide), array(items[2], after=Place(0, 0)), array(items[3], after="17_3")]
    text = submission(items, arrays)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for words in ("8 processes of", "a100-sxm-80gb", "384", "96.0 h", "a parent", "a run under way"):
        assert words in text


def test_what_is_left_out_is_counted() -> None:
    text = submission([], [], **{"done": 1, "under way": 2000})
    assert text.splitlines() == ["1 run left out: done", "2,000 runs left out: under way", "Nothing to submit."]


@pytest.mark.parametrize(
    ("changes", "hours", "told"),
    [
        ({}, 3.0, "about 8.0 GPU-hours: 6.0 h of training, 2.0 h of evaluation"),
        # 4 processes are taken for 4 times as fast; each has 2 GPUs
        ({"processes": 4, "gpus": 2}, 3.0, "about 16.0 GPU-hours: 6.0 h of training, 2.0 h of evaluation"),
        ({}, 0.001, "about 2.0 GPU-hours: 7 s of training, 2.0 h of evaluation"),
        ({"gpus": 0, "cpus": 8}, 3.0, "about 8.0 h on a CPU: 6.0 h of training, 2.0 h of evaluation"),
    ],
)
def test_what_is_used_is_told_of_all_processes(changes: dict[str, Any], hours: float, told: str) -> None:
    items = [item(number, hours, 1.0) for number in range(2)]
    site = Site(**{"partition": "gpu", **changes})
    assert told in submission(items, [array(*items)], site).splitlines()


def test_little_is_told_in_minutes() -> None:
    items = [item(1, 0.01, 0.1)]
    assert "about 7 min on a GPU: 36 s of training, 6 min of evaluation" in submission(items, [array(*items)])


@pytest.mark.parametrize(
    ("requeue", "how"),
    [(True, "is requeued 1 time"), (False, "has to be submitted again (requeue: false) 1 time")],
)
def test_a_task_longer_than_the_walltime_is_announced(requeue: bool, how: str) -> None:
    long = item(1, 20.0)
    text = submission([long], [array(long)], Site(partition="gpu", walltime="24h", requeue=requeue), width=200)
    # 20 h, times 1.5, are more than 24 h.
    told = "the longest task takes about 20.0 h and asks for 1.5 x that; the site's walltime is 24h, so it"
    assert f"{told} {how}" in text
    short = item(1, 15.0)
    assert "longest" not in submission([short], [array(short)])


def test_what_sbatch_gets_is_shown_once_and_then_what_differs_from_that(tmp_path: Path) -> None:
    items = [item(number, 1.0) for number in range(9)]
    arrays = [
        array(*items[:3]),
        array(*items[3:5], minutes=120),
        array(*items[5:7], minutes=240),
        array(items[7], after=Place(0, 1)),
        array(items[8], after=Place(0, 2)),
    ]
    folder = tmp_path / "my results"
    text = printed(print_sbatch, arrays, Ledger(Store(folder)), Options(SITE, "gpu", None, False))
    first, *others = text.strip().split("\n\nfor ")
    assert first.startswith("sbatch gets, for an array of 3 tasks\n#!/bin/bash\n")
    assert "#SBATCH --array=0-2%3\n" in first
    assert f"-m submitit.core._submit '{folder}/slurm/NAME'" in first
    assert [other.splitlines()[0] for other in others] == [
        "an array of 2 tasks, what differs",
        "an array of 2 tasks, what differs",
        "the first of 2 arrays of 1 task that waits for a parent, what differs",
    ]
    assert others[1].splitlines()[1:] == ["#SBATCH --array=0-1%2", "#SBATCH --time=240"]
    assert "#SBATCH --dependency=afterok:PARENT" in others[2]
    assert not folder.exists()
    local = Options(Site(scheduler="local"), "local", None, False)
    assert printed(print_sbatch, arrays, Ledger(Store(folder)), local) == ""


def test_what_was_submitted_is_named_with_the_next_command(tmp_path: Path) -> None:
    ledger = Ledger(Store(tmp_path / "my results"))
    folders = []
    for number, (elements, kind) in enumerate([(("7_0", "7_1"), "slurm"), (("8",), "slurm"), (("4242",), "local")]):
        record = batch_record(f"b{number}", units=len(elements), created="2026-01-01T00:00:00+00:00", scheduler=kind)
        unit = Unit(train=(), evaluate=(), runs=())
        folders.append(BatchFolder.create(ledger.folder(record.name), record, [unit] * len(elements)))
        folders[-1].submit(elements)
    lines = printed(print_submitted, folders, ledger).splitlines()
    assert lines == [
        "submitted b0 as job 7: 2 tasks",
        "submitted b1 as job 8: 1 task",
        "submitted b2 as process 4242: 1 task",
        f"how they are: python -m slurm status --store '{tmp_path}/my results'",
    ]
    many = printed(print_submitted, [folders[1]] * 25, ledger)
    assert many.count("submitted b1") == 20
    assert "... and 5 more\n" in many


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "1 GPU, 4 CPUs, 12 GB, 60 min"),
        ({"gpus": 2, "cpus": 1, "minutes": 240}, "2 GPUs, 1 CPU, 12 GB, 4.0 h"),
        ({"gpus": 0}, "4 CPUs, 12 GB, 60 min"),
        ({"gpu_type": "a100", "processes": 2}, "2 processes of 1 a100, 4 CPUs, 12 GB, 60 min"),
    ],
)
def test_what_a_task_asks_for_in_words(changes: dict[str, Any], words: str) -> None:
    assert asked(array(item(1, 1.0), **changes).resources) == words


def test_counted() -> None:
    assert [counted(number, "run") for number in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]
