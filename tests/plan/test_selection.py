"""--select: which runs of a plan a command is about."""

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.plan import Plan, make_plan, select
from tests.grid_text import load_text

BASE = "base: {data: digits, model: {depth: 10, width: 1}, sparsity: 0.8, recipe: {epochs: 8, update_every: 4}}\n"


def test_selections_narrow_down_and_the_same_key_widens(paper: Plan) -> None:
    def cells_and_seeds(*selections: str) -> list[tuple[str, int]]:
        return [(run.cells[-1], run.spec.seed) for run in select(paper, selections)]

    assert select(paper, []) == paper.runs
    assert len(select(paper, ["method=dst"])) == 9
    assert len(select(paper, ["method=dst", "method=edst"])) == 15
    assert cells_and_seeds("method=edst", "seed=18") == [("EDST M=3 S=0.8", 18), ("EDST M=7 S=0.9", 18)]
    assert cells_and_seeds("members=3", "sparsity=0.80", "method=edst", "seed=118") == [("EDST M=3 S=0.8", 118)]
    assert cells_and_seeds("cell=EDST M=7 S=0.9", "seed=218") == [("EDST M=7 S=0.9", 218)]
    assert select(paper, [f"run={paper.runs[5].id[:8]}"]) == (paper.runs[5],)
    assert select(paper, ["status=missing"]) == paper.runs


def test_values_may_be_patterns(paper: Plan) -> None:
    def cells(*selections: str) -> set[str]:
        return {run.cells[-1] for run in select(paper, selections)}

    assert cells("cell=EDST*") == {"EDST M=3 S=0.8", "EDST M=7 S=0.9"}
    assert cells("cell=*DST M=3*") == {"DST M=3 S=0.8", "EDST M=3 S=0.8"}
    assert cells("method=?dst", "members=[37]") == {"EDST M=3 S=0.8", "EDST M=7 S=0.9"}
    assert {run.spec.seed for run in select(paper, ["seed=1*", "method=edst"])} == {18, 118}
    assert len(select(paper, ["run=*"])) == len(paper.runs)


def test_a_name_that_reads_as_a_pattern_is_still_a_name(tmp_path: Path) -> None:
    text = "base: {data: digits, method: dense}\ncells: [{name: 'a [b]'}, {name: a b, model: {width: 2}}]"
    plan = make_plan(load_text(tmp_path, text), "paper", None)
    assert {run.cells for run in select(plan, ["cell=a [b]"])} == {("a [b]",)}


def test_a_shared_run_fits_by_any_one_of_its_cells_but_not_by_a_mixture(paper: Plan) -> None:
    assert len(select(paper, ["cell=dense"])) == 3
    assert len(select(paper, ["members=1"])) == 3
    with pytest.raises(UserError, match="no run fits all"):
        select(paper, ["cell=dense", "members=4"])


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ("methd=dst", ["--select methd=dst: unknown key 'methd'; did you mean 'method'", "sparsity"]),
        ("method", ["--select method: no value; write method=VALUE", "dense, static, dst, edst"]),
        ("method=", ["no value"]),
        ("method=rst", ["fits no run; did you mean 'dst'", "dense, static, dst, edst"]),
        ("cell=DST", ["fits no run; did you mean 'DST M=3 S=0.8' or 'EDST M=3 S=0.8'", "and * for any text"]),
        ("cell=dst*", ["fits no run; did you mean 'DST M=3 S=0.8'"]),
        ("cell=?DST", ["fits no run; did you mean 'DST M=3 S=0.8'"]),
        ("members=three", ["fits no run", "1, 4, 3, 7"]),
        ("sparsity=0.85", ["fits no run", "0.0, 0.8, 0.9"]),
        ("run=xyz", ["fits no run; there are", "and 24 more"]),
        ("status=done", ["fits no run", "missing"]),
    ],
)
def test_a_selection_that_fits_nothing_says_what_there_is(paper: Plan, selection: str, words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        select(paper, [selection])
    for word in words:
        assert word in str(refused.value)
