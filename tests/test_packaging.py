"""The wheel: what is in it, and that its program works in a fresh environment, from an empty folder."""

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fresh import fresh_environment, output_of
from tests.grid_text import REPOSITORY

PACKAGES = ("bench", "analysis", "slurm", "paper_configs")
MODULES = ("freetickets.py", "reproduce.py")
DATA = (".yaml", ".csv", ".json", ".txt", ".css", ".js", ".sh")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since a build leaves files beside its source."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", *MODULES):
        shutil.copy(REPOSITORY / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(built)!r})"
    output_of(sys.executable, "-c", build, cwd=source)
    (made,) = built.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what the suite needs is seen from where the tests run."""
    repository = tmp_path_factory.mktemp("elsewhere")  # the checkout of something else, as an environment may lie in
    output_of("git", "init", "--quiet", cwd=repository)
    identity = ("-c", "user.name=x", "-c", "user.email=x")
    output_of("git", *identity, "commit", "--quiet", "--allow-empty", "-m", "x", cwd=repository)
    place = repository / "venv"
    python = fresh_environment(place)
    output_of(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=repository)
    return place


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def test_the_wheel_holds_the_code_and_what_it_reads_and_nothing_else(wheel: Path) -> None:
    wanted = {*MODULES} | {
        str(path.relative_to(REPOSITORY))
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.suffix in (".py", *DATA)
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == wanted


def test_its_program_plans_from_an_empty_folder(environment: Path, empty: Path) -> None:
    program = environment / "bin" / "freetickets"
    assert output_of(program, "--version", cwd=empty).endswith("(no checkout)\n")
    assert "48 distinct runs" in output_of(program, "bench", "plan", "digits", cwd=empty)
    assert "slurm" in output_of(program, "--help", cwd=empty)
    assert not [*empty.iterdir()]


def test_what_it_reads_is_found_there(environment: Path, empty: Path) -> None:
    code = (
        "from pathlib import Path; from analysis.paper import published; print(published.published_folder(Path('x')))"
    )
    assert output_of(environment / "bin" / "python", "-c", code, cwd=empty).startswith(str(environment))
    submit = ("slurm", "submit", "digits", "--site", "local", "--dry-run")
    assert "would submit 1 worker" in output_of(environment / "bin" / "freetickets", *submit, cwd=empty)
