"""What a submission left in the store is read, or named with its file."""

import json
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.plan import make_plan
from bench.plan.work import work_of
from slurm.records import SubmissionFolder
from tests.grid_text import load_text

GRID = """
base: {data: digits, model: {name: wide_resnet, depth: 10, width: 1}, replicates: 1}
cells: [{name: a, method: dense, members: 2, recipe: {epochs: 4}}]
evaluations: {fgsm: {budgets: [8]}}
"""


def test_work_whose_ensembles_are_of_other_runs_was_altered(tmp_path: Path) -> None:
    plan = make_plan(load_text(tmp_path, GRID), "paper", None)
    work = work_of(plan, plan.runs)
    file = tmp_path / "work.json"
    file.write_text(work.model_dump_json())
    assert SubmissionFolder(tmp_path).work == work
    assert list(SubmissionFolder(tmp_path).work.items())
    content = json.loads(file.read_text())
    content["runs"][1]["spec"]["batch_size"] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        SubmissionFolder(tmp_path).work  # noqa: B018, which reads the file
    lost = work.runs[1].id
    assert str(caught.value).startswith(f"{file}: an ensemble of run {lost}, which is none of its runs; it was altered")


def test_a_log_that_is_gone_is_none_and_lines_of_slurm_are_not_a_worker_s_last_words(tmp_path: Path) -> None:
    (tmp_path / "9_1_0_log.out").symlink_to(tmp_path / "archived elsewhere")
    log = tmp_path / "9_0_0_log.out"
    log.write_text(
        "submitit INFO - Starting with JobEnvironment\n2026-11-27 error: no images\nsrun: error: n1: task 0: Exited\n"
        "slurmstepd-n1: error: *** STEP 9.0 ON n1 CANCELLED ***\nsubmitit WARNING - Bypassing signal SIGCONT\n\n"
    )
    assert SubmissionFolder(tmp_path).logs() == [log]
    assert SubmissionFolder(tmp_path).last_words() == f"{log} ends: 2026-11-27 error: no images"
    log.write_text(
        "slurmstepd: error: execve(): /no/python: No such file\nsrun: error: task 0: Exited\nsrun: launch: _step\n"
    )
    assert (
        SubmissionFolder(tmp_path).last_words() == f"{log} ends: slurmstepd: error: execve(): /no/python: No such file"
    )
