"""What is read from a store: values against independent computations, and what happens when runs are not whole."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
from sklearn.metrics import accuracy_score, log_loss

from analysis import load_results
from analysis.loading import load
from analysis.report import all_tables
from bench.errors import UserError
from bench.plan import make_plan
from bench.store.store import DataRecord
from tests.analysis.lookup import IMAGES, probabilities, spec_of
from tests.analysis.stores import cell_of, of
from tests.analysis.synthetic import fill, labels_of, logits_of, write_run


@pytest.mark.parametrize("name", ["dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"])
@pytest.mark.parametrize("replicate", [1, 2])
def test_ensemble_metrics_equal_an_independent_computation(loaded, name, replicate):
    members, labels = probabilities(loaded.plan, name, replicate), labels_of(IMAGES)
    ensemble = members.mean(axis=0)
    row = of(loaded.results.replicates, cell=name, replicate=replicate).iloc[0]
    assert row["members"] == len(members) == cell_of(loaded.plan, name).members
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


def test_the_dense_network_is_the_first_member_of_the_dense_ensemble(loaded):
    members = loaded.numbers("listings")
    single = of(members, cell="dense", replicate=1, member=1)["nll"].item()
    assert of(members, cell="dense ensemble M=2", replicate=1, member=1)["nll"].item() == single


def test_load_results_has_the_frames_and_tables_of_the_report(full, grid, read):
    loaded, results = read(), load_results(str(full.root), str(grid.path))
    pd.testing.assert_frame_equal(results.replicates, loaded.results.replicates)
    pd.testing.assert_frame_equal(results.cells, loaded.results.cells)
    assert results.problems == ()
    assert list(results.tables) == [table.name for table in all_tables(loaded)]
    mean = 100 * results.replicates.groupby("cell")["accuracy"].mean()
    main = results.tables["small"].set_index("cell")["accuracy_percent"]
    assert main.to_dict() == pytest.approx(mean.to_dict())


def test_a_grid_that_is_no_file_or_has_no_results_is_named(store):
    with pytest.raises(UserError, match="nowhere"):
        load_results(store.root, "nowhere")
    with pytest.raises(UserError, match=r"none of the \d+ runs of grid digits at scale tiny is done"):
        load_results(store.root, "digits", "tiny")


def test_a_replicate_counts_when_all_its_runs_are_done(plan, store, read):
    ensemble = cell_of(plan, "dense ensemble M=2")
    fill(store, plan, leave_out={ensemble.runs[1][1]})
    loaded = read()
    results = loaded.results
    done = results.cells.set_index("cell")["replicates_done"]
    assert done["dense ensemble M=2"] == 1
    assert done["dense"] == 2  # shares the other run
    assert list(of(results.replicates, cell="dense ensemble M=2")["replicate"]) == [1]
    assert loaded.problems == ()


def test_altered_logits_are_named_and_left_out_and_the_rest_is_read(plan, full, read):
    run = cell_of(plan, "EDST M=3 S=0.9").runs[0][0]
    path = full.run(run).path / "logits" / "test.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    loaded = read()
    results = loaded.results
    assert len(loaded.problems) == 1
    assert str(path) in loaded.problems[0]
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
    after = read()
    assert after.results.replicates.equals(before)
    (problem,) = after.problems
    assert problem.startswith(f"{full.run(run).path / 'provenance.json'}: gone")


def test_a_missing_ticket_makes_a_smaller_ensemble_that_says_so(plan, full, read):
    cell = cell_of(plan, "EDST M=3 S=0.9")
    spec = spec_of(plan, cell.runs[1][0])
    write_run(full, spec, logits_of("edst", spec.seed, 3, IMAGES), labels_of(IMAGES), missing={0})
    rows = of(read().results.replicates, cell=cell.name).set_index("replicate")
    assert rows["members"].to_dict() == {1: 3, 2: 2}
    rest = probabilities(plan, cell.name, 2)[1:].mean(axis=0)
    assert rows.at[2, "nll"] == pytest.approx(log_loss(labels_of(IMAGES), rest, labels=range(10)))


def test_a_run_without_any_ticket_is_a_problem_and_not_a_crash(plan, full, read):
    spec = spec_of(plan, cell_of(plan, "EDST M=3 S=0.9").runs[1][0])
    write_run(full, spec, logits_of("edst", spec.seed, 3, IMAGES), labels_of(IMAGES), missing={0, 1, 2})
    loaded = read()
    assert "no ticket" in loaded.problems[0]
    assert of(loaded.results.cells, cell="EDST M=3 S=0.9")["replicates_done"].item() == 1


def test_members_evaluated_on_different_images_are_not_mixed(plan, full, read):
    spec = spec_of(plan, cell_of(plan, "DST M=2 S=0.8").runs[0][1])
    labels = labels_of(IMAGES).copy()
    labels[0] = (labels[0] + 1) % 10
    write_run(full, spec, logits_of("dst", spec.seed, 1, IMAGES), labels)
    assert "evaluated on other images" in read().problems[0]


def test_an_altered_record_of_the_images_is_a_problem(full, read):
    path = full.root / "data.json"
    path.write_text("{")
    loaded = read()
    assert [problem.startswith(f"{path}: ") for problem in loaded.problems] == [True]
    assert len(loaded.results.replicates) == 8


def test_substitute_images_belong_to_the_plan(grid, store):
    store.record_data("digits", DataRecord("folder-12ab", "digits.zip", "Images from a folder."))
    plan = make_plan(grid, "paper", store)
    fill(store, plan, images=50)
    results = load(grid.path, store.root, "paper").results
    assert set(results.cells["variant"]) == {"folder-12ab"}
    assert len(results.replicates) == 8
