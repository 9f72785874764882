"""The command line: what each command prints, its exit codes, and that it answers at once."""

import gc
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.__main__ import main
from bench.data import inventory
from bench.data.catalog import class_names
from bench.store.records import Failure
from bench.store.store import DataRecord, Store
from bench.work.items import Work
from bench.work.options import Options
from bench.work.readiness import StoreView
from bench.work.signals import EXIT_INTERRUPTED
from tests.grid_text import PAPER_CONFIGS, REPOSITORY, write_grid

DIGITS = str(PAPER_CONFIGS / "digits.yaml")
NUMBER_OF_OPTIONS = {"check": 6, "plan": 6, "run": 12, "schema": 0, "export": 6, "import": 1}
NUMBER_OF_OPTIONS |= {"watch": 5, "list": 3, "show": 2, "diff": 2, "du": 2, "gc": 4}
NUMBER_OF_OPTIONS |= {"data": 0, "data list": 1, "data verify": 3, "data prepare": 2}
COMMANDS = [command.split() for command in NUMBER_OF_OPTIONS]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def in_a_process(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-m", "bench"] if code is None else ["-c", code]
    return subprocess.run([sys.executable, *start, *arguments], cwd=REPOSITORY, capture_output=True, text=True)


# -- plan --------------------------------------------------------------------------------------------------------------


def test_plan_prints_cells_runs_and_totals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, "plan", DIGITS, "--store", str(tmp_path / "results"))
    assert code == 0
    assert "EDST M=3 S=0.8" in out
    assert "48 distinct runs (sharing saves 10 of 58): 7 waiting, 41 missing" in out
    assert "at 0.1 TFLOP/s on a CPU" in out
    assert not (tmp_path / "results").exists()


def test_plan_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, "plan", DIGITS, "--scale", "tiny", "--store", str(tmp_path), "--json")
    document = json.loads(out)
    assert code == 0
    assert document["scale"] == "tiny"
    assert {cell["method"] for cell in document["cells"]} >= {"dense", "static", "dst", "edst"}
    assert {run["status"] for run in document["runs"]} == {"missing", "waiting"}


def test_plan_of_several_grids_says_what_they_share(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "results"))
    grids = [str(PAPER_CONFIGS / name) for name in ("cifar10.yaml", "cifar100.yaml", "ablations")]
    code, text, _ = call(capsys, "plan", grids[0], grids[2], *store)
    assert code == 0
    assert "cifar10 (paper)" in text
    assert "semantics (paper)" in text
    assert "GPU-hours with sharing" in text
    assert re.search(r"^[\d,]+ waiting, [\d,]+ missing$", text, re.MULTILINE)
    document = json.loads(call(capsys, "plan", *grids[:2], "--json", *store)[1])
    assert [grid["grid"] for grid in document["grids"]] == ["cifar10", "cifar100"]
    assert document["totals"]["runs"] == sum(grid["totals"]["runs"] for grid in document["grids"])  # none in common
    assert document["totals"]["hours"] < document["totals"]["hours_without_sharing"]


def test_an_assumed_speed_can_be_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def hours(*options: str) -> float:
        _, out, _ = call(capsys, "plan", "cifar10", "--store", str(tmp_path), "--json", *options)
        return float(json.loads(out)["totals"]["hours_left"])

    assert hours("--tflops", "2") == pytest.approx(hours() * 20 / 2, rel=0.01)  # what takes time beside FLOPs is little
    assert hours("--device", "cpu") == pytest.approx(hours() * 20 / 0.1, rel=0.01)


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "paper_configs/digit.yaml"], "digit.yaml: no such file; did you mean 'digits.yaml'?"),
        (["plan", DIGITS, "--scale", "tinny"], "did you mean 'tiny'?"),
        (["run", DIGITS, "--select", "methd=dst"], "did you mean 'method'?"),
        (["run", DIGITS, "--select", "method=rst"], "did you mean 'dst' or 'edst'?"),
        (["plan", DIGITS, "--data", "nowhere.zip"], "digits brings its own images"),
        (["plan", str(PAPER_CONFIGS / "cifar10.yaml"), "--data", "nowhere.zip"], "nowhere.zip: no such file"),
        (["data", "verify", "cifar11"], "did you mean 'cifar10'"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(REPOSITORY)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "command", [["plan", DIGITS, "--store"], ["run", DIGITS, "--store"], ["data", "list", "--root"]]
)
def test_a_file_is_no_folder_to_work_in(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        code, out, err = call(capsys, *command, str(path))
        assert (code, out) == (2, "")
        assert err == f"error: {command[-1]} {path}: {file} is a file, not a folder\n"


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_speed_is_more_than_0(capsys: pytest.CaptureFixture[str], tmp_path: Path, rate: str) -> None:
    code, out, err = call(capsys, "plan", DIGITS, "--store", str(tmp_path), "--tflops", rate)
    assert (code, out) == (2, "")
    assert err == f"error: --tflops: found {rate}; allowed: more than 0 and at most 1,000,000,000\n"


def test_brackets_and_colons_in_names_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = "title: 'a [b] [/c]'\ncells: [{name: 'x [/] :key: y', data: digits, method: dense}]"
    code, out, _ = call(capsys, "plan", str(write_grid(tmp_path, text)), "--store", str(tmp_path))
    assert code == 0
    assert "a [b] [/c]" in out
    assert "x [/] :key: y" in out


def test_a_plan_in_this_process_leaves_the_garbage_collector_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert gc.isenabled()
    for scale in ("paper", "none such"):
        call(capsys, "plan", DIGITS, "--scale", scale, "--store", str(tmp_path))
        assert gc.isenabled()


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = write_grid(tmp_path, "base: {data: digits, method: dst, sparsity: 0.8}\ncells: [{name: a, membres: 3}]")
    ended = in_a_process("plan", str(path))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {path}: cells[0].membres: unknown key; did you mean 'members'?")
    assert ended.stderr.count("\n") == 1


def test_a_folder_that_was_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, out, err = call(capsys, "plan", DIGITS)
    assert (code, out) == (2, "")
    assert err == "error: the folder that this command was given in is no longer there: cd to another\n"


@pytest.mark.parametrize("arguments", [["paln", DIGITS], ["plan"], ["plan", DIGITS, "--sacle", "tiny"], []])
def test_a_wrong_command_line_is_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert "Usage" in out + err


# -- run ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A worker that notes what it is asked and does nothing, as after a signal."""
    asked = SimpleNamespace(runs=(), options=None, store=None, left="")

    def run_worker(work: Work, store: Store, options: Options, say_left: Callable[[], str]) -> int:
        asked.runs, asked.store, asked.options = work.runs, store, options
        asked.left = say_left()
        return EXIT_INTERRUPTED

    monkeypatch.setitem(sys.modules, "bench.work.worker", SimpleNamespace(run_worker=run_worker))
    return asked


def test_run_hands_the_selected_runs_to_a_worker_in_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, worker: SimpleNamespace
) -> None:
    store = ["--store", str(tmp_path / "results")]
    chosen = ["--select", "cell=DST M=3 S=0.8", "--select", "seed=18", "--select", "seed=19"]
    options = ["--retry", "--device", "cpu", "--deterministic", "--checkpoint-seconds", "5"]
    code, _, _ = call(capsys, "run", DIGITS, *store, *chosen, *options)
    assert code == EXIT_INTERRUPTED  # the worker's
    assert [(run.cell, run.spec.seed) for run in worker.runs] == [("DST M=3 S=0.8", 18), ("DST M=3 S=0.8", 19)]
    assert worker.options == Options(None, "cpu", True, 5.0)
    assert worker.store.root == tmp_path / "results"


def test_between_runs_what_is_left_is_what_plan_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, worker: SimpleNamespace
) -> None:
    call(capsys, "run", DIGITS, "--store", str(tmp_path))
    whole = worker.left
    _, out, _ = call(capsys, "plan", DIGITS, "--store", str(tmp_path))
    assert whole in out
    assert whole.startswith("about ")
    call(capsys, "run", DIGITS, "--store", str(tmp_path), "--limit", "1")
    assert worker.left not in ("", whole)


def test_run_without_options_takes_all_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: SimpleNamespace
) -> None:
    monkeypatch.chdir(tmp_path)
    call(capsys, "run", DIGITS)
    assert len(worker.runs) == 48
    assert worker.options == Options()
    assert worker.store.root == Path("results")


def test_a_limit_counts_runs_that_are_not_done_and_not_those_that_failed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, worker: SimpleNamespace
) -> None:
    store = Store(tmp_path)
    call(capsys, "run", DIGITS, "--store", str(tmp_path), "--limit", "2")
    first, second = worker.runs
    store.run(first.id).write_failure(Failure(type="ValueError", message="no"))
    call(capsys, "run", DIGITS, "--store", str(tmp_path), "--limit", "2")
    view = StoreView(store)
    states = [view.run(run.spec).state for run in worker.runs]
    assert [run.id for run in worker.runs[:2]] == [first.id, second.id]
    assert states.count("missing") == 2  # whatever failed, and is blocked by that


def test_run_refuses_a_limit_below_1(capsys: pytest.CaptureFixture[str], worker: SimpleNamespace) -> None:
    code, _, err = call(capsys, "run", DIGITS, "--limit", "0")
    assert (code, worker.runs) == (2, ())
    assert "--limit" in err


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A zip of an image folder, as far as its fingerprint goes."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "test"):
            for name in class_names("cifar10"):
                archive.writestr(f"{part}/{name}/0000.jpg", f"{part} {name}")
    return path


def test_substitute_images_are_part_of_a_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path, images: Path) -> None:
    def ids(*options: str) -> set[str]:
        grid = str(PAPER_CONFIGS / "cifar10.yaml")
        _, out, _ = call(capsys, "plan", grid, "--store", str(tmp_path / "results"), "--json", *options)
        return {run["id"] for run in json.loads(out)["runs"]}

    official, substitute = ids(), ids("--data", str(images))
    assert len(official) == len(substitute) == 66
    assert not official & substitute


def test_other_images_than_the_store_was_made_from_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: Path
) -> None:
    store = Store(tmp_path / "results")
    store.record_data("cifar10", DataRecord("official", None, ""))
    grid = str(PAPER_CONFIGS / "cifar10.yaml")
    code, _, err = call(capsys, "run", grid, "--store", str(store.root), "--data", str(images))
    assert code == 2
    assert "were made from official ones; give another --store" in err


def test_data_list_says_what_is_there_and_how_to_get_the_rest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = call(capsys, "data", "list", "--root", str(tmp_path))
    assert code == 0
    for words in ("digits", "embedded", "1,797", "cifar10", "absent", "python -m bench data prepare cifar10"):
        assert words in " ".join(out.split())


def test_data_verify_fails_on_what_is_absent_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call(capsys, "data", "verify", "digits", "--root", str(tmp_path))[0] == 0
    assert call(capsys, "data", "verify", "--root", str(tmp_path))[0] == 0
    assert call(capsys, "data", "verify", "cifar10", "--root", str(tmp_path))[0] == 1


def test_data_prepare_hands_on_what_it_was_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def prepare(name: str, root: Path, location: Path | None, progress: bool) -> inventory.Row:
        asked.append((name, root, location, progress))
        return inventory.Row(name, "folder-abc", "ready", tmp_path, 60_000, "a note")

    monkeypatch.setattr(inventory, "prepare", prepare)
    code, out, _ = call(capsys, "data", "prepare", "cifar10", "--root", "there", "--data", "some.zip")
    assert code == 0
    assert asked == [("cifar10", Path("there"), Path("some.zip"), True)]
    assert "folder-abc" in out
    assert "60,000" in out
    assert "a note" in out


# -- help, and what is not imported ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_documents_every_option_with_its_default(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    code, out, _ = call(capsys, *command, "--help")
    assert code == 0
    *options, last = re.split(r"\n  (?=--)", out.partition("Options:")[2])[1:]
    assert last.startswith("--help")
    assert all(re.search(r"[.)] +\[default: .+\]$", " ".join(option.split())) for option in options), out
    assert len(options) == NUMBER_OF_OPTIONS[" ".join(command)]


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["plan", "--help"], ["torch", "torchvision", "pandas", "numpy", "rich"]),
        (["run", "--help"], ["torch", "torchvision", "pandas", "numpy", "rich"]),
        (["plan", DIGITS, "--json"], ["torch", "torchvision", "pandas", "rich"]),
        (["plan", DIGITS], ["torch", "torchvision", "pandas"]),
        (["data", "list"], ["torch", "pandas"]),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], unwanted: list[str]) -> None:
    code = (
        "import sys\nfrom bench.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    ended = in_a_process(*arguments, code=code)
    assert ended.returncode == 0, ended.stderr
    imported = ended.stderr.splitlines()[-1]
    assert not [name for name in unwanted if f"'{name}'" in imported]
