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
