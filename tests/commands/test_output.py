"""What every command line does where its output cannot go, or with arguments that nothing can be done with."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import analysis.__main__
import bench.__main__
import reproduce
import slurm.__main__
from bench.commands import options
from tests.grid_text import PAPER_CONFIGS, REPOSITORY

DIGITS = str(PAPER_CONFIGS / "digits.yaml")
# Each command that takes a path: arguments before it.
TAKE_A_GRID = [
    (bench.__main__, ["plan"]),
    (bench.__main__, ["run"]),
    (analysis.__main__, ["tables"]),
    (analysis.__main__, ["figures"]),
    (analysis.__main__, ["report"]),
    (slurm.__main__, ["submit", "--site", "local"]),
    (reproduce, []),
]
TAKE_A_STORE = [(program, [*words, DIGITS]) for program, words in TAKE_A_GRID] + [
    (slurm.__main__, ["status"]),
    (slurm.__main__, ["cancel", "--yes"]),
    (slurm.__main__, ["logs", "abc"]),
]
IMPOSSIBLE = {
    "empty": ("", "found the argument '', which is empty"),
    "long": ("a/" * 2500, "5,000 characters; allowed: at most 4,000"),
    "long name": ("a" * 300, "File name too long"),
    "two lines": ("a\nb", "allowed: text on one line, without control characters"),
    "NUL": ("a\0b", "allowed: text on one line, without control characters"),
    "no text": ("a\udcffb", "not UTF-8 text"),
}


def refused(capsys: pytest.CaptureFixture[str], program: ModuleType, *arguments: str) -> str:
    """Return the one line that is said, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(("program", "words"), TAKE_A_GRID)
@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_a_grid_that_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, program: ModuleType, words: list[str], kind: str
) -> None:
    argument, said = IMPOSSIBLE[kind]
    assert said in refused(capsys, program, *words, argument, "--store", str(tmp_path / "store"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("program", "words"), TAKE_A_STORE)
def test_a_store_that_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, program: ModuleType, words: list[str]
) -> None:
    for argument, said in IMPOSSIBLE.values():
        assert said in refused(capsys, program, *words, "--store", argument)
    assert "which is empty" in refused(capsys, program, *words, "--store=")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for place in ("file", "file/below", "loop", "loop/below"):
        said = "is a link that leads nowhere" if "loop" in place else "is a file, not a folder"
        assert said in refused(capsys, program, *words, "--store", str(tmp_path / place))
    assert "/dev/null is a file" in refused(capsys, program, *words, "--store", "/dev/null")


@pytest.mark.parametrize("arguments", [["--parallel", "1001"], ["--limit", "1000001"], ["--checkpoint-seconds", "nan"]])
def test_a_count_of_the_command_line_has_an_upper_bound(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.__main__.main(["run", DIGITS, *arguments])
    assert ended.value.code == 2
    assert f"{arguments[0]}'" in capsys.readouterr().err


def test_a_file_that_the_system_does_not_give_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(_: object) -> None:
        raise PermissionError(13, "Permission denied", "results/runs")

    monkeypatch.setattr(bench.__main__, "app", app)
    assert refused(capsys, bench.__main__, "plan", DIGITS) == "error: results/runs: Permission denied\n"


def test_the_four_command_lines_end_in_one_place() -> None:
    assert {program.run_app for program in (bench.__main__, analysis.__main__, slurm.__main__, reproduce)} == {
        options.run_app
    }


@pytest.mark.parametrize(("terminal", "said"), [(True, "importing torch ...\n"), (False, "")])
def test_a_slow_import_is_named_on_a_terminal(
    terminal: bool, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("torch")
    module.__spec__ = SimpleNamespace(_initializing=True)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    shown, end = "", time.monotonic() + (60.0 if said else 0.3)
    with options.slow_imports_named(0.01):
        while not shown.endswith("\n") and time.monotonic() < end:
            time.sleep(0.01)
            shown += capsys.readouterr().err
    assert shown == said
    with options.slow_imports_named(0.01):
        module.__spec__ = None  # it is there
        time.sleep(0.3)
    assert capsys.readouterr().err == ""


# -- in a process of its own -------------------------------------------------------------------------------------------

SHOWN = [["bench", "plan", DIGITS], ["bench", "schema", "grid"], ["slurm", "submit", "--help"], ["analysis", "--help"]]


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_a_reader_that_has_gone(tmp_path: Path, words: list[str]) -> None:
    """As in `python -m bench plan GRID | head -1`: nothing is said, and the exit code is not that of success."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", *words], cwd=REPOSITORY, stdout=writer, stderr=subprocess.PIPE, env=plain(tmp_path)
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize("words", SHOWN[:2], ids=" ".join)
def test_a_full_device(tmp_path: Path, words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", *words], cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, env=plain(tmp_path)
        )
        assert (ended.returncode, ended.stderr) == (1, b"error: No space left on device\n")
        ended = subprocess.run([sys.executable, "-m", "bench", "plan", "none.yaml"], cwd=REPOSITORY, stderr=full)
        assert ended.returncode == 2


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
    ],
    ids=" ".join,
)
def test_a_terminal_of_another_alphabet(tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "grid.yaml").write_text("cells: [{name: 'größe Ω', data: digits, method: dense}]", encoding="utf-8")
    command = [sys.executable, "-m", "bench", "plan", str(tmp_path / "grid.yaml")]
    for option in ([], ["--json"]):
        ended = subprocess.run(
            [*command, *option], cwd=REPOSITORY, capture_output=True, env={**plain(tmp_path), **variables}
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert b"gr" in ended.stdout
    assert json.loads(ended.stdout)["cells"][0]["name"] == "größe Ω"


def plain(folder: Path) -> dict[str, str]:
    """Return an environment without what would set an alphabet."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    return {**kept, "FREETICKETS_DATA": str(folder), "COLUMNS": "80"}
