"""A fresh environment with pip, in which what the suite needs is seen from where the tests run."""

import subprocess
import sys
import sysconfig
from pathlib import Path


def output_of(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; AssertionError with all of it if the command fails."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def fresh_environment(place: Path) -> Path:
    """Make an environment at `place`, and return its Python."""
    output_of(sys.executable, "-m", "virtualenv", "--quiet", "--no-periodic-update", place, cwd=place.parent)
    (packages,) = place.glob("lib/python*/site-packages")
    seen = "\n".join(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (packages / "those_of_the_tests.pth").write_text(seen, encoding="utf-8")
    return place / "bin" / "python"
