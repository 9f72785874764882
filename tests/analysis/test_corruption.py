"""Results on corrupted images against NumPy and scikit-learn, and what happens when sets are missing or damaged."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from sklearn.metrics import accuracy_score, log_loss

from analysis.corruption.numbers import load_corruption
from bench.store.logits import RECORDS, StoredLogits
from tests.analysis.conftest import EVALUATIONS, GRID
from tests.analysis.stores import cell_of, flip_a_bit, make, numbers_of, of, truncate
from tests.analysis.synthetic import FACTS, labels_of, set_logits

IMAGES = 60
SETS = [f"local-c/{kind}/{severity}" for kind in ("fog", "frost", "saturate") for severity in (1, 4)]
CELLS = ("dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9")
HEAD = GRID.split("cells:")[0]


def members_of(plan, cell, replicate, name):
    """Probabilities [members, images, classes] straight from the logits that were written."""
    runs = {run.id: run for run in plan.runs}
    wanted = cell_of(plan, cell)
    logits = np.concatenate([set_logits(runs[run], name, IMAGES) for run in wanted.runs[replicate - 1]])
    return scipy.special.softmax(logits[: wanted.members].astype(float), axis=-1)


def ece(probabilities, labels, bins):
    """Bin by bin, images one by one, upper edges belonging to their bin."""
    error = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, bins + 1)):
        inside = [i for i, p in enumerate(probabilities) if low < p.max() <= high]
        if inside:
            right = np.mean([probabilities[i].argmax() == labels[i] for i in inside])
            error += len(inside) / len(labels) * abs(right - np.mean([probabilities[i].max() for i in inside]))
    return error


def adaptive_ece(probabilities, labels, bins):
    """Bins of equally many images in the order of their confidence, of which no two are equal."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(confidence), bins)
    return sum(abs((correct[part] - confidence[part]).sum()) for part in parts) / len(labels)


def file_of(made, run, name):
    return made.store.run(run).path / "logits" / f"{name}.safetensors"


def remove(made, runs, names):
    """Take sets of these runs away as if they had never been made."""
    for run in runs:
        path = made.store.run(run).path / RECORDS
        records = json.loads(path.read_text())
        path.write_text(json.dumps({name: record for name, record in records.items() if name not in names}))


@pytest.fixture(scope="module")
def found(robust):
    return numbers_of(load_corruption, robust.plan, robust.store)[0]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("replicate", [1, 2])
def test_every_set_equals_an_independent_computation(robust, found, cell, replicate):
    labels = labels_of(IMAGES)
    rows = of(found.sets, cell=cell, replicate=replicate)
    assert sorted(f"{row.family}/{row.type}/{row.severity}" for row in rows.itertuples()) == SETS
    for row in rows.to_dict("records"):
        members = members_of(robust.plan, cell, replicate, f"local-c/{row['type']}/{row['severity']}")
        ensemble = members.mean(axis=0)
        assert row["images"] == IMAGES
        assert row["accuracy"] == pytest.approx(accuracy_score(labels, ensemble.argmax(axis=1)))
        assert row["nll"] == pytest.approx(log_loss(labels, ensemble, labels=range(10)))
        assert row["brier"] == pytest.approx(((ensemble - np.eye(10)[labels]) ** 2).sum(axis=1).mean())
        assert row["ece"] == pytest.approx(ece(ensemble, labels, 15))
        assert row["member_accuracy"] == pytest.approx((members.argmax(axis=2) == labels).mean())
        pairs = list(itertools.combinations(members.argmax(axis=2), 2))
        expected = np.mean([predicted != other for predicted, other in pairs]) if pairs else math.nan
        assert row["disagreement"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("cell", CELLS)
def test_scores_equal_those_of_all_images_together_or_of_the_sets(robust, found, cell):
    row = of(found.by_family, cell=cell, replicate=2).iloc[0]
    ensembles = {name: members_of(robust.plan, cell, 2, name).mean(axis=0) for name in SETS}
    labels = labels_of(IMAGES)
    everything, all_labels = np.concatenate(list(ensembles.values())), np.tile(labels, len(SETS))
    # Sets are of equal size, so means over sets are means over images.
    assert row["corrupted_accuracy"] == pytest.approx(accuracy_score(all_labels, everything.argmax(axis=1)))
    assert row["corrupted_nll"] == pytest.approx(log_loss(all_labels, everything, labels=range(10)))
    assert row["corrupted_ece_pooled"] == pytest.approx(ece(everything, all_labels, 14))
    common = [ece(ensembles[name], labels, 15) for name in SETS if "saturate" not in name]
    assert row["corrupted_ece_mean"] == pytest.approx(np.mean(common))
    assert row["corrupted_adaptive_ece_pooled"] == pytest.approx(adaptive_ece(everything, all_labels, 14))
    common = [adaptive_ece(ensembles[name], labels, 15) for name in SETS if "saturate" not in name]
    assert row["corrupted_adaptive_ece_mean"] == pytest.approx(np.mean(common))
    rows = of(found.sets, cell=cell, replicate=2)
    for name in ("brier", "member_accuracy", "disagreement"):
        assert row[f"corrupted_{name}"] == pytest.approx(rows[name].mean(), nan_ok=True)


def test_a_set_of_fewer_images_counts_as_much_as_the_others(evaluated):
    plan = evaluated.plan
    for run in (run for run in plan.runs if "dense" in run.cells):
        folder = StoredLogits.of_run(evaluated.store.run(run.id))
        folder.write("local-c/fog/1", set_logits(run, "local-c/fog/1", IMAGES)[:, :10], labels_of(10), **FACTS)
    found, _ = numbers_of(load_corruption, plan, evaluated.store)
    rows = of(found.sets, cell="dense", replicate=1)
    assert sorted(rows["images"].unique()) == [10, IMAGES]
    assert of(found.by_family, cell="dense", replicate=1)["corrupted_nll"].item() == pytest.approx(rows["nll"].mean())


def test_bins_hold_every_image_of_every_set_once(robust, found):
    bins = of(found.bins, cell="DST M=2 S=0.8", replicate=1)
    everything = np.concatenate([members_of(robust.plan, "DST M=2 S=0.8", 1, name).mean(axis=0) for name in SETS])
    counts, edges = np.histogram(everything.max(axis=1), 15, (0, 1))
    assert list(bins["count"]) == list(counts)
    assert list(bins["low"]) == pytest.approx(list(edges[:-1]))
    filled = bins.dropna()
    confidence = (filled["confidence"] * filled["count"]).sum() / len(everything)
    assert confidence == pytest.approx(everything.max(axis=1).mean())


@pytest.mark.parametrize("cell", CELLS)
def test_mce_is_relative_to_the_mean_of_the_dense_cell_type_by_type(robust, found, cell):
    def error(name, replicate, of_set):
        predicted = members_of(robust.plan, name, replicate, of_set).mean(axis=0).argmax(axis=1)
        return np.mean(predicted != labels_of(IMAGES))

    ratios = []
    for first, second in zip(SETS[::2], SETS[1::2], strict=True):  # the two severities of a type
        reference = sum(error("dense", replicate, name) / 2 for replicate in (1, 2) for name in (first, second))
        ratios.append((error(cell, 1, first) + error(cell, 1, second)) / reference)
    assert of(found.by_family, cell=cell, replicate=1)["mce"].item() == pytest.approx(np.mean(ratios))


def test_the_reference_of_mce_is_the_dense_cell_of_the_same_data(tmp_path):
    text = (
        HEAD.replace("  data: digits\n", "").replace("replicates: 2", "replicates: 1")
        + """
cells:
  - {name: digits, data: digits, method: dense, recipe: {epochs: 8}}
  - {name: cifar, data: cifar10, method: dense, recipe: {epochs: 8}}
  - {name: two, data: cifar10, method: dense, members: 2, recipe: {epochs: 8}}
"""
        + "evaluations: {local_c: {types: [fog], severities: [4]}}"
    )
    made = make(tmp_path, text)
    found, _ = numbers_of(load_corruption, made.plan, made.store)
    errors = (1 - found.by_family.set_index("cell")["corrupted_accuracy"]).to_dict()
    assert found.by_family.set_index("cell")["mce"].to_dict() == pytest.approx(
        {"digits": 1.0, "cifar": 1.0, "two": errors["two"] / errors["cifar"]}
    )


def test_without_a_single_dense_network_there_is_no_mce(tmp_path):
    text = HEAD + "cells:\n  - {name: two, method: dense, members: 2, recipe: {epochs: 8}}\n"
    made = make(tmp_path, text + EVALUATIONS)
    found, problems = numbers_of(load_corruption, made.plan, made.store)
    assert found.by_family["mce"].isna().all()
    assert found.by_family["corrupted_accuracy"].notna().all()
    assert problems == ()


def test_names_of_ece_say_how_many_types_count(found):
    assert found.types == {"local-c": ("fog", "frost", "saturate")}
    assert found.ece_names == {"local-c": ("pooled-3-14bins", "mean-2-15bins")}


def test_without_common_types_there_is_no_mean_ece(tmp_path):
    made = make(tmp_path, GRID + "evaluations: {local_c: {types: [saturate, spatter], severities: [2]}}")
    found, _ = numbers_of(load_corruption, made.plan, made.store)
    assert found.ece_names == {"local-c": ("pooled-2-14bins", "mean-0-15bins")}
    for kind in ("ece", "adaptive_ece"):
        assert found.by_family[f"corrupted_{kind}_mean"].isna().all()
        assert found.by_family[f"corrupted_{kind}_pooled"].notna().all()


def test_a_replicate_that_lacks_a_set_has_no_scores_and_the_others_have(evaluated):
    cell = cell_of(evaluated.plan, "DST M=2 S=0.8")
    remove(evaluated, cell.runs[1][:1], ["local-c/frost/4"])
    found, problems = numbers_of(load_corruption, evaluated.plan, evaluated.store)
    assert list(of(found.by_family, cell=cell.name)["replicate"]) == [1]
    assert len(found.by_family) == 7
    assert len(of(found.sets, cell=cell.name, replicate=2)) == len(SETS) - 1
    assert of(found.bins, cell=cell.name)["replicate"].unique() == [1]
    assert found.types == {"local-c": ("fog", "frost", "saturate")}
    assert problems == ()


def test_a_type_without_one_of_its_severities_is_left_out_of_all_scores(evaluated):
    remove(evaluated, [run.id for run in evaluated.plan.runs], ["local-c/fog/4"])
    found, problems = numbers_of(load_corruption, evaluated.plan, evaluated.store)
    assert problems == ("local-c: some severities of fog are missing; its scores are without",)
    assert found.ece_names == {"local-c": ("pooled-2-14bins", "mean-1-15bins")}
    assert len(found.by_family) == 8
    rows = of(found.sets, cell="dense", replicate=1)
    assert "fog" in set(rows["type"])
    scored = rows[rows["type"] != "fog"]
    score = of(found.by_family, cell="dense", replicate=1)["corrupted_accuracy"].item()
    assert score == pytest.approx(scored["accuracy"].mean())


def test_a_type_that_is_missing_wholly_is_not_spoken_of(evaluated):
    remove(evaluated, [run.id for run in evaluated.plan.runs], ["local-c/fog/1", "local-c/fog/4"])
    found, problems = numbers_of(load_corruption, evaluated.plan, evaluated.store)
    assert problems == ()
    assert found.types == {"local-c": ("frost", "saturate")}


def test_no_type_that_is_whole_gives_sets_without_scores(evaluated):
    names = ["local-c/fog/4", "local-c/frost/1", "local-c/saturate/1", "local-c/saturate/4"]
    remove(evaluated, [run.id for run in evaluated.plan.runs], names)
    found, problems = numbers_of(load_corruption, evaluated.plan, evaluated.store)
    assert len(found.sets) == 8 * 2
    assert found.by_family.empty
    assert found.bins.empty
    assert found.types == {"local-c": ()}
    assert len(problems) == 1


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_file_costs_its_own_set_alone(evaluated, damage):
    cell = cell_of(evaluated.plan, "EDST M=3 S=0.9")
    path = file_of(evaluated, cell.runs[0][0], "local-c/frost/1")
    damage(path)
    found, problems = numbers_of(load_corruption, evaluated.plan, evaluated.store)
    rows = of(found.sets, cell=cell.name, replicate=1)
    assert sorted(rows["type"] + "/" + rows["severity"].astype(str)) == [
        name.removeprefix("local-c/") for name in SETS if name != "local-c/frost/1"
    ]
    assert len(found.sets) == 8 * len(SETS) - 1
    assert list(of(found.by_family, cell=cell.name)["replicate"]) == [2]
    assert len(found.by_family) == 7
    assert [str(path) in problem for problem in problems] == [True]


def test_altered_records_are_named_once_and_the_rest_is_read(evaluated):
    path = evaluated.store.run(cell_of(evaluated.plan, "EDST M=3 S=0.9").runs[0][0]).path / RECORDS
    plan = evaluated.plan
    path.write_text('{"local-c/fog/1": {"bytes": "many"}}')
    found, problems = numbers_of(load_corruption, plan, evaluated.store)
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert len(found.by_family) == 7


def test_sets_made_with_other_tickets_do_not_count_and_are_named(evaluated):
    cell = cell_of(evaluated.plan, "DST M=2 S=0.8")
    path = evaluated.store.run(cell.runs[0][0]).path / RECORDS
    records = json.loads(path.read_text())
    for name, record in records.items():
        if name.startswith("local-c"):
            record |= {"tickets": {"tickets/0.safetensors": "0" * 64}, "checksum": None}
    path.write_text(json.dumps(records))
    found, problems = numbers_of(load_corruption, evaluated.plan, evaluated.store)
    assert set(of(found.sets, cell=cell.name)["replicate"]) == {2}
    assert len(problems) == len(SETS)
    assert all("other tickets" in problem for problem in problems)


def test_a_cell_of_fewer_samples_counts_the_first_members(tmp_path):
    text = HEAD.replace("width: 1}", "width: 1, ensemble: {kind: mc_dropout, samples: 5}}")
    text += "cells:\n  - {name: two, method: dense, members: 2}\n  - {name: ten, method: dense, members: 10}\n"
    made = make(tmp_path, text + EVALUATIONS)
    found, _ = numbers_of(load_corruption, made.plan, made.store)
    for cell, count in (("two", 2), ("ten", 10)):
        row = of(found.sets, cell=cell, replicate=1, type="fog", severity=4).iloc[0]
        members = members_of(made.plan, cell, 1, "local-c/fog/4")
        assert len(members) == count
        assert row["nll"] == pytest.approx(log_loss(labels_of(IMAGES), members.mean(axis=0), labels=range(10)))


def test_released_sets_are_a_family_of_their_own_and_come_before_those_made_here(tmp_path):
    text = GRID.replace("data: digits", "data: cifar10") + EVALUATIONS
    text += "  cifar_c: {types: [fog, jpeg_compression], severities: [2]}\n"
    made = make(tmp_path, text)
    found, _ = numbers_of(load_corruption, made.plan, made.store)
    assert found.types == {"cifar-10-c": ("fog", "jpeg_compression"), "local-c": ("fog", "frost", "saturate")}
    assert set(zip(found.by_family["family"], found.by_family["cell"], strict=True)) == {
        (family, cell) for family in found.types for cell in CELLS
    }
    released = of(found.by_family, family="cifar-10-c").set_index(["cell", "replicate"])["corrupted_nll"]
    assert found.scores.set_index(["cell", "replicate"])["corrupted_nll"].to_dict() == released.to_dict()


def test_families_of_several_data_sets_lie_beside_their_own_cells(tmp_path):
    text = (
        HEAD.replace("  data: digits\n", "")
        + """
cells:
  - {name: ten, data: cifar10, method: dense, recipe: {epochs: 8}}
  - {name: hundred, data: cifar100, method: dense, recipe: {epochs: 8}}
evaluations: {cifar_c: {types: [fog], severities: [4]}}
"""
    )
    made = make(tmp_path, text)
    found, _ = numbers_of(load_corruption, made.plan, made.store)
    assert dict(zip(found.by_family["cell"], found.by_family["family"], strict=True)) == {
        "ten": "cifar-10-c",
        "hundred": "cifar-100-c",
    }
    assert found.scores["corrupted_accuracy"].notna().all()
    assert found.scores.groupby("cell")["mce"].mean().to_dict() == pytest.approx({"ten": 1, "hundred": 1})


def test_without_corrupted_results_replicates_have_the_columns_and_no_values(loaded):
    replicates = loaded.results.replicates
    assert len(replicates) == 8
    assert replicates["corrupted_accuracy"].isna().all()
    assert loaded.numbers("corruption").sets.empty
    assert loaded.numbers("corruption").types == {}
