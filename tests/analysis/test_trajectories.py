"""What training recorded: which runs share a trajectory, what its schedule does when, and the densities of tickets."""

import json

import pytest

from analysis.trajectories import load_trajectories, schedule_events
from bench.grid import load_grid
from bench.models.catalog import wide_resnet_layers
from bench.plan import make_plan
from bench.recipes import Setting
from bench.recipes.dynamic import edst
from tests.analysis.synthetic import fill, history_of


def of(frame, **keys):
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    return frame


def test_dense_and_its_ensemble_are_one_trajectory(sources):
    epochs = sources.trajectories.epochs
    names = {"dense, dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"}
    assert set(epochs["trajectory"]) == names
    # Two replicates of two members, of which one a replicate is the dense network itself.
    assert of(epochs, trajectory="dense, dense ensemble M=2")["run"].nunique() == 4
    assert epochs["run"].nunique() == len(sources.plan.runs)


def test_epochs_are_those_that_were_recorded(sources):
    run = sources.plan.runs[0]
    own = of(sources.trajectories.epochs, run=run.id)
    assert list(own["validation_loss"]) == [line["validation_loss"] for line in history_of(run.spec)]


def test_events_of_edst_by_hand(sources):
    spec = next(run.spec for run in sources.plan.runs if run.cells == ("EDST M=3 S=0.9",))
    phases = edst(Setting(members=3, learning_rate=0.1), exploration_epochs=150, refinement_epochs=100)
    events = {
        kind: [
            (e["epoch"], e["label"])
            for e in schedule_events(spec.model_copy(update={"phases": phases}))
            if e["kind"] == kind
        ]
        for kind in ("phase", "lr", "exploration")
    }
    assert events["phase"] == [(1, "explore"), (151, "refine 1"), (251, "refine 2"), (351, "refine 3")]
    assert events["lr"] == [(151, "0.01"), (201, "0.001"), (251, "0.01"), (301, "0.001"), (351, "0.01"), (401, "0.001")]
    assert events["exploration"] == [(251, "0.8"), (351, "0.8")]


def test_tickets_are_at_the_best_validation_epoch_of_their_phase(sources):
    tickets = of(sources.trajectories.tickets, trajectory="EDST M=3 S=0.9")
    assert len(tickets) == 6  # three a run
    for row in tickets.to_dict("records"):
        epochs = of(sources.trajectories.epochs, run=row["run"])
        start = 6 + 4 * (row["ticket"] - 1)
        phase = epochs[epochs["epoch"].between(start + 1, start + 4)]
        assert row["validation_accuracy"] == phase["validation_accuracy"].max()


def test_densities_are_those_of_the_tickets_and_dense_runs_have_none(sources):
    densities = sources.trajectories.densities
    assert set(densities["trajectory"]) == {"DST M=2 S=0.8", "EDST M=3 S=0.9"}
    assert of(densities, trajectory="EDST M=3 S=0.9")["sparsity"].unique() == pytest.approx([0.9])
    sizes = {layer.name: layer.size for layer in wide_resnet_layers(10, 32, depth=10, width=1)}
    for _, ticket in densities.groupby(["run", "ticket"]):
        weights = sum(sizes[layer] * density for layer, density in zip(ticket["layer"], ticket["density"], strict=True))
        assert weights / sum(sizes.values()) == pytest.approx(1 - ticket["sparsity"].iloc[0])


def test_a_run_in_progress_shows_the_epochs_it_has(plan, store, read):
    fill(store, plan, images=20)
    run = plan.runs[-1]
    folder = store.run(run.id)
    (folder.path / "result.json").unlink()
    folder.write_history(history_of(run.spec)[:3])
    trajectories = read().trajectories
    assert list(of(trajectories.epochs, run=run.id)["epoch"]) == [1, 2, 3]
    assert of(trajectories.tickets, run=run.id).empty


def test_a_result_that_says_too_little_is_named(plan, full, read):
    path = full.run(plan.runs[0].id).path / "result.json"
    content = json.loads(path.read_text())
    del content["tickets"]
    path.write_text(json.dumps(content))
    sources = read()
    assert sources.problems == (f"{path}: what it says of tickets is incomplete",)
    assert len(sources.results.replicates) == 8


def test_nothing_begun_is_nothing_to_show(plan, store):
    trajectories = load_trajectories(plan, store)
    assert trajectories.epochs.empty
    assert trajectories.problems == ()


def test_a_trajectory_of_many_cells_is_named_by_the_first(grid, store, tmp_path):
    text = (
        grid.path.read_text().split("cells:")[0]
        + "axes:\n  method: [dst]\n  members: [1, 2, 3, 4]\n  sparsity: [0.8]\n"
    )
    path = tmp_path / "axes.yaml"
    path.write_text(text + "  recipe: [{epochs: 8, update_every: 8}]\n")
    plan = make_plan(load_grid(path), "paper", store)
    fill(store, plan, images=10)
    names = load_trajectories(make_plan(load_grid(path), "paper", store), store).epochs["trajectory"].unique()
    assert list(names) == [f"{plan.cells[0].name}, {plan.cells[1].name} and 2 more cells"]
