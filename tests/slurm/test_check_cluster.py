"""`slurm check` and `submit --check` on the private cluster: what a right site gives, and what a wrong one says."""

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.work import DENSE, Work, done

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]


def checked(work: Work, *options: str) -> tuple[int, str]:
    return work.call("check", "--site", str(work.folder / "site.yaml"), *work.at_store, *options)


def test_a_right_site_is_found_to_work(work: Work, cluster: Cluster) -> None:
    work.write(DENSE)
    code, out = checked(work, str(work.grid), "--minutes", "0.05")
    assert code == 0, out
    assert "0 wrong" in out
    rows = [line.split(maxsplit=1) for line in out.splitlines()]
    for name in ("python", "store", "CPU cores", "requeue", "data digits", "clocks", "dense"):
        found = [row[0] for row in rows if len(row) == 2 and row[1].startswith(name)]
        # A disk and steps are judged by their speed, too, and others use this machine.
        assert found in ([["ok"], ["slow"]] if name in ("store", "dense") else [["ok"]]), (name, out)
    assert "running on n1: " in out
    assert ": dense" not in out.partition("running on")[0]  # nothing is checked by a job that is still queued
    assert list(work.store.glob("measured/*.json"))  # from which plan and submit take memory and hours
    assert work.submissions() == []
    cluster.wait(lambda: "RUNNING" not in cluster.queue().values(), 30, "it ends")


def test_a_submission_that_checks_a_right_site_first_is_sent_and_done(work: Work, cluster: Cluster) -> None:
    work.write(DENSE)
    out = work.submit("--check")
    assert "0 wrong" in out
    assert "submitted 1 worker" in out
    assert len(work.submissions()) == 1
    cluster.wait(done(work), 120, "done")


def test_a_store_that_the_node_cannot_write_is_said_and_nothing_is_submitted(work: Work, two_nodes: Cluster) -> None:
    work.write(DENSE)
    work.store.mkdir()
    with two_nodes.covered("n1", work.store, "--bind", "-o", "ro", str(work.store)):
        code, out = work.call(
            "submit", str(work.grid), "--site", str(work.folder / "site.yaml"), *work.at_store, "--check"
        )
    assert code == 1
    assert "the job has ended before it wrote anything to the store" in out
    assert "the node does not see that folder, or may not write there" in out
    assert "something is wrong (above); nothing was submitted" in out
    assert "Traceback" not in out
    assert work.submissions() == []


def test_a_partition_that_does_not_exist_is_a_mistake_before_anything_is_written(work: Work) -> None:
    work.write(DENSE, site={"partition": "mian"})
    code, out = checked(work)
    assert code == 2
    assert "did you mean 'main'?" in out
    assert "Traceback" not in out
    assert list(work.store.glob("slurm/checks/*")) == []
