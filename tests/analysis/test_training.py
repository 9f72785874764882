"""What training recorded: which runs share a trajectory, what its schedule does when, and the densities of tickets."""

import json

import pandas as pd
import pytest

from analysis.training.curves import training_curves
from analysis.training.density import density_by_layer
from analysis.training.numbers import load_training, schedule_events
from bench.grid import load_grid
from bench.models.catalog import wide_resnet_layers
from bench.plan import make_plan
from bench.recipes import Setting
from bench.recipes.alternating import acdc
from bench.recipes.dynamic import edst
from tests.analysis.drawing import bars_with_errors
from tests.analysis.layout import assert_laid_out
from tests.analysis.stores import numbers_of, of
from tests.analysis.synthetic import fill, history_of


def test_dense_and_its_ensemble_are_one_trajectory(loaded):
    epochs = loaded.numbers("training").epochs
    names = {"dense, dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"}
    assert set(epochs["trajectory"]) == names
    # Two replicates of two members, of which one a replicate is the dense network itself.
    assert of(epochs, trajectory="dense, dense ensemble M=2")["run"].nunique() == 4
    assert epochs["run"].nunique() == len(loaded.plan.runs)


def test_epochs_are_those_that_were_recorded(loaded):
    run = loaded.plan.runs[0]
    rows = of(loaded.numbers("training").epochs, run=run.id)
    assert list(rows["validation_loss"]) == [line["validation_loss"] for line in history_of(run.spec)]


def test_events_of_edst_by_hand(loaded):
    spec = next(run.spec for run in loaded.plan.runs if run.cells == ("EDST M=3 S=0.9",))
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


def test_events_of_acdc_by_hand(loaded):
    phases = acdc(Setting(members=1, learning_rate=0.1), epochs=200, first_dense_epochs=50, alternation_epochs=50)
    spec = next(run.spec for run in loaded.plan.runs if run.cells == ("EDST M=3 S=0.9",))
    events = schedule_events(spec.model_copy(update={"phases": phases}))
    changes = [
        (event["kind"], event["epoch"], event["label"]) for event in events if event["kind"] not in ("phase", "lr")
    ]
    assert changes == [("pruning", 51, "0.1"), ("densification", 101, "1"), ("pruning", 151, "0.1")]


def test_tickets_are_at_the_best_validation_epoch_of_their_phase(loaded):
    tickets = of(loaded.numbers("training").tickets, trajectory="EDST M=3 S=0.9")
    assert len(tickets) == 6  # three a run
    for row in tickets.to_dict("records"):
        epochs = of(loaded.numbers("training").epochs, run=row["run"])
        start = 6 + 4 * (row["ticket"] - 1)
        phase = epochs[epochs["epoch"].between(start + 1, start + 4)]
        assert row["validation_accuracy"] == phase["validation_accuracy"].max()


def test_densities_are_those_of_the_tickets_and_dense_runs_have_none(loaded):
    densities = loaded.numbers("training").densities
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
    trajectories = read().numbers("training")
    assert list(of(trajectories.epochs, run=run.id)["epoch"]) == [1, 2, 3]
    assert of(trajectories.tickets, run=run.id).empty


def test_a_result_that_says_too_little_is_named(plan, full, read):
    path = full.run(plan.runs[0].id).path / "result.json"
    content = json.loads(path.read_text())
    del content["tickets"]
    path.write_text(json.dumps(content))
    loaded = read()
    assert {problem.partition(": ")[0] for problem in loaded.problems} == {str(path)}
    assert "tickets: Field required" in loaded.problems[0]
    assert len(loaded.results.replicates) == 6  # it is a member of two cells


def test_nothing_begun_is_nothing_to_show(plan, store):
    trajectories, problems = numbers_of(load_training, plan, store)
    assert trajectories.epochs.empty
    assert problems == ()


def test_a_trajectory_of_many_cells_is_named_by_the_first(grid, store, tmp_path):
    text = (
        grid.path.read_text().split("cells:")[0]
        + "axes:\n  method: [dst]\n  members: [1, 2, 3, 4]\n  sparsity: [0.8]\n"
    )
    path = tmp_path / "axes.yaml"
    path.write_text(text + "  recipe: [{epochs: 8, update_every: 8}]\n")
    plan = make_plan(load_grid(path), "paper", store)
    fill(store, plan, images=10)
    training, _ = numbers_of(load_training, make_plan(load_grid(path), "paper", store), store)
    names = training.epochs["trajectory"].unique()
    assert list(names) == [f"{plan.cells[0].name}, {plan.cells[1].name} and 2 more cells"]


def test_training_curves_mark_rates_explorations_and_tickets(loaded, drawn):
    figure = drawn["training_curves"][1]
    loss = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("EDST"))
    verticals = [line.get_xdata()[0] for line in loss.lines if len(set(line.get_xdata())) == 1]
    # Recipe: 6 epochs of exploration, then three refinements of 2 + 2; the rate changes at the start and the middle of
    # each, and two of the starts are explorations.
    assert sorted(verticals) == [6.5, 8.5, 10.5, 10.5, 12.5, 14.5, 14.5, 16.5]
    assert [text.get_text() for text in loss.texts] == ["explore", "refine 1", "refine 2", "refine 3"]
    accuracy = figure.axes[list(figure.axes).index(loss) + 1]
    stars = next(line for line in accuracy.lines if line.get_marker() == "*")
    assert sorted(stars.get_xdata()) == sorted(
        of(loaded.numbers("training").tickets, trajectory="EDST M=3 S=0.9")["epoch"]
    )


def test_training_curves_draw_each_run_twice_a_panel(loaded, drawn):
    figure = drawn["training_curves"][1]
    loss = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("DST"))
    curves = [line for line in loss.lines if len(line.get_xdata()) == 8]
    assert len(curves) == 2 * of(loaded.numbers("training").epochs, trajectory="DST M=2 S=0.8")["run"].nunique()


def test_density_is_drawn_layer_by_layer_a_panel_a_sparsity(loaded, drawn):
    figure = drawn["density_by_layer"][1]
    assert [axes.get_title() for axes in figure.axes] == ["Sparsity 0.8", "Sparsity 0.9"]
    densities = of(loaded.numbers("training").densities, sparsity=0.8)
    expected = densities.groupby("layer", sort=False)["density"].mean()
    drawn_values = bars_with_errors(figure.axes[0])[0].lines[0].get_ydata()
    assert list(drawn_values) == pytest.approx(list(expected))
    assert figure.axes[1].get_xticklabels()[0].get_text() == "conv1"


def test_densities_that_differ_between_tickets_show_their_range(loaded):
    rows = of(loaded.numbers("training").densities, trajectory="DST M=2 S=0.8").copy()
    last = rows[["run", "ticket"]].drop_duplicates().iloc[-1]
    rows.loc[(rows["run"] == last["run"]) & (rows["layer"] == "fc.weight"), "density"] = 0.5
    axes = density_by_layer(loaded.results.cells, rows).axes[0]
    segments = bars_with_errors(axes)[0].lines[2][0].get_segments()
    assert segments[-1][:, 1] == pytest.approx([0.5, 1.0])


@pytest.mark.filterwarnings("error:constrained_layout")
@pytest.mark.parametrize("kept", [0, 2])
def test_trajectories_without_tickets_keep_their_panels(loaded, kept):
    """As while a grid is trained, or where tickets are damaged: those of some trajectories, or of all."""
    recorded = loaded.numbers("training")
    tickets = recorded.tickets.iloc[:kept]
    figure, whole = (training_curves(recorded.epochs, recorded.events, of) for of in (tickets, recorded.tickets))
    for drawn in (figure, whole):
        drawn.draw_without_rendering()
    for axes, other in zip(figure.axes, whole.axes, strict=True):
        assert axes.get_position().width == pytest.approx(other.get_position().width, rel=0.05)
    stars = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "*"]
    assert sum(len(line.get_xdata()) for line in stars) == kept


def many_trajectories(count):
    """Frames of trajectories with long names, a run each, of two phases with a ticket at the end."""
    names = [f"ResNet-50 EDST M=3 S=0.{index:02}, ResNet-50 DST and 2 more cells" for index in range(count)]
    phases = [("explore", epoch) for epoch in range(1, 7)] + [("refine 1", epoch) for epoch in range(7, 11)]
    epochs = [
        {"trajectory": name, "run": name, "epoch": epoch, "phase": phase, "train_loss": 2 / epoch}
        | {"train_accuracy": epoch / 12, "validation_loss": 2.2 / epoch, "validation_accuracy": epoch / 13}
        for name in names
        for phase, epoch in phases
    ]
    events = [
        {"trajectory": name, "kind": "phase", "epoch": epoch, "label": label}
        for name in names
        for label, epoch in (("explore", 1), ("refine 1", 7))
    ]
    tickets = [
        {"trajectory": name, "run": name, "ticket": 1, "epoch": 10, "validation_accuracy": 10 / 13} for name in names
    ]
    return pd.DataFrame(epochs), pd.DataFrame(events), pd.DataFrame(tickets)


@pytest.mark.parametrize(("count", "highest"), [(1, 3), (5, 6), (20, 12)])
def test_curves_of_few_and_of_many_trajectories_fit_on_a_page(count, highest):
    figure = training_curves(*many_trajectories(count))
    assert figure.get_size_inches()[1] <= highest
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 2 * count
    assert [axes.get_ylabel() for axes in panels] == ["Loss (nats)", "Accuracy (%)"] * count
    assert_laid_out(figure)


def test_names_of_phases_that_have_no_room_are_left_out():
    epochs, events, tickets = many_trajectories(1)
    more = [{"trajectory": epochs["trajectory"][0], "kind": "phase", "epoch": 10, "label": "anneal"}]
    longer = pd.concat([epochs, epochs.assign(epoch=epochs["epoch"] + 290)])
    axes = training_curves(longer, pd.concat([events, pd.DataFrame(more)]), tickets).axes[0]
    assert [text.get_text() for text in axes.texts] == ["anneal"]


def test_trajectories_of_the_same_densities_are_drawn_once_under_all_their_names(loaded):
    rows = of(loaded.numbers("training").densities, trajectory="DST M=2 S=0.8")
    both = pd.concat([rows, rows.assign(trajectory="static M=2 S=0.8")])
    axes = density_by_layer(loaded.results.cells, both).axes[0]
    assert [text.get_text() for text in axes.get_legend().texts] == [
        "global density",
        "DST M=2 S=0.8\nstatic M=2 S=0.8",
    ]
    other = pd.concat([rows, rows.assign(trajectory="static M=2 S=0.8", density=rows["density"] * 0.9)])
    assert len(bars_with_errors(density_by_layer(loaded.results.cells, other).axes[0])) == 2
