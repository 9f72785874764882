"""Several sites at once: who may take what, how many workers each gets, and what is said of work that fits nowhere."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.spec.run import RunSpec
from bench.store.measured import Measured, MeasuredStep, write_measured
from bench.work.items import Work
from slurm.records import submissions
from slurm.resources import memory_bytes
from slurm.share import shares
from slurm.site import Site
from tests.slurm.fakes import FakeSlurm
from tests.slurm.place import GRID, RUNS, Place

# A wide network needs some 2.4 GB without margin, a narrow one 1.1.
TWO_SIZES = GRID + (
    "  - {name: wide, method: dense, batch_size: 512, recipe: {epochs: 3}, "
    "model: {name: wide_resnet, depth: 10, width: 8}}\n"
)
LARGE = "{partition: main, gpus: 0, cpus: 2, memory: 16GB, max_jobs: 3}"
SMALL = "{partition: short, gpus: 0, cpus: 2, memory: 2GB, max_jobs: 3}"


@pytest.fixture
def sites(place: Place) -> tuple[str, str]:
    """The files of a large site, and of a small one."""
    large, small = place.site.with_name("large.yaml"), place.site.with_name("small.yaml")
    large.write_text(LARGE)
    small.write_text(SMALL)
    return str(large), str(small)


def submit(place: Place, sites: tuple[str, ...], *options: str) -> tuple[int, str]:
    named = [word for site in sites for word in ("--site", site)]
    return place.call("submit", str(place.grid), *named, "--store", str(place.store.root), *options)


def work_by_site(place: Place) -> dict[str, Work]:
    return {folder.submission.site.rpartition("/")[2]: folder.work for folder in submissions(place.store)}


def test_workers_of_each_site_are_given_what_fits_its_memory(
    place: Place, slurm: FakeSlurm, sites: tuple[str, str]
) -> None:
    place.grid.write_text(TWO_SIZES)
    code, out = submit(place, sites)
    assert code == 0, out
    given = work_by_site(place)
    assert [{run.cell for run in given[name].runs} for name in ("large.yaml", "small.yaml")] == [
        {"dense", "PF", "wide"},
        {"dense", "PF"},
    ]
    wide = next(run.spec for run in given["large.yaml"].runs if run.cell == "wide")
    assert 2 < memory_bytes(wide, Site(gpus=0)) / 2**30 < 16
    assert "large: submitted 3 workers as my-grid-" in out
    assert "for 6 of 6 runs" in out
    assert "small: submitted 3 workers as my-grid-" in out
    assert f"for {RUNS} of 6 runs" in out
    assert len(slurm.calls("sbatch")) == 2
    assert "Nothing to submit." in submit(place, sites)[1]
    assert len(slurm.calls("sbatch")) == 2


def test_status_says_which_site_workers_are_of(place: Place, slurm: FakeSlurm, sites: tuple[str, str]) -> None:
    submit(place, sites)
    slurm.set(next(iter(slurm.queue())), "RUNNING", node="node7")
    _, out = place.on_store("status")
    assert "of site large: 1 running, 1 queued" in out
    assert "of site small: 0 running, 2 queued" in out
    workers = json.loads(place.on_store("status", "--json")[1])["workers"]
    assert [worker["site"] for worker in workers] == ["large", "large", "small", "small"]


def test_a_run_that_fits_no_site_is_said_before_anything_is_submitted(
    place: Place, slurm: FakeSlurm, sites: tuple[str, str]
) -> None:
    place.grid.write_text(TWO_SIZES)
    code, out = submit(place, sites[1:])
    assert (code, slurm.calls("sbatch"), submissions(place.store)) == (2, [], [])
    assert "2 items of work fit no site: wide " in out
    assert "a process of small has 2 GB; --force submits it all the same" in out
    code, out = submit(place, sites[1:], "--dry-run")
    assert code == 2
    assert "would submit 3 workers" in out
    code, out = submit(place, sites[1:], "--force")
    assert code == 0
    assert "warning: 2 items of work fit no site" in out
    assert {run.cell for run in work_by_site(place)["small.yaml"].runs} == {"dense", "PF", "wide"}


GPU = "{{partition: main, cpus: 2, memory: {memory}, gpu_memory: {gpu}, max_jobs: 3}}"


def test_what_a_check_measured_goes_only_to_gpus_that_hold_it(
    place: Place, slurm: FakeSlurm, sites: tuple[str, str]
) -> None:
    place.grid.write_text(TWO_SIZES)
    Path(sites[0]).write_text(GPU.format(memory="auto", gpu="80GB"))
    Path(sites[1]).write_text(GPU.format(memory="auto", gpu="16GB"))
    wide = next(run.spec for run in place.runs() if run.cells[0] == "wide")
    assert submit(place, sites, "--dry-run")[1].count("for 6 of 6 runs") == 2  # nothing is measured
    write_measured(place.store.root, measured_on_gpu(wide, 24 * 2**30))
    code, out = submit(place, sites[1:])
    assert (code, slurm.calls("sbatch")) == (2, [])
    assert "GB, and 24.9 GB of the GPU" in out
    assert "a process of small has memory as the cluster decides, and 16 GB of its GPU; --force" in out
    code, out = submit(place, sites)
    assert code == 0, out
    given = work_by_site(place)
    assert {run.cell for run in given["large.yaml"].runs} == {"dense", "PF", "wide"}
    assert {run.cell for run in given["small.yaml"].runs} == {"dense", "PF"}


def measured_on_gpu(spec: RunSpec, device_bytes: int) -> Measured:
    """Return what `bench check` says of the dense step of a run on a GPU."""
    step = MeasuredStep(
        data=spec.data.name,
        image_size=32,
        method="dense",
        model=spec.model,
        execution=spec.execution,
        batch_size=spec.batch_size,
        images_per_second=1000.0,
        seconds=0.5,
        steps=10,
        tflops=1.0,
        host_bytes=3 * 10**9,
        device_bytes=device_bytes,
    )
    return Measured(taken="now", host="node", device="cuda", device_name="a GPU", facts={}, steps=(step,))


def test_a_site_that_ended_is_replaced_by_its_own_workers(
    place: Place, slurm: FakeSlurm, sites: tuple[str, str]
) -> None:
    submit(place, sites)
    large = [task for task in slurm.queue() if task.startswith("100_")]
    for task in large:
        slurm.set(task, "FAILED")
    _, out = submit(place, sites)
    assert "large: submitted 2 workers" in out
    assert "small: submitted" not in out


def test_a_site_that_is_refused_after_another_says_what_is_in_the_queue(
    place: Place, slurm: FakeSlurm, sites: tuple[str, str]
) -> None:
    slurm.refuse("short")
    code, out = submit(place, sites)
    assert code == 2
    assert "large: submitted 2 workers" in out
    assert "sbatch refused the job: invalid partition specified: short" in out
    assert "in the queue all the same: 2 workers of large. They may stay" in out
    assert f"python -m slurm cancel --store {place.store.root}" in out
    assert "Traceback" not in out
    assert set(work_by_site(place)) == {"large.yaml"}
    slurm.refuse()
    code, out = submit(place, sites)
    assert code == 0
    assert "small: submitted 2 workers" in out
    assert "large: submitted" not in out  # nothing twice
    assert len(slurm.queue()) == 4


def test_the_first_site_that_is_refused_leaves_nothing_in_the_queue(
    place: Place, slurm: FakeSlurm, sites: tuple[str, str]
) -> None:
    slurm.answer("sbatch", stderr="sbatch: error: invalid partition specified: main\n", code=1)
    code, out = submit(place, sites)
    assert code == 2
    assert "in the queue all the same" not in out
    assert submissions(place.store) == []


def test_workers_of_another_site_take_their_share(place: Place, slurm: FakeSlurm, sites: tuple[str, str]) -> None:
    submit(place, sites[:1])
    assert len(slurm.queue()) == 3
    assert "submitted 1 worker as" in submit(place, sites[1:])[1]  # of four runs, three have a worker


def test_sites_with_different_stores_have_no_common_queue(
    place: Place, slurm: FakeSlurm, sites: tuple[str, str]
) -> None:
    for site, name in zip(sites, "ab", strict=True):
        place.site.with_name(site.rpartition("/")[2]).write_text(f"{{gpus: 0, store: {place.store.root}-{name}}}")
    named = [word for site in sites for word in ("--site", site)]
    code, out = place.call("submit", str(place.grid), *named)
    assert (code, slurm.calls("sbatch")) == (2, [])
    assert "the sites name different stores" in out


@given(
    most=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    fits=st.dictionaries(st.integers(0, 60).map(str), st.sets(st.integers(0, 3), max_size=4), max_size=60),
)
def test_work_is_dealt_once_and_only_where_it_fits(most: list[int], fits: dict[str, set[int]]) -> None:
    allowed = {name: sorted(place for place in places if place < len(most)) for name, places in fits.items()}
    dealt = shares(allowed, most)
    assert sum(map(len, dealt)) == sum(bool(places) for places in allowed.values())
    assert all(place in allowed[name] for place, names in enumerate(dealt) for name in names)


def test_what_fits_everywhere_is_dealt_in_proportion_to_the_most_workers() -> None:
    dealt = shares({str(number): (0, 1) for number in range(40)}, [30, 10])
    assert [len(names) for names in dealt] == [30, 10]
    narrow = {"only small": (1,)} | {str(number): (0, 1) for number in range(3)}
    assert [len(names) for names in shares(narrow, [2, 2])] == [2, 2]
