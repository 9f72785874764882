"""Nothing is submitted twice, whatever ends a submission; and what sbatch refuses is told in one clear message."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission, JobPaths

from bench.errors import UserError
from slurm.__main__ import main
from slurm.dispatch import adopt, submit_arrays
from slurm.ledger import BatchFolder
from slurm.records import Mark
from slurm.scheduler import ask
from tests.slurm.plans import a_site, array, calls, fake_slurm, grid_of, ledger_of, options, pickles, unit

REFUSED = "sbatch: error: Batch job submission failed: "


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a fake SLURM that comes first on the PATH."""
    folder = fake_slurm(tmp_path / "fake")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


# -- cut short ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What ends the process, as far as a test can."""


def dies_before_submitted_json(monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(BatchFolder, "submit", submit)


def dies_while_pickles_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    move = JobPaths.move_temporary_file

    def moved(self: JobPaths, path: Path, name: str, keep_as_symlink: bool = False) -> None:
        if name == "submitted_pickle" and self.job_id in ("101_1", "101"):
            raise Killed
        move(self, path, name, keep_as_symlink)

    monkeypatch.setattr(JobPaths, "move_temporary_file", moved)


@contextmanager
def dying(dies: Callable[[pytest.MonkeyPatch], None]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        dies(patch)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("dies", [dies_before_submitted_json, dies_while_pickles_are_moved])
@pytest.mark.parametrize("units", [1, 3])
def test_a_submission_cut_short_after_sbatch_is_found_again(
    tmp_path: Path, slurm: Path, units: int, dies: Callable[[pytest.MonkeyPatch], None]
) -> None:
    ledger = ledger_of(tmp_path)
    asked = [array(*(unit(str(number)) for number in range(units)))]
    with dying(dies):
        submit_arrays(asked, ledger, options())
    (folder,) = ledger.batches()
    assert folder.submitted() is None
    adopt(ledger.batches(), ask(ledger.batches()))
    assert folder.submitted() == (("101",) if units == 1 else tuple(f"101_{index}" for index in range(units)))
    assert [(one.folder, one.index) for one in pickles(folder)] == [(str(folder.path), n) for n in range(units)]
    assert len(calls(slurm)) == 1


@pytest.mark.parametrize("ended", ["COMPLETED None", "FAILED NonZeroExitCode", "CANCELLED None"])
def test_a_job_that_ended_meanwhile_is_found_too(tmp_path: Path, slurm: Path, ended: str) -> None:
    ledger = ledger_of(tmp_path)
    with dying(dies_before_submitted_json):
        submit_arrays([array(unit("a"), unit("b"))], ledger, options())
    jobs = (slurm / "jobs").read_text(encoding="utf-8")
    (slurm / "jobs").write_text(jobs.replace("PENDING Priority", ended), encoding="utf-8")
    adopt(ledger.batches(), ask(ledger.batches()))
    assert ledger.batches()[0].submitted() == ("101_0", "101_1")


def test_a_job_that_slurm_forgot_is_found_by_what_its_elements_wrote(tmp_path: Path, slurm: Path) -> None:
    ledger = ledger_of(tmp_path)
    with dying(dies_before_submitted_json):
        submit_arrays([array(unit("a"), unit("b"))], ledger, options())
    (folder,) = ledger.batches()
    (slurm / "jobs").write_text("", encoding="utf-8")
    adopt([folder], ask([folder]))
    assert folder.submitted() is None
    folder.write_mark(1, Mark(job="101_1", attempt=1, stalls=0, progress="x", node="n", started="2026"))
    adopt([folder], ask([folder]))
    assert folder.submitted() == ("101_0", "101_1")


def submit(tmp_path: Path, *more: str) -> int | str | None:
    """Run the command line on a grid of three families of pruned networks and more; return its exit code."""
    grid = tmp_path / "grid.yaml"
    if not grid.exists():
        grid_of(tmp_path, 12)
        site = "partition: main\ngpus: 0\npack: 0min\nmax_array_size: 5\n"
        (tmp_path / "site.yaml").write_text(site, encoding="utf-8")
    where = ["--site", str(tmp_path / "site.yaml"), "--store", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as ended:
        main(["submit", str(grid), *where, *more])
    return ended.value.code


def test_submitting_twice_submits_nothing_twice(
    tmp_path: Path, slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(tmp_path) in (0, None)
    first = calls(slurm)
    units = [one for folder in ledger_of(tmp_path).batches() for one in folder.units()]
    trained = [run for one in units for run in one.train]
    assert len(trained) == len(set(trained)) == 14
    capsys.readouterr()
    assert submit(tmp_path) in (0, None)
    assert "Nothing to submit." in capsys.readouterr().out
    assert calls(slurm) == first


@pytest.mark.parametrize("dies", [dies_before_submitted_json, dies_while_pickles_are_moved])
def test_the_same_command_after_a_crash_submits_only_the_rest(
    tmp_path: Path, slurm: Path, dies: Callable[[pytest.MonkeyPatch], None]
) -> None:
    with dying(dies):
        submit(tmp_path)
    assert len(calls(slurm)) == 1
    assert submit(tmp_path) in (0, None)
    batches = ledger_of(tmp_path).batches()
    assert all(folder.submitted() is not None for folder in batches)
    assert len(calls(slurm)) == len(set(calls(slurm))) == len(batches)
    trained = [run for folder in batches for one in folder.units() for run in one.train]
    assert len(trained) == len(set(trained)) == 14


# -- what sbatch complains of ------------------------------------------------------------------------------------------


def test_a_time_out_of_a_job_that_was_accepted_is_no_error(tmp_path: Path, slurm: Path) -> None:
    (slurm / "complain").write_text(f"{REFUSED}Socket timed out on send/recv operation\n", encoding="utf-8")
    (folder,) = submit_arrays([array(unit("a"), unit("b"))], ledger_of(tmp_path), options())
    assert folder.submitted() == ("101_0", "101_1")
    assert [one.index for one in pickles(folder)] == [0, 1]


def test_a_refused_job_is_not_adopted_though_squeue_lists_it(
    tmp_path: Path, slurm: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ledger = ledger_of(tmp_path)
    complaint = (
        "sbatch: error: Memory specification can not be satisfied\n"
        f"{REFUSED}Requested node configuration is not available\n"
    )
    (slurm / "refuse").write_text(complaint, encoding="utf-8")
    with pytest.raises(UserError) as told:
        submit_arrays([array(unit("a"))], ledger, options(a_site(partition="main")))
    assert str(told.value) == (
        "site my_site.yaml: sbatch refused the job: Memory specification can not be satisfied; Batch job submission "
        "failed: Requested node configuration is not available"
    )
    assert capfd.readouterr() == ("", "")
    assert ledger.batches() == []  # a run that failed before stays failed, and is not taken for lost


def test_an_unknown_partition_is_told_with_the_nearest_that_there_is(tmp_path: Path, slurm: Path) -> None:
    complaint = f"sbatch: error: invalid partition specified: gpuu\n{REFUSED}Invalid partition name specified\n"
    (slurm / "refuse").write_text(complaint, encoding="utf-8")
    with pytest.raises(UserError) as told:
        submit_arrays([array(unit("a"))], ledger_of(tmp_path), options(a_site(partition="gpuu")))
    first, second = str(told.value).splitlines()
    assert first.startswith("site my_site.yaml: sbatch refused the job: invalid partition specified: gpuu; ")
    assert second == "  partition: found 'gpuu'; did you mean 'gpu'? allowed: cpu, gpu"


@pytest.mark.parametrize(
    ("complaint", "reason"),
    [
        (
            "sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more information\n",
            "unrecognized option '--x'",
        ),
        ("", "it gave no reason"),
    ],
)
def test_any_complaint_is_passed_on(tmp_path: Path, slurm: Path, complaint: str, reason: str) -> None:
    (slurm / "refuse").write_text(complaint, encoding="utf-8")
    with pytest.raises(UserError, match=f"site my_site.yaml: sbatch refused the job: {reason}"):
        submit_arrays([array(unit("a"))], ledger_of(tmp_path), options())


def test_an_answer_without_a_job_id_is_told_if_there_is_no_job(tmp_path: Path, slurm: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho maintenance\n", encoding="utf-8")
    with pytest.raises(UserError, match='Could not make sense of sbatch output "maintenance"'):
        submit_arrays([array(unit("a"))], ledger_of(tmp_path), options())


def test_where_squeue_does_not_answer_either_it_is_said_that_nothing_is_certain(tmp_path: Path, slurm: Path) -> None:
    (slurm / "complain").write_text(f"{REFUSED}Socket timed out on send/recv operation\n", encoding="utf-8")
    queue = (slurm / "squeue").read_text(encoding="utf-8")
    (slurm / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: away' >&2\nexit 1\n", encoding="utf-8")
    ledger = ledger_of(tmp_path)
    with pytest.raises(UserError, match="Socket timed out") as told:
        submit_arrays([array(unit("a"))], ledger, options())
    assert "accepted all the same (squeue failed: slurm_load_jobs error: away)" in str(told.value)
    (slurm / "squeue").write_text(queue, encoding="utf-8")
    adopt(ledger.batches(), ask(ledger.batches()))
    assert ledger.batches()[0].submitted() == ("101",)


@pytest.mark.parametrize("program", ["sbatch", "srun", "squeue"])
def test_where_there_is_no_slurm_nothing_is_written(
    tmp_path: Path, slurm: Path, program: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (slurm / program).unlink()
    monkeypatch.setenv("PATH", str(slurm))
    assert submit(tmp_path) == 2
    assert f"no {program} on this machine: submit from a login node of the cluster" in capfd.readouterr().err
    assert ledger_of(tmp_path).batches() == []


def test_a_disk_that_fills_up_within_submitit_is_one_clear_line(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DelayedSubmission, "dump", full)
    with pytest.raises(UserError, match="the disk is full; free some space, then run the same command"):
        submit_arrays([array(unit("a"))], ledger_of(tmp_path), options())
    assert calls(slurm) == []


def test_arrays_after_a_refused_one_are_not_submitted(tmp_path: Path, slurm: Path) -> None:
    ledger = ledger_of(tmp_path)
    (slurm / "refuse").write_text(f"{REFUSED}Job violates accounting/QOS policy\n", encoding="utf-8")
    with pytest.raises(UserError):
        submit_arrays([array(unit("a")), array(unit("b"))], ledger, options())
    assert len(calls(slurm)) == 1
    assert ledger.batches() == []
