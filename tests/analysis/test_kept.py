"""Scores kept in a file: put together from several machines, read back, and judged without a store."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

import analysis.__main__
from analysis.kept import judge_scores, lost, read_scores, scores_of, with_earlier, write_scores
from bench.errors import UserError
from bench.grid.suite import find_grid
from tests.analysis.test_side_by_side import CELLS, changed

CLAIMS = """
about: a paper
claims:
  - {id: a, text: "{left} is more accurate.", where: abstract, left: {cells: [DST M=2 S=0.8, EDST M=3 S=0.9],
     metric: accuracy}, right: {cell: dense, metric: accuracy}, direction: higher}
  - {id: n, text: "{left} has a lower NLL.", where: table 1, left: {cell: DST M=2 S=0.8, metric: nll},
     right: {cell: dense, metric: nll}, direction: lower}
  - {id: f, text: "{left} is cheap.", where: text, left: {cell: EDST M=3 S=0.9, metric: train_flops_ratio}, right: 1.0,
     direction: lower}
"""


@pytest.fixture
def claimed(evaluated):
    """A full store of a grid that names claims."""
    evaluated.path.write_text(f"{evaluated.path.read_text()}\nclaims: claims.yaml\n")
    (evaluated.path.parent / "claims.yaml").write_text(CLAIMS)
    return evaluated


def test_replicates_of_several_stores_come_together_if_they_are_of_the_same_runs(loaded):
    whole = scores_of(loaded)

    def only(*numbers):
        kept = {
            name: {cell: {n: part[cell][n] for n in numbers} for cell in CELLS}
            for name, part in (("cells", whole.cells), ("runs", whole.runs), ("members", whole.members))
        }
        return whole.model_copy(update={**kept, "made_with": [f"machine {'+'.join(numbers)}"]})

    both = with_earlier(only("2"), only("1"), loaded.plan)
    assert both.model_copy(update={"made_with": whole.made_with}) == whole
    assert list(both.cells["dense"]) == ["1", "2"]
    assert both.made_with == ["machine 1", "machine 2"]
    # What is there anew replaces what was.
    assert with_earlier(changed(whole, "dense", "nll", 1.0), whole, loaded.plan) == changed(whole, "dense", "nll", 1.0)
    for update in ({"runs": {}}, {"cells": {}}):
        assert with_earlier(only("2"), only("1").model_copy(update=update), loaded.plan) == only("2")
    for update in ({"data": {"digits": "other"}}, {"scale": "tiny"}, {"grid": "other"}):
        with pytest.raises(UserError, match=f"the file holds scores of {next(iter(update))} .*, not .*; remove it, or"):
            with_earlier(only("2"), only("1").model_copy(update=update), loaded.plan)
    assert lost(only("1"), only("2")) == [f"{cell} 1" for cell in only("1").cells]


def test_kept_scores_are_read_as_they_were(loaded, tmp_path):
    scores = scores_of(loaded)
    write_scores(scores, tmp_path / "expected.json")
    assert read_scores(tmp_path / "expected.json") == scores
    (tmp_path / "expected.json").write_text("{}")
    with pytest.raises(UserError, match="expected"):
        read_scores(tmp_path / "expected.json")


def test_kept_scores_give_the_verdicts_of_the_store(claimed):
    loaded = claimed.read()
    kept = judge_scores(claimed.path, scores_of(loaded))
    assert [verdict.decision for verdict in kept.findings.verdicts].count("holds") >= 1
    assert kept.findings.as_json()["claims"] == loaded.findings().as_json()["claims"]
    assert len(kept.findings.verdicts) == 4
    same = [key for key in loaded.results.replicates if loaded.results.metrics.get(key) is None or key == "accuracy"]
    pd.testing.assert_frame_equal(kept.results.replicates[same], loaded.results.replicates[same])
    assert kept.results.context == loaded.results.context


def test_verdicts_of_one_replicate_and_another_are_those_of_both(claimed):
    loaded = claimed.read()
    whole = scores_of(loaded)

    def only(number):
        parts = {
            name: {cell: {number: found[number]} for cell, found in getattr(whole, name).items()}
            for name in ("cells", "runs", "members")
        }
        return whole.model_copy(update=parts)

    one = judge_scores(claimed.path, only("1")).findings.verdicts
    assert [verdict.decision for verdict in one[:3]] == ["undecided"] * 3
    assert [verdict.difference.n for verdict in one[:3]] == [1] * 3
    both = judge_scores(claimed.path, with_earlier(only("2"), only("1"), loaded.plan))
    assert both.findings.as_json()["claims"] == loaded.findings().as_json()["claims"]


def test_an_ensemble_with_fewer_members_than_its_name_says_so(claimed):
    scores = scores_of(claimed.read())
    assert scores.members["EDST M=3 S=0.9"] == {"1": 3, "2": 3}
    fewer = {**scores.members, "EDST M=3 S=0.9": {"1": 3, "2": 2}}
    kept = judge_scores(claimed.path, scores.model_copy(update={"members": fewer}))
    assert "EDST M=3 S=0.9 (2 in replicate 2)" in kept.results.context.sentence
    assert "EDST M=3 S=0.9 [members: 3 (2 in replicate 2)]" in str(kept.tables[1].rows)
    none_said = judge_scores(claimed.path, scores.model_copy(update={"members": {}}))
    assert "Fewer members" not in none_said.results.context.sentence


def test_cells_without_scores_are_left_out_with_their_claims(claimed):
    scores = scores_of(claimed.read())
    kept = judge_scores(claimed.path, scores.model_copy(update={"cells": {**scores.cells, "DST M=2 S=0.8": {}}}))
    assert list(kept.results.cells["cell"]) == [cell for cell in CELLS if cell != "DST M=2 S=0.8"]
    assert len(kept.findings.verdicts) == 2
    assert len(kept.findings.left_out) == 2


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"cells": {"gone": {"1": {"nll": 1.0}}}}, "the scores of gone, replicate 1, are of runs that grid small does"),
        ({"cells": {"dense": {"3": {"nll": 1.0}}}}, "the scores of dense, replicate 3, are of runs"),
        ({"cells": {"dense": {"0": {"nll": 1.0}}}}, "the scores of dense, replicate 0, are of runs"),
        ({"cells": {"dense": {"x": {"nll": 1.0}}}}, "the scores of dense, replicate x, are of runs"),
        ({"runs": {"dense": {"1": ("0123456789abcdef",)}}}, "the scores of dense, replicate 1, are of runs"),
        ({"cells": {"dense": {}}}, "there are no scores of grid small at scale paper"),
        ({"data": {"digits": "other"}}, "are of runs that grid small does not ask for"),
    ],
)
def test_scores_of_another_grid_are_refused(claimed, update, said):
    with pytest.raises(UserError, match=said):
        judge_scores(claimed.path, scores_of(claimed.read()).model_copy(update=update))


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        analysis.__main__.main(["verdicts", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_the_command_needs_no_store(claimed, tmp_path, capsys):
    file, out = tmp_path / "kept.json", tmp_path / "out"
    code, said = run(capsys, claimed.path, "--out", out)
    assert (code, "no such file; `python -m analysis compare GRID STORE --keep" in said.err) == (2, True)
    write_scores(scores_of(claimed.read()), file)
    code, said = run(capsys, claimed.path, file, "--out", out)
    assert (code, said.out.startswith("Of 4 claims ")) == (0, True)
    verdicts = json.loads((out / "verdicts.json").read_text())
    assert verdicts["work"] is None
    assert [entry["id"][0] for entry in verdicts["claims"]] == ["a", "a", "n", "f"]
    made = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"tables/small.csv", "tables/small_claims.md", "figures/scores_by_cell.png"} <= made
    code, said = run(capsys, claimed.path, file, "--scale", "small", "--out", out)
    assert (code, "kept.json: scores of scale paper, not small" in said.err) == (2, True)


def test_the_results_that_the_docs_show_are_those_of_the_shipped_scores():
    """docs/results.md was written from the file beside the grid: each mean in its table is there."""
    grid = find_grid(Path("cifar10"))
    kept = judge_scores(grid, read_scores(grid.parent / "expected" / "cifar10-small.json"))
    text = (grid.parent.parent / "docs" / "results.md").read_text()
    rows = {row.split("|")[1].strip().strip("*"): row for row in text.splitlines() if row.startswith("| ")}
    for cell, found in kept.results.replicates.groupby("cell", sort=False):
        mean = 100 * found["accuracy"].mean()
        assert not math.isnan(mean)
        assert f"{mean:.2f}" in rows[str(cell)]
        assert f"{found['nll'].mean():.3f}" in rows[str(cell)]
