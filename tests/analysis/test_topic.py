"""A topic is all that a report needs to know of a question: what only this file has is in every output."""

from dataclasses import dataclass

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.columns import Metric
from analysis.loading import load
from analysis.reading import tidy
from analysis.report import write_report
from analysis.table import cells_table
from analysis.topic import FigureEntry, Topic
from analysis.topics import TOPICS, find_topic
from bench import metrics
from bench.errors import UserError

HALF = Metric("risk_at_half", "Risk at half coverage (%)", 1, "lower", 100)


@dataclass(frozen=True)
class RiskCoverage:
    scores: pd.DataFrame
    curves: pd.DataFrame


def load_risk_coverage(view):
    """Error rate on the most confident images, by the share of images that are kept."""
    scores, curves = [], []
    for replicate in view.replicates():
        with view.noting():
            members, labels = replicate.members("test")
            ensemble = metrics.ensemble_mean(members)
            wrong = (ensemble.argmax(axis=1) != labels)[(-ensemble.max(axis=1)).argsort(kind="stable")]
            for kept in range(1, len(labels) + 1):
                curves.append({**replicate.key, "coverage": kept / len(labels), "risk": wrong[:kept].mean()})
            scores.append({**replicate.key, "risk_at_half": wrong[: len(labels) // 2].mean()})
    return RiskCoverage(
        tidy(scores, "cell replicate risk_at_half"),
        tidy(curves, "cell replicate coverage risk"),
    )


def tables(_, results):
    yield cells_table("risk", "Risk", results, (HALF,), ("Risk is the error rate.",))


def figures(risk, _):
    def draw():
        figure = Figure()
        axes = figure.subplots()
        for cell, curve in risk.curves.groupby("cell"):
            mean = curve.groupby("coverage")["risk"].mean()
            axes.plot(mean.index, mean, label=str(cell))
        return figure

    yield FigureEntry("risk_coverage", "Risk against coverage", "Error rate of what is kept. n = 2.", draw)


RISK = Topic(
    "risk",
    load_risk_coverage,
    metrics=(HALF,),
    scores=lambda numbers: numbers.scores,
    tables=tables,
    figures=figures,
    claims_note=lambda _: "Half of the images are the most confident ones.",
)
CLAIM = """claims:
  - {id: x, text: Confidence is earned., where: here, direction: lower, right: 100.0,
     left: {cell: dense, metric: risk_at_half}}
"""


@pytest.fixture
def loaded_with_risk(grid, full):
    grid.path.write_text(f"{grid.path.read_text()}\nclaims: claims.yaml\n")
    (grid.path.parent / "claims.yaml").write_text(CLAIM)
    return load(grid.path, full.root, "paper", [f"{__name__}:RISK"])


def test_a_topic_of_one_file_is_in_tables_figures_claims_and_page(loaded_with_risk, tmp_path, monkeypatch):
    # Drawing what the suite has takes seconds, and is tested elsewhere.
    monkeypatch.setattr(
        "analysis.loading.Loaded.figures",
        lambda loaded: [entry for topic, n in loaded.topics[-1:] for entry in topic.figures(n, loaded.results)],
    )
    out = tmp_path / "out"
    page = write_report(loaded_with_risk, out).read_text(encoding="utf-8")
    assert '<section id="risk_coverage">' in page
    assert '<section id="small_risk">' in page
    assert (out / "figures" / "risk_coverage.png").is_file()
    assert "Error rate of what is kept" in (out / "figures" / "captions.md").read_text()
    table = pd.read_csv(out / "tables" / "small_risk.csv").set_index("cell")
    replicates = loaded_with_risk.results.replicates
    mean = replicates.loc[replicates["cell"] == "EDST M=3 S=0.9", "risk_at_half"].mean() * 100
    assert table.at["EDST M=3 S=0.9", "risk_at_half_coverage_percent"] == pytest.approx(mean)
    # What is measured once a replicate is listed with everything else, and claims can be about it.
    assert "risk_at_half_coverage_percent" in pd.read_csv(out / "tables" / "small_replicates.csv")
    verdicts = (out / "tables" / "small_claims.md").read_text()
    assert "Risk at half coverage (%)" in verdicts
    assert "Half of the images are the most confident ones." in verdicts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:RISK", "cannot be imported"),
        (f"{__name__}:NOTHING", "cannot be imported"),
        ("RISK", "cannot be imported"),
        (f"{__name__}:HALF", "not an analysis.topic.Topic but a Metric"),
        ("analysis.ood:TOPIC", "choose another"),
    ],
)
def test_a_topic_that_cannot_be_used_is_a_mistake_that_names_it(name, message):
    with pytest.raises(UserError, match="--topic") as caught:
        find_topic(name)
    assert repr(name) in str(caught.value)
    assert message in str(caught.value)


def test_no_two_topics_share_a_name_or_a_metric():
    names = [topic.name for topic in TOPICS]
    keys = [metric.key for topic in TOPICS for metric in topic.metrics]
    assert len(set(names)) == len(names)
    assert len(set(keys)) == len(keys)


def test_every_metric_of_a_topic_is_a_column_of_the_replicates_or_of_the_cells(loaded):
    for metric in loaded.results.metrics.values():
        frame = loaded.results.cells if metric.measured_on == "plan" else loaded.results.replicates
        assert metric.key in frame
