"""A faked SLURM, and the private cluster that tests marked `cluster` share."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing_programs, separate_nodes_refused
from tests.slurm.fakes import FakeSlurm
from tests.slurm.place import Place
from tests.slurm.work import FLAG, MODULE, NETWORKS, SLOWER, Work


@pytest.fixture(scope="session")
def installed() -> None:
    """Skips where SLURM is not installed, and says what would install it."""
    if missing := missing_programs():
        pytest.skip(missing)


@pytest.fixture(scope="session")
def cluster(installed: None) -> Iterator[Cluster]:  # noqa: ARG001
    """A running cluster which the clients, and code under test that calls them, find by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith(
                ("SLURM", "SBATCH", "SQUEUE", "SCANCEL", "SRUN", "SACCT")
            ):  # of the cluster that runs the tests
                patch.delenv(name)
        # Terminated tests end as interrupted ones do: with the teardown of fixtures.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with Cluster() as running:
                patch.setenv("SLURM_CONF", running.env["SLURM_CONF"])
                yield running
                pids = running.processes()
            assert [pid for pid in pids if Path(f"/proc/{pid}/cwd").exists()] == []
            assert not running.folder.exists()
        finally:
            signal.signal(signal.SIGTERM, before)


@pytest.fixture
def two_nodes(cluster: Cluster) -> Cluster:
    """The cluster, where its nodes have host names of their own; skips where they cannot, with the reason."""
    if refused := separate_nodes_refused():
        pytest.skip(refused)
    return cluster


@pytest.fixture
def small_disk(cluster: Cluster) -> Path:
    """A disk of 16 MB that nodes and this process see; skips where it cannot be mounted."""
    if cluster.small_disk is None:
        pytest.skip("a small disk needs root, who may mount one")
    return cluster.small_disk


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


@pytest.fixture
def work(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    folder = tmp_path / "with a space"
    folder.mkdir()
    networks = NETWORKS.format(flag=str(folder / FLAG), slower=str(folder / SLOWER))
    (folder / f"{MODULE}.py").write_text(networks)
    monkeypatch.setenv("PYTHONPATH", str(folder))  # which jobs take over
    monkeypatch.syspath_prepend(str(folder))
    yield Work(folder, capsys)
    sys.modules.pop(MODULE, None)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "fake slurm", monkeypatch)
