"""Claims about corrupted images are judged by the scores over their sets."""

import pytest

from analysis.corruption.numbers import METRICS
from analysis.paper.claims import Claim
from analysis.paper.claims_table import verdict_table
from analysis.paper.judging import judge
from analysis.report import all_tables
from tests.analysis.lookup import mean_and_half_width


def claim(metric, left="EDST M=3 S=0.9", right="dense", direction="higher"):
    return Claim("c", "Text.", "abstract", (left, metric), (right, metric), direction, 0.0)


@pytest.mark.parametrize("metric", [metric.key for metric in METRICS])
def test_claims_are_judged_on_every_corrupted_metric(all_of_it, metric):
    verdict = judge([claim(metric)], all_of_it.results)[0]
    factor = next(known.factor for known in METRICS if known.key == metric)
    scores = all_of_it.numbers("corruption").by_family.set_index(["cell", "replicate"])[metric] * factor
    differences = scores["EDST M=3 S=0.9"] - scores["dense"]
    if metric == "corrupted_disagreement":  # a single network has none
        assert verdict.decision == "not run"
        return
    mean, half_width = mean_and_half_width(differences)
    assert (verdict.difference.mean, verdict.difference.half_width) == (pytest.approx(mean), pytest.approx(half_width))
    decision = "holds" if mean > half_width else "fails" if mean < -half_width else "undecided"
    assert verdict.decision == decision


@pytest.mark.parametrize("metric", ["corrupted_accuracy", "corrupted_ece_pooled", "mce"])
def test_claims_about_corrupted_images_are_not_run_without_any(loaded, metric):
    verdicts = judge([claim(metric)], loaded.results)
    assert verdicts[0].decision == "not run"
    table = verdict_table(verdicts, (), loaded.results)
    assert table.rows[0][1] == "not run"


def test_claims_of_a_grid_file_are_judged_on_corrupted_accuracy(evaluated):
    evaluated.path.write_text(f"{evaluated.path.read_text()}\nclaims: claims.yaml\n")
    (evaluated.path.parent / "claims.yaml").write_text(
        "claims: [{id: x, text: EDST withstands., where: abstract, direction: higher, "
        "left: {cell: EDST M=3 S=0.9, metric: corrupted_accuracy}, right: {cell: dense, metric: corrupted_accuracy}}]"
    )
    table = next(table for table in all_tables(evaluated.read()) if table.name == "small_claims")
    assert table.rows[0][5] == "Corrupted accuracy (%)"
    assert table.rows[0][1] in ("holds", "undecided", "fails")
