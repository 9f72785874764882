"""The report of a grid that asks for every kind of evaluation set: complete, and honest about what sets are."""

import re

import pytest

from analysis.corruption.table import LOCAL_NOTE
from analysis.formats import to_markdown
from analysis.report import all_tables, write_report
from tests.analysis.conftest import EVALUATIONS, GRID
from tests.analysis.stores import cell_of, truncate

CELLS = ("dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9")
FIGURES = {
    *("local-c_severity", "local-c_types", "local-c_type_map", "local-c_reliability", "local-c_sheet"),
    *("ood_roc_max_probability", "ood_roc_entropy", "ood_roc_mutual_information", "ood_scores"),
    *("robust_accuracy", "transfer_fgsm", "transfer_pgd-5"),
    *("diversity_against_accuracy", "classes", "mask_overlap", "mask_overlap_by_layer", "function_space"),
}
TABLES = {
    *("corruptions_local-c", "types_local-c", "weights", "attacks_fgsm", "attacks_pgd-5"),
    *("ood_auroc", "ood_aupr", "ood_fpr95"),
}


def test_there_is_a_table_of_each_kind_and_no_two_of_one_name(all_of_it):
    names = [table.name for table in all_tables(all_of_it)]
    assert {f"small_{name}" for name in TABLES} <= set(names)
    assert len(set(names)) == len(names)


def test_without_evaluation_sets_there_are_none_of_them(loaded):
    names = {table.name for table in all_tables(loaded)}
    rest = ("calibration", "scaling", "diversity", "weights", "replicates", "members", "efficiency")
    assert names == {"small", *(f"small_{name}" for name in rest)}
    of_own_images = {"diversity_against_accuracy", "classes", "mask_overlap", "mask_overlap_by_layer"}
    assert {entry.name for entry in loaded.figures()} & FIGURES == of_own_images


def test_no_definition_of_ece_is_without_its_name_anywhere(all_of_it):
    for table in all_tables(all_of_it):
        for head in table.head:
            assert "ECE" not in head or re.search(r"\d+ ?bins", head), head


def test_what_was_made_here_is_never_called_by_the_name_of_the_released_set(all_of_it):
    texts = [to_markdown(table, all_of_it.results.context) for table in all_tables(all_of_it)]
    texts += [f"{entry.name} {entry.title} {entry.caption}" for entry in all_of_it.figures()]
    about = [text for text in texts if "local-c" in text]
    assert len(about) >= 7
    for text in about:
        assert LOCAL_NOTE in text
    for text in texts:
        assert not re.search("cifar-?10(0)?-?c", text.replace(LOCAL_NOTE, ""), re.IGNORECASE)


@pytest.mark.usefixtures("written")
def test_the_report_shows_all_of_it(all_of_it, tmp_path):
    index = write_report(all_of_it, tmp_path / "out")
    text = index.read_text(encoding="utf-8")
    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    assert figures >= FIGURES
    assert set(re.findall(r'src="figures/(.+?)\.png"', text)) == figures
    assert {path.stem for path in (tmp_path / "out" / "figures").glob("*.pdf")} == figures
    entries = re.findall('<a href="#[^"]+">([^<]+)</a>', text.partition("</nav>")[0])
    assert len(entries) == len(set(entries)) > 40
    for name in TABLES:
        assert f'<section id="small_{name}">' in text
        assert (tmp_path / "out" / "tables" / f"small_{name}.csv").is_file()
    assert all_of_it.problems == ()


def test_damage_of_every_kind_is_named_and_all_tables_are_there(evaluated):
    run = cell_of(evaluated.plan, "EDST M=3 S=0.9").runs[0][0]
    folder = evaluated.store.run(run).path
    damaged = [folder / f"logits/{name}.safetensors" for name in ("local-c/fog/1", "ood/mnist", "validation")]
    damaged.append(folder / "tickets/1.safetensors")
    for path in damaged:
        truncate(path)
    loaded = evaluated.read()
    assert len(loaded.problems) == len(damaged)
    for path in damaged:
        assert any(str(path) in problem for problem in loaded.problems)
    assert {table.name.removeprefix("small_") for table in all_tables(loaded)} >= TABLES
    assert len(loaded.results.replicates) == 8


@pytest.mark.usefixtures("full")
def test_a_store_of_which_nothing_is_evaluated_yet_is_read(grid, read):
    grid.path.write_text(GRID + EVALUATIONS)
    loaded = read()
    assert loaded.problems == ()
    assert loaded.numbers("corruption").sets.empty
    assert not {f"small_{name}" for name in TABLES - {"weights"}} & {table.name for table in all_tables(loaded)}
