"""Tables of corrupted images: numbers by hand, who counts, published numbers; and the samples."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from analysis.corruption.numbers import METRICS
from analysis.corruption.sheet import load_samples
from analysis.corruption.table import LOCAL_NOTE, scores_table, types_table
from analysis.reading import StoreView
from analysis.report import all_tables
from bench.store.logits import RECORDS
from bench.store.samples import samples_file
from tests.analysis.lookup import column, interval_text, mean_and_half_width
from tests.analysis.stores import cell_of, make, of, truncate

CELLS = ("dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9")
# A grid of which corrupted scores were published, and what was.
PUBLISHED = """
title: Published
replicates: 2
base: {data: cifar10, model: {name: wide_resnet, depth: 10, width: 1}, recipe: {epochs: 4}}
cells:
  - {name: single, method: dense}
  - {name: three, method: dense, members: 3}
  - {name: four, method: dense, members: 4}
evaluations: {cifar_c: {types: [fog, spatter], severities: [1, 2]}}
"""


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_corrupted_scores_are_means_over_replicates_with_intervals(all_of_it, metric):
    table = scores_table(all_of_it.numbers("corruption"), all_of_it.results, "local-c")
    (head,) = (head for head in table.head if what_of(head) == what_of(metric.head))
    texts = column(table, head)
    assert list(texts) == list(CELLS)
    for cell, text in texts.items():
        values = of(all_of_it.numbers("corruption").by_family, cell=cell)[metric.key] * metric.factor
        mean, half_width = mean_and_half_width(values)
        digits = metric.digits
        assert text == ("" if np.isnan(mean) else f"{mean:.{digits}f}{interval_text(half_width, digits)}")


def what_of(head):
    """A head without its unit, or the number of types, but with its definition."""
    return head.split(" (")[0], "pooled" in head, "mean" in head


def test_the_definition_of_ece_and_its_number_of_types_are_in_the_heads(all_of_it):
    heads = [
        head
        for head in scores_table(all_of_it.numbers("corruption"), all_of_it.results, "local-c").head
        if "ECE" in head
    ]
    assert {head.split("(")[1] for head in heads} == {"pooled-3-14bins)", "mean-2-15bins)"}


def test_a_row_a_type_and_severity(all_of_it):
    table = types_table(all_of_it.numbers("corruption"), all_of_it.results, "local-c")
    assert table.head == ("Type", "Severity", *CELLS)
    assert [row[:2] for row in table.rows] == [(t, s) for t in ("fog", "frost", "saturate") for s in ("1", "4")]
    sets = all_of_it.numbers("corruption").sets
    for cell in CELLS:
        rows = of(sets, cell=cell, type="frost", severity=4)
        mean, half_width = mean_and_half_width(rows["accuracy"] * 100)
        assert column(table, cell, 2)["frost", "4"] == f"{mean:.2f}{interval_text(half_width, 2)}"
        row = of(table.numbers, type="frost", severity=4, cell=cell).iloc[0]
        assert row["accuracy_percent"] == pytest.approx(mean)
        assert row["nll"] == pytest.approx(rows["nll"].mean())
        assert row["replicates"] == 2
    assert "3 types of corruption at severities 1, 4, 60 images a set." in table.notes


def forget(made, runs, name):
    for run in runs:
        path = made.store.run(run).path / RECORDS
        path.write_text(json.dumps({key: known for key, known in json.loads(path.read_text()).items() if key != name}))


def test_replicates_that_were_not_evaluated_are_not_counted(evaluated):
    plan = evaluated.plan
    forget(evaluated, cell_of(plan, "DST M=2 S=0.8").runs[1], "local-c/fog/1")
    forget(evaluated, [run for runs in cell_of(plan, "EDST M=3 S=0.9").runs for run in runs], "local-c/fog/1")
    loaded = evaluated.read()
    table = scores_table(loaded.numbers("corruption"), loaded.results, "local-c")
    assert column(table, "Replicates") == {"dense": "2 of 2", "dense ensemble M=2": "2 of 2", "DST M=2 S=0.8": "1 of 2"}
    caption = next(entry.caption for entry in loaded.figures() if entry.name == "local-c_severity")
    assert "n = 0 to 2 replicates a cell. Not evaluated: DST M=2 S=0.8 (1 of 2), EDST M=3 S=0.9 (0 of 2)." in caption
    assert next(entry.caption for entry in loaded.figures() if entry.name == "classes").endswith(
        "n = 2 replicates a cell."
    )


def test_a_replicate_of_which_the_test_logits_are_damaged_is_not_counted_either(evaluated):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][0]
    truncate(evaluated.store.run(run).path / "logits" / "test.safetensors")
    loaded = evaluated.read()
    table = scores_table(loaded.numbers("corruption"), loaded.results, "local-c")
    assert column(table, "Replicates")["DST M=2 S=0.8"] == "1 of 2"
    assert re.fullmatch(r"\d+\.\d\d", column(table, "Corrupted accuracy (%)")["DST M=2 S=0.8"])


def test_types_without_a_severity_are_in_the_table_of_types_alone(evaluated):
    forget(evaluated, [run.id for run in evaluated.plan.runs], "local-c/frost/4")
    loaded = evaluated.read()
    assert (
        "Scores are means over all sets of 2 types with equal weight."
        in scores_table(loaded.numbers("corruption"), loaded.results, "local-c").notes
    )
    assert column(types_table(loaded.numbers("corruption"), loaded.results, "local-c"), "dense", 2)["frost", "1"] != ""
    caption = next(entry.caption for entry in loaded.figures() if entry.name == "local-c_severity")
    assert "2 types of corruption" in caption


def test_sets_without_a_whole_type_make_no_figure_of_means(evaluated):
    for name in ("fog/4", "frost/1", "saturate/1", "saturate/4"):
        forget(evaluated, [run.id for run in evaluated.plan.runs], f"local-c/{name}")
    loaded = evaluated.read()
    assert {entry.name for entry in loaded.figures() if "local-c" in entry.name} == {"local-c_sheet"}
    assert "small_corruptions_local-c" not in {table.name for table in all_tables(loaded)}


BESIDE = """
dataset,model,method,members,sparsity,grid,cell,metric_definition,corrupted_accuracy,corrupted_nll,corrupted_ece,note,source
cifar10,wide_resnet10_1,dense,1,,small.yaml,single,ub,76.1,1.050,0.153,,one source
cifar10,wide_resnet10_1,dense_ensemble,4,,small.yaml,four,unknown,77.9,0.81,0.087,a note,another source
"""


def released_in(folder, text):
    (folder / "published").mkdir()
    (folder / "published" / "own.csv").write_text(BESIDE.lstrip())
    return make(folder, text, images=40).read()


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return released_in(tmp_path_factory.mktemp("released"), PUBLISHED)


def test_published_corrupted_scores_lie_beside_those_of_the_released_set(released):
    table = scores_table(released.numbers("corruption"), released.results, "cifar-10-c")
    assert column(table, "Published corrupted accuracy (%)") == {"single": "76.1", "three": "", "four": "77.9"}
    assert column(table, "Published corrupted NLL") == {"single": "1.050", "three": "", "four": "0.81"}
    mean, pooled = (head for head in table.head if head.startswith("Published corrupted ECE"))
    assert ("mean" in mean, "pooled" in pooled) == (True, True)
    # Of an unknown definition a value stands beside both.
    assert column(table, mean) == {"single": "0.153", "three": "", "four": "0.087"}
    assert column(table, pooled) == {"single": "", "three": "", "four": "0.087"}
    assert column(table, "Published source") == {"single": "one source", "three": "", "four": "another source"}
    numbers = table.numbers.set_index("cell")
    assert numbers.at["four", "published_corrupted_accuracy"] == 77.9
    assert np.isnan(numbers.at["three", "published_corrupted_accuracy"])
    assert "reference only" not in " ".join(table.notes)
    assert "15 of CIFAR-10-C" in " ".join(table.notes)
    assert "four: a note." in table.notes
    assert LOCAL_NOTE not in table.notes


def test_nothing_published_lies_beside_sets_made_here(tmp_path):
    loaded = released_in(tmp_path, PUBLISHED.replace("cifar_c", "local_c"))
    assert loaded.results.published["single"]["corrupted_accuracy"].value == 76.1
    table = scores_table(loaded.numbers("corruption"), loaded.results, "local-c")
    assert not [head for head in table.head if head.startswith("Published")]


def test_samples_are_those_of_the_store(robust):
    (samples,) = load_samples(StoreView(robust.plan, robust.store)).values()
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


def of_another_size(file):
    save_file({**load_file(file), "frost": np.zeros((3, 16, 16, 3), np.uint8)}, file)


def of_seven_channels(file):
    save_file({"severities": load_file(file)["severities"], "frost": np.zeros((3, 32, 32, 7), np.uint8)}, file)


def in_its_place(file):
    file.unlink()
    file.mkdir()


DAMAGE = [cut, without_severities, of_fewer_images, as_numbers, of_another_size, of_seven_channels, in_its_place]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_samples_are_named_and_left_out(evaluated, damage):
    file = samples_file(evaluated.store, "digits", "local-c")
    damage(file)
    loaded = evaluated.read()
    assert loaded.numbers("corruption").samples == {}
    assert [problem.startswith(f"{file}: ") for problem in loaded.problems] == [True]
    names = [entry.name for entry in loaded.figures()]
    assert "local-c_sheet" not in names
    assert "local-c_severity" in names


def test_absent_samples_are_no_problem(evaluated):
    samples_file(evaluated.store, "digits", "local-c").unlink()
    loaded = evaluated.read()
    assert loaded.problems == ()
    assert "local-c_sheet" not in [entry.name for entry in loaded.figures()]
