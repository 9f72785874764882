"""What stops a submission, and what would stop its workers: found before anything is submitted."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.commands.folders import check_writable
from bench.data.cache import default_root
from bench.data.catalog import DATASETS
from bench.data.inventory import inventory
from bench.errors import UserError, did_you_mean
from bench.plan import Plan
from bench.store.store import Store
from slurm.dispatch import cluster_of
from slurm.queue import partitions, require_slurm
from slurm.site import Site


def refusals(store: Store, site: Site) -> Iterator[str]:
    """Yield why nothing can be submitted from this machine to this site and store, whatever is to be submitted."""
    try:
        if site.scheduler == "slurm":
            require_slurm()
    except UserError as missing:
        yield str(missing)
    try:
        check_writable("--store", store.root)
    except UserError as refused:
        yield str(refused)


def lacks_gpu(plans: Sequence[Plan], site: Site) -> str | None:
    """Return what to tell a user whose site has no GPU for scales that need one, None if all is well."""
    lacking = [plan for plan in plans if plan.needs_gpu and not plan.finished]
    if not lacking or site.device == "cuda":
        return None
    hours = sum(plan.hours_left for plan in lacking)
    names = ", ".join(plan.grid for plan in lacking)
    return (
        f"{names}: the scale {lacking[0].scale!r} needs a GPU, and the site has none (about {hours:,.0f} h on a CPU); "
        "take another --scale, such as tiny"
    )


def warnings(plans: Sequence[Plan], store: Store, site: Site, data: Path | None) -> Iterator[str]:
    """Yield what will probably stop workers on their nodes, though SLURM would take them."""
    root = site.data or default_root()
    present = {row.name for row in inventory(root) if row.state != "absent"}
    known = store.data_records()
    for name in dict.fromkeys(cell.data.name for plan in plans for cell in plan.cells):
        if data is None and name in DATASETS and name not in present and name not in known:
            yield (
                f"no images of {name} in {root}; before workers start, where nodes have no internet: "
                f"python -m bench data prepare {name} --root {shlex.quote(str(root))}"
            )
    if site.scheduler == "slurm" and site.partition is not None and (names := partitions(cluster_of(site))):
        for part in site.partition.split(","):
            if part not in names:
                yield f"partition: found {part!r}{did_you_mean(part, names)}"
