"""Which code runs: the version of the suite, and the commit of its checkout. Torch-free."""

import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.store.records import GitState


def suite_version() -> str:
    """Return the version of the suite, installed or as its checkout says."""
    try:
        return version("freetickets-bench")
    except PackageNotFoundError:
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["version"])


def git_state() -> GitState | None:
    """Return commit and dirtiness of the checkout this code runs from, None outside one."""
    here, name = Path(__file__).parent, Path(__file__).name

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", name)  # an environment may lie in the checkout of something else
        return GitState(commit=git("rev-parse", "HEAD"), dirty=bool(git("status", "--porcelain")))
    except (OSError, subprocess.CalledProcessError):
        return None
