"""Tables, figures and verdicts of robustness: numbers against the results, and what they must say of themselves."""

import json
import re

import numpy as np
import pytest
import scipy.stats
from safetensors.numpy import load_file, save_file

from analysis.columns import CORRUPTED
from analysis.formats import to_markdown
from analysis.gallery import pictures
from analysis.report import write_report
from analysis.robustness_tables import LOCAL_NOTE, attacks_table, corruptions_table, outside_table, types_table
from analysis.samples import read_samples
from analysis.sheets import all_tables
from analysis.verdicts import Claim, Side, judge, verdict_table
from bench.store.folders import samples_file
from bench.store.logits import RECEIPTS
from tests.analysis.conftest import EVALUATIONS, GRID
from tests.analysis.stores import cell_of, make, of, truncate

CELLS = ("dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9")
FIGURES = {
    *("local-c_severity", "local-c_types", "local-c_type_map", "local-c_reliability", "local-c_sheet"),
    *("ood_roc_max_probability", "ood_roc_entropy", "ood_roc_mutual_information", "ood_scores"),
    *("robust_accuracy", "transfer_fgsm", "transfer_pgd-5"),
    *("diversity_against_accuracy", "classes", "mask_overlap", "mask_overlap_by_layer", "function_space"),
}
TABLES = {"corruptions_local-c", "types_local-c", "ood", "attacks", "weights"}
# A network of which corrupted scores were published, and sets of that size.
PUBLISHED = """
title: Published
replicates: 2
base: {data: cifar10, model: {name: wide_resnet, depth: 28, width: 10}, recipe: {epochs: 4}}
cells:
  - {name: single, method: dense}
  - {name: three, method: dense, members: 3}
  - {name: four, method: dense, members: 4}
evaluations: {cifar_c: {types: [fog, spatter], severities: [1, 2]}}
"""


@pytest.fixture(scope="module")
def all_of_it(robust):
    return robust.read()


def column(table, head, keys=1):
    index = table.head.index(head)
    return {row[:keys] if keys > 1 else row[0]: row[index] for row in table.rows}


def mean_and_half_width(values):
    return np.mean(values), scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)


# -- tables ------------------------------------------------------------------------------------------------------------


def test_there_is_a_table_of_each_kind_and_no_two_of_one_name(all_of_it):
    names = [table.name for table in all_tables(all_of_it)]
    assert {f"small_{name}" for name in TABLES} <= set(names)
    assert len(set(names)) == len(names)


def test_without_evaluation_sets_there_are_none_of_them(sources):
    names = {table.name for table in all_tables(sources)}
    rest = ("calibration", "scaling", "diversity", "weights", "replicates", "members")
    assert names == {"small", *(f"small_{name}" for name in rest)}
    of_own_images = {"diversity_against_accuracy", "classes", "mask_overlap", "mask_overlap_by_layer"}
    assert {picture.name for picture in pictures(sources)} & FIGURES == of_own_images


@pytest.mark.parametrize("metric", CORRUPTED, ids=lambda metric: metric.key)
def test_corrupted_scores_are_means_over_replicates_with_intervals(all_of_it, metric):
    table = corruptions_table(all_of_it, "local-c")
    (head,) = (head for head in table.head if what_of(head) == what_of(metric.head))
    texts = column(table, head)
    assert list(texts) == list(CELLS)
    for cell, text in texts.items():
        values = of(all_of_it.corruptions.scores, cell=cell)[metric.key] * metric.factor
        mean, half_width = mean_and_half_width(values)
        assert text == ("" if np.isnan(mean) else f"{mean:.{metric.digits}f} ± {half_width:.{metric.digits}f}")


def what_of(head):
    """A head without its unit, or the number of types, but with its definition."""
    return head.split(" (")[0], "pooled" in head, "mean" in head


def test_the_definition_of_ece_and_its_number_of_types_are_in_the_heads(all_of_it):
    heads = [head for head in corruptions_table(all_of_it, "local-c").head if "ECE" in head]
    assert {head.split("(")[1] for head in heads} == {"pooled-3-14bins)", "mean-2-15bins)"}


def test_no_definition_of_ece_is_without_its_name_anywhere(all_of_it):
    for table in all_tables(all_of_it):
        for head in table.head:
            assert "ECE" not in head or re.search(r"\d+ ?bins", head), head


def test_what_was_made_here_is_never_called_by_the_name_of_the_released_set(all_of_it):
    texts = [to_markdown(table, all_of_it.context) for table in all_tables(all_of_it)]
    texts += [f"{picture.name} {picture.title} {picture.caption}" for picture in pictures(all_of_it)]
    about = [text for text in texts if "local-c" in text]
    assert len(about) >= 7
    for text in about:
        assert LOCAL_NOTE in text
    for text in texts:
        assert not re.search("cifar-?10(0)?-?c", text.replace(LOCAL_NOTE, ""), re.IGNORECASE)


def test_a_row_a_type_and_severity(all_of_it):
    table = types_table(all_of_it, "local-c")
    assert table.head == ("Type", "Severity", *CELLS)
    assert [row[:2] for row in table.rows] == [(t, s) for t in ("fog", "frost", "saturate") for s in ("1", "4")]
    sets = all_of_it.corruptions.sets
    for cell in CELLS:
        own = of(sets, cell=cell, type="frost", severity=4)
        mean, half_width = mean_and_half_width(own["accuracy"] * 100)
        assert column(table, cell, 2)["frost", "4"] == f"{mean:.2f} ± {half_width:.2f}"
        row = of(table.numbers, type="frost", severity=4, cell=cell).iloc[0]
        assert row["accuracy_percent"] == pytest.approx(mean)
        assert row["nll"] == pytest.approx(own["nll"].mean())
        assert row["replicates"] == 2
    assert "3 types of corruption at severities 1, 4, 60 images a set." in table.notes


def test_detection_of_each_set_by_each_score(all_of_it):
    table = outside_table(all_of_it)
    assert len(table.rows) == 2 * (2 + 3 * 3)
    own = of(all_of_it.outside.detection, cell="DST M=2 S=0.8", outside="uniform", score="entropy")
    mean, half_width = mean_and_half_width(own["fpr95"] * 100)
    texts = column(table, "FPR at 95% TPR (%)", 3)
    assert texts["DST M=2 S=0.8", "uniform", "entropy of the mean"] == f"{mean:.2f} ± {half_width:.2f}"


def test_accuracy_under_attack_by_hand(all_of_it):
    table = attacks_table(all_of_it)
    frame = of(all_of_it.attacks.accuracy, cell="EDST M=3 S=0.9", attack="fgsm", budget=8.0)
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
        assert column(table, head, 3)["EDST M=3 S=0.9", "fgsm", "8"] == f"{mean:.2f} ± {half_width:.2f}"


def test_no_attack_is_a_budget_of_nothing(all_of_it):
    table = attacks_table(all_of_it)
    clean = of(all_of_it.attacks.clean, cell="EDST M=3 S=0.9", attack="pgd-5")
    for head, key in (("Ensemble (%)", "accuracy"), ("Members (%)", "member_accuracy")):
        mean, half_width = mean_and_half_width(clean[key] * 100)
        assert column(table, head, 3)["EDST M=3 S=0.9", "pgd-5", "0"] == f"{mean:.2f} ± {half_width:.2f}"
    assert len(table.rows) == len(CELLS) * (3 + 2)
    assert "On 40 test images." in " ".join(table.notes)


def test_single_networks_have_two_replicates_though_nothing_is_transferred(all_of_it):
    numbers = of(attacks_table(all_of_it).numbers, cell="dense", attack="fgsm", budget=8.0).iloc[0]
    assert np.isnan(numbers["transferred_percent"])
    assert numbers["replicates"] == 2


def test_distances_of_tickets_are_means_over_pairs_of_all_layers(all_of_it):
    table = next(table for table in all_tables(all_of_it) if table.name == "small_weights")
    own = of(all_of_it.weights.overlap, cell="EDST M=3 S=0.9", layer="overall")
    mean, half_width = mean_and_half_width(own.groupby("replicate")["iou"].mean())
    assert column(table, "Mask overlap (IoU)") == {
        "dense ensemble M=2": "",
        "DST M=2 S=0.8": column(table, "Mask overlap (IoU)")["DST M=2 S=0.8"],
        "EDST M=3 S=0.9": f"{mean:.4f} ± {half_width:.4f}",
    }


def forget(made, runs, name):
    for run in runs:
        path = made.store.run(run).path / RECEIPTS
        path.write_text(json.dumps({key: one for key, one in json.loads(path.read_text()).items() if key != name}))


def test_replicates_that_were_not_evaluated_are_not_counted(evaluated):
    plan = evaluated.plan
    forget(evaluated, cell_of(plan, "DST M=2 S=0.8").runs[1], "local-c/fog/1")
    forget(evaluated, [run for runs in cell_of(plan, "EDST M=3 S=0.9").runs for run in runs], "local-c/fog/1")
    sources = evaluated.read()
    table = corruptions_table(sources, "local-c")
    assert column(table, "Replicates") == {"dense": "2 of 2", "dense ensemble M=2": "2 of 2", "DST M=2 S=0.8": "1 of 2"}
    caption = next(picture.caption for picture in pictures(sources) if picture.name == "local-c_severity")
    assert "n = 0 to 2 replicates a cell. Incomplete: DST M=2 S=0.8 (1 of 2), EDST M=3 S=0.9 (0 of 2)." in caption
    assert next(p.caption for p in pictures(sources) if p.name == "classes").endswith("n = 2 replicates a cell.")


def test_a_replicate_of_which_the_test_logits_are_damaged_is_not_counted_either(evaluated):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][0]
    truncate(evaluated.store.run(run).path / "logits" / "test.safetensors")
    table = corruptions_table(evaluated.read(), "local-c")
    assert column(table, "Replicates")["DST M=2 S=0.8"] == "1 of 2"
    assert re.fullmatch(r"\d+\.\d\d", column(table, "Corrupted accuracy (%)")["DST M=2 S=0.8"])


def test_types_without_a_severity_are_in_the_table_of_types_alone(evaluated):
    forget(evaluated, [run.id for run in evaluated.plan.runs], "local-c/frost/4")
    sources = evaluated.read()
    assert "Scores are means over all sets of 2 types with equal weight." in corruptions_table(sources, "local-c").notes
    assert column(types_table(sources, "local-c"), "dense", 2)["frost", "1"] != ""
    caption = next(picture.caption for picture in pictures(sources) if picture.name == "local-c_severity")
    assert "2 types of corruption" in caption


def test_sets_without_a_whole_type_make_no_figure_of_means(evaluated):
    for name in ("fog/4", "frost/1", "saturate/1", "saturate/4"):
        forget(evaluated, [run.id for run in evaluated.plan.runs], f"local-c/{name}")
    sources = evaluated.read()
    assert {p.name for p in pictures(sources)} & FIGURES >= {"local-c_sheet", "ood_scores"}
    assert not {p.name for p in pictures(sources)} & {"local-c_severity", "local-c_types", "local-c_reliability"}
    assert "small_corruptions_local-c" not in {table.name for table in all_tables(sources)}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return make(tmp_path_factory.mktemp("released"), PUBLISHED, images=40).read()


def test_published_corrupted_scores_lie_beside_those_of_the_released_set(released):
    table = corruptions_table(released, "cifar-10-c")
    assert column(table, "Published corrupted accuracy (%)") == {"single": "76.10", "three": "", "four": "77.90"}
    assert column(table, "Published corrupted NLL") == {"single": "1.0500", "three": "", "four": "0.8100"}
    (ece,) = (head for head in table.head if head.startswith("Published corrupted ECE"))
    assert column(table, ece) == {"single": "0.1530", "three": "", "four": "0.0870"}
    assert "uncertainty-baselines" in column(table, "Published source")["four"]
    numbers = table.numbers.set_index("cell")
    assert numbers.at["four", "published_corrupted_accuracy"] == 77.9
    assert np.isnan(numbers.at["three", "published_corrupted_accuracy"])
    assert "reference only" not in " ".join(table.notes)
    assert "15 of CIFAR-10-C" in " ".join(table.notes)
    assert LOCAL_NOTE not in table.notes


def test_nothing_published_lies_beside_sets_made_here(tmp_path):
    sources = make(tmp_path, PUBLISHED.replace("cifar_c", "local_c"), images=40).read()
    assert sources.published["single"].corrupted_accuracy == 76.1
    table = corruptions_table(sources, "local-c")
    assert not [head for head in table.head if head.startswith("Published")]


# -- figures -----------------------------------------------------------------------------------------------------------


def test_the_report_shows_all_of_it(all_of_it, tmp_path):
    index = write_report(all_of_it, tmp_path / "out")
    text = index.read_text(encoding="utf-8")
    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    assert figures >= FIGURES
    assert set(re.findall(r'src="figures/(.+?)\.png"', text)) == figures
    assert {path.stem for path in (tmp_path / "out" / "figures").glob("*.pdf")} == figures
    for name in TABLES:
        assert f'<section id="small_{name}">' in text
        assert (tmp_path / "out" / "tables" / f"small_{name}.csv").is_file()
    assert all_of_it.problems == ()


def test_samples_are_those_of_the_store(robust):
    (samples,) = read_samples(robust.plan, robust.store).values()
    assert samples.severities == (1, 4)
    written = load_file(samples_file(robust.store, "digits", "local-c"))
    assert set(samples.images) == {"fog", "frost", "saturate"} == set(written) - {"severities"}
    np.testing.assert_array_equal(samples.images["fog"], written["fog"])


def cut(file):
    file.write_bytes(file.read_bytes()[:200])


def without_severities(file):
    save_file({"fog": load_file(file)["fog"]}, file)


def of_fewer_images(file):
    save_file({**load_file(file), "frost": np.zeros((2, 32, 32, 3), np.uint8)}, file)


def as_numbers(file):
    save_file({**load_file(file), "frost": np.zeros((3, 32, 32, 3), np.float32)}, file)


@pytest.mark.parametrize("damage", [cut, without_severities, of_fewer_images, as_numbers, lambda file: file.unlink()])
def test_samples_that_are_not_whole_are_no_loss(evaluated, damage):
    damage(samples_file(evaluated.store, "digits", "local-c"))
    sources = evaluated.read()
    assert sources.samples == {}
    assert sources.problems == ()
    assert {picture.name for picture in pictures(sources)} & FIGURES == FIGURES - {"local-c_sheet"}


# -- claims ------------------------------------------------------------------------------------------------------------


def claim(metric, left="EDST M=3 S=0.9", right="dense", direction="higher"):
    sides = {"left": Side(cell=left, metric=metric), "right": Side(cell=right, metric=metric)}
    return Claim(id="c", text="Text.", where="abstract", direction=direction, margin=0.0, **sides)


@pytest.mark.parametrize("metric", [metric.key for metric in CORRUPTED])
def test_claims_are_judged_on_every_corrupted_metric(all_of_it, metric):
    verdict = judge([claim(metric)], all_of_it.results)[0]
    factor = next(one.factor for one in CORRUPTED if one.key == metric)
    scores = all_of_it.corruptions.scores.set_index(["cell", "replicate"])[metric] * factor
    differences = scores["EDST M=3 S=0.9"] - scores["dense"]
    if metric == "corrupted_disagreement":  # a single network has none
        assert verdict.decision == "not run"
        return
    mean, half_width = mean_and_half_width(differences)
    assert (verdict.difference.mean, verdict.difference.half_width) == (pytest.approx(mean), pytest.approx(half_width))
    decision = "supported" if mean > half_width else "contradicted" if mean < -half_width else "undecided"
    assert verdict.decision == decision


@pytest.mark.parametrize("metric", ["corrupted_accuracy", "corrupted_ece_pooled", "mce"])
def test_claims_about_corrupted_images_are_not_run_without_any(sources, metric):
    verdicts = judge([claim(metric)], sources.results)
    assert verdicts[0].decision == "not run"
    table = verdict_table(verdicts, 0, sources.context)
    assert table.rows[0][-1] == "not run"


def test_claims_of_a_grid_file_are_judged_on_corrupted_accuracy(evaluated):
    folder = evaluated.path.parent / "published"
    folder.mkdir()
    (folder / "claims.yaml").write_text(
        "claims: [{id: x, text: EDST withstands., where: abstract, direction: higher, "
        "left: {cell: EDST M=3 S=0.9, metric: corrupted_accuracy}, right: {cell: dense, metric: corrupted_accuracy}}]"
    )
    table = next(table for table in all_tables(evaluated.read()) if table.name == "small_verdicts")
    assert table.rows[0][2] == "Corrupted accuracy (%)"
    assert table.rows[0][-1] in ("supported", "undecided", "contradicted")


# -- stores that are not whole -----------------------------------------------------------------------------------------


def test_damage_of_every_kind_is_named_and_all_tables_are_there(evaluated):
    run = cell_of(evaluated.plan, "EDST M=3 S=0.9").runs[0][0]
    folder = evaluated.store.run(run).path
    damaged = [folder / f"logits/{name}.safetensors" for name in ("local-c/fog/1", "ood/mnist", "validation")]
    damaged.append(folder / "tickets/1.safetensors")
    for path in damaged:
        truncate(path)
    sources = evaluated.read()
    assert len(sources.problems) == len(damaged)
    for path in damaged:
        assert any(str(path) in problem for problem in sources.problems)
    assert {table.name.removeprefix("small_") for table in all_tables(sources)} >= TABLES
    assert len(sources.results.replicates) == 8


@pytest.mark.usefixtures("full")
def test_a_store_of_which_nothing_is_evaluated_yet_is_read(grid, read):
    grid.path.write_text(GRID + EVALUATIONS)
    sources = read()
    assert sources.problems == ()
    assert sources.corruptions.sets.empty
    assert "small_ood" not in {table.name for table in all_tables(sources)}
