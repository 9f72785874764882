"""Limits that sites set, on the private cluster: workers wait with SLURM's reason, or are refused in one clear line."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.work import DENSE, LONG, SLOW, Work, done, recipe, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]


@pytest.fixture
def lean(cluster: Cluster) -> Iterator[str]:
    """A QOS of which a user may run one job at a time."""
    cluster.run("sacctmgr", "-i", "add", "qos", "lean")
    cluster.run("sacctmgr", "-i", "modify", "qos", "lean", "set", "MaxJobsPerUser=1")
    cluster.run("sacctmgr", "-i", "modify", "account", "lab", "set", "qos+=lean")
    yield "lean"
    cluster.run("sacctmgr", "-i", "delete", "qos", "lean")


def test_workers_over_a_limit_wait_with_its_name_and_go_on_without_it(work: Work, cluster: Cluster, lean: str) -> None:
    work.write({**LONG, **recipe(12), "members": 3}, site={"qos": lean, "max_jobs": 3})
    with work.slower():
        work.submit()
        shows(work, cluster, "1 running, 2 queued (2 QOSMaxJobsPerUserLimit)")
        cluster.limit(MaxJobs=1)
        try:
            cluster.run("sacctmgr", "-i", "modify", "qos", lean, "set", "MaxJobsPerUser=-1")
            shows(work, cluster, "1 running, 2 queued (2 AssocMaxJobsLimit)")
            cluster.limit(MaxJobs=-1, GrpTRES="cpu=2")
            shows(work, cluster, "2 running, 1 queued (1 AssocGrpCpuLimit)")
        finally:
            cluster.limit(MaxJobs=-1, GrpTRES="cpu=-1")
    cluster.wait(done(work), 120, "done")
    same_as_uninterrupted(work, cluster, sessions=[1, 1, 1])


def test_an_array_is_no_longer_than_the_site_allows(work: Work, cluster: Cluster) -> None:
    work.write({**DENSE, "members": 25, "model": SLOW}, site={"max_jobs": 30})
    cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        assert "submitted 21 workers" in work.submit()
        assert "submitted 4 workers" in work.submit()
        assert "Nothing to submit." in work.submit()
        code, out = work.call("cancel", *work.at_store, "--yes")
        assert (code, "cancelled 25 workers" in out) == (0, True), out
    finally:
        cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
    assert set(work.tasks(cluster).values()) == {"CANCELLED"}


def test_a_partition_that_refuses_memory_and_cores_takes_workers_that_ask_for_none(
    work: Work, cluster: Cluster
) -> None:
    site: dict[str, Any] = {"partition": "strict", "setup": ["export OMP_NUM_THREADS=1"]}
    refused = {"memory": "memory: found 'auto'; null asks for none", "cpus": "cpus: found 1; null asks for none"}
    for key, hint in refused.items():
        work.write({**LONG, **recipe(3)}, site=site)
        code, out = work.call("submit", str(work.grid), "--site", str(work.folder / "site.yaml"), *work.at_store)
        assert code == 2
        assert "leave out --" in out
        assert hint in out
        assert work.submissions() == []
        site[key] = None
    work.write({**LONG, **recipe(3)}, site=site)
    work.submit()
    cluster.wait(done(work), 120, "done")
    same_as_uninterrupted(work, cluster, sessions=[1])


def shows(work: Work, cluster: Cluster, workers: str) -> None:
    """Wait until `status` says so of the workers, and that the work goes on by itself."""

    def said() -> bool:
        _, out = work.call("status", *work.at_store)
        return f"workers: {workers}" in out and "goes on by itself" in out.splitlines()[-1]

    cluster.wait(said, 60, workers)
