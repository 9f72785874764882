"""Verdicts by hand: when a claim counts as supported, contradicted or undecided, and that the claims file is sound."""

from pathlib import Path

import pandas as pd
import pytest
import scipy.stats

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.columns import ACCURACY, NLL
from analysis.context import Context
from analysis.efficiency import TRAIN_FLOPS
from analysis.results import Results
from analysis.topics import TOPICS
from analysis.verdicts import Claim, Side, judge, read_claims, verdict_table
from bench.errors import UserError
from bench.grid import load_grid

PAPER = Context("g", "paper", (), "")
# The metrics of all topics.
KNOWN = {metric.key for topic in TOPICS for metric in topic.metrics}
CONFIGS = Path(__file__).resolve().parents[2] / "paper_configs"


def results(context=PAPER, **values):
    """Two cells with these NLLs by replicate; a list's position is the replicate."""
    rows = [
        {"cell": cell, "replicate": r, "nll": nll, "accuracy": 1 - nll / 10, "member_accuracy": 0.5}
        for cell, nlls in values.items()
        for r, nll in enumerate(nlls, start=1)
        if nll is not None
    ]
    frame = pd.DataFrame(rows, columns=["cell", "replicate", "nll", "accuracy", "member_accuracy"])
    cells = pd.DataFrame({"cell": list(values), "train_flops_ratio": [0.6, 1.0][: len(values)]})
    metrics = {metric.key: metric for metric in (NLL, ACCURACY, MEMBER_ACCURACY, TRAIN_FLOPS)}
    return Results(context=context, cells=cells, replicates=frame, metrics=metrics, published={})


def claim(direction="lower", margin=0.0, left=("a", "nll"), right=("b", "nll")):
    sides = [Side(cell=s[0], metric=s[1]) if isinstance(s, tuple) else s for s in (left, right)]
    return Claim(
        id="c", text="Text.", where="abstract", left=sides[0], right=sides[1], direction=direction, margin=margin
    )


def verdict(made, measured):
    return judge([made], measured)[0]


def test_a_clear_difference_supports_or_contradicts():
    measured = results(a=[0.50, 0.51, 0.52], b=[0.60, 0.61, 0.63])
    assert verdict(claim("lower"), measured).decision == "supported"
    assert verdict(claim("higher"), measured).decision == "contradicted"


def test_an_interval_with_zero_in_it_decides_nothing():
    measured = results(a=[0.50, 0.60, 0.40], b=[0.51, 0.55, 0.45])
    assert verdict(claim("lower"), measured).decision == "undecided"
    assert verdict(claim("higher"), measured).decision == "undecided"


def test_differences_are_paired_by_replicate():
    # The cells overlap, but b is 0.01 to 0.02 above a in every replicate.
    made = verdict(claim("lower"), results(a=[0.1, 0.5, 0.9], b=[0.11, 0.515, 0.92]))
    expected = scipy.stats.ttest_rel([0.11, 0.515, 0.92], [0.1, 0.5, 0.9]).confidence_interval(0.95)
    assert (made.difference.low, made.difference.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert made.decision == "supported"


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
    assert verdict(made, measured).decision == "contradicted"
    assert verdict(made.model_copy(update={"margin": -2.0}), measured).decision == "supported"


def test_costs_are_exact_and_need_no_replicates():
    measured = results(a=[], b=[])
    cheaper = claim("lower", left=("a", "train_flops_ratio"), right=1.0)
    assert verdict(cheaper, measured).decision == "supported"
    assert verdict(cheaper.model_copy(update={"direction": "higher"}), measured).decision == "contradicted"
    equal = claim("lower", left=("b", "train_flops_ratio"), right=1.0)
    assert verdict(equal, measured).decision == "contradicted"


def test_claims_about_other_cells_are_left_out_and_counted():
    measured = results(a=[0.5], b=[0.6])
    assert judge([claim(left=("elsewhere", "nll"))], measured) == []
    table = verdict_table(judge([claim()], measured), 1, measured)
    assert "1 more claims are about cells that this grid does not have." in table.notes


def test_table_shows_the_numbers_behind_a_verdict_and_the_scale():
    context = Context("g", "tiny", ("Scale tiny: not comparable with published numbers.",), "")
    made = claim("higher", left=("a", "accuracy"), right=("a", "member_accuracy"))
    measured = results(context, a=[0.5, 0.7], b=[])
    table = verdict_table(judge([made], measured), 0, measured)
    _, where, metric, left, right, difference, n, decision = table.rows[0]
    assert (where, metric, n, decision) == ("abstract", "Accuracy (%)", "2", "supported")
    assert (left, right) == ("a: 94.00", "a, Member accuracy (%): 50.00")
    assert difference.startswith("44.00 ± ")
    assert any("nothing about the paper" in note for note in table.notes)


def test_the_claims_of_the_suite_are_about_cells_of_the_paper_grid():
    cells = {cell.name for cell in load_grid(CONFIGS / "cifar10.yaml").cells}
    claims = read_claims(CONFIGS / "published" / "claims.yaml", KNOWN)
    assert len({made.id for made in claims}) == len(claims)
    for made in claims:
        assert made.left.cell in cells
        assert not isinstance(made.right, Side) or made.right.cell in cells


def test_no_claims_file_is_no_mistake(tmp_path):
    assert read_claims(tmp_path / "claims.yaml", KNOWN) == []


GOOD = "{id: x, text: t, where: w, left: {cell: a, metric: nll}, right: 1.0, direction: lower}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("claims: [", "not YAML"),
        ("claims: []", "claims"),
        ("claims: [{id: x}]", "claims.0.text"),
        (f"claims: [{GOOD.replace('nll', 'nil')}]", "did you mean 'nll'"),
        (f"claims: [{GOOD.replace('lower', 'below')}]", "claims.0.direction"),
        (f"claims: [{GOOD.replace('id: x', 'id: x, colour: red')}]", "claims.0.colour"),
    ],
)
def test_a_mistake_in_the_claims_is_named(tmp_path, content, message):
    path = tmp_path / "claims.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_claims(path, KNOWN)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
