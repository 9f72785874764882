"""What the four programs have in common: the version, and that shells complete them."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import analysis.__main__
import bench.__main__
import reproduce
import slurm.__main__
from tests.grid_text import REPOSITORY

PROGRAMS = {"bench": bench.__main__, "analysis": analysis.__main__, "slurm": slurm.__main__, "reproduce": reproduce}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
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
    assert "freetickets-bench --install-completion" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_the_installed_programs_are_those_of_the_checkout() -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    called = {name.removeprefix("freetickets-"): place for name, place in scripts.items()}
    assert called == {name: f"{program.__name__}:main" for name, program in PROGRAMS.items()}


def test_what_the_programs_read_is_installed_with_them() -> None:
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for package, patterns in setup["package-data"].items():
        assert f"{package}*" in setup["packages"]["find"]["include"]
        files = {
            path for path in (REPOSITORY / package).rglob("*") if path.suffix in (".yaml", ".csv", ".json", ".txt")
        }
        assert files
        assert files == {path for pattern in patterns for path in (REPOSITORY / package).glob(pattern)}


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("pl", {"plan"}), ("plan cif", {"cifar10", "cifar100"}), ("run --para", {"--parallel"}), ("data ver", {"verify"})],
)
def test_a_shell_completes_commands_options_and_grids(tmp_path: Path, typed: str, completed: set[str]) -> None:
    words = ["freetickets-bench", *typed.split()]
    code = f"import sys; sys.argv = ['/bin/{words[0]}']; from bench.__main__ import main; main()"
    asked = {"_FREETICKETS_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
    place = {"COMP_CWORD": str(len(words) - 1), "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **asked, **place}
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(ended.stdout.split()) == completed
