"""From what is left to arrays: packing, families, who waits for whom, and shares of what may run at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm.records import EnsembleItem, RunItem, Unit
from slurm.resources import packable_hours, task_hours, walltime_minutes
from slurm.site import Site
from slurm.todo import Todo, UnderWay
from slurm.units import Array, Place, make_arrays
from tests.slurm.plans import a_site, attacked, item

NOTHING = UnderWay()


def todo_of(*train: RunItem, evaluate: Sequence[RunItem] = (), ensembles: Sequence[EnsembleItem] = ()) -> Todo:
    new = {run.id for run in (*train, *evaluate)}
    alone = [one for one in ensembles if new.isdisjoint(one.runs)]
    return Todo(train, tuple(evaluate), tuple(ensembles), {}, {name: item(name) for one in alone for name in one.runs})


def arrays_of(todo: Todo, site: Site, under_way: UnderWay = NOTHING, most: int = 1000) -> list[Array]:
    return make_arrays(todo, site, under_way, most)


def work(arrays: Sequence[Array]) -> list[list[tuple[tuple[str, ...], tuple[str, ...]]]]:
    """Return what is trained and what evaluated, unit by unit."""
    return [[(unit.train, unit.evaluate) for unit in array.units] for array in arrays]


# -- packing -----------------------------------------------------------------------------------------------------------


def test_neighbours_share_a_unit_up_to_the_limit() -> None:
    runs = [item(name, hours=0.25) for name in "abcdefgh"]
    (array,) = arrays_of(todo_of(*runs), a_site(pack="60min"))
    assert [unit.train for unit in array.units] == [tuple("abcd"), tuple("efgh")]
    assert [unit.evaluate for unit in array.units] == [tuple("abcd"), tuple("efgh")]


def test_what_takes_longer_than_the_limit_is_a_unit_alone() -> None:
    runs = [item("a", 0.5), item("b", 3.0), item("c", 0.25), item("d", 0.75)]
    arrays = arrays_of(todo_of(*runs), a_site(pack="60min"))
    assert sorted(unit.train for array in arrays for unit in array.units) == [("a",), ("b",), ("c", "d")]


def test_without_packing_each_run_has_its_unit() -> None:
    (array,) = arrays_of(todo_of(*(item(name, 0.01) for name in "abc")), a_site(pack="0min"))
    assert [unit.train for unit in array.units] == [("a",), ("b",), ("c",)]


def test_evaluation_counts_towards_the_limit() -> None:
    runs = [item(name, hours=0.25, evaluation_hours=0.25) for name in "abcd"]
    (array,) = arrays_of(todo_of(*runs), a_site(pack="60min"))
    assert [unit.train for unit in array.units] == [("a", "b"), ("c", "d")]


def test_units_of_unequal_resources_are_arrays_of_their_own() -> None:
    runs = [item("a", 0.9), item("b", 5.0), item("c", 0.9), item("d", 5.0)]
    arrays = arrays_of(todo_of(*runs), a_site(pack="60min"))
    assert [[unit.train for unit in array.units] for array in arrays] == [[("a",), ("c",)], [("b",), ("d",)]]
    assert arrays[0].resources.minutes < arrays[1].resources.minutes


def test_arrays_are_split_at_the_largest_size() -> None:
    runs = [item(str(number), 0.9) for number in range(7)]
    arrays = arrays_of(todo_of(*runs), a_site(), most=3)
    assert [len(array.units) for array in arrays] == [3, 3, 1]


def test_thousands_of_short_runs_are_packed_in_a_moment() -> None:
    runs = [replace_id(item("x", 1e-6), str(number)) for number in range(20_000)]
    (array,) = arrays_of(todo_of(*runs), a_site())
    assert [len(unit.train) for unit in array.units] == [20_000]


def replace_id(run: RunItem, name: str) -> RunItem:
    return run.model_copy(update={"id": name})


# -- families ----------------------------------------------------------------------------------------------------------


def test_a_short_family_shares_a_unit_parent_first() -> None:
    runs = [item("p", 0.3), item("x", 0.1), item("c", 0.2, parent="p"), item("d", 0.2, parent="p")]
    (array,) = arrays_of(todo_of(*runs), a_site(pack="60min"))
    assert work([array]) == [[(("p", "c", "d", "x"), ("p", "c", "d", "x"))]]
    assert array.after is None


def test_the_parent_of_a_long_family_is_alone_and_all_else_waits_for_exactly_its_element() -> None:
    runs = [
        item("x", 2.0),
        item("p", 2.0, evaluation_hours=0.2),
        item("c", 2.0, parent="p"),
        item("d", 2.0, parent="p"),
    ]
    parents, evaluation, children = arrays_of(todo_of(*runs), a_site())
    assert work([parents]) == [[(("p",), ()), (("x",), ("x",))]]
    assert work([evaluation]) == [[((), ("p",))]]
    assert work([children]) == [[(("c",), ("c",)), (("d",), ("d",))]]
    assert (parents.after, evaluation.after, children.after) == (None, Place(0, 0), Place(0, 0))


def test_a_parent_without_sets_has_no_unit_to_evaluate_it() -> None:
    arrays = arrays_of(todo_of(item("p", 2.0), item("c", 2.0, parent="p")), a_site())
    assert work(arrays) == [[(("p",), ("p",))], [(("c",), ("c",))]]


def test_the_evaluation_of_a_parent_is_a_unit_of_its_own_though_it_is_short() -> None:
    runs = [item("p", 2.0, evaluation_hours=0.1), item("c", 0.1, parent="p"), item("d", 0.1, parent="p")]
    parents, *rest = arrays_of(todo_of(*runs), a_site())
    assert work([parents]) == [[(("p",), ())]]
    assert sorted(unit for array in work(rest) for unit in array) == [((), ("p",)), (("c", "d"), ("c", "d"))]
    assert {array.after for array in rest} == {Place(0, 0)}


def test_places_are_those_after_splitting() -> None:
    families = [run for n in range(5) for run in (item(f"p{n}", 2.0), item(f"c{n}", 2.0, parent=f"p{n}"))]
    arrays = arrays_of(todo_of(*families), a_site(), most=2)
    assert [len(array.units) for array in arrays] == [2, 2, 1] + [1] * 5
    assert [array.after for array in arrays[3:]] == [Place(0, 0), Place(0, 1), Place(1, 0), Place(1, 1), Place(2, 0)]


def test_children_of_a_parent_under_way_wait_for_its_element() -> None:
    runs = [item("c", 0.1, parent="p"), item("d", 0.1, parent="q"), item("e", 0.1, parent="p"), item("x", 0.1)]
    arrays = arrays_of(todo_of(*runs), a_site(), UnderWay(train={"p": "41_7", "q": "52"}))
    assert {array.after: [unit.train for unit in array.units] for array in arrays} == {
        "41_7": [("c", "e")],
        "52": [("d",)],
        None: [("x",)],
    }


# -- evaluation and attacks --------------------------------------------------------------------------------------------


def test_finished_runs_to_evaluate_are_packed_too() -> None:
    runs = [item(name, evaluation_hours=0.4) for name in "abcd"]
    (array,) = arrays_of(todo_of(evaluate=runs), a_site())
    assert work([array]) == [[((), ("a", "b")), ((), ("c", "d"))]]


def test_an_ensemble_is_on_the_list_of_every_unit_that_evaluates_one_of_its_runs() -> None:
    runs = [item("a", 2.0), item("b", 2.0), item("c", 2.0)]
    arrays = arrays_of(todo_of(*runs, ensembles=[attacked("a", "b", "old")]), a_site())
    assert {unit.train: len(unit.ensembles) for array in arrays for unit in array.units} == {
        ("a",): 1,
        ("b",): 1,
        ("c",): 0,
    }


def test_an_ensemble_of_finished_runs_is_a_unit_that_names_them() -> None:
    (array,) = arrays_of(todo_of(ensembles=[attacked("a", "b"), attacked("a", "b", "c")]), a_site())
    (unit,) = array.units
    assert (unit.train, unit.evaluate) == ((), ("a", "b", "c"))
    assert [run.id for run in unit.runs] == ["a", "b", "c"]
    assert len(unit.ensembles) == 2


def test_the_attack_of_a_long_parent_is_made_beside_its_children() -> None:
    runs = [item("p", 2.0), item("c", 2.0, parent="p")]
    arrays = arrays_of(todo_of(*runs, ensembles=[attacked("p")]), a_site())
    assert {unit: array.after for array, (unit,) in zip(arrays, work(arrays), strict=True)} == {
        (("p",), ()): None,
        ((), ("p",)): Place(0, 0),
        (("c",), ("c",)): Place(0, 0),
    }


# -- several processes -------------------------------------------------------------------------------------------------


def test_several_processes_train_and_one_evaluates() -> None:
    runs = [item("a", 0.1, evaluation_hours=0.1), item("b", 0.1)]
    arrays = arrays_of(todo_of(*runs), a_site(processes=4, nodes=2))
    trains, evaluates = arrays
    assert work(arrays) == [[(("a",), ()), (("b",), ("b",))], [((), ("a",))]]
    assert (trains.resources.processes, trains.resources.nodes, trains.after) == (4, 2, None)
    assert (evaluates.resources.processes, evaluates.resources.nodes, evaluates.after) == (1, 1, Place(0, 0))


# -- this machine ------------------------------------------------------------------------------------------------------


def test_local_units_are_no_more_than_run_at_once_and_wait_for_nothing() -> None:
    runs = [item("p", 50.0), *(item(name, 1.0) for name in "abcd"), item("c0", 50.0, parent="p")]
    arrays = arrays_of(todo_of(*runs), a_site(scheduler="local", max_array_size=None, max_jobs=2), most=1)
    assert work(arrays) == [
        [(("p", "c0", "b", "d"), ("p", "c0", "b", "d"))],
        [(("a", "c"), ("a", "c"))],
    ]
    assert {array.after for array in arrays} == {None}


# -- shares of what may run at once ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "most", "shares"),
    [
        ((3, 2), 10, (3, 2)),
        ((3, 2), 5, (3, 2)),
        ((6, 4), 5, (3, 2)),
        ((10, 10, 10), 64, (10, 10, 10)),
        ((10, 10, 10), 10, (3, 3, 4)),
        ((10, 1), 5, (4, 1)),
        ((10, 10, 10), 1, (1, 1, 1)),
    ],
)
def test_shares_of_arrays_add_up_to_what_may_run_at_once(
    sizes: tuple[int, ...], most: int, shares: tuple[int, ...]
) -> None:
    lengths = (0.9, 5.0, 10.0)  # of unequal resources
    runs = [item(f"{kind} {n}", lengths[kind]) for kind, size in enumerate(sizes) for n in range(size)]
    arrays = arrays_of(todo_of(*runs), a_site(max_jobs=most, pack="0min"))
    assert tuple(array.at_once for array in arrays) == shares


# -- any small plan ----------------------------------------------------------------------------------------------------

HOURS = st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0, 3.0, 40.0])


@dataclass(frozen=True)
class Case:
    todo: Todo
    under_way: UnderWay
    max_array_size: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    train: list[RunItem] = []
    under_way: dict[str, str] = {}
    for number in range(draw(st.integers(0, 6))):
        family = f"f{number}"
        elsewhere = draw(st.sampled_from([None, None, "41_3", "52"]))
        if elsewhere:
            under_way[family] = elsewhere
        else:
            train.append(item(family, draw(HOURS), draw(HOURS)))
        for child in range(draw(st.integers(0, 3))):
            train.append(item(f"{family} child {child}", draw(HOURS), draw(HOURS), parent=family))
    evaluate = [item(f"e{number}", 1.0, draw(HOURS)) for number in range(draw(st.integers(0, 4)))]
    names = [run.id for run in (*train, *evaluate)] + ["old", "older"]
    groups = draw(st.lists(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True), max_size=4))
    ensembles = [attacked(*runs, hours=draw(HOURS)) for runs in {tuple(group): group for group in groups}]
    return Case(
        todo_of(*train, evaluate=evaluate, ensembles=ensembles), UnderWay(train=under_way), draw(st.integers(1, 5))
    )


SITES: list[Mapping[str, Any]] = [
    {"pack": "60min"},
    {"pack": "0min", "max_jobs": 3},
    {"pack": "10h", "walltime": "2h", "max_jobs": 1},
    {"processes": 2},
    {"scheduler": "local", "max_array_size": None, "max_jobs": 3},
]


@given(case=cases(), keys=st.sampled_from(SITES))
def test_everything_is_in_exactly_one_unit(case: Case, keys: Mapping[str, Any]) -> None:
    todo = case.todo
    units = [
        unit for array in arrays_of(todo, a_site(**keys), case.under_way, case.max_array_size) for unit in array.units
    ]
    alone = [unit for unit in units if set(unit.evaluate) & set(todo.finished)]
    trained = Counter(run for unit in units for run in unit.train)
    evaluated = Counter(run for unit in units for run in unit.evaluate if run not in todo.finished)
    asked = [run.id for run in (*todo.train, *todo.evaluate)]
    assert trained == Counter(run.id for run in todo.train)
    assert evaluated == Counter(asked)
    for unit in units:
        assert unit.train or unit.evaluate
        assert {run.id for run in unit.runs} == {*unit.train, *unit.evaluate}
        assert len(unit.runs) == len({run.id for run in unit.runs})
    for one in todo.ensembles:
        holders = [unit for unit in units if one in unit.ensembles]
        wanted = [unit for unit in units if set(unit.evaluate) & (set(one.runs) - set(todo.finished))]
        if set(one.runs) & set(asked):
            assert holders == wanted
        else:
            (holder,) = holders
            assert holder in alone
            assert set(one.runs) <= set(holder.evaluate)


@given(case=cases(), keys=st.sampled_from(SITES[:4]))
def test_units_are_no_longer_than_may_be_packed_unless_by_a_single_piece(case: Case, keys: Mapping[str, Any]) -> None:
    site = a_site(**keys)
    for array in arrays_of(case.todo, site, case.under_way, case.max_array_size):
        assert 1 <= len(array.units) <= case.max_array_size
        for unit in array.units:
            single = len(unit.runs) == 1 or (set(unit.evaluate) <= set(case.todo.finished) and len(unit.ensembles) == 1)
            assert single or unit.hours <= packable_hours(site) + 1e-9
            assert array.resources.minutes == walltime_minutes(task_hours(unit, site), site)
            assert array.resources.processes == (site.processes if unit.train else 1)
            if site.processes > 1:
                assert len(unit.train) <= 1


@given(case=cases(), keys=st.sampled_from(SITES[:4]))
def test_a_run_waits_for_exactly_the_element_that_trains_its_parent(case: Case, keys: Mapping[str, Any]) -> None:
    arrays = arrays_of(case.todo, a_site(**keys), case.under_way, case.max_array_size)
    trained_in = {
        run: (number, index, unit)
        for number, array in enumerate(arrays)
        for index, unit in enumerate(array.units)
        for run in unit.train
    }
    for number, array in enumerate(arrays):
        for unit in array.units:
            for run in unit.runs:
                needed = needs(run, unit)
                if needed is None or needed not in trained_in:
                    assert array.after == case.under_way.train.get(needed or "")
                    continue
                there, index, parent = trained_in[needed]
                if parent is unit:
                    assert unit.train.index(needed) < unit.train.index(run.id)
                    continue
                assert array.after == Place(there, index)
                assert there < number
                # Nothing else is waited for.
                assert parent.train == (needed,)
                assert parent.hours == parent.runs[0].hours


def needs(run: RunItem, unit: Unit) -> str | None:
    """Return the run that has to be trained before a unit may begin with this one."""
    if run.id in unit.train:
        return run.parent
    return run.id if run.id.startswith("f") else None


@given(case=cases(), keys=st.sampled_from(SITES[:4]))
def test_shares_are_within_bounds(case: Case, keys: Mapping[str, Any]) -> None:
    site = a_site(**keys)
    arrays = arrays_of(case.todo, site, case.under_way, case.max_array_size)
    for waits in (True, False):
        group = [array for array in arrays if isinstance(array.after, Place) is waits]
        assert all(1 <= array.at_once <= len(array.units) for array in group)
        wanted = min(site.max_jobs, sum(len(array.units) for array in group))
        forced = sum(array.at_once == 1 for array in group)
        assert wanted <= sum(array.at_once for array in group) <= wanted + forced


@given(case=cases(), most=st.integers(1, 4))
def test_local_families_are_whole_and_nothing_waits(case: Case, most: int) -> None:
    site = a_site(scheduler="local", max_array_size=None, max_jobs=most)
    arrays = arrays_of(case.todo, site, UnderWay(), 1)
    assert len(arrays) <= most
    assert all(len(array.units) == 1 and array.after is None for array in arrays)
    homes = {run: array.units[0].train for array in arrays for run in array.units[0].train}
    for run in case.todo.train:
        if run.parent in homes:
            home = homes[run.id]
            assert home is homes[run.parent]
            assert home.index(run.parent) < home.index(run.id)
