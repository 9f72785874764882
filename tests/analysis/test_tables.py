"""Tables: their numbers against the replicates, and everything a reader must be told, in every format."""

import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.calibration.numbers import PLAIN, SCALED
from analysis.calibration.table import scaling_table
from analysis.columns import ECE, NLL
from analysis.context import Context
from analysis.diversity.numbers import METRICS
from analysis.diversity.table import diversity_table
from analysis.formats import to_csv, to_html, to_latex, to_markdown
from analysis.overview import METRICS as MAIN
from analysis.overview import main_table
from analysis.paper.published import Published
from analysis.report import all_tables
from analysis.table import Table
from bench.plan import make_plan
from bench.store.store import DataRecord
from tests.analysis.lookup import column
from tests.analysis.synthetic import fill, labels_of, logits_of, write_run

FORMATS = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex, "html": to_html}


def csv_of(table, context):
    return pd.read_csv(io.StringIO(to_csv(table, context)))


@pytest.fixture(scope="session")
def table(loaded):
    return main_table(loaded.results)


@pytest.mark.parametrize(
    "metric", [metric for metric in MAIN if metric.measured_on == "test"], ids=lambda metric: metric.key
)
def test_mean_and_interval_equal_those_of_the_replicates(loaded, table, metric):
    numbers = csv_of(table, loaded.results.context).set_index("cell")
    for cell, rows in loaded.results.replicates.groupby("cell"):
        values = rows[metric.key].to_numpy() * metric.factor
        if np.isnan(values).all():
            assert np.isnan(numbers.at[cell, metric.csv_name])
            continue
        assert numbers.at[cell, metric.csv_name] == pytest.approx(values.mean())
        half_width = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        assert numbers.at[cell, f"{metric.csv_name}_half_width"] == pytest.approx(half_width)


@pytest.mark.parametrize(
    ("make", "metrics"),
    [(scaling_table, (NLL, ECE, *SCALED)), (diversity_table, (MEMBER_ACCURACY, *METRICS))],
    ids=["scaling", "diversity"],
)
def test_tables_of_single_scores_show_mean_and_interval(loaded, make, metrics):
    table = make(loaded.results)
    assert table.head == ("Cell", "Members", "Sparsity", "Replicates", *(metric.head for metric in metrics))
    for metric in metrics:
        for cell, text in column(table, metric.head).items():
            rows = loaded.results.replicates
            values = rows.loc[rows["cell"] == cell, metric.key].to_numpy() * metric.factor
            if np.isnan(values).all():
                assert text == ""
                continue
            half_width = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
            interval = f" ± {half_width:.{metric.digits}f}" if half_width else ""
            assert text == f"{values.mean():.{metric.digits}f}{interval}"


def test_single_networks_have_temperatures_and_no_diversity(loaded):
    assert column(scaling_table(loaded.results), "Temperature")["dense"] != ""
    table = diversity_table(loaded.results)
    row = dict(zip(table.head, next(row for row in table.rows if row[0] == "dense"), strict=True))
    filled = {head for head, text in row.items() if text}
    assert filled - {"Cell", "Members", "Sparsity", "Replicates"} == {
        "Member accuracy (%)",
        "Ambiguity (member NLL less ensemble NLL)",
    }


def test_text_shows_the_numbers_rounded(loaded, table):
    numbers = csv_of(table, loaded.results.context).set_index("cell")
    for cell, text in column(table, "Accuracy (%)").items():
        mean, half_width = numbers.at[cell, "accuracy_percent"], numbers.at[cell, "accuracy_percent_half_width"]
        assert text == f"{mean:.2f} ± {half_width:.2f}"


def test_the_definition_of_ece_is_in_the_head_of_its_column(table):
    assert "ECE (15 bins)" in table.head
    assert {"ECE (15 bins)", "ECE (14 bins, released code)"} <= {metric.head for metric in PLAIN}


def test_one_member_has_no_diversity(table):
    assert column(table, "Disagreement")["dense"] == ""
    assert column(table, "Disagreement")["EDST M=3 S=0.9"] != ""


def test_costs_are_those_of_the_plan(loaded, table):
    texts = column(table, "Training FLOPs (x one dense run)")
    assert texts == {cell.name: f"{cell.train_flops_ratio:.3f}" for cell in loaded.plan.cells}


def test_missing_runs_show_as_replicates_and_one_replicate_has_no_interval(plan, store, read):
    fill(store, plan, images=60, leave_out={plan.cells[2].runs[1][0], *plan.cells[3].runs[0], *plan.cells[3].runs[1]})
    loaded = read()
    table = main_table(loaded.results)
    assert column(table, "Replicates")["DST M=2 S=0.8"] == "1 of 2"
    assert re.fullmatch(r"\d+\.\d\d", column(table, "Accuracy (%)")["DST M=2 S=0.8"])
    assert column(table, "Replicates")["EDST M=3 S=0.9"] == "0 of 2"
    assert column(table, "Accuracy (%)")["EDST M=3 S=0.9"] == ""
    assert "DST M=2 S=0.8 (1 of 2), EDST M=3 S=0.9 (0 of 2)" in to_markdown(table, loaded.results.context)


def test_a_missing_ticket_shows_in_the_number_of_members(plan, full, read):
    cell = plan.cells[3]
    spec = next(run.spec for run in plan.runs if run.id == cell.runs[1][0])
    write_run(full, spec, logits_of("edst", spec.seed, 3, 300), labels_of(300), missing={0})
    loaded = read()
    table = main_table(loaded.results)
    assert column(table, "Members")[cell.name] == "3 (2 in replicate 2)"
    assert csv_of(table, loaded.results.context).set_index("cell").at[cell.name, "members_least"] == 2


def test_published_numbers_stand_beside_their_cell_and_blank_elsewhere(loaded):
    values = {"accuracy": (96.0, "96.0"), "nll": (0.159, "0.159")}
    published = {"dense": {key: Published(*value, "ub", "", "a source") for key, value in values.items()}}
    table = main_table(replace(loaded.results, published=published))
    assert column(table, "Published accuracy (%)") == {
        "dense": "96.0",
        "dense ensemble M=2": "",
        "DST M=2 S=0.8": "",
        "EDST M=3 S=0.9": "",
    }
    assert "Published ECE (15 bins)" not in table.head
    assert column(table, "Published source")["dense"] == "a source"
    assert "reference only" not in to_markdown(table, loaded.results.context)


def test_published_numbers_at_another_scale_are_for_reference_only(loaded):
    published = {"dense": {"accuracy": Published(96.0, "96.0", "ub", "", "a source")}}
    elsewhere = Context("small", "tiny", ("Scale tiny: not comparable with published numbers.",), "n = 1")
    table = main_table(replace(loaded.results, published=published, context=elsewhere))
    assert "reference only" in to_markdown(table, elsewhere)


def test_without_published_numbers_there_are_no_empty_columns(table):
    assert not [head for head in table.head if head.startswith("Published")]
    assert "No published value with a source exists for these cells." in table.notes


@pytest.mark.parametrize("name", FORMATS)
def test_every_table_in_every_format_states_scale_and_substitute_images(grid, store, read, name):
    store.record_data("digits", DataRecord("folder-12ab", "x.zip", "Photographs, not the embedded digits."))
    fill(store, make_plan(grid, "small", store), images=40)
    loaded = read("small")
    for table in all_tables(loaded):
        text = FORMATS[name](table, loaded.results.context)
        assert "Scale small: not comparable with published numbers." in text
        assert "Photographs, not the embedded digits." in text


def test_no_table_of_a_grid_overwrites_another(loaded):
    names = [table.name for table in all_tables(loaded)]
    assert len(set(names)) == len(names)
    assert names[0] == "small"


def test_markdown_is_a_table_of_as_many_columns_everywhere(loaded, table):
    lines = [line for line in to_markdown(table, loaded.results.context).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table.rows)
    assert {line.count("|") for line in lines} == {len(table.head) + 1}


def odd(cell):
    context = Context("g", "paper", (), "n = 1 replicate a cell.")
    return Table("t", "T", ("Cell", "A"), ((cell, "1.0 ± 0.5"),), ("50% of R&D_x",), pd.DataFrame()), context


def test_latex_escapes_what_it_must():
    text = to_latex(*odd("50% A_b & {c} $d$ #1 ~ ^ \\x <y>"))
    cell = r"50\% A\_b \& \{c\} \$d\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}x $<$y$>$"
    assert rf"{cell} & 1.0 $\pm$ 0.5 \\" in text
    assert r"50\% of R\&D\_x" in text
    unescaped = re.sub(r"\\.", "", text)
    assert unescaped.count("{") == unescaped.count("}")


def test_html_and_markdown_escape_what_they_must():
    assert "<td>" in to_html(*odd("<b>&"))
    assert "&lt;b&gt;&amp;" in to_html(*odd("<b>&"))
    assert r"a\|b" in to_markdown(*odd("a|b"))
