"""`copy_data` of a site: whether there is room, and workers that train from copies on the disks of two nodes."""

import re
import shutil
import signal
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.data import copies
from bench.store.records import Failure
from bench.work.signals import InterruptedRunError, StopRequest
from slurm import array_task
from slurm.check_task import Answer, CheckTask
from slurm.records import submissions
from tests.data.streamed.photographs import write_imagenet
from tests.data.test_image_folder import write_birds
from tests.slurm.cluster import Cluster
from tests.slurm.fakes import FakeSlurm
from tests.slurm.faults import plant
from tests.slurm.place import Place
from tests.slurm.work import LONG, Work, done, recipe, results, same_as_uninterrupted

# Three classes of ImageNet, small.
DATA = {"name": "imagenet", "image_size": 32, "train_images": 100, "validation_images": 20, "test_images": 12}


def write_place(place: Place, folder: Path) -> None:
    """Write a grid on an image folder, and a site that copies it."""
    images = write_birds(folder / "birds", train=10, test=4)
    cell = "{name: a, method: dense, model: {depth: 10, width: 1}, recipe: {epochs: 4}}"
    place.grid.write_text(f"base: {{data: {{folder: {images}, image_size: 16}}}}\ncells: [{cell}]")
    place.site.write_text(f"{{partition: main, gpus: 0, cpus: 1, scratch: {folder / 'disk'}, copy_data: true}}")


@pytest.mark.usefixtures("slurm")
def test_a_worker_copies_what_its_work_needs_unless_it_is_to_end_or_nothing_is_left(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_copies", {})
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    write_place(place, tmp_path)
    assert place.submit()[0] == 0
    (folder,) = submissions(place.store)
    assert folder.submission.copy_data
    stop = StopRequest()
    stop.received = signal.SIGUSR2
    with pytest.raises(InterruptedRunError):
        array_task._copy_data(folder, None, stop)
    assert list((tmp_path / "disk").glob("*/*")) == []
    array_task._copy_data(folder, None, StopRequest())
    (decoded,) = (tmp_path / "data" / "cache").glob("*.safetensors")
    assert copies.nearest(decoded).is_relative_to(tmp_path / "disk")
    shutil.rmtree(tmp_path / "disk")
    for run in place.ids():
        place.store.run(run).write_failure(Failure(type="ValueError", message="diverged"))
    array_task._copy_data(folder, None, StopRequest())
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize(("free", "state", "words"), [(10**9, "ok", "to copy, room for 950 MB"), (50, "slow", "room")])
def test_a_check_says_whether_there_is_room(
    place: Place,
    slurm: FakeSlurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    state: str,
    words: str,
) -> None:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    monkeypatch.setattr("bench.check.run.check", lambda *_: None)
    monkeypatch.setattr("slurm.array_task.set_environment", lambda _: None)
    monkeypatch.setattr("bench.work.context.find_device", lambda name: SimpleNamespace(type=name))
    write_place(place, tmp_path)
    code, out = place.call(
        *("check", "--site", str(place.site), "--store", str(place.store.root), str(place.grid), "--no-wait")
    )
    assert code == 0, out
    assert slurm.queue()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 0, free))
    (check,) = (place.store.root / "slurm" / "checks").iterdir()
    (tmp_path / "disk").mkdir()
    CheckTask(check)()
    answer = Answer.model_validate_json((check / "answer.json").read_text())
    (found,) = [finding for finding in answer.findings if finding.name == "copy_data"]
    assert (found.state, words in found.detail) == (state, True), found
    assert not answer.wrong


# A worker is killed when all is copied, and before the copy has its name; the first time.
KILLED = """
    os.sync = lambda: os.kill(os.getpid(), 9) if once("killed") else None
"""


@pytest.mark.cluster
@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_copies_comes_back_and_copies_anew(work: Work, two_nodes: Cluster) -> None:
    plant(work.folder, KILLED)
    images = work.folder / "images"
    write_imagenet(images)
    work.write(
        {**LONG, **recipe(4, update_every=5), "data": DATA, "batch_size": 10},
        site={"scratch": f"{two_nodes.folder}/scratch/killed", "copy_data": True},
    )
    work.submit("--data", str(images))
    (task,) = work.tasks(two_nodes)
    two_nodes.wait(lambda: "back to the queue: a process was killed" in work.log(), 60, "killed")
    (folder,) = (two_nodes.folder / "scratch-n1" / "killed").glob("freetickets-data")
    left = {path.name for path in folder.iterdir()}
    assert len(left) == 2, left  # a part of a copy, and the lock
    assert all(name.startswith(".imagenet-") for name in left)
    two_nodes.wait(done(work), 240, "done")
    assert list(work.tasks(two_nodes)) == [task]
    assert "taking over a stale lock" in work.log()
    assert [path.name[:9] for path in folder.iterdir()] == ["imagenet-"]
    same_as_uninterrupted(work, two_nodes, "--data", str(images), sessions=[1])


def copied(work: Work, cluster: Cluster) -> list[str]:
    """Return the nodes that have a copy, each in a scratch folder of its own; the log says that they copied."""
    nodes = [
        node for node in ("n1", "n2") if list((cluster.folder / f"scratch-{node}").glob("*/imagenet-*/copied.json"))
    ]
    assert len(re.findall(r"copied 1 MB of imagenet to \S+ in \d+ s", work.log())) == len(nodes), work.log()
    return nodes


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_each_node_trains_from_a_copy_of_its_own(work: Work, two_nodes: Cluster, together: bool) -> None:
    """Two runs on two nodes; or one run of four processes, two on a node."""
    images = work.folder / "images"
    write_imagenet(images)
    scratch = {"scratch": f"{two_nodes.folder}/scratch", "copy_data": True}
    site = {"partition": "both", "gpus": 2}  # a worker for each node
    if together:
        site = {"partition": "both", "processes": 4, "nodes": 2, "gpus": 0, "setup": ["export GLOO_SOCKET_IFNAME=lo"]}
    cell = {**LONG, **recipe(4, update_every=5), "members": 1 if together else 2, "data": DATA, "batch_size": 10}
    work.write(cell, site={**site, **scratch})
    with work.slower():  # the first of two workers leaves the second its run
        work.submit("--data", str(images))
        two_nodes.wait(lambda: set(work.states()) == {"running"}, 120, "all runs are begun")
    two_nodes.wait(done(work), 240, "done")
    two_nodes.wait(lambda: set(work.tasks(two_nodes).values()) == {"COMPLETED"}, 60, "completed")
    assert copied(work, two_nodes) == ["n1", "n2"]
    read = re.findall(rf"imagenet is read from its copy {two_nodes.folder}/scratch/", work.log())
    assert len(read) == (4 if together else 2)
    found = [path for path in work.store.rglob("*") if path.is_file() and path.suffix not in (".out", ".sh", ".pkl")]
    named = [path.name for path in found if f"{two_nodes.folder}/scratch/" in path.read_text(errors="replace")]
    assert named == [], "nothing in the store names a copy"
    with_copies = results(work.store)
    if together:
        assert work.sessions(work.status()[0]["id"])[0]["processes"] == 4
        work.store = work.folder / "shared"
        work.write(cell, site=site)
        work.submit("--data", str(images))
        two_nodes.wait(done(work), 240, "done from the shared folder")
        assert "copied" not in work.log()
        assert results(work.store) == with_copies
    else:
        assert {work.sessions(run["id"])[0]["host"] for run in work.status()} == {"n1", "n2"}
        same_as_uninterrupted(work, two_nodes, "--data", str(images), sessions=[1, 1])
