"""The grids of the suite by name: `cifar10` is paper_configs/cifar10.yaml, in whatever folder a command is called."""

import os
from pathlib import Path

SUITE = Path(__file__).resolve().parents[2] / "paper_configs"
FOLDERS = ("ablations",)
SUFFIX = ".yaml"


def suite_grids() -> dict[str, Path]:
    """Return the grids of the suite by name, its folders of grids among them."""
    folders = [SUITE / name for name in FOLDERS if (SUITE / name).is_dir()]
    grids = {path.stem: path for path in sorted(SUITE.glob(f"*{SUFFIX}"))}
    inside = {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))}
    return {**grids, **{folder.name: folder for folder in folders}, **inside}


def find_grid(path: Path) -> Path:
    """Return the grid of the suite that a path names, from the working directory if it lies below that.

    What exists is what is meant, and so is what the suite has no grid of: reading it says what is wrong.
    """
    if os.path.lexists(path):
        return path
    grids = suite_grids()
    by_path = {grid.relative_to(SUITE).with_suffix("").as_posix(): grid for grid in grids.values()}
    found = {**by_path, **grids}.get(path.as_posix().removesuffix(SUFFIX))
    if found is None:
        return path
    here = Path.cwd()
    return found.relative_to(here) if found.is_relative_to(here) else found
