"""Accuracy under attack by hand, and what happens when attacks are missing, damaged or weaker than they can be."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.special

from analysis.attacks.numbers import load_attacks
from analysis.attacks.table import attack_table, tables
from bench.store.logits import RECORDS, Ensemble, ensemble_folder, ensemble_logits
from tests.analysis.conftest import GRID
from tests.analysis.lookup import grouped_column, mean_and_half_width
from tests.analysis.stores import cell_of, flip_a_bit, make, numbers_of, of, truncate
from tests.analysis.synthetic import FACTS, attack_logits, labels_of, logits_of

IMAGES = 40  # of the 60 test images
SETS = ("fgsm-40-images/2", "fgsm-40-images/8", "pgd-5-40-images/8")


def ensemble_of(plan, name, replicate):
    cell = cell_of(plan, name)
    wanted = Ensemble(cell.runs[replicate - 1], cell.members)
    return next(planned for planned in plan.ensembles if planned.ensemble == wanted)


def accuracies(logits, labels):
    """Of the ensemble and of each member, image by image; logits [members, images, classes]."""
    members = scipy.special.softmax(logits.astype(float), axis=-1)
    whole = np.mean([members[:, i].mean(axis=0).argmax() == label for i, label in enumerate(labels)])
    return whole, [np.mean([member[i].argmax() == label for i, label in enumerate(labels)]) for member in members]


@pytest.fixture(scope="module")
def found(robust):
    return numbers_of(load_attacks, robust.plan, robust.store)[0]


@pytest.mark.parametrize("cell", ["dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"])
@pytest.mark.parametrize("name", SETS)
def test_each_is_evaluated_on_what_was_crafted_on_each(robust, found, cell, name):
    plan = ensemble_of(robust.plan, cell, 2)
    logits, labels = attack_logits(plan, name), labels_of(IMAGES)
    attack, budget = name.split("/")
    rows = of(found.accuracy, cell=cell, replicate=2, attack=attack.removesuffix("-40-images"), budget=float(budget))
    assert len(rows) == (plan.ensemble.members + 1) ** 2
    assert set(rows["images"]) == {IMAGES}
    names = [*(f"member {number}" for number in range(1, plan.ensemble.members + 1)), "ensemble"]
    for crafted_on, of_one in zip(names, logits, strict=True):
        whole, members = accuracies(of_one, labels)
        for evaluated_on, expected in zip(names, [*members, whole], strict=True):
            row = of(rows, crafted_on=crafted_on, evaluated_on=evaluated_on)
            assert row["accuracy"].item() == pytest.approx(expected)


def test_a_single_network_is_the_ensemble(robust, found):
    rows = of(found.accuracy, cell="dense", replicate=1)
    assert list(rows["attack"] + rows["budget"].astype(str)) == ["fgsm2.0", "fgsm8.0", "pgd-58.0"]
    assert set(rows["crafted_on"]) == set(rows["evaluated_on"]) == {"ensemble"}
    logits = attack_logits(ensemble_of(robust.plan, "dense", 1), SETS[1])
    assert rows["accuracy"].iloc[1] == pytest.approx(accuracies(logits[0], labels_of(IMAGES))[0])


def test_clean_accuracy_is_on_the_images_that_were_attacked(robust, found):
    assert len(found.clean) == 8 * 2  # fgsm and pgd
    cell = cell_of(robust.plan, "DST M=2 S=0.8")
    seeds = [run.spec.seed for run in robust.plan.runs if run.id in cell.runs[0]]
    logits = np.concatenate([logits_of("dst", seed, 1, 60)[:, :IMAGES] for seed in seeds])
    whole, members = accuracies(logits, labels_of(60)[:IMAGES])
    for attack in ("fgsm", "pgd-5"):
        row = of(found.clean, cell=cell.name, replicate=1, attack=attack)
        assert row["images"].item() == IMAGES
        assert row["accuracy"].item() == pytest.approx(whole)
        assert row["member_accuracy"].item() == pytest.approx(np.mean(members))


def test_without_a_number_of_images_all_of_them_count(tmp_path):
    made = make(tmp_path, GRID + "evaluations: {fgsm: {budgets: [4]}}")
    found, _ = numbers_of(load_attacks, made.plan, made.store)
    assert set(found.clean["images"]) == set(found.accuracy["images"]) == {60}
    assert set(found.accuracy["attack"]) == {"fgsm"}


def test_of_a_network_that_draws_members_only_the_whole_is_attacked(tmp_path):
    text = GRID.split("cells:")[0].replace("width: 1}", "width: 1, ensemble: {kind: mc_dropout, samples: 5}}")
    text += "cells: [{name: two, method: dense, members: 2}, {name: five, method: dense, members: 5}]\n"
    made = make(tmp_path, text + "evaluations: {fgsm: {budgets: [8]}, pgd: {budgets: [8], steps: 5}}")
    found, _ = numbers_of(load_attacks, made.plan, made.store)
    for cell, members in (("two", 2), ("five", 5)):
        rows = of(found.accuracy, cell=cell, replicate=1, attack="fgsm")
        assert set(rows["crafted_on"]) == {"ensemble"}
        assert list(rows["evaluated_on"]) == ["ensemble", *(f"member {n}" for n in range(1, members + 1))]
        logits = attack_logits(ensemble_of(made.plan, cell, 1), "fgsm/8")
        assert rows["accuracy"].iloc[0] == pytest.approx(accuracies(logits[0], labels_of(60))[0])


def rewritten(made, cell, name, change):
    """Write an attack on the first replicate of a cell again, changed."""
    plan = ensemble_of(made.plan, cell, 1)
    logits, labels = change(attack_logits(plan, name)), labels_of(IMAGES)
    ensemble_logits(made.store, plan.ensemble).write(name, logits, labels[: logits.shape[2]], **FACTS)
    return numbers_of(load_attacks, made.plan, made.store)


def strengthened(member):
    """Return a change after which what was crafted on one (-1: the whole) fools nobody."""

    def change(logits):
        logits[member] += np.eye(10)[labels_of(IMAGES)] * 50
        return logits

    return change


def test_as_written_pgd_is_never_weaker(robust):
    assert numbers_of(load_attacks, robust.plan, robust.store)[1] == ()


@pytest.mark.parametrize(("member", "named"), [(0, "member 1"), (-1, "the ensemble")])
def test_pgd_that_is_weaker_than_fgsm_where_it_was_crafted_is_reported(evaluated, member, named):
    found, problems = rewritten(evaluated, "DST M=2 S=0.8", SETS[2], strengthened(member))
    (problem,) = problems
    assert problem.startswith(f"DST M=2 S=0.8, replicate 1: pgd-5 at 8/255 on {named} leaves more accuracy than fgsm")
    assert len(of(found.accuracy, cell="DST M=2 S=0.8", replicate=1)) == 3 * 9


def test_attacks_on_different_numbers_of_images_are_not_compared(evaluated):
    _, problems = rewritten(evaluated, "dense", SETS[2], lambda logits: strengthened(-1)(logits)[:, :, :20])
    assert problems == ()


def test_attacks_on_networks_that_draw_members_are_not_compared(tmp_path):
    text = GRID.split("cells:")[0].replace("width: 1}", "width: 1, ensemble: {kind: mc_dropout, samples: 2}}")
    text += "cells: [{name: two, method: dense, members: 2}]\n"
    images = "budgets: [8], images: 40"
    made = make(tmp_path, text + f"evaluations: {{fgsm: {{{images}}}, pgd: {{{images}, steps: 5}}}}")
    found, problems = rewritten(made, "two", SETS[2], strengthened(-1))
    assert problems == ()
    rows = of(found.accuracy, replicate=1, evaluated_on="ensemble").set_index("attack")["accuracy"]
    assert rows["pgd-5"] > rows["fgsm"]


def test_an_attack_that_is_not_there_yet_has_no_clean_accuracy_either(evaluated):
    plan = ensemble_of(evaluated.plan, "dense", 1)
    path = ensemble_folder(evaluated.store, plan.ensemble) / RECORDS
    path.write_text(path.read_text().replace("pgd-5-", "pgd-7-"))
    found, problems = numbers_of(load_attacks, evaluated.plan, evaluated.store)
    assert set(of(found.accuracy, cell="dense", replicate=1)["attack"]) == {"fgsm"}
    assert list(of(found.clean, cell="dense", replicate=1)["attack"]) == ["fgsm"]
    assert problems == ()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_file_is_named_and_the_other_attacks_are_read(evaluated, damage):
    plan = ensemble_of(evaluated.plan, "DST M=2 S=0.8", 1)
    path = ensemble_folder(evaluated.store, plan.ensemble) / "logits" / f"{SETS[0]}.safetensors"
    damage(path)
    found, problems = numbers_of(load_attacks, evaluated.plan, evaluated.store)
    assert len(problems) == 1
    assert str(path) in problems[0]
    rows = of(found.accuracy, cell="DST M=2 S=0.8", replicate=1)
    assert set(zip(rows["attack"], rows["budget"], strict=True)) == {("fgsm", 8.0), ("pgd-5", 8.0)}
    assert set(of(found.clean, cell="DST M=2 S=0.8", replicate=1)["attack"]) == {"fgsm", "pgd-5"}
    assert len(of(found.accuracy, cell="DST M=2 S=0.8", replicate=2)) == 3 * 9


def test_damaged_test_logits_cost_the_clean_accuracy_alone(evaluated):
    run = cell_of(evaluated.plan, "EDST M=3 S=0.9").runs[0][0]
    path = evaluated.store.run(run).path / "logits" / "test.safetensors"
    truncate(path)
    found, problems = numbers_of(load_attacks, evaluated.plan, evaluated.store)
    assert [str(path) in problem for problem in problems] == [True]
    assert of(found.clean, cell="EDST M=3 S=0.9", replicate=1).empty
    assert len(of(found.accuracy, cell="EDST M=3 S=0.9", replicate=1)) == 3 * 16


def test_a_plan_that_asks_for_nothing_gives_empty_frames(loaded):
    assert loaded.numbers("attacks").accuracy.empty
    assert loaded.numbers("attacks").clean.empty


def table_of(all_of_it, attack):
    return attack_table(all_of_it.numbers("attacks"), all_of_it.results, attack)


def test_accuracy_under_attack_by_hand(all_of_it):
    frame = of(all_of_it.numbers("attacks").accuracy, cell="EDST M=3 S=0.9", attack="fgsm", budget=8.0)
    itself = frame["crafted_on"] == frame["evaluated_on"]
    by_member = frame["crafted_on"] != "ensemble"
    expected = {
        "Ensemble (%)": frame[itself & ~by_member],
        "Members (%)": frame[itself & by_member],
        "Transferred (%)": frame[by_member & (frame["evaluated_on"] == "ensemble")],
    }
    for head, rows in expected.items():
        values = [of(rows, replicate=replicate)["accuracy"].mean() * 100 for replicate in (1, 2)]
        mean, half_width = mean_and_half_width(values)
        texts = grouped_column(table_of(all_of_it, "fgsm"), "Budget 8/255", head)
        assert texts["EDST M=3 S=0.9"] == f"{mean:.2f} ± {half_width:.2f}"


def test_no_attack_is_the_first_budget_and_transfers_nothing(all_of_it):
    table = table_of(all_of_it, "pgd-5")
    clean = of(all_of_it.numbers("attacks").clean, cell="EDST M=3 S=0.9", attack="pgd-5")
    for head, key in (("Ensemble (%)", "accuracy"), ("Members (%)", "member_accuracy")):
        mean, half_width = mean_and_half_width(clean[key] * 100)
        assert grouped_column(table, "No attack", head)["EDST M=3 S=0.9"] == f"{mean:.2f} ± {half_width:.2f}"
    assert table.spans == [("", 1), ("No attack", 2), ("Budget 8/255", 5)]
    assert len(table.rows) == 4
    assert "On 40 test images." in " ".join(table.notes)


def test_every_attack_has_a_table_of_its_own(all_of_it):
    numbers = all_of_it.numbers("attacks")
    fgsm, pgd = tables(numbers, all_of_it.results)
    assert (fgsm.name, pgd.name) == ("small_attacks_fgsm", "small_attacks_pgd-5")
    assert [group for group, _ in fgsm.spans] == ["", "No attack", "Budget 2/255", "Budget 8/255"]
    assert set(fgsm.numbers["attack"]) == {"fgsm"}
    assert len(fgsm.numbers) == 4 * 3
    assert ["most harmful" in " ".join(table.notes) for table in (fgsm, pgd)] == [False, True]
    assert not list(tables(replace(numbers, accuracy=numbers.accuracy.iloc[:0]), all_of_it.results))


def test_single_networks_have_two_replicates_though_nothing_is_transferred(all_of_it):
    numbers = of(table_of(all_of_it, "fgsm").numbers, cell="dense", budget=8.0).iloc[0]
    assert np.isnan(numbers["transferred_percent"])
    assert numbers["replicates"] == 2


def test_a_single_network_has_no_members_beside_itself_attacked_or_not(all_of_it):
    for group in ("No attack", "Budget 2/255", "Budget 8/255"):
        members = grouped_column(table_of(all_of_it, "fgsm"), group, "Members (%)")
        assert {cell for cell, text in members.items() if not text} == {"dense"}
