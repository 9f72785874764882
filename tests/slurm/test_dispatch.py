"""Submission: the script that sbatch gets, what is written down when, and that nothing is submitted twice."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from submitit.slurm.test_slurm import mocked_slurm

from bench.grid import load_grid
from bench.plan import make_plan
from bench.store.folders import Store
from slurm.dispatch import ROOT, Options, make_batch, submit_arrays
from slurm.ledger import BatchFolder, Ledger
from slurm.records import Resources
from slurm.site import load_site
from slurm.todo import UnderWay, what_is_left
from slurm.units import Place, make_arrays
from tests.grid_text import REPOSITORY
from tests.slurm.plans import STRANGE, a_site, array, calls, fake_slurm, grid_of, ledger_of, options, pickles, unit

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a fake SLURM that comes first on the PATH."""
    folder = fake_slurm(tmp_path / "fake")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def script(slurm: Path, number: int = 0) -> list[str]:
    return (slurm / f"{101 + number}.sh").read_text(encoding="utf-8").splitlines()


# -- what sbatch gets --------------------------------------------------------------------------------------------------


def golden(name: str, folder: BatchFolder) -> list[str]:
    text = (GOLDEN / f"{name}.sh").read_text(encoding="utf-8")
    places = {
        "root": shlex.quote(str(REPOSITORY)),
        "name": folder.path.name,
        "folder": folder.path,
        "python": shlex.quote(sys.executable),
    }
    for key, value in places.items():
        text = text.replace(f"{{{key}}}", str(value))
    return text.splitlines()


def test_a_gpu_site_with_everything(tmp_path: Path) -> None:
    keys = {
        "partition": "gpu",
        "account": "vision",
        "qos": "long",
        "constraint": "a100|h100",
        "gpus": 1,
        "gpu_type": "a100",
        "cpus": 6,
        "requeue": False,
        "signal": "90s",
        "processes": 8,
        "nodes": 2,
        "setup": ["module load python/3.11 cuda/12.4", "source ~/venv/bin/activate"],
        "python": "apptainer exec --nv ~/my.sif python",
        "mail": {"user": "me@example.org", "events": ["END", "FAIL", "REQUEUE"]},
        "sbatch": {"reservation": "the workshop", "exclusive": True},
    }
    resources = Resources(processes=8, nodes=2, gpus=1, gpu_type="a100", cpus=6, memory_gb=16, minutes=240)
    asked = array(unit("a"), unit("b"), unit("c"), after="41_7", at_once=2, resources=resources)
    with mocked_slurm():
        (folder,) = submit_arrays([asked], ledger_of(tmp_path), options(a_site(**keys)))
    assert folder.submitted() == ("12_0", "12_1", "12_2")
    assert (folder.path / "12_submission.sh").read_text(encoding="utf-8").splitlines() == golden("gpu", folder)


def test_the_cpu_site_and_a_batch_of_one_unit_which_is_a_plain_job(tmp_path: Path) -> None:
    with mocked_slurm():
        (folder,) = submit_arrays([array(unit("a"))], ledger_of(tmp_path), options(load_site("cpu")))
    assert folder.submitted() == ("12",)
    assert (folder.path / "12_submission.sh").read_text(encoding="utf-8").splitlines() == golden("cpu", folder)


def test_children_depend_on_the_element_that_trains_their_parent(tmp_path: Path, slurm: Path) -> None:
    arrays = [
        array(unit("p"), unit("q")),
        array(unit("r")),
        array(unit("a"), after=Place(0, 1)),
        array(unit("b"), unit("c"), after=Place(1, 0)),
        array(unit("d"), after="41_7"),
    ]
    submit_arrays(arrays, ledger_of(tmp_path), options())
    found = [[line for line in script(slurm, number) if "--dependency" in line] for number in range(5)]
    assert found == [
        [],
        [],
        ["#SBATCH --dependency=afterok:101_1"],
        ["#SBATCH --dependency=afterok:102"],
        ["#SBATCH --dependency=afterok:41_7"],
    ]


def test_a_store_of_a_strange_name(tmp_path: Path, slurm: Path) -> None:
    ledger = ledger_of(tmp_path / STRANGE)
    (folder,) = submit_arrays([array(unit("a"), unit("b"))], ledger, options())
    lines = script(slurm)
    output = next(line for line in lines if line.startswith("#SBATCH --output="))
    assert shlex.split(output.removeprefix("#SBATCH ")) == [f"--output={folder.path}/%A_%a_0_log.out"]
    command = shlex.split(lines[-1])
    assert command[:4] == ["srun", "--unbuffered", "--output", f"{folder.path}/%A_%a_%t_log.out"]
    assert command[-4:] == ["-u", "-m", "submitit.core._submit", str(folder.path)]
    assert [(one.folder, one.index) for one in pickles(folder)] == [(str(folder.path), 0), (str(folder.path), 1)]


@pytest.mark.parametrize(
    ("grid", "name"),
    [
        ("cifar10 paper", "cifar10"),
        ("my grid, 50%|x paper", "my-grid-50-x"),
        ("Größe_1.2 tiny", "Gr-e_1.2"),
        (f"{'x' * 250} paper", "x" * 40),
    ],
)
def test_jobs_have_names_that_squeue_and_paths_take(tmp_path: Path, slurm: Path, grid: str, name: str) -> None:
    submit_arrays([array(unit("a", grid=grid))] * 2, ledger_of(tmp_path), options())
    names = calls(slurm)
    assert len(set(names)) == 2
    assert all(one.startswith(f"{name}-") and len(one) == len(name) + 11 for one in names)


def test_jobs_submitted_from_within_a_job_inherit_nothing(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.chdir(tmp_path)
    submit_arrays([array(unit("a"))], ledger_of(tmp_path), options())
    environment = (slurm / "environment").read_text(encoding="utf-8").splitlines()
    assert [line for line in environment if line.startswith(("SLURM_", "SBATCH_"))] == ["SLURM_CONF=/etc/slurm.conf"]
    assert (slurm / "place").read_text(encoding="utf-8") == f"{ROOT}\n"
    assert Path.cwd() == tmp_path
    assert os.environ["SLURM_JOB_ID"] == "5"


def test_a_batch_says_what_its_tasks_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = a_site(gpus=1, store="~/s", data="$HOME/d", scratch="$TMPDIR/x", requeue=False)
    both = array(unit("a", grid="one paper"), unit("b", grid="two tiny"))
    batch = make_batch(both, "41_7", Options(site, "/site.yaml", Path("images"), True))
    assert batch.grids == ("one paper", "two tiny")
    assert (batch.after, batch.units, batch.device, batch.requeue, batch.deterministic) == (
        "41_7",
        2,
        "cuda",
        False,
        True,
    )
    assert batch.data == str(tmp_path / "images")
    assert batch.data_folder == str(Path.home() / "d")
    assert batch.scratch == "$TMPDIR/x"  # of the node


# -- what is written down, and when ------------------------------------------------------------------------------------


def test_the_batch_is_written_before_sbatch_is_called_and_its_elements_after(tmp_path: Path, slurm: Path) -> None:
    (folder,) = submit_arrays([array(unit("a"), unit("b"))], ledger_of(tmp_path), options())
    there = (slurm / "101.files").read_text(encoding="utf-8").split()
    assert {"batch.json", "units.jsonl"} <= set(there)
    assert "submitted.json" not in there
    assert folder.submitted() == ("101_0", "101_1")
    assert [one.index for one in pickles(folder)] == [0, 1]
    assert [one.train for one in BatchFolder(folder.path).units()] == [("a",), ("b",)]


# -- this machine ------------------------------------------------------------------------------------------------------


def test_who_reads_our_output_does_not_wait_for_local_tasks(tmp_path: Path) -> None:
    python = "sh -c 'echo $WORD $PPID; exec sleep 20'"
    program = f"""
from pathlib import Path
from bench.store.folders import Store
from slurm.dispatch import Options, submit_arrays
from slurm.ledger import Ledger
from tests.slurm.plans import a_site, array, unit
site = a_site(scheduler="local", max_array_size=None, setup=["export WORD=hi"], python={python!r})
folder, = submit_arrays([array(unit("a"))], Ledger(Store(Path({str(tmp_path)!r}))), Options(site, "local", None, False))
print(folder.path, *folder.submitted())
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    path, pid = done.stdout.split()
    log = Path(path) / f"{pid}_0_log.out"
    while not (log.exists() and log.read_text(encoding="utf-8").endswith("\n")):
        assert time.monotonic() - began < 15
        time.sleep(0.05)
    word, controller = log.read_text(encoding="utf-8").split()
    os.kill(int(controller), signal.SIGTERM)
    assert word == "hi"


# -- ten thousand runs -------------------------------------------------------------------------------------------------


def seconds_to_submit(folder: Path, cells: int) -> float:
    """Return the CPU seconds from a grid to what sbatch got; every tenth run has a parent, every run its own unit."""
    folder.mkdir()
    site = a_site(pack="0min")
    grid, store = load_grid(grid_of(folder, cells)), Store(folder / "store")
    began = time.process_time()
    plan = make_plan(grid, "paper", store)
    todo = what_is_left([(plan, plan.runs)], UnderWay(), retry=False, waits=True)
    arrays = make_arrays(todo, site, UnderWay(), 1000)
    folders = submit_arrays(arrays, Ledger(store), options(site))
    seconds = time.process_time() - began
    assert sum(len(folder.submitted() or ()) for folder in folders) == len(plan.runs) == cells * 11 // 10
    return seconds


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_four_times_as_many_runs_take_about_four_times_as_long(tmp_path: Path) -> None:
    few = min(seconds_to_submit(tmp_path / f"few {again}", 500) for again in range(2))
    many = seconds_to_submit(tmp_path / "many", 2000)
    assert many < 8 * few
