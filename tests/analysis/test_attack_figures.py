"""Figures of adversarial attacks by what is drawn: who is attacked, who is asked, budgets, one scale for all cells."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.attacks.figures import robust_accuracy, transfer_maps, transfer_matrix
from tests.analysis.stores import of
from tests.analysis.test_corruption_figures import assert_legible, bands, cells_of, curves


def frames(cells, replicates=3, members=3, attacks=("fgsm", "pgd-20"), budgets=(1, 2, 4, 8)):
    """Clean and attacked accuracies, all different."""
    rng = np.random.default_rng(5)
    networks = ["ensemble", *(f"member {number}" for number in range(1, members + 1) if members > 1)]
    clean = pd.DataFrame(
        {"cell": cell, "replicate": replicate, "attack": attack, "accuracy": rng.uniform(0.9, 0.95)}
        | {"member_accuracy": rng.uniform(0.85, 0.9)}
        for cell in cells["cell"]
        for replicate in range(1, replicates + 1)
        for attack in attacks
    )
    attacked = pd.DataFrame(
        {"cell": cell, "replicate": replicate, "attack": attack, "budget": budget, "crafted_on": crafted}
        | {"evaluated_on": evaluated, "accuracy": rng.uniform(0.7, 0.8) - 0.08 * budget}
        for cell in cells["cell"]
        for replicate in range(1, replicates + 1)
        for attack in attacks
        for budget in budgets
        for crafted in networks
        for evaluated in networks
    )
    return clean, attacked


def by_hand(clean, attacked, cell, attack, view):
    """Accuracy in percent, replicates x budgets 0, 2, 8."""
    rows = []
    for replicate in (1, 2, 3):
        shown = of(attacked, cell=cell, attack=attack, replicate=replicate)
        if view == "ensemble":
            chosen = [("ensemble", "ensemble")]
        elif view == "through a member":
            chosen = [(f"member {number}", "ensemble") for number in (1, 2, 3)]
        else:
            chosen = [(f"member {number}", f"member {number}") for number in (1, 2, 3)]
        without = of(clean, cell=cell, replicate=replicate, attack=attack)
        row = [without["member_accuracy" if view == "member" else "accuracy"].item()]
        for budget in (2, 8):
            values = [
                of(shown, budget=budget, crafted_on=crafted, evaluated_on=evaluated)["accuracy"].item()
                for crafted, evaluated in chosen
            ]
            row.append(sum(values) / len(values))
        rows.append(row)
    return 100 * np.array(rows)


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("row", range(2))
def test_panels_show_who_is_attacked_and_who_is_asked(row, column):
    cells = cells_of(2)
    clean, attacked = frames(cells, budgets=(2, 8))
    axes = robust_accuracy(cells, clean, attacked).axes[3 * row + column]
    view = ("ensemble", "through a member", "member")[column]
    for cell, line, band in zip(cells["cell"], curves(axes), bands(axes), strict=True):
        expected = by_hand(clean, attacked, cell, ("fgsm", "pgd-20")[row], view)
        assert list(line.get_xdata()) == [0, 2, 8]
        assert list(line.get_ydata()) == pytest.approx(list(expected.mean(axis=0)))
        half_width = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(expected[:, 2])
        drawn = band.get_paths()[0].vertices
        ends = drawn[drawn[:, 0] == 8, 1]
        assert (ends.max() - ends.min()) / 2 == pytest.approx(half_width)


def test_axes_name_attack_budget_and_direction():
    cells = cells_of(1)
    axes = robust_accuracy(cells, *frames(cells)).axes
    assert axes[0].get_ylabel() == "FGSM\nAccuracy (%)\nhigher is better →"
    assert axes[3].get_ylabel().startswith("PGD-20\n")
    assert axes[5].get_xlabel() == "Budget (1/255, L-inf)"
    assert [panel.get_title().split(",")[0] for panel in axes[:3]] == ["Ensemble", "Ensemble", "Member"]


def test_single_networks_are_attacked_as_a_whole_alone():
    cells = cells_of(2)
    figure = robust_accuracy(cells, *frames(cells, members=1, attacks=("fgsm",)))
    assert len(figure.axes) == 1
    clean, attacked = (
        pd.concat(parts) for parts in zip(frames(cells[:1], members=1), frames(cells[1:], members=2), strict=True)
    )
    panels = robust_accuracy(cells, clean, attacked).axes
    assert [len(curves(axes)) for axes in panels] == [2, 1, 1, 2, 1, 1]


def test_one_replicate_has_no_interval_and_cells_not_run_say_so():
    cells = cells_of(2)
    figure = robust_accuracy(cells, *frames(cells[:1], replicates=1, budgets=(4,)))
    assert not any(bands(axes) for axes in figure.axes)
    first, second = cells["cell"]
    assert [text.get_text() for text in figure.legends[0].texts] == [first, f"{second}: not run"]


def test_transfer_has_the_ensemble_first_and_members_by_number():
    _, attacked = frames(cells_of(1), members=11, budgets=(2,), attacks=("fgsm",))
    matrix = transfer_matrix(attacked.sample(frac=1, random_state=0))
    assert list(matrix.index) == list(matrix.columns) == ["ensemble", *(f"member {number}" for number in range(1, 12))]
    rows = of(attacked, crafted_on="member 10", evaluated_on="ensemble")["accuracy"]
    assert matrix.loc["member 10", "ensemble"] == pytest.approx(rows.sum() / 3)


def test_transfer_maps_are_of_one_attack_on_one_scale_from_zero():
    cells = cells_of(3)
    _, attacked = frames(cells[:2], members=2)
    figure = transfer_maps(cells, attacked, "pgd-20", 2)
    meshes = [axes.collections[0] for axes in figure.axes if axes.get_title()]
    chosen = of(attacked, attack="pgd-20", budget=2)
    means = 100 * chosen.groupby(["cell", "crafted_on", "evaluated_on"])["accuracy"].mean()
    assert [mesh.get_clim() for mesh in meshes] == [(0, pytest.approx(means.max()))] * 2
    values = meshes[1].get_array().reshape(3, 3)
    assert values[0, 2] == pytest.approx(means[cells["cell"][1], "ensemble", "member 2"])
    assert values[2, 0] == pytest.approx(means[cells["cell"][1], "member 2", "ensemble"])
    ticks = [
        [label.get_text() for label in axis.get_ticklabels()] for axis in (figure.axes[1].xaxis, figure.axes[1].yaxis)
    ]
    assert ticks == [["E", "1", "2"]] * 2
    assert "PGD-20, budget 2/255 (%), higher is better" in figure.axes[-1].get_xlabel()


def test_many_members_that_are_attacked_only_as_a_whole_are_the_range_of_their_numbers():
    cells = cells_of(1)
    attacked = of(frames(cells, members=10)[1], crafted_on="ensemble")
    axes = transfer_maps(cells, attacked, "fgsm", 1).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["E", "min", "mean", "max"]
    chosen = of(attacked, attack="fgsm", budget=1)
    means = 100 * chosen.groupby("evaluated_on")["accuracy"].mean()
    members = means.drop("ensemble")
    expected = [means["ensemble"], members.min(), members.mean(), members.max()]
    assert axes.collections[0].get_array().ravel().tolist() == pytest.approx(expected)
    assert [text.get_text() for text in axes.texts] == [f"{value:.0f}" for value in expected]


def test_a_network_that_was_not_attacked_is_left_grey():
    _, attacked = frames(cells_of(1), members=2)
    attacked = attacked[(attacked["crafted_on"] != "ensemble") | (attacked["evaluated_on"] != "member 1")]
    axes = transfer_maps(cells_of(1), attacked, "fgsm", 1).axes[0]
    assert axes.collections[0].get_array().mask.reshape(3, 3).tolist() == [[False, True, False], *[[False] * 3] * 2]


def test_an_attack_that_nothing_withstands_is_drawn():
    cells = cells_of(2)
    _, attacked = frames(cells)
    figure = transfer_maps(cells, attacked.assign(accuracy=0.0), "fgsm", 8)
    low, high = figure.axes[0].collections[0].get_clim()
    assert low == 0 < high


def test_an_attack_without_results_is_refused():
    cells = cells_of(1)
    _, attacked = frames(cells)
    with pytest.raises(ValueError, match="attack fgsm with budget 3/255"):
        transfer_maps(cells, attacked, "fgsm", 3)


@pytest.mark.parametrize(("count", "members"), [(1, 1), (1, 3), (13, 4), pytest.param(20, 7, marks=pytest.mark.long)])
def test_nothing_overlaps(count, members):
    cells = cells_of(count)
    clean, attacked = frames(cells, replicates=2, members=members)
    assert_legible(robust_accuracy(cells, clean, attacked))
    assert_legible(transfer_maps(cells, attacked, "pgd-20", 8))


def test_a_single_network_is_no_giant_square_and_seven_networks_have_numbers():
    cells = cells_of(2)
    alone, many = frames(cells[:1], members=1)[1], frames(cells[1:], members=6)[1]
    figure = transfer_maps(cells, pd.concat([alone, many]), "fgsm", 1)
    figure.draw_without_rendering()
    one, seven = figure.axes[:2]
    side = abs(one.transData.transform((1, 0))[0] - one.transData.transform((0, 0))[0])
    assert side <= one.get_window_extent().width / 3 + 1
    assert (len(one.texts), len(seven.texts)) == (1, 49)
