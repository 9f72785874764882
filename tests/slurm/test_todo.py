"""What is left to submit, and why the rest is not."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.evaluation.sets import OodSet
from bench.plan import Plan, RunPlan, make_plan, select
from bench.plan.records import Status
from bench.store.folders import Store
from slurm.todo import Todo, UnderWay, what_is_left
from tests.grid_text import load_text
from tests.slurm.plans import ensemble, fog, plan, run

OUTSIDE = "being trained by a process outside of SLURM"
WAITING = "waiting for a parent under way (submit again when it is done)"
WAITING_OUTSIDE = "waiting for a parent that a process outside of SLURM trains (submit again when it is done)"
BLOCKED = "blocked by a parent that failed (--retry makes both again)"


def left_of(
    *chosen: tuple[Plan, Sequence[RunPlan]],
    train: dict[str, str] | None = None,
    evaluate: dict[str, str] | None = None,
    retry: bool = False,
    waits: bool = True,
) -> Todo:
    return what_is_left(chosen, UnderWay(train or {}, evaluate or {}), retry=retry, waits=waits)


def ids(runs: Sequence[object]) -> list[str]:
    return [run.id for run in runs]  # type: ignore[attr-defined]


# -- a run by itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry", "reason"),
    [
        ("missing", False, None),
        ("done", False, "done"),
        ("done", True, "done"),
        ("running", False, OUTSIDE),
        ("running", True, OUTSIDE),
        ("failed", False, "failed (--retry makes it again)"),
        ("failed", True, None),
        ("damaged", False, "damaged (--retry makes it again)"),
        ("damaged", True, None),
    ],
)
def test_a_run_is_left_out_by_its_status(status: Status, retry: bool, reason: str | None) -> None:
    todo = left_of(plan(run("a", status)), retry=retry)
    assert ids(todo.train) == (["a"] if reason is None else [])
    assert todo.left == ({} if reason is None else {reason: 1})


@pytest.mark.parametrize("status", ["missing", "running", "failed", "damaged"])
def test_what_is_under_way_is_never_submitted_again(status: Status) -> None:
    todo = left_of(plan(run("a", status), run("b")), train={"a": "7_0"}, retry=True)
    assert ids(todo.train) == ["b"]
    assert todo.left == {"under way": 1}


def test_every_run_left_out_is_counted_under_its_reason() -> None:
    runs = [run("a", "done"), run("b"), run("c", "failed"), run("d", "done"), run("e", "running"), run("f")]
    todo = left_of(plan(*runs), train={"f": "7"})
    assert ids(todo.train) == ["b"]
    assert todo.left == {"done": 2, "failed (--retry makes it again)": 1, OUTSIDE: 1, "under way": 1}


# -- parents -----------------------------------------------------------------------------------------------------------


def test_a_child_goes_with_its_parent_or_starts_from_a_finished_one() -> None:
    assert ids(left_of(plan(run("p"), run("c", parent="p"))).train) == ["p", "c"]
    assert ids(left_of(plan(run("p", "done"), run("c", parent="p"))).train) == ["c"]


@pytest.mark.parametrize(
    ("parent", "child", "retry", "trained", "left"),
    [
        ("failed", "blocked", False, [], {"failed (--retry makes it again)": 1, BLOCKED: 1}),
        ("damaged", "blocked", False, [], {"damaged (--retry makes it again)": 1, BLOCKED: 1}),
        ("failed", "blocked", True, ["p", "c"], {}),
        ("failed", "failed", True, ["p", "c"], {}),
        ("missing", "failed", False, ["p"], {"failed (--retry makes it again)": 1}),
        ("damaged", "done", True, ["p"], {"done": 1}),
    ],
)
def test_a_parent_that_failed(
    parent: Status, child: Status, retry: bool, trained: list[str], left: dict[str, int]
) -> None:
    todo = left_of(plan(run("p", parent), run("c", child, parent="p")), retry=retry)
    assert ids(todo.train) == trained
    assert todo.left == left


@pytest.mark.parametrize("status", ["missing", "running", "failed"])
def test_a_parent_under_way_is_waited_for_where_that_can_be(status: Status) -> None:
    child: Status = "blocked" if status == "failed" else "missing"
    chosen = plan(run("p", status), run("c", child, parent="p"))
    assert ids(left_of(chosen, train={"p": "7_3"}, waits=True).train) == ["c"]
    todo = left_of(chosen, train={"p": "7_3"}, waits=False)
    assert ids(todo.train) == []
    assert todo.left == {"under way": 1, WAITING: 1}


def test_nobody_waits_for_a_parent_that_is_done_though_its_task_goes_on() -> None:
    chosen = plan(run("p", "done"), run("c", parent="p"))
    assert ids(left_of(chosen, train={"p": "7_3"}, waits=False).train) == ["c"]


@pytest.mark.parametrize("waits", [True, False])
def test_no_job_can_wait_for_a_parent_that_somebody_trains_outside(waits: bool) -> None:
    todo = left_of(plan(run("p", "running"), run("c", parent="p")), waits=waits)
    assert ids(todo.train) == []
    assert todo.left == {OUTSIDE: 1, WAITING_OUTSIDE: 1}


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_finished_runs_that_lack_sets_are_evaluated() -> None:
    some, whole = run("a", "done", sets=fog(1, 2), evaluated=1), run("b", "done", sets=fog(1, 2), evaluated=2)
    todo = left_of(plan(some, whole, run("c", "done")))
    assert (ids(todo.train), ids(todo.evaluate)) == ([], ["a"])
    assert todo.left == {"done": 2}
    assert left_of(plan(some), evaluate={"a": "7"}).evaluate == ()


def test_hours_are_those_of_what_is_missing() -> None:
    (whole,) = left_of(plan(run("a", "done", sets=fog(1, 2), evaluated=0))).evaluate
    (half,) = left_of(plan(run("a", "done", sets=fog(1, 2), evaluated=1))).evaluate
    assert whole.evaluation_hours == pytest.approx(2 * half.evaluation_hours)
    assert half.evaluation_hours > 0


# -- several grids -----------------------------------------------------------------------------------------------------


def test_a_run_of_two_grids_appears_once_with_what_both_ask_for() -> None:
    ood = (OodSet("svhn"),)
    first = plan(run("a", sets=fog(1, 2), cells=("x", "y", "x")), run("b"), grid="one")
    second = plan(run("c"), run("a", sets=(*fog(2), *ood), cells=("y", "z")), grid="two")
    todo = left_of(first, second)
    assert ids(todo.train) == ["a", "b", "c"]
    item = todo.train[0]
    assert item.cells == ("x", "y", "z")
    assert item.evaluations == (*fog(1, 2), *ood)
    assert [one.grid for one in todo.train] == ["one paper", "one paper", "two paper"]
    alone = left_of(plan(run("a", sets=(*fog(1, 2), *ood)))).train[0]
    assert item.evaluation_hours == pytest.approx(alone.evaluation_hours)


@pytest.mark.parametrize(
    ("first", "second", "lacks"),
    [((2, 2), (1, 1), False), ((1, 2), (1, 1), True), ((2, 2), (0, 1), True), ((0, 2), (0, 1), True)],
)
def test_a_finished_run_of_two_grids_lacks_sets_if_it_does_in_either(
    first: tuple[int, int], second: tuple[int, int], lacks: bool
) -> None:
    def grid(there: int, severities: Sequence[int], name: str) -> tuple[Plan, Sequence[RunPlan]]:
        return plan(run("a", "done", sets=fog(*severities), evaluated=there), grid=name)

    disjoint = left_of(grid(first[0], (1, 2), "one"), grid(second[0], (3,), "two"))
    assert ids(disjoint.evaluate) == (["a"] if lacks else [])
    if lacks:
        lacking = first[1] - first[0] + second[1] - second[0]
        (alone,) = left_of(grid(0, (1,), "one")).evaluate
        assert disjoint.evaluate[0].evaluation_hours == pytest.approx(lacking * alone.evaluation_hours)


def test_sets_of_two_grids_that_overlap_are_no_more_than_there_are() -> None:
    one = plan(run("a", "done", sets=fog(1, 2, 3), evaluated=2), grid="one")
    two = plan(run("a", "done", sets=fog(1, 2, 3), evaluated=2), grid="two")
    (both,), (alone,) = left_of(one, two).evaluate, left_of(one).evaluate
    assert both.evaluation_hours == alone.evaluation_hours


# -- ensembles ---------------------------------------------------------------------------------------------------------


def attacks_of(todo: Todo) -> list[tuple[str, ...]]:
    return [one.runs for one in todo.ensembles]


@pytest.mark.parametrize(
    ("statuses", "train", "evaluate", "seen_to"),
    [
        (("missing", "missing"), {}, {}, True),  # both new
        (("done", "missing"), {}, {}, True),  # one new
        (("done", "done"), {}, {}, True),  # all done: a task of its own
        (("missing", "missing"), {"b": "7"}, {}, True),  # one under way, one new: the new one may be last
        (("missing", "missing"), {"a": "7", "b": "8"}, {}, False),  # by the last of these
        (("done", "missing"), {"b": "8"}, {}, False),
        (("done", "done"), {}, {"a": "7"}, False),
        (("failed", "missing"), {}, {}, False),  # never whole
        (("running", "missing"), {}, {}, False),  # not by us
    ],
)
def test_an_ensemble_is_seen_to_exactly_once(
    statuses: tuple[Status, Status], train: dict[str, str], evaluate: dict[str, str], seen_to: bool
) -> None:
    runs = [run("a", statuses[0]), run("b", statuses[1])]
    todo = left_of(plan(*runs, ensembles=[ensemble("ab")]), train=train, evaluate=evaluate)
    assert attacks_of(todo) == ([("a", "b")] if seen_to else [])
    alone = seen_to and statuses == ("done", "done")
    assert list(todo.finished) == (["a", "b"] if alone else [])


def test_an_ensemble_whose_attacks_are_there_is_left_out() -> None:
    runs = [run("a", "done"), run("b", "done")]
    assert attacks_of(left_of(plan(*runs, ensembles=[ensemble("ab", (4, 8), evaluated=1)]))) == [("a", "b")]
    todo = left_of(plan(*runs, ensembles=[ensemble("ab", (4, 8), evaluated=2)]))
    assert (attacks_of(todo), todo.finished) == ([], {})


def test_an_ensemble_of_runs_that_were_not_chosen_is_left_out() -> None:
    whole, _ = plan(run("a", "done"), run("b", "done"), ensembles=[ensemble("ab"), ensemble("a")])
    assert attacks_of(left_of((whole, [run("a", "done")]))) == [("a",)]


def test_an_ensemble_of_two_grids_appears_once_with_the_attacks_of_both() -> None:
    one = plan(run("a"), run("b"), ensembles=[ensemble("ab", (4, 8))], grid="one")
    two = plan(run("a"), run("b"), ensembles=[ensemble("ab", (8, 16))], grid="two")
    (item,) = left_of(one, two).ensembles
    assert [attack.name for attack in item.evaluations] == ["fgsm/4", "fgsm/8", "fgsm/16"]
    whole = ensemble("ab", (4, 8, 16))
    (alone,) = left_of(plan(run("a"), run("b"), ensembles=[whole])).ensembles
    assert item.hours == pytest.approx(alone.hours)


def test_the_second_grid_s_attacks_count_though_the_first_s_are_there() -> None:
    runs = [run("a", "done"), run("b", "done")]
    one = plan(*runs, ensembles=[ensemble("ab", (4,), evaluated=1)], grid="one")
    two = plan(*runs, ensembles=[ensemble("ab", (8,))], grid="two")
    assert attacks_of(left_of(one, two)) == attacks_of(left_of(two, one)) == [("a", "b")]


# -- a real plan -------------------------------------------------------------------------------------------------------


def test_of_a_grid_everything_is_left_parents_first(tmp_path: Path) -> None:
    text = """
    base: {data: digits, model: {depth: 10, width: 1}, recipe: {epochs: 4}}
    replicates: 2
    cells:
      - {name: two, method: dense, members: 2}
      - {name: pruned, method: prune_finetune, sparsity: 0.8, recipe: {dense_epochs: 3, epochs: 3}}
    evaluations: {local_c: {types: [fog], severities: [3]}, fgsm: {}}
    """
    made = make_plan(load_text(tmp_path, text), "paper", Store(tmp_path / "store"))
    todo = left_of((made, select(made, [])))
    assert ids(todo.train) == ids(made.runs)
    order = ids(todo.train)
    assert all(one.parent is None or order.index(one.parent) < order.index(one.id) for one in todo.train)
    assert [one.spec.run_id for one in todo.train] == order
    assert {one.ensemble for one in todo.ensembles} == {one.ensemble for one in made.ensembles}
    of_parents = [one for one in todo.train if one.id in {child.parent for child in todo.train}]
    assert len(of_parents) == 2
    assert all(one.evaluations == () and one.evaluation_hours == 0 for one in of_parents)
