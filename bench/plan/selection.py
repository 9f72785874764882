"""Choosing runs of a plan by key=value, on the command line."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from glob import escape

from bench.errors import UserError, did_you_mean, nearest
from bench.plan.records import CellPlan, Plan, RunPlan

# A run that several cells share fits if it fits together with any one of them.
KEYS: dict[str, Callable[[CellPlan, RunPlan], str | int | float]] = {
    "cell": lambda cell, _: cell.name,
    "method": lambda cell, _: cell.method,
    "members": lambda cell, _: cell.members,
    "sparsity": lambda cell, _: cell.sparsity,
    "run": lambda _, run: run.id,
    "seed": lambda _, run: run.spec.seed,
    "status": lambda _, run: run.status,
}
MOST_SHOWN = 12
MOST_NEAREST = 3


def select(plan: Plan, selections: Sequence[str]) -> tuple[RunPlan, ...]:
    """Return the runs that fit all of the selections, such as "method=dst" or "run=3f" (the beginning of an id).

    In a value, * stands for any text, ? for any character and [ab] for either: "cell=DST*". The parents of runs that
    fit come with them, in the order of the plan. Of one key given twice, either value will do. UserError for an unknown
    key, and for what fits no run.
    """
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    for selection in selections:
        key, equals, value = selection.partition("=")
        if key not in KEYS:
            raise UserError(f"--select {selection}: unknown key {key!r}{did_you_mean(key, KEYS)}")
        if not equals or not value:
            raise UserError(f"--select {selection}: no value; write {key}=VALUE, of {_listed(values_of(plan, key))}")
        pattern = escape(value) if value in values_of(plan, key) else value  # a name may read as a pattern
        if not any(_fits(key, pattern, cell, run) for cell, run in _pairs(plan)):
            raise UserError(f"--select {selection}: fits no run{_allowed(key, value, values_of(plan, key))}")
        wanted[key].append(pattern)
    chosen = {
        run.id
        for cell, run in _pairs(plan)
        if all(any(_fits(key, value, cell, run) for value in values) for key, values in wanted.items())
    }
    if not chosen:
        together = " ".join(f"--select {selection}" for selection in selections)
        raise UserError(f"{together}: each fits some run, but no run fits all; the cells are {_listed(_names(plan))}")
    chosen |= {run.parent for run in plan.runs if run.id in chosen and run.parent}
    return tuple(run for run in plan.runs if run.id in chosen)


def _pairs(plan: Plan) -> list[tuple[CellPlan, RunPlan]]:
    cells = {cell.name: cell for cell in plan.cells}
    return [(cells[name], run) for run in plan.runs for name in run.cells]


def _fits(key: str, value: str, cell: CellPlan, run: RunPlan) -> bool:
    actual = KEYS[key](cell, run)
    if isinstance(actual, str):
        if key == "run" and actual.startswith(value):
            return True
        return fnmatchcase(actual, value)
    try:
        return actual == float(value)
    except ValueError:
        return fnmatchcase(str(actual), value)


def values_of(plan: Plan, key: str) -> list[str]:
    """Return what a key may be of the runs of a plan, each value once."""
    return list(dict.fromkeys(str(KEYS[key](cell, run)) for cell, run in _pairs(plan)))


def _names(plan: Plan) -> list[str]:
    return [cell.name for cell in plan.cells]


def _allowed(key: str, value: str, values: Sequence[str]) -> str:
    """Return what there is, with the nearest; too many are cut, and ids are not guessed."""
    if key == "run":
        return f"; there are {_listed(values)}"
    close = nearest(value.strip("*?"), values, MOST_NEAREST)
    hint = f" did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f";{hint} allowed: {_listed(values)}, and * for any text"


def _listed(values: Sequence[str]) -> str:
    more = f", ... and {len(values) - MOST_SHOWN} more" if len(values) > MOST_SHOWN else ""
    return ", ".join(values[:MOST_SHOWN]) + more
