"""What grids ask for of a store, at all their scales: the runs and ensembles that somebody may still want."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.grid import Grid
from bench.plan.make import make_plan
from bench.store.contents import StoredRun
from bench.store.store import Store


@dataclass(frozen=True)
class Asked:
    """For each run id, the grids with scale that ask for it ("cifar10 tiny"), and the ids of ensembles."""

    runs: Mapping[str, tuple[str, ...]]
    ensembles: frozenset[str]


def asked_for(grids: Iterable[Grid], store: Store, stored: Iterable[StoredRun]) -> Asked:
    """Return what grids ask for, for the images that the store was made from; UserErrors as of make_plan.

    Where data.json and the specs of the stored runs disagree about the images, what is asked for of each counts.
    """
    by_file = {name: record.variant for name, record in store.data_records().items()}
    seen: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for run in stored:
        if run.spec is not None:
            seen[run.spec.data.name][run.spec.data.variant] = None
    others = {name: [one for one in found if one != by_file.get(name)] for name, found in seen.items()}
    apart = [
        {**by_file, **{name: some[turn] for name, some in others.items() if turn < len(some)}}
        for turn in range(max(map(len, others.values()), default=0))
    ]
    users: defaultdict[str, dict[str, None]] = defaultdict(dict)
    ensembles: set[str] = set()
    for grid in grids:
        for scale in grid.scales:
            for variants in [by_file, *apart]:
                plan = make_plan(grid, scale, None, variants)
                for asked in plan.runs:
                    users[asked.id][f"{grid.name} {scale}"] = None
                ensembles |= {attacked.ensemble.id for attacked in plan.ensembles}
    return Asked({run: tuple(names) for run, names in users.items()}, frozenset(ensembles))
