"""Verdicts by hand: when a claim counts as supported, contradicted or undecided, and that the claims file is sound."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.columns import ACCURACY, NLL
from analysis.context import Context
from analysis.efficiency import TRAIN_FLOPS
from analysis.paper.claims import Claim, read_claims
from analysis.paper.claims_table import verdict_table
from analysis.paper.judging import judge
from analysis.paper.published import Published
from analysis.results import Results
from analysis.topics import TOPICS
from bench.errors import UserError
from bench.grid import load_grid

PAPER = Context("g", "paper", (), "")
# The metrics of all topics.
KNOWN = {metric.key: metric for topic in TOPICS for metric in topic.metrics}
CONFIGS = Path(__file__).resolve().parents[3] / "paper_configs"


def results(context=PAPER, **values):
    """Two cells with these NLLs by replicate; a list's position is the replicate."""
    rows = [
        {"cell": cell, "replicate": r, "members": 1, "nll": nll, "accuracy": 1 - nll / 10, "member_accuracy": 0.5}
        for cell, nlls in values.items()
        for r, nll in enumerate(nlls, start=1)
        if nll is not None
    ]
    frame = pd.DataFrame(rows, columns=["cell", "replicate", "members", "nll", "accuracy", "member_accuracy"])
    cells = pd.DataFrame(
        {"cell": list(values), "train_flops_ratio": [0.6, 1.0][: len(values)], "dataset": "cifar10", "members": 1}
    )
    metrics = {metric.key: metric for metric in (NLL, ACCURACY, MEMBER_ACCURACY, TRAIN_FLOPS)}
    return Results(context=context, cells=cells, replicates=frame, metrics=metrics, published={})


def claim(direction="lower", margin=0.0, left=("a", "nll"), right=("b", "nll"), **others):
    return Claim("c", "Text.", "abstract", left, right, direction, margin, **others)


def verdict(made, measured):
    return judge([made], measured)[0]


def test_a_clear_difference_decides():
    measured = results(a=[0.50, 0.51, 0.52], b=[0.60, 0.61, 0.63])
    assert verdict(claim("lower"), measured).decision == "holds"
    assert verdict(claim("higher"), measured).decision == "fails"


def test_an_interval_with_zero_in_it_decides_nothing():
    measured = results(a=[0.50, 0.60, 0.40], b=[0.51, 0.55, 0.45])
    assert verdict(claim("lower"), measured).decision == "undecided"
    assert verdict(claim("higher"), measured).decision == "undecided"


def test_differences_are_paired_by_replicate():
    # The cells overlap, but b is 0.01 to 0.02 above a in every replicate.
    made = verdict(claim("lower"), results(a=[0.1, 0.5, 0.9], b=[0.11, 0.515, 0.92]))
    expected = scipy.stats.ttest_rel([0.11, 0.515, 0.92], [0.1, 0.5, 0.9]).confidence_interval(0.95)
    assert (made.difference.low, made.difference.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert made.decision == "holds"


def test_only_replicates_that_both_cells_have_are_paired():
    made = verdict(claim("lower"), results(a=[0.5, None, 0.5], b=[0.6, 0.9, 0.61]))
    assert made.difference.n == 2
    assert made.difference.mean == pytest.approx(0.105)
    assert made.right == pytest.approx(0.605)


def test_one_replicate_is_too_few_and_none_is_not_run():
    assert verdict(claim("lower"), results(a=[0.5], b=[0.6])).decision == "undecided"
    assert verdict(claim("lower"), results(a=[0.5, 0.5], b=[])).decision == "not run"


def test_accuracies_are_compared_in_percentage_points_against_the_margin():
    measured = results(a=[0.30, 0.31, 0.32], b=[0.20, 0.22, 0.21])  # accuracy of a is 1 point below
    made = claim("higher", left=("a", "accuracy"), right=("b", "accuracy"))
    assert verdict(made, measured).difference.mean == pytest.approx(-1.0)
    assert verdict(made, measured).decision == "fails"
    assert verdict(replace(made, margin=-2.0), measured).decision == "holds"


def test_costs_are_exact_and_need_no_replicates():
    measured = results(a=[], b=[])
    cheaper = claim("lower", left=("a", "train_flops_ratio"), right=1.0)
    assert verdict(cheaper, measured).decision == "holds"
    assert verdict(replace(cheaper, direction="higher"), measured).decision == "fails"
    equal = claim("lower", left=("b", "train_flops_ratio"), right=1.0)
    assert verdict(equal, measured).decision == "fails"


def test_claims_about_other_cells_are_left_out_and_counted():
    measured = results(a=[0.5], b=[0.6])
    assert judge([claim(left=("elsewhere", "nll"))], measured) == []
    others = [claim(left=("elsewhere", "nll")), claim(data="cifar100")]
    table = verdict_table(judge([claim()], measured), others, measured)
    said = "Left out, as about cells or data that this grid does not have: 2 claims; it has no cell elsewhere."
    assert said in table.notes


def test_table_shows_the_numbers_behind_a_verdict_and_the_scale():
    context = Context("g", "tiny", ("Scale tiny: not comparable with published numbers.",), "")
    made = claim("higher", left=("a", "accuracy"), right=("a", "member_accuracy"))
    measured = results(context, a=[0.5, 0.7], b=[])
    table = verdict_table(judge([made], measured), (), measured)
    _, decision, adjusted, difference, n, metric, left, right, published, where = table.rows[0]
    assert (where, metric, n, decision) == ("abstract", "Accuracy (%)", "2", "holds")
    assert (adjusted, published) == ("holds", "")
    assert (left, right) == ("a: 94.00", "a, Member accuracy (%): 50.00")
    assert difference.startswith("44.00 ± ")
    assert not any("nothing about others" in note for note in table.notes)  # claims of nobody
    whose = verdict_table(judge([replace(made, about="a paper")], measured), (), measured)
    assert whose.notes[0].startswith("Claims of a paper. ")
    assert any("nothing about others" in note for note in whose.notes)


@pytest.mark.parametrize("grid", ["cifar10", "cifar100", "imagenet"])
def test_every_claim_of_the_suite_is_about_cells_of_a_grid_that_names_it(grid):
    loaded = load_grid(CONFIGS / f"{grid}.yaml")
    claims = read_claims(loaded.claims, KNOWN)
    assert len({made.id for made in claims}) == len(claims)
    cells = {cell.name for cell in loaded.cells}
    missing = {cell for made in claims for cell, _ in made.sides if made.data in (None, grid)} - cells
    if grid == "imagenet":  # its table has fewer rows
        assert missing == {"EDST M=3 S=0.8", "EDST M=7 S=0.9", "DST M=3 S=0.8", "static M=3 S=0.8", "PF M=3 S=0.8",
                           "dense ensemble M=3"}  # fmt: skip
    else:
        assert not missing


def test_a_grid_without_claims_has_none():
    assert load_grid(CONFIGS / "digits.yaml").claims is None
    assert load_grid(CONFIGS / "ablations" / "sparsity.yaml").claims is None  # it extends a grid that names some


def test_a_claim_of_several_cells_is_one_a_pair(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(
        "claims: [{id: x, text: '{left} beats {right}.', where: w, left: {cells: [a, b], metric: nll}, "
        "right: {cells: [c, d], metric: member_nll}, direction: lower}]"
    )
    found = read_claims(path, KNOWN)
    assert [made.text for made in found] == ["a beats c.", "a beats d.", "b beats c.", "b beats d."]
    assert found[1].id == "x: a / d"
    assert (found[2].left, found[2].right) == (("b", "nll"), ("c", "member_nll"))


def test_a_claim_about_other_data_is_left_out():
    measured = results(a=[0.5, 0.5], b=[0.6, 0.6])
    assert judge([claim(data="cifar100")], measured) == []
    assert len(judge([claim(data="cifar10")], measured)) == 1


def test_level_within_a_margin_is_two_one_sided_tests():
    left, right = [0.500, 0.503, 0.501], [0.501, 0.502, 0.502]
    differences = np.subtract(left, right)
    lower = scipy.stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
    upper = scipy.stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
    made = verdict(claim("level", margin=0.01), results(a=left, b=right))
    assert (made.decision, made.p) == ("holds", pytest.approx(max(lower, upper)))
    narrow = verdict(claim("level", margin=0.001), results(a=left, b=right))
    assert narrow.decision == "undecided"
    assert narrow.needed > 3
    apart = verdict(claim("level", margin=0.01), results(a=[0.5, 0.51, 0.5], b=[0.6, 0.61, 0.61]))
    assert apart.decision == "fails"


def test_p_is_that_of_a_paired_test_against_the_margin():
    left, right = [0.50, 0.53, 0.51, 0.52], [0.55, 0.52, 0.56, 0.58]
    made = verdict(claim("lower", margin=0.01), results(a=left, b=right))
    assert made.p == pytest.approx(scipy.stats.ttest_1samp(np.subtract(right, left), 0.01).pvalue)


def test_replicates_that_all_differ_by_the_same_decide_nothing():
    found = verdict(claim("lower"), results(a=[0.50, 0.51, 0.52], b=[0.60, 0.61, 0.62]))
    assert (found.decision, found.p, found.needed) == ("undecided", None, None)
    assert found.difference.mean == pytest.approx(0.1)


def test_many_claims_are_adjusted_together():
    clear, weak = [0.60, 0.6101, 0.60], [0.506, 0.516, 0.5198]
    measured = results(a=[0.50, 0.51, 0.50], b=clear), results(a=[0.50, 0.51, 0.51], b=weak)
    alone = verdict(claim("lower"), measured[1])
    assert (alone.decision, alone.adjusted) == ("holds", "holds")
    assert 0.025 < alone.p < 0.05
    twice = judge([claim("lower"), replace(claim("lower"), id="d")], measured[1])
    assert [(made.decision, made.adjusted) for made in twice] == [("holds", "undecided")] * 2
    assert verdict(claim("lower"), measured[0]).adjusted == "holds"


def test_an_undecided_claim_says_how_many_replicates_would_decide():
    made = verdict(claim("lower"), results(a=[0.50, 0.60, 0.40], b=[0.52, 0.57, 0.45]))
    assert made.decision == "undecided"
    differences = np.array([0.02, -0.03, 0.05])
    spread, mean = differences.std(ddof=1), differences.mean()

    def decides(n):
        return scipy.stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n) < mean

    assert decides(made.needed)
    assert not decides(made.needed - 1)
    assert verdict(claim("lower"), results(a=[0.5], b=[0.6])).needed is None


def test_what_the_published_values_say_stands_beside():
    def value(number, text):
        return {"nll": Published(number, text, "ub", "", "a source")}

    measured = replace(
        results(a=[0.50, 0.51, 0.50], b=[0.60, 0.6101, 0.60]),
        published={"a": value(0.7, "0.7"), "b": value(0.6, "0.6")},
    )
    made = verdict(claim("lower"), measured)
    assert (made.decision, made.published, made.published_difference) == ("holds", "fails", pytest.approx(-0.1))
    assert verdict_table([made], (), measured).rows[0][-2] == "fails (-0.1000)"
    assert verdict(claim("lower"), replace(measured, published={})).published is None


def test_missing_members_are_marked_in_a_verdict():
    measured = results(a=[0.50, 0.51], b=[0.60, 0.61])
    cells = measured.cells.assign(members=[2, 1])
    table = verdict_table(judge([claim("lower")], replace(measured, cells=cells)), (), replace(measured, cells=cells))
    assert table.rows[0][6].startswith("a [members: 2 (1 in replicate 1, 1 in replicate 2)]: ")


GOOD = "{id: x, text: t, where: w, left: {cell: a, metric: nll}, right: 1.0, direction: lower}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("claims: [", "not valid YAML"),
        ("claims: []", "claims: found an empty list"),
        ("[]", "the file: found a list"),
        ("claims: [{id: x}]", "claims[0].text"),
        (f"claims: [{GOOD.replace('nll', 'nil')}]", "did you mean 'nll'"),
        (f"claims: [{GOOD.replace('1.0', '{cell: b, metric: accuracy}')}]", "NLL and Accuracy (%) cannot be compared"),
        (f"claims: [{GOOD.replace('lower', 'below')}]", "claims[0].direction"),
        (f"claims: [{GOOD.replace('id: x', 'id: x, colour: red')}]", "claims[0].colour"),
        (f"claims: [{GOOD.replace('lower', 'level')}]", "margin must be above 0"),
        (f"claims: [{GOOD.replace('lower', 'lower, margin: .nan')}]", "claims[0].margin"),
        (f"claims: [{GOOD.replace('1.0', '.inf')}]", "claims[0].right"),
        (f"claims: [{GOOD.replace('cell: a', 'cell: a, cells: [b]')}]", "allowed: cell, or cells"),
    ],
)
def test_a_mistake_in_the_claims_is_named(tmp_path, content, message):
    path = tmp_path / "claims.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_claims(path, KNOWN)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
