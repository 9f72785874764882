"""Two sets of results beside each other: each word is reached, and for the right reason."""

import math

import numpy as np
import pytest
import scipy.stats

import analysis.__main__
from analysis.kept import (
    expected_file,
    read_scores,
    scores_of,
    write_scores,
)
from analysis.side_by_side import compare, damaged_cells
from tests.analysis.stores import cell_of, flip_a_bit

CELLS = ["dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"]


def changed(scores, cell, metric, by):
    """Scores with this much more in every replicate of a cell."""
    cells = {name: {n: dict(values) for n, values in replicates.items()} for name, replicates in scores.cells.items()}
    for values in cells[cell].values():
        values[metric] += by
    return scores.model_copy(update={"cells": cells})


def words(loaded, ours, theirs, damaged=()):
    return compare(ours, theirs, loaded.results.metrics, set(damaged)).words


def test_the_same_results_are_identical(loaded):
    scores = scores_of(loaded)
    beside = compare(scores, scores, loaded.results.metrics, set())
    assert beside.words == dict.fromkeys(CELLS, "identical")
    assert beside.sentence == "4 of 4 cells as expected: 4 identical."
    assert beside.as_expected
    assert "train_hours_ratio" not in scores.cells["dense"]["1"]
    assert scores.cells["dense"]["1"]["accuracy"] == loaded.results.replicates["accuracy"].iloc[0]


def test_a_small_change_is_within_the_spread_and_a_large_one_off(loaded):
    scores = scores_of(loaded)
    accuracies = [[100 * values["accuracy"] for values in replicates.values()] for replicates in scores.cells.values()]
    # Both sets have the same spread, so each cell counts twice.
    pooled = math.sqrt(np.mean([np.var(values, ddof=1) for values in accuracies]))
    tests = sum(len(values) for values in (replicates["1"] for replicates in scores.cells.values()))
    limit = scipy.stats.t.ppf(1 - 0.025 / tests, 2 * len(CELLS)) * pooled / 100
    for factor, word in ((0.999, "within the spread"), (1.001, "off"), (-1.001, "off"), (1e-15, "identical")):
        found = words(loaded, changed(scores, "dense", "accuracy", factor * limit), scores)
        assert found == {**dict.fromkeys(CELLS, "identical"), "dense": word}


def test_cells_without_results_are_not_run_and_those_of_ours_alone_are_no_matter(loaded):
    scores = scores_of(loaded)
    fewer = scores.model_copy(update={"cells": {**scores.cells, "dense": {}}})
    assert words(loaded, fewer, scores)["dense"] == "not run"
    more = scores.model_copy(update={"cells": {**scores.cells, "mine": scores.cells["dense"]}})
    assert words(loaded, more, scores) == dict.fromkeys(CELLS, "identical")


def test_single_replicates_have_no_spread_to_tell_by(loaded):
    scores = scores_of(loaded)
    single = scores.model_copy(update={"cells": {cell: {"1": found["1"]} for cell, found in scores.cells.items()}})
    assert words(loaded, changed(single, "dense", "nll", 0.1), single)["dense"] == "undecided"


def test_an_altered_weight_file_is_said_though_the_scores_are_the_same(evaluated):
    before = scores_of(evaluated.read())
    run = cell_of(evaluated.plan, "EDST M=3 S=0.9").runs[0][0]
    flip_a_bit(next((evaluated.store.run(run).path / "tickets").iterdir()))
    loaded = evaluated.read()
    assert damaged_cells(loaded, evaluated.store) == {"EDST M=3 S=0.9"}
    found = words(loaded, scores_of(loaded), before, damaged_cells(loaded, evaluated.store))
    assert found == {**dict.fromkeys(CELLS, "identical"), "EDST M=3 S=0.9": "damaged"}


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        analysis.__main__.main(["compare", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_the_command_keeps_compares_and_names_what_differs(evaluated, tmp_path, capsys):
    store, grid = evaluated.store.root, evaluated.path
    code, said = run(capsys, grid, store)
    assert (code, "nothing is expected of small at scale paper" in said.err) == (2, True)
    file = expected_file(grid, "paper")
    assert run(capsys, grid, store, "--keep", file)[0] == 0
    assert run(capsys, grid, store)[1].out.startswith("4 of 4 cells as expected: 4 identical.")
    scores = read_scores(file)
    kept = tmp_path / "kept.json"
    write_scores(scores.model_copy(update={"scale": "tiny"}), kept)
    code, said = run(capsys, grid, store, "--keep", kept)
    assert (code, "the file holds scores of scale tiny, not paper" in said.err) == (2, True)
    assert read_scores(kept).scale == "tiny"
    write_scores(scores.model_copy(update={"cells": {**scores.cells, "dense": {"7": {}}}}), kept)
    assert "since they are of other runs: dense 7\n" in run(capsys, grid, store, "--keep", kept)[1].err
    assert read_scores(kept) == scores
    write_scores(changed(scores, "dense", "nll", 5.0), file)
    code, said = run(capsys, grid, store)
    assert code == 1
    assert said.out.startswith("3 of 4 cells as expected: 3 identical, 1 off.")
    assert "dense: off\n  NLL: " in said.out
    other = evaluated.copied(tmp_path / "other")
    code, said = run(capsys, grid, store, other.store.root, "--every")
    assert (code, said.out.count("identical")) == (0, 1 + 4 + len(compare_rows(evaluated)))


def compare_rows(made):
    loaded = made.read()
    scores = scores_of(loaded)
    return compare(scores, scores, loaded.results.metrics, set()).comparisons
