"""From what is left to arrays: short runs share a unit, units of equal resources an array, children wait for parents.

SLURM makes a whole array wait, so units that wait for the same element are an array of their own. A short run shares
its unit with those that start from it; a longer one is a unit alone, so that what waits for it waits for nothing else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from slurm.records import EnsembleItem, Resources, RunItem, Unit
from slurm.resources import packable_hours, resources_for, task_hours
from slurm.site import Site
from slurm.todo import Todo, UnderWay


@dataclass(frozen=True)
class Place:
    """An element of an array of the same submission."""

    array: int
    index: int


@dataclass(frozen=True)
class Array:
    """Units to submit together; `after` is an element that SLURM knows, or one submitted before this array.

    at_once   how many of them may run at the same time
    """

    resources: Resources
    units: tuple[Unit, ...]
    after: str | Place | None
    at_once: int


@dataclass(frozen=True)
class _Piece:
    """Runs that go into one unit whatever else does; `after` is an element, or the piece that trains this run."""

    train: tuple[RunItem, ...]
    evaluate: tuple[RunItem, ...]
    ensembles: tuple[EnsembleItem, ...] = ()
    after: str | None = None
    alone: bool = False

    @property
    def hours(self) -> float:
        hours = sum(run.hours for run in self.train) + sum(run.evaluation_hours for run in self.evaluate)
        return hours + sum(one.hours for one in self.ensembles)


def make_arrays(todo: Todo, site: Site, under_way: UnderWay, max_array_size: int) -> list[Array]:
    """Return the arrays to submit, in order: what others wait for comes before them."""
    pieces = list(_pieces(todo, site, under_way))
    units = _spread(pieces, site.max_jobs) if site.scheduler == "local" else _packed(pieces, packable_hours(site))
    grouped: defaultdict[tuple[str | None, Resources], list[Unit]] = defaultdict(list)
    for waits_for, unit in units:
        grouped[waits_for, _resources(unit, site)].append(unit)
    groups = [
        _Group(after, resources, tuple(together[start : start + max_array_size]))
        for (after, resources), together in grouped.items()
        for start in range(0, len(together), max_array_size)
    ]
    arrays: list[Array] = []
    places: dict[str, Place] = {}
    for group, at_once in _throttled(_ordered(groups), site.max_jobs):
        after: str | Place | None = places.get(group.after or "", group.after)
        for index, unit in enumerate(group.units):
            places |= {run: Place(len(arrays), index) for run in unit.train}
        arrays.append(Array(group.resources, group.units, after, at_once))
    return arrays


# -- what has to stay together -----------------------------------------------------------------------------------------


def _pieces(todo: Todo, site: Site, under_way: UnderWay) -> Iterator[_Piece]:
    """Yield the pieces in the order of the plan."""
    ensembles = _ensembles_by_run(todo.ensembles)
    trained = {run.id for run in todo.train}
    children: defaultdict[str, list[RunItem]] = defaultdict(list)
    for run in todo.train:
        if run.parent in trained:
            children[str(run.parent)].append(run)
    for run in todo.train:
        if run.parent in trained:
            continue  # comes with its parent
        family = [run, *children[run.id]]
        together = _piece(family, family, ensembles, under_way.train.get(run.parent or ""))
        if site.scheduler == "local" or (site.processes == 1 and together.hours <= packable_hours(site)):
            yield together
            continue
        for one in family:
            after = under_way.train.get(one.parent or "") if one is run else run.id
            # Others should not wait for the evaluation of a parent, nor several GPUs idle while one evaluates.
            alone = site.processes > 1 or (one is run and len(family) > 1)
            apart = alone and (one.evaluation_hours > 0 or one.id in ensembles)
            yield _piece([one], [] if apart else [one], ensembles, after, alone=alone)
            if apart:
                yield _piece([], [one], ensembles, one.id, alone=True)
    for run in todo.evaluate:
        yield _piece([], [run], ensembles, None)
    busy = trained | {run.id for run in todo.evaluate}
    for ensemble in todo.ensembles:
        if busy.isdisjoint(ensemble.runs):
            # Runs that lack nothing: by them a person finds the task, and the next submission what it does.
            yield _Piece((), tuple(todo.finished[run] for run in ensemble.runs), (ensemble,))


def _piece(
    train: Sequence[RunItem],
    evaluate: Sequence[RunItem],
    ensembles: dict[str, list[EnsembleItem]],
    after: str | None,
    *,
    alone: bool = False,
) -> _Piece:
    own = {(one.runs, one.members): one for run in evaluate for one in ensembles.get(run.id, ())}
    return _Piece(tuple(train), tuple(evaluate), tuple(own.values()), after, alone)


def _ensembles_by_run(ensembles: Iterable[EnsembleItem]) -> dict[str, list[EnsembleItem]]:
    by_run: defaultdict[str, list[EnsembleItem]] = defaultdict(list)
    for one in ensembles:
        for run in one.runs:
            by_run[run].append(one)
    return dict(by_run)


# -- units -------------------------------------------------------------------------------------------------------------


def _packed(pieces: Iterable[_Piece], most_hours: float) -> Iterator[tuple[str | None, Unit]]:
    """Yield units, each with what it waits for, of neighbouring pieces as long as they take at most so many hours."""
    open_units: defaultdict[str | None, list[_Piece]] = defaultdict(list)
    hours: defaultdict[str | None, float] = defaultdict(float)
    for piece in pieces:
        after = piece.after
        if piece.alone:
            yield after, _unit([piece])
            continue
        if open_units[after] and hours[after] + piece.hours > most_hours:
            yield after, _unit(open_units.pop(after))
            hours[after] = 0.0
        open_units[after].append(piece)
        hours[after] += piece.hours
    for after, rest in open_units.items():
        yield after, _unit(rest)


def _spread(pieces: Sequence[_Piece], units: int) -> Iterator[tuple[str | None, Unit]]:
    """Yield so many units, each with its share of the pieces in turn: all run at once, and none can wait."""
    for start in range(min(units, len(pieces))):
        yield None, _unit(pieces[start::units])


def _unit(pieces: Sequence[_Piece]) -> Unit:
    train = [run for piece in pieces for run in piece.train]
    evaluate = [run for piece in pieces for run in piece.evaluate]
    ensembles = {(one.runs, one.members): one for piece in pieces for one in piece.ensembles}
    # Validated where they were made: of thousands of runs, validation would take most of the time.
    return Unit.model_construct(
        train=tuple(run.id for run in train),
        evaluate=tuple(dict.fromkeys(run.id for run in evaluate)),  # ensembles share finished runs
        runs=tuple({run.id: run for run in (*train, *evaluate)}.values()),
        ensembles=tuple(ensembles.values()),
    )


def _resources(unit: Unit, site: Site) -> Resources:
    specs = [run.spec for run in unit.runs] + [spec for one in unit.ensembles for spec in one.specs]
    return resources_for(specs, task_hours(unit, site), site, trains=bool(unit.train))


# -- arrays ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    after: str | None
    resources: Resources
    units: tuple[Unit, ...]


def _ordered(groups: Sequence[_Group]) -> list[tuple[_Group, bool]]:
    """Return the groups, each with whether it waits for another: first those that do not.

    Of the others, as of all, what is waited for comes first already: its unit was made before.
    """
    trained = {run for group in groups for unit in group.units for run in unit.train}
    return sorted(((group, group.after in trained) for group in groups), key=lambda pair: pair[1])


def _throttled(groups: Sequence[tuple[_Group, bool]], most: int) -> Iterator[tuple[_Group, int]]:
    """Yield the groups with their share of what may run at once.

    SLURM throttles each array for itself. Shares of those that wait for nothing add up to `most`, or to their units if
    these are fewer, and so do those of the others; but an array's least share is 1.
    """
    sizes = {waits: sum(len(group.units) for group, other in groups if other is waits) for waits in (False, True)}
    before = {False: 0, True: 0}
    for group, waits in groups:
        size, start = len(group.units), before[waits]
        before[waits] = end = start + size
        share = most * end // sizes[waits] - most * start // sizes[waits]  # what is cut off goes to one of the next
        yield group, min(size, max(1, share))
