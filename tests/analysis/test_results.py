"""What is read from a store: values against independent computations, and what happens when runs are not whole."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
from sklearn.metrics import accuracy_score, log_loss, recall_score

from analysis.results import load_results
from bench.plan import make_plan
from bench.store.folders import DataRecord
from tests.analysis.conftest import GRID
from tests.analysis.stores import flip_a_bit, make, truncate
from tests.analysis.synthetic import VALIDATION_IMAGES, fill, labels_of, logits_of, noise_of, write_run

IMAGES = 300


def of(frame, **keys):
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    return frame


def cell_of(plan, name):
    return next(cell for cell in plan.cells if cell.name == name)


def spec_of(plan, run):
    return next(one.spec for one in plan.runs if one.id == run)


def probabilities(plan, name, replicate):
    """Members of a replicate straight from the logits that were written."""
    cell = cell_of(plan, name)
    specs = [spec_of(plan, run) for run in cell.runs[replicate - 1]]
    return np.concatenate(
        [scipy.special.softmax(logits_of(cell.method, s.seed, s.tickets, IMAGES).astype(float), axis=-1) for s in specs]
    )


@pytest.mark.parametrize("name", ["dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"])
@pytest.mark.parametrize("replicate", [1, 2])
def test_ensemble_metrics_equal_an_independent_computation(sources, name, replicate):
    members, labels = probabilities(sources.plan, name, replicate), labels_of(IMAGES)
    ensemble = members.mean(axis=0)
    row = of(sources.results.replicates, cell=name, replicate=replicate).iloc[0]
    assert row["members"] == len(members) == cell_of(sources.plan, name).members
    assert row["accuracy"] == pytest.approx(accuracy_score(labels, ensemble.argmax(axis=1)))
    assert row["nll"] == pytest.approx(log_loss(labels, ensemble, labels=range(10)))
    assert row["member_accuracy"] == pytest.approx(np.mean([accuracy_score(labels, m.argmax(axis=1)) for m in members]))
    assert row["member_nll"] == pytest.approx(np.mean([log_loss(labels, m, labels=range(10)) for m in members]))
    assert row["brier"] == pytest.approx(((ensemble - np.eye(10)[labels]) ** 2).sum(axis=1).mean())
    pairs = list(itertools.permutations(range(len(members)), 2))
    if pairs:
        predicted = members.argmax(axis=2)
        assert row["disagreement"] == pytest.approx(np.mean([(predicted[i] != predicted[j]).mean() for i, j in pairs]))
        kl = [scipy.stats.entropy(members[j], members[i], axis=-1).mean() for i, j in pairs]
        assert row["kl"] == pytest.approx(np.mean(kl))
    else:
        assert np.isnan(row["disagreement"])
        assert np.isnan(row["kl"])


def test_the_dense_network_is_the_first_member_of_the_dense_ensemble(sources):
    members = sources.results.members
    single = of(members, cell="dense", replicate=1, member=1)["nll"].item()
    assert of(members, cell="dense ensemble M=2", replicate=1, member=1)["nll"].item() == single


def test_reliability_holds_every_image_once_and_gives_the_ece(sources):
    bins = of(sources.results.reliability, cell="DST M=2 S=0.8", replicate=2)
    assert bins["count"].sum() == IMAGES
    assert len(bins) == 15
    gaps = (bins["accuracy"] - bins["confidence"]).abs() * bins["count"]
    row = of(sources.results.replicates, cell="DST M=2 S=0.8", replicate=2).iloc[0]
    assert gaps.sum() / IMAGES == pytest.approx(row["ece"])


def test_pairs_are_all_ordered_pairs(sources):
    pairs = of(sources.results.pairs, cell="EDST M=3 S=0.9", replicate=1)
    assert sorted(zip(pairs["first"], pairs["second"], strict=True)) == list(itertools.permutations((1, 2, 3), 2))


@pytest.mark.parametrize("name", ["dense ensemble M=2", "EDST M=3 S=0.9"])
def test_distances_of_every_pair_equal_those_of_scipy(sources, name):
    members, labels = probabilities(sources.plan, name, 2), labels_of(IMAGES)
    right = members.argmax(axis=2) == labels
    for row in of(sources.results.pairs, cell=name, replicate=2).to_dict("records"):
        i, j = row["first"] - 1, row["second"] - 1
        differs = (members[i].argmax(axis=1) != members[j].argmax(axis=1)).mean()
        assert row["disagreement"] == pytest.approx(differs)
        assert row["normalised_disagreement"] == pytest.approx(differs / (1 - (right[i].mean() + right[j].mean()) / 2))
        # The direction: what the second predicts, coded by the first.
        assert row["kl"] == pytest.approx(scipy.stats.entropy(members[j], members[i], axis=-1).mean())
        both = list(zip(members[i], members[j], strict=True))
        assert row["cosine"] == pytest.approx(np.mean([scipy.spatial.distance.cosine(p, q) for p, q in both]))
        distances = [scipy.spatial.distance.jensenshannon(p, q) for p, q in both]
        assert row["jensen_shannon"] == pytest.approx(np.mean(distances))
        same = (right[i] & right[j]).sum() * (~right[i] & ~right[j]).sum()
        other = (right[i] & ~right[j]).sum() * (~right[i] & right[j]).sum()
        assert row["q_statistic"] == pytest.approx((same - other) / (same + other))


def test_means_over_pairs_and_ambiguity_are_those_of_a_replicate(sources):
    keys = ("disagreement", "normalised_disagreement", "kl", "cosine", "jensen_shannon", "q_statistic")
    for row in sources.results.replicates.to_dict("records"):
        pairs = of(sources.results.pairs, cell=row["cell"], replicate=row["replicate"])
        for key in keys:
            assert row[key] == pytest.approx(pairs[key].mean(), nan_ok=True)
        assert row["ambiguity"] == pytest.approx(row["member_nll"] - row["nll"], abs=1e-12)


def test_classes_are_recalled_by_the_ensemble_and_by_each_member(sources):
    name = "EDST M=3 S=0.9"
    members, labels = probabilities(sources.plan, name, 1), labels_of(IMAGES)
    for number, predicted in enumerate((members.mean(axis=0), *members)):
        own = of(sources.results.classes, cell=name, replicate=1, member=number)
        assert list(own["label"]) == list(range(10))
        recall = recall_score(labels, predicted.argmax(axis=1), average=None, labels=range(10))
        assert list(own["accuracy"]) == pytest.approx(list(recall))
    assert set(of(sources.results.classes, cell=name)["member"]) == {0, 1, 2, 3}


@pytest.mark.parametrize(("data", "third"), [("digits", "2"), ("cifar10", "bird")])
def test_classes_have_their_names_or_their_numbers(tmp_path, data, third):
    made = make(tmp_path, GRID.replace("data: digits", f"data: {data}"), images=30)
    classes = load_results(made.plan, made.store).classes
    assert set(of(classes, label=2)["name"]) == {third}
    assert classes["name"].notna().all()


def test_several_data_sets_name_their_own_classes(tmp_path):
    head = GRID.split("cells:")[0].replace("  data: digits\n", "")
    cells = ", ".join(f"{{name: {d}, data: {d}, method: dense, recipe: {{epochs: 8}}}}" for d in ("cifar10", "digits"))
    made = make(tmp_path, f"{head}cells: [{cells}]\n", images=30)
    classes = load_results(made.plan, made.store).classes
    assert set(of(classes, cell="cifar10", label=9)["name"]) == {"truck"}
    assert set(of(classes, cell="digits", label=9)["name"]) == {"9"}


def nll(probabilities, labels):
    # scikit-learn's log_loss takes 2e-16 for anything less.
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


def fitted(logits, labels):
    """The temperature of least NLL, found without derivatives."""

    def loss(log_temperature):
        return nll(scipy.special.softmax(logits / np.exp(log_temperature), axis=-1), labels)

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


@pytest.mark.parametrize("name", ["dense", "DST M=2 S=0.8", "EDST M=3 S=0.9"])
def test_temperatures_are_fitted_on_validation_images_and_applied_to_test_images(sources, name):
    cell = cell_of(sources.plan, name)
    specs = [spec_of(sources.plan, run) for run in cell.runs[0]]
    held_out = np.concatenate([noise_of("validation", s.seed, s.tickets, VALIDATION_IMAGES, 5.0) for s in specs])
    truth, labels = labels_of(VALIDATION_IMAGES), labels_of(IMAGES)
    logits = np.concatenate([logits_of(cell.method, s.seed, s.tickets, IMAGES) for s in specs])
    row = of(sources.results.replicates, cell=name, replicate=1).iloc[0]

    def pooled(of_members):
        return np.log(scipy.special.softmax(of_members.astype(float), axis=-1).mean(axis=0))

    temperature = fitted(pooled(held_out), truth)
    assert row["temperature"] == pytest.approx(temperature, rel=1e-3)
    assert row["temperature"] != pytest.approx(1, abs=0.02)  # or nothing would be seen of it
    whole = scipy.special.softmax(pooled(logits) / temperature, axis=-1)
    assert row["nll_scaled"] == pytest.approx(nll(whole, labels), rel=1e-3)
    single = [scipy.special.softmax(own / fitted(v, truth), axis=-1) for own, v in zip(logits, held_out, strict=True)]
    assert row["nll_scaled_members"] == pytest.approx(nll(np.mean(single, axis=0), labels), rel=1e-3)
    for key, scaled in (("ece_scaled", whole), ("ece_scaled_members", np.mean(single, axis=0))):
        assert row[key] == pytest.approx(expected_calibration_error(scaled, labels), abs=2e-3)
    if len(logits) == 1:
        assert row["nll_scaled_members"] == pytest.approx(row["nll_scaled"])


def expected_calibration_error(probabilities, labels):
    bins = np.ceil(probabilities.max(axis=1) * 15).astype(int)
    right = probabilities.argmax(axis=1) == labels
    gaps = [(right[bins == b] - probabilities.max(axis=1)[bins == b]).sum() for b in range(1, 16)]
    return np.abs(gaps).sum() / len(labels)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_damaged_validation_logits_cost_the_temperatures_alone(plan, full, read, damage):
    run = cell_of(plan, "DST M=2 S=0.8").runs[0][1]
    path = full.run(run).path / "logits" / "validation.safetensors"
    damage(path)
    results = read().results
    assert [str(path) in problem for problem in results.problems] == [True]
    assert len(results.replicates) == 8
    own = of(results.replicates, cell="DST M=2 S=0.8").set_index("replicate")
    assert np.isnan(own.at[1, "temperature"])
    assert np.isnan(own.at[1, "nll_scaled_members"])
    assert own["nll"].notna().all()
    assert own.at[2, "temperature"] > 0


def test_without_validation_images_there_are_no_temperatures_and_no_problem(tmp_path):
    text = GRID.replace("data: digits", "data: {name: digits, validation_images: 0}").replace(
        "{epochs", "{select: last, epochs"
    )
    made = make(tmp_path, text.split("  - {name: DST")[0], images=30)
    results = load_results(made.plan, made.store)
    assert results.problems == ()
    assert len(results.replicates) == 4
    assert results.replicates["temperature"].isna().all()


def test_a_replicate_counts_when_all_its_runs_are_done(plan, store, read):
    ensemble = cell_of(plan, "dense ensemble M=2")
    fill(store, plan, leave_out={ensemble.runs[1][1]})
    results = read().results
    done = results.cells.set_index("cell")["replicates_done"]
    assert done["dense ensemble M=2"] == 1
    assert done["dense"] == 2  # shares the other run
    assert list(of(results.replicates, cell="dense ensemble M=2")["replicate"]) == [1]
    assert results.problems == ()


def test_altered_logits_are_named_and_left_out_and_the_rest_is_read(plan, full, read):
    run = cell_of(plan, "EDST M=3 S=0.9").runs[0][0]
    path = full.run(run).path / "logits" / "test.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    results = read().results
    assert len(results.problems) == 1
    assert str(path) in results.problems[0]
    assert results.cells.set_index("cell")["replicates_done"].to_dict() == {
        "dense": 2,
        "dense ensemble M=2": 2,
        "DST M=2 S=0.8": 2,
        "EDST M=3 S=0.9": 1,
    }


def test_truncated_logits_are_named(plan, full, read):
    run = cell_of(plan, "dense").runs[1][0]
    path = full.run(run).path / "logits" / "test.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    problems = read().problems
    assert len(problems) == 1  # one file, though two cells share the run
    assert str(path) in problems[0]


def test_damage_elsewhere_does_not_touch_numbers_that_come_from_intact_logits(plan, full, read):
    run = cell_of(plan, "dense").runs[0][0]
    before = read().results.replicates
    (full.run(run).path / "provenance.json").unlink()
    after = read().results
    assert after.replicates.equals(before)
    assert after.problems == ()


def test_a_missing_ticket_makes_a_smaller_ensemble_that_says_so(plan, full, read):
    cell = cell_of(plan, "EDST M=3 S=0.9")
    spec = spec_of(plan, cell.runs[1][0])
    write_run(full, spec, logits_of("edst", spec.seed, 3, IMAGES), labels_of(IMAGES), missing={0})
    own = of(read().results.replicates, cell=cell.name).set_index("replicate")
    assert own["members"].to_dict() == {1: 3, 2: 2}
    rest = probabilities(plan, cell.name, 2)[1:].mean(axis=0)
    assert own.at[2, "nll"] == pytest.approx(log_loss(labels_of(IMAGES), rest, labels=range(10)))


def test_a_run_without_any_ticket_is_a_problem_and_not_a_crash(plan, full, read):
    spec = spec_of(plan, cell_of(plan, "EDST M=3 S=0.9").runs[1][0])
    write_run(full, spec, logits_of("edst", spec.seed, 3, IMAGES), labels_of(IMAGES), missing={0, 1, 2})
    sources = read()
    assert "no ticket" in sources.problems[0]
    assert of(sources.results.cells, cell="EDST M=3 S=0.9")["replicates_done"].item() == 1


def test_members_evaluated_on_different_images_are_not_mixed(plan, full, read):
    spec = spec_of(plan, cell_of(plan, "DST M=2 S=0.8").runs[0][1])
    labels = labels_of(IMAGES).copy()
    labels[0] = (labels[0] + 1) % 10
    write_run(full, spec, logits_of("dst", spec.seed, 1, IMAGES), labels)
    assert "evaluated on other images" in read().problems[0]


def test_cells_carry_what_the_plan_knows(sources):
    for cell, row in zip(sources.plan.cells, sources.results.cells.to_dict("records"), strict=True):
        assert row["train_flops_ratio"] == cell.train_flops_ratio
        assert row["runs"] == len({run for runs in cell.runs for run in runs})
        assert row["parameters_ratio"] == pytest.approx(cell.members * (1 - cell.sparsity))


def test_substitute_images_belong_to_the_plan(grid, store):
    store.record_data("digits", DataRecord("folder-12ab", "digits.zip", "Images from a folder."))
    plan = make_plan(grid, "paper", store)
    fill(store, plan, images=50)
    results = load_results(make_plan(grid, "paper", store), store)
    assert set(results.cells["variant"]) == {"folder-12ab"}
    assert len(results.replicates) == 8
