"""Long tables as one row a cell: nothing is lost, moved or marked elsewhere, in any format."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from analysis.attacks.table import METRICS, attack_table
from analysis.context import Context
from analysis.formats import to_csv, to_html, to_latex, to_markdown
from analysis.listings import members_table
from analysis.pivot import pivoted
from analysis.table import Table
from tests.analysis.lookup import grouped_column, mean_and_half_width

CONTEXT = Context("g", "paper", (), "n = 1.")
CELLS = ["b", "a", "not run"]


@pytest.fixture
def long():
    rows = (
        ("a", "dark", "10.0", "1"),
        ("b", "dark", "20.0", "2"),
        ("b", "light", "30.0", ""),
        ("a", "light", "40.0", ""),
    )
    return Table(
        "t", "A title", ("Cell", "Set", "Score", "Loss"), rows, (), pd.DataFrame({"cell": [row[0] for row in rows]}),
        better={2: "higher", 3: "lower"}, best=frozenset({(1, 2), (3, 2), (0, 3)}),
        differences={(0, 2): "reference", (1, 2): "+10.0", (3, 2): "reference"},
    )  # fmt: skip


@pytest.fixture
def wide(long):
    return pivoted(long, 1, lambda row, head: (row[0], head), CELLS)


def test_cells_are_rows_in_their_order_and_sets_are_groups(wide):
    assert wide.rows == (("b", "20.0", "2", "30.0"), ("a", "10.0", "1", "40.0"))
    # Nothing has a loss in the light.
    assert list(zip(wide.groups, wide.head, strict=True)) == [
        ("", "Cell"), ("dark", "Score"), ("dark", "Loss"), ("light", "Score")
    ]  # fmt: skip


def test_marks_go_with_their_values(wide):
    assert wide.best == {(0, 1), (1, 3), (1, 2)}
    assert wide.differences == {(1, 1): "reference", (0, 1): "+10.0", (1, 3): "reference"}
    assert wide.better == {1: "higher", 2: "lower", 3: "higher"}


def test_the_csv_stays_long(long, wide):
    assert to_csv(wide, CONTEXT) == to_csv(long, CONTEXT)


def test_markdown_names_the_group_in_every_head(wide):
    text = to_markdown(wide, CONTEXT)
    assert "| Cell | dark: Score | dark: Loss | light: Score |" in text
    assert "| a | 10.0 | **1** | **40.0** |" in text


def test_latex_has_heads_over_several_columns(wide):
    text = to_latex(wide, CONTEXT)
    assert r" & \multicolumn{2}{c}{dark} & \multicolumn{1}{c}{light} \\" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in text
    columns = {line.count("&") + line.count("{2}") for line in text.splitlines() if line.endswith(r" \\")}
    assert columns == {3}


def test_html_has_heads_over_several_columns(wide):
    text = to_html(wide, CONTEXT)
    for count, group in ((2, "dark"), (1, "light")):
        assert f'<th scope="colgroup" colspan="{count}"><span>{group}</span></th>' in text
    assert '<td data-difference="+10.0"><strong>20.0</strong></td>' not in text  # it begins a group
    assert '<td class="first" data-difference="+10.0"><strong>20.0</strong></td>' in text
    assert re.search('<th scope="col" class="first" data-better="higher">Score</th>.*data-better="lower">Loss', text)


def test_a_table_without_groups_has_one_line_of_heads(long):
    assert to_html(long, CONTEXT).count("<tr>") == 1 + len(long.rows)
    assert "multicolumn" not in to_latex(long, CONTEXT)
    assert long.spans == []


def test_nothing_at_all_leaves_no_row(long):
    nothing = pivoted(replace(long, rows=()), 1, lambda row, head: (row[0], head), CELLS)
    assert (nothing.head, nothing.rows) == (("Cell",), ())
    to_html(nothing, CONTEXT)


def test_every_number_of_the_csv_stands_in_the_table(all_of_it):
    table = attack_table(all_of_it.numbers("attacks"), all_of_it.results, "fgsm")
    for row in table.numbers.to_dict("records"):
        group = f"Budget {row['budget']:g}/255" if row["budget"] else "No attack"
        for metric in METRICS:
            if not pd.isna(value := row[metric.csv_name]):
                mean, _, interval = grouped_column(table, group, metric.head)[row["cell"]].partition(" ± ")
                assert mean == f"{value:.2f}"
                assert bool(interval) == (not pd.isna(row[f"{metric.csv_name}_half_width"]))


def test_members_are_the_least_the_mean_and_the_most_of_every_replicate(all_of_it):
    members = all_of_it.numbers("listings")
    table = members_table(members, all_of_it.results)
    assert [group for group, _ in table.spans] == ["", "Accuracy (%)", "NLL", "ECE (15 bins)"]
    by_replicate = members[members["cell"] == "EDST M=3 S=0.9"].groupby("replicate")["nll"]
    for head, values in {"least": by_replicate.min(), "mean": by_replicate.mean(), "most": by_replicate.max()}.items():
        mean, half_width = mean_and_half_width(values)
        assert grouped_column(table, "NLL", head)["EDST M=3 S=0.9"] == f"{mean:.4f} ± {half_width:.4f}"
    assert len(table.numbers) == len(members) == 2 * (1 + 2 + 2 + 3)
    assert list(table.better.values()) == ["higher"] * 3 + ["lower"] * 6
