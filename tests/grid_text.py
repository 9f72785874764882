"""Grids written in tests."""

from pathlib import Path
from textwrap import dedent

from bench.grid import Grid, load_grid

REPOSITORY = Path(__file__).resolve().parent.parent
PAPER_CONFIGS = REPOSITORY / "paper_configs"


def write_grid(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return path


def load_text(folder: Path, text: str) -> Grid:
    return load_grid(write_grid(folder, text))
