"""How open work and its workers are divided: which site has memory enough for a run, and how many workers it gets.

Of a GPU's memory only what `bench check` measured counts: it is not estimated.

The division is of numbers alone. Every worker of a site may take every run that fits there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import counted
from bench.plan import Plan
from bench.store.store import Store
from bench.work.items import AttackEnsemble, Work
from bench.work.readiness import SILENT, StoreView
from slurm.options import memory_limit_gb
from slurm.resources import GPU_BASE_BYTES, memory_bytes
from slurm.site import Site

# Of runs that fit nowhere, so many are named.
MOST_NAMED = 5


@dataclass(frozen=True)
class SiteWork:
    """A site, its file, and what its workers are given: all of the work, or what fits its memory."""

    site: Site
    path: str
    plans: Sequence[Plan]
    work: Work

    @property
    def name(self) -> str:
        """What the site is called in messages."""
        return Path(self.path).stem

    @property
    def limit_gb(self) -> float:
        """The memory of a process, infinite where the site does not tell."""
        limit = memory_limit_gb(self.site)
        return float("inf") if limit is None else limit

    @property
    def peaks(self) -> dict[str, int]:
        """The most host memory that a check measured on such a device, in bytes, by run."""
        kind = "GPU" if self.site.device == "cuda" else "CPU"
        runs = [run for plan in self.plans for run in plan.runs if run.hours_device == kind]
        return {run.id: run.host_bytes for run in runs if run.host_bytes is not None}

    def needed_gb(self) -> dict[str, float]:
        """Return by run and ensemble what training, or an attack, needs by measurement or estimate, without margin."""
        specs, peaks = {run.id: run.spec for run in self.work.runs}, self.peaks
        needed = {run: memory_bytes(spec, self.site, peak=peaks.get(run)) for run, spec in specs.items()}
        for attacked in self.work.ensembles:
            of_runs = (memory_bytes(specs[run], self.site, attacked=True) for run in attacked.runs)
            needed[attacked.ensemble.id] = max(of_runs)
        return {name: size / 2**30 for name, size in needed.items()}

    def needed_of_gpu_gb(self) -> dict[str, float]:
        """Return by run what its training needs of the GPU, of those that a check measured, in one process."""
        runs = [run for plan in self.plans for run in plan.runs if run.hours_device == "GPU"]
        if self.site.device != "cuda" or self.site.processes > 1:
            return {}
        return {run.id: (run.device_bytes + GPU_BASE_BYTES) / 2**30 for run in runs if run.device_bytes is not None}

    def loads(self) -> dict[str, float]:
        """Return by run and ensemble the share of memory, of the host or of the GPU, that it takes; above 1: too much.

        An attack on an ensemble is not measured on a GPU. It is done where its runs are.
        """
        of_host = {name: size / self.limit_gb for name, size in self.needed_gb().items()}
        if self.site.gpu_memory_gb is None:
            return of_host
        of_gpu = self.needed_of_gpu_gb()
        return {name: max(of_host[name], of_gpu.get(name, 0) / self.site.gpu_memory_gb) for name in of_host}

    def only(self, ids: set[str]) -> "SiteWork":
        """Return the site with the runs and ensembles of these ids; an ensemble needs all of its runs."""
        runs = tuple(run for run in self.work.runs if run.id in ids)
        kept = {run.id for run in runs}
        ensembles = tuple(e for e in self.work.ensembles if e.ensemble.id in ids and kept.issuperset(e.runs))
        return SiteWork(self.site, self.path, self.plans, Work(runs=runs, ensembles=ensembles))


def divided(sites: Sequence[SiteWork], open_ids: set[str]) -> tuple[list[SiteWork], str | None]:
    """Return each site with the work that fits its memory and its GPU's, and which open work fits none, in words.

    What fits no site is given to the sites whose memory it exceeds least.
    """
    loads = [site.loads() for site in sites]
    least = {name: min(of_site[name] for of_site in loads) for name in loads[0]}
    fitting = [{name for name, load in of_site.items() if load <= max(1, least[name])} for of_site in loads]
    lacking = [name for name, load in least.items() if load > 1 and name in open_ids]
    cells = {run.id: run.cell for run in sites[0].work.runs} | {e.ensemble.id: e.cell for e in sites[0].work.ensembles}
    given = [site.only(ids) for site, ids in zip(sites, fitting, strict=True)]
    if not lacking:
        return given, None
    of_host, of_gpu = sites[0].needed_gb(), {name: gb for site in sites for name, gb in site.needed_of_gpu_gb().items()}
    by_gpu = any(site.site.gpu_memory_gb is not None for site in sites)
    named = [
        f"{cells[name]} {name[:8]} needs about {of_host[name]:.1f} GB"
        + (f", and {of_gpu[name]:.1f} GB of the GPU" if by_gpu and name in of_gpu else "")
        for name in lacking
    ]
    more = f", and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    have = ", ".join(f"{site.name} has {_memory_of(site)}" for site in sites)
    what = f"{counted(len(named), 'item')} of work {'fits' if len(named) == 1 else 'fit'} no site"
    return given, f"{what}: {', '.join(named[:MOST_NAMED])}{more}; a process of {have}"


def _memory_of(given: SiteWork) -> str:
    """Return the memory of a process of a site, in words."""
    host = "memory as the cluster decides" if given.limit_gb == float("inf") else f"{given.limit_gb:g} GB"
    gpu = given.site.gpu_memory_gb
    return host if gpu is None else f"{host}, and {gpu:g} GB of its GPU"


def open_folders(work: Work, store: Store) -> set[str]:
    """Return the ids of runs and ensembles in which an item may start, now or when what it waits for is done.

    What a process has that has been silent for long is among them: a worker that sees it stay so takes over.
    """
    view = StoreView(store)
    found = ((item, view.may_start(item)) for item in work.items())
    return {
        item.ensemble.ensemble.id if isinstance(item, AttackEnsemble) else item.run.id
        for item, readiness in found
        if readiness.state in ("missing", "waiting") or (readiness.state == "running" and SILENT in readiness.reason)
    }


def shares(fits: Mapping[str, Sequence[int]], most: Sequence[int]) -> list[set[str]]:
    """Divide ids among sites that they fit, in proportion to the most workers of each; those with least choice first.

    fits   by id, the places of the sites that it fits
    most   of each site
    """
    dealt: list[set[str]] = [set() for _ in most]
    for name in sorted(fits, key=lambda name: (len(fits[name]), name)):
        if fits[name]:
            dealt[min(fits[name], key=lambda place: ((len(dealt[place]) + 1) / most[place], place))].add(name)
    return dealt


def workers_wanted(open_ids: set[str], covered: set[str], working: int, most: int) -> int:
    """Return how many workers to submit for open work.

    covered   the open ids that workers which are queued or running know of; there are `working` such workers
    most      as many workers at once as the site wants
    """
    missing_workers = min(most, len(open_ids)) - working
    # Work that no worker knows of wants its own workers, however many others there are.
    return max(missing_workers, min(most, len(open_ids - covered)), 0)
