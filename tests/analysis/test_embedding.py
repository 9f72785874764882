"""The plane of predictions: the same each time, groups apart, thinned evenly, whole where little; and its figure."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from threadpoolctl import threadpool_limits

from analysis.training import embedding
from analysis.training.embedding import Prediction, embed
from analysis.training.function_space import function_space
from tests.analysis.layout import assert_laid_out

IMAGES, CLASSES = 12, 4


def softmax(logits):
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def run(trajectory, name, epochs, *, seed, tickets=()):
    """A run whose predictions stay near a place of its own."""
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(IMAGES, CLASSES)) * 3
    return [
        Prediction(
            trajectory, name, epoch, "train", epoch in tickets, softmax(place + 0.2 * rng.normal(size=place.shape))
        )
        for epoch in range(1, epochs + 1)
    ]


def constant(epochs, values):
    return [
        Prediction("a", "1", epoch, "train", False, np.full((IMAGES, CLASSES), value, dtype=np.float32))
        for epoch, value in zip(range(1, epochs + 1), values, strict=True)
    ]


def test_each_prediction_has_a_point_and_keeps_what_it_is():
    frame = embed(run("EDST", "r1", 8, seed=1, tickets=(7,)))
    assert list(frame.columns) == embedding.PATHS.split()
    assert frame["epoch"].tolist() == list(range(1, 9))
    assert frame.loc[frame["ticket"], "epoch"].tolist() == [7]
    assert set(frame["run"]) == {"r1"}
    assert np.isfinite(frame[["x", "y"]].to_numpy()).all()


def test_groups_are_apart():
    predictions = [point for number in range(3) for point in run("t", f"r{number}", 12, seed=number)]
    frame = embed(predictions)
    centers = frame.groupby("run")[["x", "y"]].mean()
    spread = max(
        np.linalg.norm(rows[["x", "y"]] - centers.loc[name], axis=1).max() for name, rows in frame.groupby("run")
    )
    apart = min(np.linalg.norm(centers.loc[a] - centers.loc[b]) for a, b in (("r0", "r1"), ("r0", "r2"), ("r1", "r2")))
    assert apart > 2 * spread


def test_the_plane_is_the_same_each_time_whatever_the_number_of_threads():
    # So many that t-SNE differs with the number of threads, and its start with the seed, if they are left to chance.
    rng = np.random.default_rng(0)
    goals = rng.normal(size=(4, 100, 10)) * 3
    predictions = [
        Prediction("t", str(run), epoch, "train", False, softmax(goal * epoch / 40 + 0.3 * rng.normal(size=goal.shape)))
        for run, goal in enumerate(goals)
        for epoch in range(40)
    ]
    first = embed(predictions)
    with threadpool_limits(2):
        assert embed(predictions).equals(first)


def test_the_caller_keeps_its_arrays_and_the_global_random_state():
    predictions = run("t", "r", 6, seed=3)
    before = [prediction.probabilities.copy() for prediction in predictions]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    embed(predictions)
    assert all(np.array_equal(first.probabilities, old) for first, old in zip(predictions, before, strict=True))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_of_too_many_points_even_ones_stay_with_the_first_the_last_and_the_tickets():
    frame = embed(run("t", "r", 20, seed=5, tickets=(6,)) + run("t", "s", 9, seed=6, tickets=(9,)), most=15)
    # Every second would be 10 + 5, and one more for the last of the first run, and its ticket: 17. Every third: 13.
    assert frame.loc[frame["run"] == "r", "epoch"].tolist() == [1, 4, 6, 7, 10, 13, 16, 19, 20]
    assert frame.loc[frame["run"] == "s", "epoch"].tolist() == [1, 4, 7, 9]


def test_exactly_as_many_as_allowed_are_not_thinned():
    assert len(embed(run("t", "r", 10, seed=1), most=10)) == 10


def test_what_must_stay_stays_even_if_it_is_too_much():
    predictions = [point for number in range(4) for point in run("t", str(number), 6, seed=number, tickets=(3,))]
    assert embed(predictions, most=5)["epoch"].tolist() == [1, 3, 6] * 4


def test_epochs_come_in_order_and_runs_of_the_same_name_in_other_trajectories_apart():
    predictions = run("a", "r", 5, seed=1)[::-1] + run("b", "r", 3, seed=2)
    frame = embed(predictions)
    assert frame["epoch"].tolist() == [1, 2, 3, 4, 5, 1, 2, 3]
    assert frame["trajectory"].tolist() == ["a"] * 5 + ["b"] * 3


def test_no_prediction_gives_no_point():
    frame = embed([])
    assert frame.empty
    assert list(frame.columns) == embedding.PATHS.split()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_predictions_lie_on_one_spot(count):
    frame = embed(constant(count, [0.1] * count))
    assert (frame[["x", "y"]] == 0).all(axis=None)


def test_predictions_that_differ_by_less_than_rounding_are_equal():
    frame = embed(constant(5, [1e-30, 2e-30, 3e-30, 4e-30, 5e-30]))
    assert (frame[["x", "y"]] == 0).all(axis=None)


@pytest.mark.parametrize("count", [2, 3])
def test_few_points_keep_their_distances(count):
    predictions = run("t", "r", count, seed=8)
    points = embed(predictions)[["x", "y"]].to_numpy()
    for i, j in ((0, 1), (0, count - 1)):
        apart = np.linalg.norm(predictions[i].probabilities - predictions[j].probabilities)
        assert np.linalg.norm(points[i] - points[j]) == pytest.approx(apart, rel=1e-5)


def test_four_points_and_points_that_come_twice_are_no_special_case():
    for values in ([0.1, 0.2, 0.3, 0.4], [0.1, 0.1, 0.1, 0.4], [0.1, 0.4, 0.1, 0.4, 0.1]):
        frame = embed(constant(len(values), values))
        assert len(frame) == len(values)
        assert np.isfinite(frame[["x", "y"]].to_numpy()).all()


def test_one_image_of_two_classes_is_enough():
    rng = np.random.default_rng(0)
    frame = embed([Prediction("t", "r", epoch, "train", False, softmax(rng.normal(size=(1, 2)))) for epoch in range(6)])
    assert np.isfinite(frame[["x", "y"]].to_numpy()).all()


def test_predictions_of_a_diverged_run_are_left_out():
    predictions = run("t", "r", 6, seed=1)
    broken = predictions[5]._replace(probabilities=np.full((IMAGES, CLASSES), np.nan, dtype=np.float32))
    assert embed([*predictions[:5], broken])["epoch"].tolist() == [1, 2, 3, 4, 5]


def test_predictions_of_other_images_are_refused():
    other = Prediction("t", "s", 1, "train", False, np.full((IMAGES + 1, CLASSES), 0.25, dtype=np.float32))
    with pytest.raises(ValueError, match="different images"):
        embed([*run("t", "r", 5, seed=1), other])


# --- The figure


def path_rows(trajectory, run, points, *, phases, tickets=(), first=1, step=1):
    return [
        {
            "trajectory": trajectory,
            "run": run,
            "epoch": first + step * index,
            "phase": phases[index],
            "ticket": index in tickets,
            "x": x,
            "y": y,
        }
        for index, (x, y) in enumerate(points)
    ]


EDST_POINTS = [(0, 0), (10, 0), (20, 0), (30, 10), (40, 20), (50, 40)]
EDST_PHASES = ["explore", "explore", "refine 1", "refine 1", "refine 2", "refine 2"]
PATHS = pd.DataFrame(
    path_rows("EDST", "e", EDST_POINTS, phases=EDST_PHASES, tickets=(3, 4))
    + path_rows("DST", "d1", [(0, 5), (0, 50), (0, 90)], phases=["train"] * 3, tickets=(1,))
    + path_rows("DST", "d2", [(3, 5), (60, 50), (80, 80)], phases=["train"] * 3)
)


def titled(figure):
    return {axes.get_title().splitlines()[0]: axes for axes in figure.axes if axes.get_title()}


def legend_names(figure):
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].texts]


def test_each_trajectory_has_a_panel_of_the_same_plane():
    panels = titled(function_space(PATHS))
    assert list(panels) == ["EDST", "DST"]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels.values()}) == 1
    assert panels["EDST"].get_title().endswith("1 run")
    assert panels["DST"].get_title().endswith("2 runs")
    grey = panels["EDST"].lines[0]
    assert list(zip(grey.get_xdata(), grey.get_ydata(), strict=True)) == [
        (0, 5), (0, 50), (0, 90), (3, 5), (60, 50), (80, 80)
    ]  # fmt: skip


def test_a_run_goes_from_epoch_to_epoch_whatever_the_order_of_rows():
    axes = titled(function_space(PATHS.iloc[::-1]))["EDST"]
    segments = axes.collections[0].get_segments()
    assert [tuple(map(tuple, segment)) for segment in segments] == list(pairwise(EDST_POINTS))


def test_exploration_is_dashed_and_open_refinements_are_not():
    axes = titled(function_space(PATHS))["EDST"]
    steps, dots = axes.collections
    assert [dashes is not None for _, dashes in steps.get_linestyles()] == [True, True, False, False, False]
    white = to_rgba("white")
    assert [tuple(face) == white for face in dots.get_facecolors()] == [True, True, False, False, False, False]


def test_a_run_goes_from_light_to_dark():
    dots = titled(function_space(PATHS))["EDST"].collections[1]
    brightness = dots.get_edgecolors()[:, :3].sum(axis=1)
    assert (np.diff(brightness) < 0).all()


def test_tickets_are_stars_numbered_where_a_run_has_several_and_the_last_epoch_has_a_ring():
    panels = titled(function_space(PATHS))
    stars = [line for line in panels["EDST"].lines if line.get_marker() == "*"]
    assert list(zip(stars[0].get_xdata(), stars[0].get_ydata(), strict=True)) == [(30, 10), (40, 20)]
    assert [text.get_text() for text in panels["EDST"].texts] == ["1", "2"]
    assert [text.xy for text in panels["EDST"].texts] == [pytest.approx((30, 10)), pytest.approx((40, 20))]
    assert not panels["DST"].texts
    rings = [line for line in panels["DST"].lines if line.get_markersize() == 9]
    # The second run has no ticket, so its last epoch is only the latest one.
    assert [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings] == [(0, 90)]


def test_as_long_as_no_ticket_is_known_no_phase_is_said_to_leave_none():
    axes = titled(function_space(PATHS.assign(ticket=False)))["EDST"]
    assert all(dashes is None for _, dashes in axes.collections[0].get_linestyles())


def test_tickets_on_one_spot_have_no_numbers_on_top_of_each_other():
    points = [(0, 0), (50, 50), *[(90 + i / 10, 90) for i in range(12)]]
    paths = pd.DataFrame(path_rows("EDST", "e", points, phases=["explore"] * 2 + ["refine"] * 12, tickets=range(2, 14)))
    figure = function_space(paths)
    assert 0 < len(figure.axes[0].texts) < 12
    assert_laid_out(figure)


@pytest.mark.parametrize(("step", "expected"), [(1, "epoch, "), (4, "every 4 epochs, ")])
def test_the_legend_says_how_far_apart_the_epochs_are(step, expected):
    paths = pd.DataFrame(path_rows("DST", "d", EDST_POINTS, phases=["train"] * 6, step=step))
    assert legend_names(function_space(paths))[0].startswith(expected)


def test_a_single_epoch_is_drawn():
    figure = function_space(pd.DataFrame(path_rows("DST", "d", [(0, 0)], phases=["train"], tickets=(0,))))
    assert len(figure.axes[0].collections[1].get_offsets()) == 1
    assert "other trajectories" not in legend_names(figure)


def test_twelve_trajectories_with_long_names_are_laid_out_without_overlap():
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        name = f"ResNet-50 EDST M=3 S=.{index:02}0"
        points = rng.normal(size=(8, 2)) * 40
        phases, tickets = ["explore"] * 2 + ["refine"] * 6, (3, 5, 7)
        rows += path_rows(f"{name}, {name} and 3 more cells", "r", points, phases=phases, tickets=tickets)
    assert_laid_out(function_space(pd.DataFrame(rows)))


@pytest.mark.parametrize("names", [["EDST"], ["EDST", "DST"]])
def test_one_and_two_trajectories_are_laid_out_without_overlap(names):
    assert_laid_out(function_space(PATHS[PATHS["trajectory"].isin(names)]))
