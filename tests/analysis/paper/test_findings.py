"""The answer that a report opens with: in the page, for programs, and as a report of the Reproducibility Challenge."""

import json

import pytest

from analysis.paper.work import Work
from analysis.report import write_report
from tests.analysis.stores import make

GRID = """
title: Published
replicates: 2
base: {data: cifar10, model: {name: wide_resnet, depth: 10, width: 1}, recipe: {epochs: 4}}
cells:
  - {name: single, method: dense}
  - {name: three, method: dense, members: 3}
claims: claims.yaml
"""
VALUES = """
dataset,model,method,members,sparsity,grid,cell,metric_definition,accuracy,nll,note,source
cifar10,wide_resnet10_1,dense,1,,grid.yaml,single,ub,{accuracy},9.5,its recipe is said to be another,one source
""".lstrip()
TOLERANCES = "tolerances: [{data: cifar10, metrics: {accuracy: 60, nll: 0.1}, why: A test.}]"
CLAIMS = """
claims:
  - {id: more, text: Three are better than one., where: abstract, direction: higher,
     left: {cell: three, metric: accuracy}, right: {cell: single, metric: accuracy}}
  - {id: cheap, text: Three are cheaper than one., where: abstract, direction: lower,
     left: {cell: three, metric: train_flops_ratio}, right: 1.0}
  - {id: absent, text: Nothing., where: abstract, direction: lower,
     left: {cell: elsewhere, metric: accuracy}, right: 1.0}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    (folder / "published").mkdir()
    (folder / "small.yaml").write_text(GRID)
    (folder / "grid.yaml").write_text(GRID)
    (folder / "claims.yaml").write_text(CLAIMS)
    (folder / "published" / "own.csv").write_text(VALUES.format(accuracy=50.0))
    (folder / "published" / "tolerances.yaml").write_text(TOLERANCES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.report.write_figures", lambda *_: [])  # tested elsewhere
        write_report(make(folder, GRID, images=60).read(), folder / "out")
    return folder / "out"


def test_programs_find_every_verdict(out):
    found = json.loads((out / "verdicts.json").read_text())
    assert (found["grid"], found["scale"], found["comparable"]) == ("small", "paper", True)
    by_metric = {value["metric"]: value for value in found["values"]}
    assert (by_metric["accuracy"]["verdict"], by_metric["nll"]["verdict"]) == ("agrees", "differs")
    assert (by_metric["nll"]["published"], by_metric["nll"]["tolerance"], by_metric["nll"]["n"]) == (9.5, 0.1, 2)
    by_id = {claim["id"]: claim for claim in found["claims"]}
    assert by_id.keys() == {"more", "cheap"}
    assert (by_id["cheap"]["verdict"], by_id["cheap"]["difference"]) == ("fails", -2.0)
    assert found["value_counts"] == {"agrees": 1, "differs": 1, "undecided": 0, "not run": 0}
    assert sum(found["claim_counts"].values()) == 2
    assert found["work"]["runs"] == 6


def test_the_page_opens_with_the_answer(out):
    page = (out / "index.html").read_text(encoding="utf-8")
    opening = page[: page.index('id="at-results"')]
    assert "Of 2 published values 1 agrees, 1 differs." in opening
    assert "Of 2 claims" in opening
    assert "Three are cheaper than one.” fails" in opening
    assert "6 distinct runs: 6 done" in opening


def test_the_report_for_the_challenge_maps_claims_to_commands_and_leaves_what_only_authors_know(out):
    text = (out / "mlrc.md").read_text(encoding="utf-8")
    command = f"`python -m reproduce {out.parent / 'small.yaml'} --scale paper`"
    assert f"| single: Accuracy (%) 50.0 | {command} | ± 60 | agrees |" in text
    assert f"| Three are cheaper than one. | {command} | margin 0 | fails |" in text
    assert "FreeTickets" not in text  # the file of claims does not say whose they are
    assert "; abstract says it holds." in text
    assert text.count("*To be written by the authors:*") == 5
    assert "single: its recipe is said to be another." in text


def test_work_counts_sessions_that_went_on_and_those_that_never_ended():
    work = Work(1.5, 3, 5, 1, ("a GPU (8 CPU threads)",), ("Python 3.11",), ("0123abcd",), "2026-01-01 10:00", "")
    assert work.sentences == [
        "3 runs, 1.50 hours of training in 5 sessions; 2 of them went on with a run, or began it anew; 1 ended without "
        "a word (killed, or still at work); from 2026-01-01 10:00 to now (UTC).",
        "On a GPU (8 CPU threads); Python 3.11.",
        "Code: 0123abcd.",
    ]
    assert Work().sentences == []
