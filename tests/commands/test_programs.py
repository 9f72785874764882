"""What the programs have in common: the version, one name once installed, and that shells complete it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from typer.core import TyperCommand as Command
from typer.main import get_command

import analysis.__main__
import bench.__main__
import freetickets
import reproduce
import slurm.__main__
from tests.grid_text import REPOSITORY

PROGRAMS = {"bench": bench.__main__, "analysis": analysis.__main__, "slurm": slurm.__main__, "reproduce": reproduce}
ALL = {**PROGRAMS, "freetickets": freetickets}


@pytest.mark.parametrize("program", ALL.values(), ids=ALL)
def test_the_version_is_that_of_the_suite_and_of_its_commit(
    capsys: pytest.CaptureFixture[str], program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for commit in (r"commit [0-9a-f]{40}(, with changes)?", "no checkout"):
        with pytest.raises(SystemExit) as ended:
            program.main(["--version"])
        assert not ended.value.code
        assert re.fullmatch(rf"{project['name']} {project['version']} \({commit}\)\n", capsys.readouterr().out)
        monkeypatch.setattr("bench.work.code.git_state", lambda: None)


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion", "--show-completion=bash"])
def test_completion_of_python_m_is_refused_before_it_writes_anything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bench/__main__.py", option])
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        bench.__main__.main()
    assert ended.value.code == 2
    assert "freetickets --install-completion" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_installed_program_has_the_commands_of_all(program: str) -> None:
    def options(command: Command) -> list[str]:
        return [parameter.name for parameter in command.params if not parameter.name.endswith("_completion")]

    alone, inside = get_command(PROGRAMS[program].app), get_command(freetickets.app).commands[program]
    assert options(inside) == options(alone)
    assert list(getattr(inside, "commands", {})) == list(getattr(alone, "commands", {}))


def test_an_older_python_is_told_which_one_is_needed() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    for program in ("bench.__main__", "analysis.__main__", "slurm.__main__", "reproduce", "freetickets"):
        code = f"import sys; sys.version_info = (3, 10, 13); sys.version = '3.10.13 (main)'; import {program}"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
        message = "error: freetickets-bench needs Python 3.11 or newer; this is Python 3.10.13\n"
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", message)


def test_what_the_programs_read_is_installed_with_them() -> None:
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for package, patterns in setup["package-data"].items():
        assert f"{package}*" in setup["packages"]["find"]["include"]
        kinds = (".yaml", ".csv", ".json", ".txt", ".css", ".js", ".sh")
        files = {path for path in (REPOSITORY / package).rglob("*") if path.suffix in kinds}
        assert files
        assert files == {path for pattern in patterns for path in (REPOSITORY / package).glob(pattern)}


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ben", {"bench"}),
        ("bench plan cif", {"cifar10", "cifar100"}),
        ("bench run --para", {"--parallel"}),
        ("bench data ver", {"verify"}),
        ("reproduce dig", {"digits"}),
    ],
)
def test_a_shell_completes_commands_options_and_grids(tmp_path: Path, typed: str, completed: set[str]) -> None:
    words = ["freetickets", *typed.split()]
    code = f"import sys; sys.argv = ['/bin/{words[0]}']; from freetickets import main; main()"
    asked = {"_FREETICKETS_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
    place = {"COMP_CWORD": str(len(words) - 1), "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **asked, **place}
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(ended.stdout.split()) == completed
