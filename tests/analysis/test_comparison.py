"""What is marked as the best, and how far values are from dense ones: only among what compares."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from analysis.alt import alt_text
from analysis.columns import ACCURACY, NLL, Metric
from analysis.comparison import Place, mark, signed
from analysis.formats import to_html, to_latex, to_markdown
from analysis.overview import main_table
from analysis.statistics import Estimate, estimate
from analysis.table import shown

EITHER = Metric("temperature", "Temperature", 2, None)


def replicates(*rows):
    return [pd.Series(values, index=range(1, len(values) + 1), dtype=float) for values in rows]


def alone(count):
    return [Place("kind", None)] * count


def test_the_best_is_the_highest_or_the_lowest_mean_as_it_is_shown():
    values = replicates([90, 92], [91.001, 91.002], [89.0])
    assert mark(alone(3), values, ACCURACY).best == {0, 1}
    assert mark(alone(3), values, NLL).best == {2}
    assert mark(alone(3), values, EITHER).best == frozenset()


def test_rows_of_another_kind_or_without_a_value_do_not_compare():
    values = replicates([90], [80], [70], [], [60])
    places = [Place(kind, None) for kind in ("a", "b", "b", "b", "c")]
    assert mark(places, values, ACCURACY).best == {1}


def test_nothing_is_best_where_all_are_alike():
    assert mark(alone(2), replicates([90], [90.001]), ACCURACY).best == frozenset()


def test_differences_pair_replicates_with_those_of_the_reference():
    dense, other = pd.Series([90.0, 92.0, 94.0], [1, 2, 3]), pd.Series([91.0, 94.0], [2, 3])
    found = mark([Place("a", 0), Place("a", 0), Place("a", None)], [dense, other, dense], ACCURACY).differences
    measured = estimate([-1.0, 0.0])
    assert found == {0: "reference", 1: f"-0.50 ± {measured.half_width:.2f}", 2: ""}


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (Estimate(0.314, math.nan, 1), "+0.31"),
        (Estimate(-0.001, 0.5, 3), "0.00 ± 0.50"),
        (Estimate(math.nan, math.nan, 0), ""),
    ],
)
def test_a_difference_has_its_sign_but_where_it_is_0_as_shown(measured, text):
    assert signed(measured, 2) == text


def test_what_is_0_as_shown_has_no_sign():
    assert (shown(-0.001, 2), shown(-0.01, 2), shown(0.0, 0)) == ("0.00", "-0.01", "0")


def test_the_best_are_bold_in_every_format(loaded):
    table, context = main_table(loaded.results), loaded.results.context
    means = loaded.results.replicates.groupby("cell")["accuracy"].mean()
    best = next(row for row in table.rows if row[0] == means.idxmax())
    text = best[table.head.index("Accuracy (%)")]
    assert f"**{text}**" in to_markdown(table, context)
    assert r"\textbf{" + text.replace("±", r"$\pm$") + "}" in to_latex(table, context)
    mean, width = text.split(" ± ")
    assert f'<strong>{mean} <span class="interval">± {width}</span></strong>' in to_html(table, context)
    assert any(note.startswith("Bold:") for note in table.notes)


def test_cells_of_other_networks_do_not_compare(loaded):
    cells = loaded.results.cells.assign(network=list("abcd"), reference="")
    table = main_table(replace(loaded.results, cells=cells))
    assert table.best == frozenset()
    assert table.differences == {}
    assert not any(note.startswith("Bold:") for note in table.notes)


def test_a_picture_is_told_by_what_it_draws_and_its_ends(loaded):
    entry = next(entry for entry in loaded.figures() if entry.name == "scores_by_cell")
    means = loaded.results.replicates.groupby("cell")["accuracy"].mean() * 100
    text = alt_text(entry, entry.numbers(), loaded.results)
    assert text.startswith("Accuracy, NLL and ECE. Test accuracy, negative log-likelihood")
    ends = f"from {means.min():.2f} of {means.idxmin()} to {means.max():.2f} of {means.idxmax()}."
    assert f"of 4 cells, mean of what is drawn: {ends}" in text
    assert alt_text(entry, {}, loaded.results).endswith("of each cell's ensemble.")
