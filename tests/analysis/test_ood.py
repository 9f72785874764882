"""Detection of images out of distribution against scikit-learn, and what happens when sets are missing or damaged."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from analysis.ood.numbers import BINS, load_ood
from analysis.ood.table import DETECTION, ood_table
from bench.store.logits import RECORDS
from tests.analysis.conftest import GRID
from tests.analysis.lookup import grouped_column, mean_and_half_width
from tests.analysis.stores import cell_of, flip_a_bit, make, numbers_of, of, truncate
from tests.analysis.synthetic import logits_of, set_logits

IMAGES = 60
CELLS = ("dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9")


def members_of(plan, cell, replicate, name):
    """Probabilities [members, images, classes] straight from the logits that were written."""
    wanted, runs = cell_of(plan, cell), {run.id: run for run in plan.runs}
    chosen = [runs[run] for run in wanted.runs[replicate - 1]]
    if name == "test":
        logits = [logits_of(wanted.method, run.spec.seed, run.spec.tickets, IMAGES) for run in chosen]
    else:
        logits = [set_logits(run, name, IMAGES) for run in chosen]
    return scipy.special.softmax(np.concatenate(logits).astype(float), axis=-1)


def scores_of(members):
    """Each score of each image by its definition."""
    mean = members.mean(axis=0)
    scores = {"max_probability": 1 - mean.max(axis=1), "entropy": scipy.stats.entropy(mean, axis=1)}
    if len(members) > 1:
        scores["mutual_information"] = scores["entropy"] - scipy.stats.entropy(members, axis=2).mean(axis=0)
    return scores


@pytest.fixture(scope="module")
def found(robust):
    return numbers_of(load_ood, robust.plan, robust.store)[0]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("ood_set", ["mnist", "uniform"])
def test_detection_equals_that_of_scikit_learn(robust, found, cell, ood_set):
    rows = of(found.detection, cell=cell, replicate=2, ood_set=ood_set).set_index("score")
    inside = scores_of(members_of(robust.plan, cell, 2, "test"))
    beyond = scores_of(members_of(robust.plan, cell, 2, f"ood/{ood_set}"))
    assert list(rows.index) == list(inside)
    for score in inside:
        labels = np.repeat([0, 1], IMAGES)
        values = np.concatenate([inside[score], beyond[score]])
        assert rows.at[score, "auroc"] == pytest.approx(roc_auc_score(labels, values))
        assert rows.at[score, "aupr"] == pytest.approx(average_precision_score(labels, values))
        # The custom turns the classes round: test images are the positives, found by a low score.
        fpr, tpr, _ = roc_curve(1 - labels, -values, drop_intermediate=False)
        assert rows.at[score, "fpr95"] == pytest.approx(fpr[np.argmax(tpr >= 0.95 - 1e-12)])


def test_a_single_network_has_no_mutual_information(found):
    scores = found.detection.groupby("cell", sort=False)["score"].unique()
    assert list(scores["dense"]) == ["max_probability", "entropy"]
    assert list(scores["DST M=2 S=0.8"]) == ["max_probability", "entropy", "mutual_information"]


def test_curves_run_from_corner_to_corner_and_enclose_the_area(found):
    for keys, curve in found.curves.groupby(["cell", "replicate", "ood_set", "score"]):
        row = of(found.detection, **dict(zip(("cell", "replicate", "ood_set", "score"), keys, strict=True)))
        assert curve["tpr"].is_monotonic_increasing
        assert (curve["fpr"].iloc[0], curve["fpr"].iloc[-1], curve["tpr"].iloc[-1]) == (0, 1, 1)
        area = np.trapezoid(curve["tpr"], curve["fpr"])
        # The curve has steps of a 60th, seen on a grid of 200ths.
        assert area == pytest.approx(row["auroc"].item(), abs=0.005)


def test_histograms_hold_every_image_once_and_the_test_images_once_a_replicate(robust, found):
    counts = found.histograms.groupby(["cell", "replicate", "set", "score"])["count"].sum()
    assert (counts == IMAGES).all()
    assert set(found.histograms["set"]) == {"test", "mnist", "uniform"}
    rows = of(found.histograms, cell="EDST M=3 S=0.9", replicate=1, set="uniform", score="entropy")
    values = scores_of(members_of(robust.plan, "EDST M=3 S=0.9", 1, "ood/uniform"))["entropy"]
    counts, edges = np.histogram(values, BINS, (0, math.log(10)))
    assert list(rows["count"]) == list(counts)
    assert list(rows["high"]) == pytest.approx(list(edges[1:]))


def test_a_set_that_is_not_there_leaves_the_others(evaluated):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][0]
    path = evaluated.store.run(run).path / RECORDS
    path.write_text(path.read_text().replace('"ood/mnist"', '"ood/svhn"'))
    found, problems = numbers_of(load_ood, evaluated.plan, evaluated.store)
    rows = of(found.detection, cell="DST M=2 S=0.8")
    assert set(zip(rows["replicate"], rows["ood_set"], strict=True)) == {(1, "uniform"), (2, "mnist"), (2, "uniform")}
    assert problems == ()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
@pytest.mark.parametrize("name", ["ood/mnist", "test"])
def test_a_damaged_file_is_named_and_the_rest_is_computed(evaluated, name, damage):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][1]
    path = evaluated.store.run(run).path / "logits" / f"{name}.safetensors"
    damage(path)
    found, problems = numbers_of(load_ood, evaluated.plan, evaluated.store)
    assert len(problems) == 1
    assert str(path) in problems[0]
    rows = of(found.detection, cell="DST M=2 S=0.8")
    left = {(1, "uniform")} if name != "test" else set()
    assert set(zip(rows["replicate"], rows["ood_set"], strict=True)) == left | {(2, "mnist"), (2, "uniform")}
    assert set(found.detection["cell"]) == set(CELLS)


@pytest.mark.parametrize("name", [RECORDS, "result.json"])
def test_altered_files_of_a_run_are_a_problem_and_not_a_crash(evaluated, name):
    plan = evaluated.plan
    path = evaluated.store.run(cell_of(plan, "DST M=2 S=0.8").runs[0][0]).path / name
    path.write_text('{"ood/mnist": []}')
    found, problems = numbers_of(load_ood, plan, evaluated.store)
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert set(of(found.detection, cell="DST M=2 S=0.8")["replicate"]) == {2}


def test_sets_of_the_user_and_of_fewer_images_have_their_names(tmp_path):
    text = GRID + "evaluations: {ood: {sets: [gaussian], folders: {street-signs: here/signs}, images: 30}}"
    made = make(tmp_path, text)
    found, _ = numbers_of(load_ood, made.plan, made.store)
    assert set(found.detection["ood_set"]) == {"gaussian", "street-signs"}
    assert len(found.detection) == 2 * (2 * 2 + 6 * 3)


def test_a_plan_that_asks_for_nothing_gives_empty_frames(loaded):
    assert loaded.numbers("ood").detection.empty
    assert {"cell", "ood_set", "auroc"} <= set(loaded.numbers("ood").detection.columns)


def test_detection_of_each_set_by_each_score(all_of_it):
    names = {"entropy": "entropy of the mean", "mutual_information": "mutual information"}
    for metric in DETECTION:
        table = ood_table(all_of_it.numbers("ood"), all_of_it.results, metric)
        assert [row[0] for row in table.rows] == list(CELLS)
        for score, group in names.items():
            rows = of(all_of_it.numbers("ood").detection, cell="DST M=2 S=0.8", ood_set="uniform", score=score)
            mean, half_width = mean_and_half_width(rows[metric.key] * 100)
            texts = grouped_column(table, group, "Uniform noise")
            assert texts["DST M=2 S=0.8"] == f"{mean:.2f} ± {half_width:.2f}"
            assert bool(texts["dense"]) == (score == "entropy")
        assert len(table.numbers) == 2 * (2 + 3 * 3)
        assert table.head[1:] == ("MNIST", "Uniform noise") * 3


def test_sets_with_one_title_keep_their_names(all_of_it):
    numbers = all_of_it.numbers("ood")
    renamed = numbers.detection.replace({"ood_set": {"mnist": "svhn", "uniform": "SVHN"}})
    table = ood_table(replace(numbers, detection=renamed), all_of_it.results, DETECTION[0])
    assert table.head[1:] == ("svhn", "SVHN") * 3
