"""What every table and figure must state: scale, substitute images, replicates, what is missing."""

import pandas as pd
import pytest

from analysis.context import describe_measured, describe_replicates, make_context
from analysis.reading import StoreView
from bench.plan import make_plan
from bench.store.store import DataRecord
from tests.analysis.synthetic import fill

NONE = pd.DataFrame({"cell": [], "replicate": [], "members": []})


def cells(*done, of=3):
    return pd.DataFrame(
        {"cell": [f"c{i}" for i in range(len(done))], "replicates_done": done, "replicates": of, "members": 3}
    )


def test_paper_scale_with_official_images_has_no_caveat(loaded):
    assert loaded.results.context.comparable
    assert loaded.results.context.sentence == "Grid small, scale paper. n = 2 replicates a cell."


def test_another_scale_says_that_it_is_not_comparable(grid, store, read):
    fill(store, make_plan(grid, "small", store), images=50)
    context = read("small").results.context
    assert not context.comparable
    assert "Scale small: not comparable with published numbers." in context.sentence
    assert "n = 1 replicate a cell." in context.sentence


@pytest.mark.parametrize(
    ("note", "stated"),
    [("Photographs of digits.", "Data digits: Photographs of digits."), ("", "not the official files")],
)
def test_substitute_images_are_stated(grid, store, note, stated):
    store.record_data("digits", DataRecord("images-12ab", None, note))
    plan = make_plan(grid, "paper", store)
    context = make_context(plan, StoreView(plan, store).data_notes(), cells(2), NONE)
    assert not context.comparable
    assert stated in context.sentence


def test_replicates_that_lack_are_named_once(plan):
    assert describe_replicates(cells(3, 3)) == "n = 3 replicates a cell."
    assert describe_replicates(cells(3, 1)) == "n = 1 to 3 replicates a cell."
    context = make_context(plan, {}, cells(3, 1), NONE)
    assert context.sentence.endswith("n = 1 to 3 replicates a cell. Incomplete: c1 (1 of 3).")
    assert context.foot.endswith("n = 1 to 3 replicates a cell.")
    assert context.foot.startswith("Grid small, scale paper. ")


def test_only_what_was_trained_and_not_evaluated_is_named_at_what_was_measured():
    measured = pd.DataFrame({"cell": ["c0", "c0", "c1"], "replicate": [1, 2, 1]})
    assert describe_measured(cells(3, 1, 0), measured) == ("n = 0 to 2 replicates a cell. Not evaluated: c0 (2 of 3).")


def test_many_cells_that_lack_are_counted(plan):
    text = make_context(plan, {}, cells(*[0] * 30), NONE).sentence
    assert "c7 (0 of 3) and 22 more cells" in text
    assert "c8" not in text


def test_replicates_with_fewer_members_than_planned_are_named_wherever_the_is(plan):
    finished = pd.DataFrame({"cell": ["c0", "c1", "c1"], "replicate": [1, 1, 2], "members": [3, 3, 2]})
    context = make_context(plan, {}, cells(3, 3), finished)
    assert context.sentence.endswith("n = 3 replicates a cell. Fewer members than planned: c1 (2 in replicate 2).")
