"""The command line of slurm: what each command asks of SLURM, prints and leaves, and how mistakes end."""

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from bench.store.files import write_json
from bench.store.folders import Store
from bench.store.lock import RunLock
from slurm import __main__ as command_line
from slurm import dispatch
from slurm.__main__ import main
from slurm.ledger import BatchFolder, Ledger
from slurm.records import Mark
from tests.grid_text import REPOSITORY
from tests.slurm.fakes import FakeSlurm

# Two replicates of dense, one of which PF starts from: four runs, three of which wait for nothing.
GRID = """\
replicates: 2
base:
  data: digits
  model: {name: wide_resnet, depth: 10, width: 1}
  batch_size: 32
  optimizer: {learning_rate: 0.1, weight_decay: 5.0e-4}
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
  - {name: static, method: static, members: 1, sparsity: 0.8, replicates: 1, recipe: {epochs: 3}}
  - {name: PF, method: prune_finetune, members: 1, sparsity: 0.8, replicates: 1, recipe: {dense_epochs: 3, epochs: 3}}
"""
SITE = "{partition: main, gpus: 0, cpus: 1, walltime: 2h, pack: 0min, max_jobs: 8}\n"


class Cluster:
    """A folder to work in, with a grid, a site and a store, and a fake SLURM."""

    def __init__(self, folder: Path, fake: FakeSlurm, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.fake, self._capture = folder, fake, capture
        self._minutes = 0
        self.root = folder / "results"
        self.store = Store(self.root)
        self.grid = self.write("small.yaml", GRID)
        self.site = self.write("site.yaml", SITE)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def call(self, *arguments: object) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr of a call on the store."""
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--store", str(self.root)])
        out, err = self._capture.readouterr()
        return int(ended.value.code or 0), out, err

    def submit(self, *arguments: object) -> str:
        code, out, err = self.call("submit", self.grid, "--site", self.site, *arguments)
        assert (code, err) == (0, "")
        return out

    def mistake(self, *arguments: object) -> str:
        """Return the one line of a mistake."""
        code, out, err = self.call(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    def batches(self) -> list[BatchFolder]:
        return Ledger(self.store).batches()

    def elements(self) -> dict[str, str]:
        """Return which element trains each run, the last."""
        return {
            run: (folder.submitted() or ())[index]
            for folder in self.batches()
            for index, unit in enumerate(folder.raw_units())
            for run in unit["train"]
        }

    def states(self) -> dict[str, str]:
        return {run["id"]: run["state"] for run in json.loads(self.call("status", "--json")[1])["runs"]}

    def fails(self, run: str, message: str = "no") -> None:
        """Let a run fail, and its task end."""
        record = {"status": "failed", "type": "RuntimeError", "message": message, "time": self.now()}
        write_json(self.store.run(run).path / "error.json", record)
        self.fake.set(self.elements()[run], "FAILED", "NonZeroExitCode")

    def now(self) -> str:
        """Return the time, a minute later at each call."""
        self._minutes += 1
        return (datetime(2026, 11, 24, tzinfo=UTC) + timedelta(minutes=self._minutes)).isoformat(timespec="seconds")

    def sbatch_calls(self) -> int:
        return len(self.fake.calls("sbatch"))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cluster:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    made = Cluster(tmp_path, FakeSlurm(tmp_path / "fake", monkeypatch), capsys)
    monkeypatch.setattr(dispatch, "now", made.now)
    return made


def parent_and_child(cluster: Cluster) -> tuple[str, str]:
    runs = [run for folder in cluster.batches() for unit in folder.raw_units() for run in unit["runs"]]
    return next((run["parent"], run["id"]) for run in runs if run["parent"])


# -- submit ------------------------------------------------------------------------------------------------------------


def test_submit_submits_arrays_with_children_after_their_parent(cluster: Cluster) -> None:
    out = cluster.submit()
    first, second = cluster.batches()
    assert f"submitted {first.batch.name} as job 100: 3 tasks" in out
    assert f"submitted {second.batch.name} as job 101: 1 task\n" in out
    assert f"how they are: python -m slurm status --store {cluster.root}" in out
    assert cluster.fake.queue() == dict.fromkeys(("100_0", "100_1", "100_2", "101"), "PENDING")
    parent, child = parent_and_child(cluster)
    assert second.batch.after == cluster.elements()[parent]
    assert cluster.elements()[child] == "101"


def test_submit_twice_submits_nothing_twice(cluster: Cluster) -> None:
    cluster.submit()
    out = cluster.submit()
    assert "4 runs left out: under way" in out
    assert "Nothing to submit." in out
    assert cluster.sbatch_calls() == 2
    cluster.fake.forget()  # as after some minutes, where a site keeps no accounts
    assert "submitted" in cluster.submit()


def test_a_dry_run_writes_nothing_and_needs_no_slurm(cluster: Cluster) -> None:
    for programs in ((), ("sbatch", "srun", "squeue", "scontrol", "sacct")):
        cluster.fake.remove(*programs)
        code, out, err = cluster.call("submit", cluster.grid, "--site", cluster.site, "--dry-run")
        assert (code, err) == (0, "")
        assert "1 CPU, 2 GB, 15 min" in out
        assert "#SBATCH --array=0-2%3" in out
        assert "#SBATCH --dependency=afterok:PARENT" in out
        assert "submitted" not in out
        assert not cluster.root.exists()
    assert cluster.fake.calls("sbatch", "squeue") == []


def test_a_dry_run_after_a_submission_says_what_is_under_way(cluster: Cluster) -> None:
    cluster.submit()
    before = sorted(cluster.root.rglob("*"))
    assert "4 runs left out: under way" in cluster.submit("--dry-run")
    cluster.fake.remove("squeue")
    code, out, err = cluster.call("submit", cluster.grid, "--site", cluster.site, "--dry-run")
    assert code == 0
    assert err.startswith(
        "no squeue on this machine: ask on a login node of the cluster; what its jobs do is not known"
    )
    assert "#SBATCH" in out
    assert sorted(cluster.root.rglob("*")) == before


def test_failed_runs_are_left_unless_asked_for(cluster: Cluster) -> None:
    cluster.submit("--select", "method=static")
    [run] = cluster.elements()
    cluster.fails(run)
    out = cluster.submit("--select", "method=static")
    assert "1 run left out: failed (--retry makes it again)" in out
    assert cluster.sbatch_calls() == 1
    assert "as job 101: 1 task" in cluster.submit("--select", "method=static", "--retry")
    assert cluster.states() == {run: "waiting"}


def test_only_selected_runs_are_submitted(cluster: Cluster) -> None:
    cluster.submit("--select", "method=static")
    assert len(cluster.elements()) == 1
    assert "1 run left out: under way" in cluster.submit()
    assert len(cluster.elements()) == 4


def test_two_grids_share_their_runs(cluster: Cluster) -> None:
    other = cluster.write("more.v2.yaml", GRID.replace("replicates: 2", "replicates: 3"))
    cluster.submit(other)
    assert len(cluster.elements()) == 5
    one = json.loads(cluster.call("status", "small", "--json")[1])["counts"]["waiting"]
    two = json.loads(cluster.call("status", other, "--json")[1])["counts"]["waiting"]
    assert (one, two) == (4, 1)


def test_a_scale_that_needs_a_gpu_is_not_submitted_to_a_site_without_unless_forced(cluster: Cluster) -> None:
    grid = cluster.write("large.yaml", f"{GRID}scales: {{paper: {{needs_gpu: true}}}}\n")
    line = cluster.mistake("submit", grid, "--site", cluster.site)
    assert re.search(r"large: the scale 'paper' needs a GPU, and the site has none \(about \d+ h on a CPU\)", line)
    assert line.rstrip().endswith("--force submits it all the same")
    assert cluster.sbatch_calls() == 0
    code, out, _ = cluster.call("submit", grid, "--site", cluster.site, "--dry-run")
    assert code == 0
    assert "warning: large: the scale 'paper' needs a GPU" in out
    assert cluster.call("submit", grid, "--site", cluster.site, "--force")[0] == 0
    assert cluster.sbatch_calls() > 0


def test_what_will_stop_tasks_on_their_nodes_is_said_before(cluster: Cluster) -> None:
    grid = cluster.write("images.yaml", GRID.replace("data: digits", "data: cifar10"))
    data = cluster.folder / "no images"
    site = cluster.write("other.yaml", f"{{partition: mian, gpus: 0, data: {data}}}\n")
    code, out, _ = cluster.call("submit", grid, "--site", site, "--dry-run")
    assert code == 0
    assert f"warning: no images of cifar10 in {data}" in out
    assert f"python -m bench data prepare cifar10 --root '{data}'" in out
    assert "partition: found 'mian'; did you mean 'main'?" in out
    assert "warning" not in cluster.submit("--dry-run")


def test_arrays_are_no_longer_than_slurm_takes(cluster: Cluster) -> None:
    cluster.fake.max_array_size(2)
    cluster.submit()
    assert sorted(cluster.elements().values()) == ["100_0", "100_1", "101", "102"]


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_asks_once_and_its_exit_code_tells_of_trouble(cluster: Cluster) -> None:
    cluster.submit()
    calls = len(cluster.fake.calls())
    code, out, err = cluster.call("status")
    assert (code, err) == (0, "")
    assert "small paper" in out
    assert out.count("waiting") >= 5  # the heading, and a line each
    assert [call[0] for call in cluster.fake.calls()[calls:]] == ["squeue"]
    cluster.fails(next(iter(cluster.elements())), "loss is not finite\nat epoch 2")
    code, out, _ = cluster.call("status")
    assert code == 1
    assert "RuntimeError: at epoch 2" in out


def test_status_by_grid_name_or_file(cluster: Cluster) -> None:
    cluster.submit()
    for name in ("small", cluster.grid, "elsewhere/small.yml"):
        assert cluster.call("status", name)[0] == 0
    assert "digits: no grid of this name was submitted from this store; allowed: small" in cluster.mistake(
        "status", "small", "digits"
    )
    assert "did you mean 'small'?" in cluster.mistake("status", "smal")


def test_status_as_json_is_complete(cluster: Cluster) -> None:
    cluster.submit()
    document = json.loads(cluster.call("status", "--json")[1])
    assert document["counts"]["waiting"] == len(document["runs"]) == 4
    assert {run["element"] for run in document["runs"]} == {"100_0", "100_1", "100_2", "101"}
    assert {run["epochs"] for run in document["runs"]} == {3}


def test_status_without_an_answer_says_why_and_calls_nothing_lost(cluster: Cluster) -> None:
    cluster.submit()
    cluster.fake.answer("squeue", stderr="slurm_load_jobs error: Unable to contact slurm controller", code=1)
    code, out, err = cluster.call("status")
    assert code == 0
    assert err == (
        "squeue failed: slurm_load_jobs error: Unable to contact slurm controller; what its jobs do is not known\n"
    )
    assert "waiting: " in out
    assert "as far as is known without an answer of SLURM" in out


@pytest.mark.parametrize("command", [("status",), ("retry",), ("cancel", "--all", "--yes"), ("logs", "ab")])
def test_a_store_that_nothing_was_submitted_from(cluster: Cluster, command: Sequence[str]) -> None:
    assert f"{cluster.root}: nothing was submitted from this store" in cluster.mistake(*command)
    assert not cluster.root.exists()


@pytest.mark.parametrize("while_asking", [False, True])
def test_watch_asks_once_a_refresh_until_ctrl_c(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, while_asking: bool
) -> None:
    cluster.submit()
    calls, naps = len(cluster.fake.calls()), []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3 and not while_asking:
            raise KeyboardInterrupt
        if while_asking:
            monkeypatch.setattr(command_line, "_states", interrupted)

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "time", SimpleNamespace(sleep=nap))
    code, out, err = cluster.call("status", "--watch")
    assert (code, err) == (130, "")
    refreshes = 1 if while_asking else 3
    assert [call[0] for call in cluster.fake.calls()[calls:]] == ["squeue"] * refreshes
    assert out.count("small paper") == refreshes
    assert min(naps) >= 10


# -- retry -------------------------------------------------------------------------------------------------------------


def test_retry_submits_what_failed_with_what_waited_for_it(cluster: Cluster) -> None:
    cluster.submit()
    parent, child = parent_and_child(cluster)
    cluster.fails(parent)
    cluster.fake.set(cluster.elements()[child], "CANCELLED", "DependencyNeverSatisfied")
    assert cluster.states() == {
        **dict.fromkeys(cluster.elements(), "waiting"),
        **{parent: "failed", child: "blocked"},
    }
    code, out, _ = cluster.call("retry", "--dry-run")
    assert code == 0
    assert "#SBATCH" in out
    assert cluster.sbatch_calls() == 2
    assert cluster.call("retry")[0] == 0
    assert cluster.sbatch_calls() == 4
    assert set(cluster.states().values()) == {"waiting"}
    assert cluster.batches()[-1].batch.after == cluster.elements()[parent]
    code, out, _ = cluster.call("retry")
    assert (code, out) == (0, "Nothing failed, and nothing was lost.\n")


def test_retry_of_a_child_brings_its_parent(cluster: Cluster) -> None:
    cluster.submit()
    parent, child = parent_and_child(cluster)
    other = next(run for run in cluster.elements() if run not in (parent, child))
    for run in (parent, other):
        cluster.fails(run)
    cluster.fake.set(cluster.elements()[child], "CANCELLED", "DependencyNeverSatisfied")
    assert cluster.call("retry", child)[0] == 0
    states = cluster.states()
    assert [states[run] for run in (parent, child, other)] == ["waiting", "waiting", "failed"]


def test_retry_reads_the_site_again_or_another(cluster: Cluster) -> None:
    cluster.submit("--select", "method=static")
    [run] = cluster.elements()
    cluster.fails(run)
    cluster.write("site.yaml", SITE.replace("cpus: 1", "cpus: 3"))
    cluster.call("retry")
    assert cluster.batches()[-1].batch.resources.cpus == 3
    cluster.fails(run)
    other = cluster.write("other.yaml", SITE.replace("cpus: 1", "cpus: 7"))
    cluster.call("retry", run[:6], "--site", other)
    assert cluster.batches()[-1].batch.resources.cpus == 7
    assert cluster.batches()[-1].batch.site == str(other)
    cluster.fails(run)
    other.unlink()
    assert "no such file" in cluster.mistake("retry")


def test_retry_leaves_what_was_cancelled_unless_named(cluster: Cluster) -> None:
    cluster.submit("--select", "method=static")
    [run] = cluster.elements()
    cluster.call("cancel", run, "--yes")
    assert cluster.states() == {run: "cancelled"}
    code, out, _ = cluster.call("retry")
    assert (code, out) == (
        0,
        "Nothing failed, and nothing was lost. 1 cancelled run: `submit`, or `retry RUN`, goes on.\n",
    )
    assert cluster.call("retry", run)[0] == 0
    assert cluster.states() == {run: "waiting"}
    assert cluster.call("retry", run)[1] == f"Nothing to submit again: {run[:8]} is waiting\n"


def test_retry_makes_nothing_again_that_slurm_did_not_speak_of(cluster: Cluster) -> None:
    cluster.submit()
    cluster.fake.remove("squeue")
    assert "no squeue on this machine" in cluster.mistake("retry")
    code, out, err = cluster.call("retry", "--dry-run")
    assert (code, out) == (0, "Nothing failed, and nothing was lost.\n")
    assert err.startswith("no squeue on this machine")


# -- cancel ------------------------------------------------------------------------------------------------------------


def test_cancel_asks_and_refuses_where_nobody_can_answer(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.submit()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert "--yes answers" in cluster.mistake("cancel", "--all")
    assert cluster.fake.calls("scancel") == []


def test_cancel_does_as_it_is_answered(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.submit()
    asked: list[str] = []
    monkeypatch.setattr(typer, "confirm", lambda text: bool(asked.append(text)) or len(asked) > 1)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    code, out, _ = cluster.call("cancel", "--all")
    assert (code, out) == (0, "Nothing was cancelled.\n")
    assert cluster.fake.calls("scancel") == []
    code, out, _ = cluster.call("cancel", "--all")
    assert (code, out) == (0, "cancelled 4 tasks; `submit` goes on from the checkpoints\n")
    assert asked == ["Cancel 4 tasks? Running ones write a checkpoint first."] * 2
    assert set(cluster.states().values()) == {"cancelled"}
    assert cluster.call("cancel", "--all", "--yes")[1] == "None of these runs is waiting or running in a task.\n"
    cluster.submit()
    assert set(cluster.states().values()) == {"waiting"}


def test_cancel_ends_only_the_tasks_of_named_runs(cluster: Cluster) -> None:
    cluster.submit()
    _, child = parent_and_child(cluster)
    cluster.call("cancel", child[:7], "--yes")
    assert cluster.fake.calls("scancel") == [["scancel", "--quiet", cluster.elements()[child]]]
    assert [state for run, state in cluster.states().items() if run != child] == ["waiting"] * 3


def test_cancel_says_who_else_is_in_a_task_and_what_waits_for_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(typer, "confirm", lambda text: bool(asked.append(text)))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    cluster.submit()
    parent, _ = parent_and_child(cluster)
    cluster.call("cancel", parent)
    assert asked.pop() == (
        "Cancel 1 task, and with it 1 task that waits for it? Running ones write a checkpoint first."
    )
    cluster.call("cancel", "--all", "--yes")
    cluster.write("site.yaml", SITE.replace("pack: 0min", "pack: 60min"))
    cluster.submit()
    runs = [*cluster.elements()]
    cluster.call("cancel", runs[0])
    others = ", ".join(run[:8] for run in cluster.batches()[-1].raw_units()[0]["train"] if run != runs[0])
    assert asked.pop() == (f"Cancel 1 task, with 3 other runs in it ({others})? Running ones write a checkpoint first.")


def test_cancel_by_grid(cluster: Cluster) -> None:
    cluster.submit()
    assert "did you mean 'small'?" in cluster.mistake("cancel", "--grid", "smalll", "--yes")
    cluster.call("cancel", "--grid", cluster.grid, "--yes")
    assert set(cluster.fake.queue().values()) == {"CANCELLED"}
    assert "name runs, or --grid NAME, or --all" in cluster.mistake("cancel", "--yes")


def test_cancel_needs_an_answer_of_slurm(cluster: Cluster) -> None:
    cluster.submit()
    cluster.fake.answer("squeue", stderr="slurm_load_jobs error: no controller", code=1)
    assert "squeue failed: slurm_load_jobs error: no controller" in cluster.mistake("cancel", "--all", "--yes")


# -- logs --------------------------------------------------------------------------------------------------------------


def test_logs_of_a_run(cluster: Cluster) -> None:
    cluster.submit()
    runs = [*cluster.elements()]
    assert f"{runs[0]}: waiting, and its task has written no log yet" in cluster.mistake("logs", runs[0])
    log = cluster.batches()[0].path / f"{cluster.elements()[runs[0]]}_0_log.out"
    log.write_text("one\ntwo\nthree\n")
    cluster.fake.set(cluster.elements()[runs[0]], "FAILED")
    code, out, err = cluster.call("logs", runs[0][:5])
    assert (code, out, err) == (0, "one\ntwo\nthree\n", f"{log} ({runs[0][:8]}):\n")
    assert cluster.call("logs", runs[0], "--lines", 2)[1] == "two\nthree\n"
    wrong = "0000" if not runs[0].startswith("0") else "f000"
    assert re.search(rf"error: {wrong}zz: no run submitted .* begins so", cluster.mistake("logs", f"{wrong}zz"))
    near = runs[0][:6] + ("0" if runs[0][6] != "0" else "1")
    assert f"did you mean '{runs[0][:7]}'?" in cluster.mistake("logs", near)


def test_logs_of_an_ambiguous_beginning_shows_each_log_once(cluster: Cluster) -> None:
    cluster.write("site.yaml", SITE.replace("pack: 0min", "pack: 60min"))
    cluster.submit()  # one task
    folder = cluster.batches()[0]
    (folder.path / "100_0_log.out").write_text("together\n")
    folder.write_mark(0, Mark(job="100", attempt=1, stalls=0, progress="", node="n", started=""))
    code, out, err = cluster.call("logs", "")
    assert (code, out) == (0, "together\n")
    assert err.count("\n") == 1
    assert all(run[:8] in err for run in cluster.elements())


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_mistakes_of_submit_are_a_line_each(cluster: Cluster) -> None:
    grid, site = cluster.grid, cluster.site
    assert "did you mean 'local'?" in cluster.mistake("submit", grid, "--site", "lokal")
    assert "no such file" in cluster.mistake("submit", grid, "--site", "nowhere/site.yaml")
    assert "nowhere.yaml" in cluster.mistake("submit", "nowhere.yaml", "--site", site)
    assert "site.yaml: gpu" in cluster.mistake("submit", grid, "--site", cluster.write("site.yaml", "{gpu: 1}"))
    assert not cluster.root.exists()
    cluster.write("site.yaml", SITE)
    assert "scale" in cluster.mistake("submit", grid, "--site", site, "--scale", "huge")
    assert "method" in cluster.mistake("submit", grid, "--site", site, "--select", "method=nothing")
    assert cluster.batches() == []


@pytest.mark.parametrize("program", ["sbatch", "srun", "squeue"])
def test_without_slurm_submit_says_so_before_anything_is_written(cluster: Cluster, program: str) -> None:
    cluster.fake.remove(program)
    told = cluster.mistake("submit", cluster.grid, "--site", cluster.site)
    assert f"no {program} on this machine: submit from a login node" in told
    assert not cluster.root.exists()


def test_a_store_has_to_be_a_folder_that_slurm_can_name(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.root.touch()
    assert "is a file, not a folder" in cluster.mistake("submit", cluster.grid, "--site", cluster.site)
    assert "is a file, not a folder" in cluster.mistake("status")
    monkeypatch.setattr(cluster, "root", cluster.folder / "50% done")
    assert "give a path without one" in cluster.mistake("submit", cluster.grid, "--site", cluster.site)


def test_the_sites_store_is_checked_as_the_option_is(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    (cluster.folder / "file").touch()
    site = cluster.write("other.yaml", SITE.replace("}", f", store: {cluster.folder}/file/results}}"))
    with pytest.raises(SystemExit, match="2"):
        main(["submit", str(cluster.grid), "--site", str(site)])
    assert "is a file, not a folder" in capsys.readouterr().err


def test_two_submissions_at_once(cluster: Cluster) -> None:
    with RunLock(cluster.root / "slurm" / "lock"):
        told = cluster.mistake("submit", cluster.grid, "--site", cluster.site)
        assert "another submission to this store is being made" in told
        code, out, _ = cluster.call("submit", cluster.grid, "--site", cluster.site, "--dry-run")
    assert code == 0
    assert "#SBATCH" in out


def test_a_store_that_may_not_be_written(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert "Permission denied" in cluster.mistake("submit", cluster.grid, "--site", cluster.site)


def test_an_unknown_run(cluster: Cluster) -> None:
    cluster.submit()
    for command in (("retry", "zz"), ("cancel", "zz", "--yes"), ("logs", "zz")):
        assert "zz: no run submitted from this store has an id that begins so" in cluster.mistake(*command)


def test_a_job_that_sbatch_refuses(cluster: Cluster) -> None:
    said = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    cluster.fake.answer("sbatch", stderr=f"sbatch: error: invalid partition specified: main\n{said}\n", code=1)
    cluster.write("site.yaml", SITE.replace("main", "mian"))
    code, _, err = cluster.call("submit", cluster.grid, "--site", cluster.site)
    assert code == 2
    assert "sbatch refused the job: invalid partition specified" in err
    assert "partition: found 'mian'; did you mean 'main'?" in err
    assert "Traceback" not in err


# -- on a login node ---------------------------------------------------------------------------------------------------


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_help_is_there_at_once() -> None:
    def seconds() -> float:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "slurm", "--help"], cwd=REPOSITORY, capture_output=True, check=True
        )
        assert b"submit" in done.stdout
        return time.monotonic() - started

    assert min(seconds() for _ in range(3)) < 0.5


def test_no_command_imports_torch(cluster: Cluster) -> None:
    code = (
        "import sys\n"
        "from slurm.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)\n"
    )
    store = ("--store", cluster.root)
    for command in (
        ("submit", cluster.grid, "--site", cluster.site, "--dry-run"),
        ("submit", cluster.grid, "--site", cluster.site),
        ("status",),
        ("retry",),
        ("cancel", "--all", "--yes"),
    ):
        done = in_a_process(code, *command, *store)
        assert done.returncode == 0, done.stderr
        assert done.stderr.split() == ["False", "True"]
