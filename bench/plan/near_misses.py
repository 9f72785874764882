"""Near misses: stored runs that the grid does not ask for, but that differ from its missing runs in a few keys.

Often a default, a switch or the images were others when these runs were trained. A key that differs in several phases,
or in a run and in its parent, counts once.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import counted
from bench.plan.records import Plan
from bench.spec.run import RunSpec
from bench.store.files import parsed_yaml, regular_bytes
from bench.store.store import Store

# Runs of a grid that are not trained yet.
LEFT = ("missing", "waiting")
# Runs that differ in more keys are other experiments; runs on another data set always are.
MOST_KEYS = 3
DATA_SET = "data.name"
MOST_VALUES = 4
_ABSENT = object()
_SEED = re.compile(r"^( *seed: )(\d+)$", re.MULTILINE)
_COMMENT = re.compile(r"^#.*\n")  # the first line names the run
_PLACE = re.compile(r"\[\d+\]|^(parent\.)+")  # of a key among phases and parents
# The seed of a run and that of its parent; everything else of a spec by key.
Seeds = tuple[int, ...]
Leaves = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """A key of specs, with its values in the stored runs and in the grid's, each once; None where the key is absent."""

    key: str
    theirs: tuple[Any, ...]
    grids: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.key} (theirs {_listed(self.theirs)}, this grid's {_listed(self.grids)})"


@dataclass(frozen=True)
class NearMiss:
    """Stored runs, by id, that differ from missing runs of the grid in the same keys."""

    runs: tuple[str, ...]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        found = f"{counted(len(self.runs), 'run')} in this store differ{'s' if len(self.runs) == 1 else ''}"
        if [difference.key for difference in self.differences] == ["seed"]:
            return f"{found} from this grid's in seed alone: replicates beyond this grid's"
        return f"{found} from this grid's only in {' and '.join(map(str, self.differences))}"


@dataclass(frozen=True)
class NearMisses:
    """The near misses of plans in a store, most runs first, and the ids of runs with a spec.yaml that is none."""

    groups: tuple[NearMiss, ...] = ()
    unreadable: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield a sentence for each group, and one for unreadable runs."""
        yield from map(str, self.groups)
        if self.unreadable:
            yield f"not compared with this grid, since spec.yaml cannot be read: {_listed(self.unreadable)}"

    def to_json(self) -> dict[str, Any]:
        """Return the entries of a plan's JSON document."""
        groups = [
            {
                "runs": group.runs,
                "differences": {
                    found.key: {"theirs": found.theirs, "this_grid": found.grids} for found in group.differences
                },
            }
            for group in self.groups
        ]
        return {"near_misses": groups, "unreadable_runs": self.unreadable}


@dataclass(frozen=True)
class _Runs:
    """Runs that differ in their seeds alone: what they share, and their ids by seeds; of a grid's, the missing ones."""

    leaves: Leaves
    ids: dict[Seeds, str]


@dataclass(frozen=True)
class _Pair:
    """A stored run, by its seeds, and the runs of the grid that it is nearest to."""

    seeds: Seeds
    stored: _Runs
    asked: _Runs

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in which the specs differ."""
        keys = {_key(path) for path in _differing(self.stored.leaves, self.asked.leaves)}
        return tuple(sorted(keys)) + (() if self.seeds in self.asked.ids else ("seed",))


def near_misses(plans: Sequence[Plan], store: Store) -> NearMisses:
    """Return the stored runs that no cell of these plans asks for and that are nearest to a missing run of theirs."""
    if all(run.status not in LEFT for plan in plans for run in plan.runs):
        return NearMisses()
    stored, unreadable = _stored_runs(store, {run.id for plan in plans for run in plan.runs})
    found: defaultdict[tuple[str, ...], list[_Pair]] = defaultdict(list)
    for runs, nearest in _nearest(stored, list(_asked_runs(plans)) if stored else []):
        for seeds in runs.ids:
            asked = next((candidate for candidate in nearest if seeds in candidate.ids), nearest[0])
            pair = _Pair(seeds, runs, asked)
            found[pair.keys].append(pair)
    groups = [
        NearMiss(tuple(pair.stored.ids[pair.seeds] for pair in pairs), tuple(_difference(key, pairs) for key in keys))
        for keys, pairs in found.items()
    ]
    return NearMisses(tuple(sorted(groups, key=lambda group: -len(group.runs))), tuple(unreadable))


def _difference(key: str, pairs: Sequence[_Pair]) -> Difference:
    if key == "seed":
        seeds = [seeds[0] for pair in pairs for seeds in pair.asked.ids]
        return Difference(key, _distinct(pair.seeds[0] for pair in pairs), _distinct(seeds))
    values = [
        (pair.stored.leaves.get(path), pair.asked.leaves.get(path))
        for pair in pairs
        for path in _differing(pair.stored.leaves, pair.asked.leaves)
        if _key(path) == key
    ]
    return Difference(key, _distinct(theirs for theirs, _ in values), _distinct(grids for _, grids in values))


def _differing(theirs: Leaves, grids: Leaves) -> Iterator[str]:
    """Yield the paths of the leaves that differ."""
    for path in dict.fromkeys((*grids, *theirs)):
        if theirs.get(path, _ABSENT) != grids.get(path, _ABSENT):
            yield path


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _stored_runs(store: Store, asked: set[str]) -> tuple[list[_Runs], list[str]]:
    """Return the runs that are not asked for, and the ids of those whose spec cannot be read."""
    by_text: dict[str, _Runs | None] = {}  # parsed once for all seeds
    unreadable = []
    for path in sorted(store.root.glob("runs/*/spec.yaml")):
        if path.parent.name in asked:
            continue
        text = _text(path)
        others = _SEED.sub(r"\g<1>0", _COMMENT.sub("", text))
        if others not in by_text:
            leaves = _parsed(others)
            by_text[others] = None if leaves is None else _Runs(leaves, {})
        runs = by_text[others]
        seeds = tuple(int(number) for _, number in _SEED.findall(text))
        if runs is None or not seeds:
            unreadable.append(path.parent.name)
        else:
            runs.ids[seeds] = path.parent.name
    return [runs for runs in by_text.values() if runs is not None], unreadable


def _text(path: Path) -> str:
    try:
        return regular_bytes(path).decode()
    except (OSError, UnicodeDecodeError):
        return ""


def _parsed(text: str) -> Leaves | None:
    """Return the leaves of a spec, None for a text that is no spec."""
    try:
        content = parsed_yaml(text)
    except ValueError:
        return None
    return dict(_leaves(content, "")) if isinstance(content, dict) and "seed" in content else None


def _asked_runs(plans: Iterable[Plan]) -> Iterator[_Runs]:
    """Yield the runs of plans by their cells, of which runs, and parents of runs, differ in their seeds alone."""
    for plan in plans:
        groups = defaultdict(list)
        for run in plan.runs:
            groups[run.cells, run.parent is None].append(run)
        for runs in groups.values():
            missing = [run for run in runs if run.status in LEFT]
            leaves = dict(_leaves(runs[0].spec.model_dump(mode="json"), ""))
            yield _Runs(leaves, {_seeds(run.spec): run.id for run in missing})


def _seeds(spec: RunSpec) -> Seeds:
    return (spec.seed, *(_seeds(spec.parent) if spec.parent else ()))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of a spec by path, but no seed; a list of plain values is one value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "seed":
                yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        if any(isinstance(inner, dict | list) for inner in value):
            for index, inner in enumerate(value):
                yield from _leaves(inner, f"{path}[{index}]")
        else:
            yield path, tuple(value)
    else:
        # Dates and the like are in no spec, but a file may have been altered.
        yield path, value if value is None or isinstance(value, str | int | float) else str(value)


def _key(path: str) -> str:
    """Return a path without its place among phases and parents: phases[1].rewire.every is phases.rewire.every."""
    return _PLACE.sub("", path)


def _nearest(stored: Sequence[_Runs], asked: Sequence[_Runs]) -> Iterator[tuple[_Runs, list[_Runs]]]:
    """Yield stored runs with the missing runs that differ from them in the fewest keys.

    Not if they differ in too many, nor if other runs of the grid, which are not missing, are nearer.
    """
    if not stored or not asked:
        return
    paths = sorted({path for runs in (*stored, *asked) for path in runs.leaves}, key=lambda path: (_key(path), path))
    starts = [next(group)[0] for _, group in groupby(enumerate(map(_key, paths)), key=lambda pair: pair[1])]
    codes: dict[Any, int] = {}

    def coded(runs: _Runs) -> list[int]:
        values = [(path, runs.leaves.get(path, _ABSENT)) for path in paths]
        return [codes.setdefault(value, len(codes)) for value in values]

    grid = np.array([coded(runs) for runs in asked]).T.copy()  # leaves x runs
    data = paths.index(DATA_SET) if DATA_SET in paths else None
    for runs in stored:
        differs = grid != np.array(coded(runs))[:, None]
        counts = np.logical_or.reduceat(differs, starts, axis=0).sum(axis=0)
        if data is not None:
            counts[differs[data]] = len(paths)
        best = counts.min()
        nearest = [asked[int(index)] for index in np.flatnonzero(counts == best) if asked[int(index)].ids]
        if best <= MOST_KEYS and nearest:
            yield runs, nearest


def _listed(values: Sequence[Any]) -> str:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values[:MOST_VALUES]]
    more = f", ... and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return ", ".join(texts) + more
