"""Published values beside ours: agrees, differs and undecided by hand, and how often the test errs."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.columns import ACCURACY
from analysis.context import Context
from analysis.paper.agreement import agreement_table, compare, read_tolerances
from analysis.paper.findings import find
from analysis.paper.published import Published, find_published
from analysis.paper.work import Work
from analysis.results import Results
from analysis.topics import TOPICS
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan

KNOWN = {metric.key for topic in TOPICS for metric in topic.metrics}
FOLDER = Path(__file__).resolve().parents[3] / "paper_configs" / "published"
PAPER = Context("g", "paper", (), "")


def results(accuracies, published="96.3", context=PAPER):
    frame = pd.DataFrame({"accuracy": accuracies}, dtype=float) / 100
    frame = frame.assign(cell="a", replicate=range(1, len(accuracies) + 1), members=3)
    cells = pd.DataFrame({"cell": ["a"], "dataset": "cifar10", "members": 3})
    value = Published(float(published), published, "unknown", "a note", "a source")
    return Results(context, cells, frame, {"accuracy": ACCURACY}, {"a": {"accuracy": value}})


def value_of(accuracies, tolerance=0.5):
    (value,) = compare({("cifar10", "accuracy"): tolerance}, results(accuracies))
    return value


@pytest.mark.parametrize(
    ("accuracies", "agreement"),
    [
        ([96.2, 96.3, 96.25], "agrees"),
        ([95.2, 95.3, 95.25], "differs"),
        ([95.6, 96.4, 96.9], "undecided"),
        ([96.3], "undecided"),
        ([], "not run"),
    ],
)
def test_each_word_is_reached(accuracies, agreement):
    assert value_of(accuracies).agreement == agreement


def test_the_test_is_that_of_two_one_sided_tests():
    accuracies = [96.0, 96.4, 96.5]
    lower = scipy.stats.ttest_1samp(accuracies, 96.3 - 0.9, alternative="greater").pvalue
    upper = scipy.stats.ttest_1samp(accuracies, 96.3 + 0.9, alternative="less").pvalue
    value = value_of(accuracies, 0.9)
    assert value.verdict.p == pytest.approx(max(lower, upper))
    assert (value.agreement == "agrees") == (max(lower, upper) < 0.05)


def test_the_number_that_would_decide_is_the_first_that_does():
    value = value_of([95.9, 96.4, 96.8])
    assert value.agreement == "undecided"
    mean, spread = np.mean([95.9, 96.4, 96.8]) - 96.3, np.std([95.9, 96.4, 96.8], ddof=1)

    def decides(n):
        return abs(mean) + scipy.stats.t.ppf(0.95, n - 1) * spread / math.sqrt(n) < 0.5

    assert decides(value.verdict.needed)
    assert not decides(value.verdict.needed - 1)


TRIES = 400


@pytest.mark.parametrize("distance", [0.5, -0.5])
def test_values_at_the_tolerance_are_called_the_same_in_one_case_of_twenty(distance):
    rng = np.random.default_rng(7)
    tries = [value_of(96.3 + distance + 0.1 * rng.normal(size=3)).agreement for _ in range(TRIES)]
    # Binomial with p = 0.05 either way: three standard errors.
    assert tries.count("agrees") / TRIES == pytest.approx(0.05, abs=0.033)
    assert tries.count("differs") / TRIES == pytest.approx(0.025, abs=0.0235)


def test_the_table_shows_both_values_and_what_to_know():
    measured = results([96.2, 96.3, 96.25])
    table = agreement_table(compare({("cifar10", "accuracy"): 0.5}, measured), measured)
    (row,) = table.rows
    assert row[:4] == ("a", "Accuracy (%)", "agrees", "96.3")
    assert row[4].startswith("96.25 ± 0.12")
    assert row[5].startswith("-0.05 ± 0.12")
    assert row[6:] == ("0.5", "3", "a source")
    assert "a: a note." in table.notes
    assert table.numbers.at[0, "verdict"] == "agrees"


def test_values_without_a_tolerance_are_not_judged():
    assert compare({("cifar100", "accuracy"): 0.5}, results([96.3, 96.3])) == []


def test_a_published_value_of_what_is_not_measured_here_takes_nothing_with_it():
    measured = results([96.2, 96.3, 96.25])
    beside = {"a": {"auroc_textures": measured.published["a"]["accuracy"], **measured.published["a"]}}
    (value,) = compare({("cifar10", "accuracy"): 0.5}, replace(measured, published=beside))
    assert value.metric == ACCURACY


def test_nothing_is_judged_where_ours_may_not_be_compared():
    elsewhere = Context("g", "tiny", ("Scale tiny: not comparable with published numbers.",), "")
    tolerances = {("cifar10", "accuracy"): 0.5}
    assert len(find(results([96.3, 96.4]), [], tolerances, Work()).values) == 1
    findings = find(results([96.3, 96.4], context=elsewhere), [], tolerances, Work())
    assert findings.values == ()
    assert "none is judged. Scale tiny" in findings.sentences[0]


def test_every_published_value_of_the_suite_has_a_tolerance():
    tolerances = read_tolerances(FOLDER / "tolerances.yaml", KNOWN)
    for grid in ("cifar10", "cifar100", "imagenet", "ablations/baselines"):
        plan = make_plan(load_grid(FOLDER.parent / f"{grid}.yaml"), "paper", None)
        data = plan.cells[0].data.name
        for values in find_published(FOLDER, plan).values():
            assert {(data, metric) for metric in values} <= tolerances.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tolerances: [{data: d, metrics: {nil: 1}, why: w}]", "d: metric 'nil'; did you mean 'nll'"),
        ("tolerances: [{data: d, metrics: {nll: 0}, why: w}]", "one number above 0"),
        ("tolerances: [{data: d, metrics: {nll: .nan}, why: w}]", "nll"),
        ("tolerances: [{data: d, metrics: {nll: 1}}]", "tolerances[0].why"),
        (
            "tolerances: [{data: d, metrics: {nll: 1}, why: w}, {data: d, metrics: {nll: 2}, why: w}]",
            "one number above 0",
        ),
    ],
)
def test_a_mistake_in_the_tolerances_is_named(tmp_path, content, message):
    path = tmp_path / "tolerances.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_tolerances(path, KNOWN)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_what_surprises_comes_with_the_furthest_first():
    measured = results([90.0, 90.1, 90.05])
    findings = find(measured, [], {("cifar10", "accuracy"): 0.5}, Work())
    assert findings.surprises() == ["a, Accuracy (%): 90.05 where 96.3 was published (tolerance 0.5)."]
    assert find(replace(measured, published={}), [], {}, Work()).surprises() == []
