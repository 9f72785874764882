"""What shells complete: by bash itself where it is installed, and as zsh asks; without torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store.store import Store
from tests.grid_text import REPOSITORY, write_grid
from tests.store.runs import run_spec

GRID = """
replicates: 2
base: {data: digits, model: {depth: 10, width: 1}, seed: 5}
cells:
  - {name: dense, method: dense}
  - {name: "DST $M=2", method: dst, sparsity: 0.8, members: 2}
  - {name: "DST: late", method: dst, sparsity: 0.9, members: 3}
scales: {tiny: {train_images: 64, validation_images: 32, test_images: 32}, short: {replicates: 1}}
"""
PROGRAM = "import sys; sys.argv = ['freetickets']; from freetickets import main"
ASK = f"{PROGRAM}; import atexit, os; atexit.register(lambda: 'torch' in sys.modules and os._exit(3)); main()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a grid, the program, and a store of two runs."""
    write_grid(tmp_path, GRID)
    program = tmp_path / "bin" / "freetickets"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{PROGRAM}; main()\n")
    program.chmod(0o755)
    for seed in (1, 2):
        spec = run_spec(seed=seed)
        Store(tmp_path / "results").run(spec.run_id).write_spec(spec)
    (tmp_path / "results" / "runs" / "stray").write_text("")
    return tmp_path


def output(folder: Path, *command: str, **variables: str) -> str:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY), **variables}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def in_bash(folder: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of the words that it has made of a line."""
    script = output(folder, "freetickets", _FREETICKETS_COMPLETE="source_bash")
    offer = '_freetickets_completion freetickets; printf "%s\\n" "${COMPREPLY[@]}"'
    ask = f'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {offer}'
    return output(folder, "bash", "--norc", "-c", f"{script}\n{ask}", "bash", "freetickets", *words).splitlines()


bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
RUNS = sorted(run_spec(seed=seed).run_id for seed in (1, 2))


@bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["bench", "plan", "cifar100"], ["cifar100"]),
        (["bench", "run", "grid.yaml", "--scale", ""], ["paper", "tiny", "short"]),
        (["analysis", "report", "grid.yaml", "--scale", "t"], ["tiny"]),
        (["bench", "show", ""], RUNS),
        (["bench", "diff", RUNS[0], RUNS[1][:5]], [RUNS[1]]),
        (["slurm", "logs", "--store", "results", RUNS[0][:6]], [RUNS[0]]),
        (["bench", "show", "--store", "elsewhere", ""], [""]),
        (["bench", "run", "grid.yaml", "--select", "m"], ["method=", "members="]),
        # bash makes three words of cell=D, and puts what it gets in the place of the last
        (["bench", "run", "grid.yaml", "--select", "cell", "=", "D"], ["DST\\ \\$M=2", "DST:\\ late"]),
        (["bench", "run", "grid.yaml", "--select", "method", "="], ["dense", "dst"]),
        (["bench", "run", "grid.yaml", "--select", "=", "seed", "=", "6"], ["6"]),
        (["bench", "run", "grid.yaml", "--scale", "short", "--select", "seed", "="], ["5", "6", "7"]),
        (["slurm", "submit", "grid.yaml", "--select", "method", "=", "dst", "--select", "members", "=", "3"], ["3"]),
        (["bench", "run", "grid.yaml", "--select", "'cell=DST "], ["cell=DST $M=2"]),
        (["bench", "run", "grid.yaml", "--select", "ce"], ["cell=dense", "cell=DST\\ \\$M=2", "cell=DST:\\ late"]),
        (["bench", "run", "nowhere.yaml", "--select", "cell", "="], [""]),
        (["bench", "run", "nowhere.yaml", "--scale", ""], [""]),
    ],
)  # fmt: skip
def test_bash_offers(folder: Path, words: list[str], offered: list[str]) -> None:
    assert in_bash(folder, *words) == offered


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("bench run grid.yaml --scale s", ["short"]),
        ("bench run grid.yaml --select cell=DST:", ["cell=DST: late"]),
        ("bench run grid.yaml --select 'cell=DST $", ["cell=DST $M=2"]),
        (f"bench show {RUNS[0][:6]}", [RUNS[0]]),
    ],
)
def test_zsh_offers(folder: Path, typed: str, offered: list[str]) -> None:
    asked = {"_FREETICKETS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"freetickets {typed}"}
    answer = output(folder, "freetickets", **asked)
    if shutil.which("zsh") is None:
        assert all(f'"{value.split()[0].partition(":")[0]}' in answer for value in offered)
        return
    # zsh evaluates the answer, then splits the list in it; a colon that is no separator is escaped there.
    read = '_arguments() { eval "found=( ${${1#*:*:\\(\\(}%))} )"; print -rl -- ${found//\\\\:/:} }; eval "$1"'
    assert output(folder, "zsh", "-f", "-c", read, "zsh", answer).splitlines() == offered


def test_completion_needs_no_torch(folder: Path) -> None:
    words = ["freetickets", "bench", "run", "grid.yaml", "--select", "cell", "=", ""]
    asked = {"_FREETICKETS_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": "7"}
    assert "dense" in output(folder, sys.executable, "-c", ASK, **asked)
