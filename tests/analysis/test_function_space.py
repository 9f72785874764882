"""Trajectories in function space: whose predictions are embedded, and what altered histories do."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.training.embedding import embed
from analysis.training.function_space import function_space
from analysis.training.numbers import load_predictions
from bench.store.probe import decode, encode
from bench.store.run_folder import RunFolder
from tests.analysis.conftest import GRID
from tests.analysis.layout import assert_laid_out
from tests.analysis.stores import cell_of, make, numbers_of
from tests.analysis.synthetic import fill, history_of, probe_of, tickets_of


def history_path(made, run):
    return made.store.run(run).path / "history.jsonl"


def rewrite(path, change):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(change(index, line)) + "\n" for index, line in enumerate(lines)))
    if (path.parent / "result.json").exists():
        RunFolder(path.parent).record_again("history.jsonl")


def test_every_epoch_of_every_run_is_embedded_with_its_tickets_marked(robust):
    plan = robust.plan
    predictions, problems = numbers_of(load_predictions, plan, robust.store)
    assert problems == ()
    assert {prediction.trajectory for prediction in predictions} == {
        "dense, dense ensemble M=2",
        "DST M=2 S=0.8",
        "EDST M=3 S=0.9",
    }
    for run in plan.runs:
        recorded = [prediction for prediction in predictions if prediction.run == run.id]
        history = history_of(run.spec)
        assert [(prediction.epoch, prediction.phase) for prediction in recorded] == [
            (line["epoch"], line["phase"]) for line in history
        ]
        marked = {prediction.epoch for prediction in recorded if prediction.ticket}
        assert marked == {ticket["epoch"] for ticket in tickets_of(run.spec, history)}
        for prediction in recorded:
            expected = probe_of(run.spec.seed, prediction.epoch, 12)
            np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-3)  # float16


def test_points_are_in_the_plane(robust):
    frame = embed(numbers_of(load_predictions, robust.plan, robust.store)[0])
    assert len(frame) == sum(len(history_of(run.spec)) for run in robust.plan.runs)
    assert np.isfinite(frame[["x", "y"]].to_numpy()).all()
    assert set(frame["run"]) == {run.id for run in robust.plan.runs}


def test_histories_without_predictions_give_no_points(loaded):
    assert loaded.numbers("training").predictions == ()
    assert not [problem for problem in loaded.problems if "history" in problem]


def test_runs_that_recorded_none_leave_those_that_did(evaluated):
    run = evaluated.plan.runs[0].id
    rewrite(history_path(evaluated, run), lambda _, line: {**line, "predictions": None})
    predictions, problems = numbers_of(load_predictions, evaluated.plan, evaluated.store)
    assert problems == ()
    assert {prediction.run for prediction in predictions} == {planned.id for planned in evaluated.plan.runs} - {run}


def test_a_run_in_progress_has_no_tickets_yet(evaluated):
    run = evaluated.plan.runs[0]
    (evaluated.store.run(run.id).path / "result.json").unlink()
    rewrite(history_path(evaluated, run.id), lambda _, line: line)
    predictions, problems = numbers_of(load_predictions, evaluated.plan, evaluated.store)
    assert problems == ()
    assert len([prediction for prediction in predictions if prediction.run == run.id]) == len(history_of(run.spec))
    assert not any(prediction.ticket for prediction in predictions if prediction.run == run.id)


@pytest.mark.parametrize(
    "altered",
    ["no base64!", "é", "QUJD", encode(np.ones((1, 9))), 7, ["QUI="]],
    ids=["letters", "not ASCII", "half a number", "no whole image", "a number", "a list"],
)
def test_altered_predictions_are_a_problem_of_their_run_alone(evaluated, altered):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][0]
    path = history_path(evaluated, run)
    rewrite(path, lambda index, line: {**line, "predictions": altered} if index == 3 else line)
    predictions, problems = numbers_of(load_predictions, evaluated.plan, evaluated.store)
    assert [str(path) in problem for problem in problems] == [True]
    assert {prediction.run for prediction in predictions} == {planned.id for planned in evaluated.plan.runs} - {run}


def test_a_history_without_epochs_is_a_problem(evaluated):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][0]
    path = history_path(evaluated, run)
    rewrite(path, lambda _, line: {key: value for key, value in line.items() if key != "epoch"})
    predictions, problems = numbers_of(load_predictions, evaluated.plan, evaluated.store)
    assert [str(path) in problem for problem in problems] == [True]
    assert run not in {prediction.run for prediction in predictions}


def test_predictions_on_fewer_images_can_not_be_compared(evaluated):
    run = evaluated.plan.runs[-1].id

    def shorter(_, line):
        return {**line, "predictions": encode(decode(line["predictions"], 10)[:5])}

    rewrite(history_path(evaluated, run), shorter)
    predictions, problems = numbers_of(load_predictions, evaluated.plan, evaluated.store)
    assert len(problems) == 1
    assert "different numbers of images" in problems[0]
    assert predictions == ()


def test_a_result_without_tickets_marks_none_and_is_no_problem_of_the_history(evaluated):
    run = evaluated.plan.runs[0].id
    path = evaluated.store.run(run).path / "result.json"
    path.write_text(json.dumps({key: v for key, v in json.loads(path.read_text()).items() if key != "tickets"}))
    predictions, problems = numbers_of(load_predictions, evaluated.plan, evaluated.store)
    assert problems == ()
    assert not any(prediction.ticket for prediction in predictions if prediction.run == run)


def test_runs_on_other_images_than_the_first_are_left_out(tmp_path):
    head = GRID.split("cells:")[0].replace("  data: digits\n", "")
    text = head + "cells: [{name: a, method: dense, data: digits}, {name: b, method: dense, data: cifar10}]\n"
    made = make(tmp_path, text.replace("method: dense", "method: dense, recipe: {epochs: 8}"), probe_images=4)
    predictions, problems = numbers_of(load_predictions, made.plan, made.store)
    assert problems == ()
    assert {prediction.trajectory for prediction in predictions} == {"a"}


def test_nothing_begun_is_nothing_to_embed(plan, store):
    predictions, problems = numbers_of(load_predictions, plan, store)
    assert predictions == ()
    assert problems == ()


def test_histories_of_any_length_fit_the_store(plan, store, read):
    fill(store, plan, images=20, probe_images=3)
    assert {prediction.run for prediction in read().numbers("training").predictions} == {run.id for run in plan.runs}


def plane(trajectories, tickets=True):
    """Runs of ten epochs that walk outwards, the last one of each a ticket."""
    return pd.DataFrame(
        {"trajectory": name, "run": name, "epoch": epoch, "phase": "train", "ticket": tickets and epoch == 10}
        | {"x": epoch * np.cos(index), "y": epoch * np.sin(index)}
        for index, name in enumerate(trajectories)
        for epoch in range(1, 11)
    )


def circles(axes):
    return [line for line in axes.lines if line.get_markerfacecolor() == "none"]


def test_a_run_that_goes_on_has_no_last_epoch():
    done, going = function_space(pd.concat([plane(["done"]), plane(["going"], tickets=False)])).axes
    assert (len(circles(done)), len(circles(going))) == (1, 0)


def test_twenty_trajectories_of_long_names_fit_on_a_page():
    figure = function_space(plane([f"ResNet-50 EDST M=3 S=0.{index:02} and 2 more cells" for index in range(20)]))
    assert figure.get_size_inches()[1] <= 10
    assert_laid_out(figure)
