"""Reading a grid file: its own keys, then every cell resolved, and no two cells of one name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bench.errors import UserError
from bench.grid.cell import Cell, resolve
from bench.grid.entry import MOST_REPLICATES, CellEntry
from bench.grid.evaluations import Evaluations
from bench.grid.overlay import MOST_CELLS, merge, nested, raw_cells
from bench.grid.scale import PAPER, Scale, check_paper
from bench.grid.text import read_yaml
from bench.spec.messages import key_path, validated
from bench.spec.record import MOST_LETTERS, Record

REPLICATES = 3


class GridFile(Record):
    """The keys of a grid; `extends` is the path, from this file, of another whose base and scales hold here too.

    claims   path, from this file, of what the paper says about its cells (docs/verdicts.md); never that of another grid

    Its evaluations do not: an ablation has more rows than anyone wants to see under every corruption. Those of a scale,
    whose ever it is, stand for a grid's own, and count for nothing in a grid that has none.
    """

    title: str = ""
    description: str = ""
    extends: str | None = None
    replicates: int | None = Field(default=None, ge=1, le=MOST_REPLICATES)
    base: dict[str, Any] = Field(default={})
    axes: dict[str, Annotated[list[Any], Field(max_length=1_000)]] = Field(default={})
    exclude: list[dict[str, Any]] = Field(default=[], max_length=1_000)
    cells: list[dict[str, Any]] = Field(default=[], max_length=MOST_CELLS)
    evaluations: dict[str, Any] | None = None
    claims: str | None = None
    scales: dict[str, dict[str, Any]] = Field(default={})


@dataclass(frozen=True)
class Grid:
    """A validated grid; cells are as at scale `paper`."""

    path: Path
    title: str
    description: str
    cells: tuple[Cell, ...]
    evaluations: Evaluations | None
    scales: Mapping[str, Scale]
    claims: Path | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem


def grid_files(paths: Iterable[Path]) -> list[Path]:
    """Return grid files, each once: a folder stands for the grids (*.yaml) in it; UserError for one that holds none."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("[!.]*.yaml")) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: no grid (*.yaml) in this folder")
        files += found
    return list(dict.fromkeys(files))


def load_grid(path: Path) -> Grid:
    """Return the grid of a YAML file; UserError that begins with the file for any mistake in it."""
    content = read_yaml(path)
    try:
        if len(path.stem) > MOST_LETTERS or not path.stem.isprintable():
            raise UserError(f"a grid's name, its file's, has at most {MOST_LETTERS} characters, none of them a control")
        if content is None:
            raise UserError("an empty file; a grid needs cells, or axes over a base")
        file = validated(GridFile, content, key_path)
        _check_evaluations(file)
        file = _extended(file, path)
        scales = {name: _scale(name, values) for name, values in file.scales.items()}
        cells = _cells(file)
        evaluations = _evaluations(file)
        claims = None if file.claims is None else _claims(path.parent / file.claims)
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None
    return Grid(path, file.title, file.description, cells, evaluations, {PAPER: Scale(), **scales}, claims)


def _extended(file: GridFile, path: Path) -> GridFile:
    """Return a grid over what it extends: its own values win, scales by name; without own cells, those too."""
    if file.extends is None:
        return file
    other = path.parent / file.extends
    try:
        content = read_yaml(other)
        if isinstance(content, dict) and "extends" in content:
            raise UserError(f"{other} extends {content['extends']} itself; allowed: a grid that extends none")
        load_grid(other)  # its mistakes are its own
    except UserError as error:
        raise UserError(f"extends: {error}") from None
    below = validated(GridFile, content, key_path)
    has_cells = file.cells or file.axes
    return file.model_copy(
        update={
            "replicates": below.replicates if file.replicates is None else file.replicates,
            "base": merge(nested(below.base, "base"), nested(file.base, "base")),
            "scales": {**below.scales, **file.scales},
            **({} if has_cells else {"cells": below.cells, "axes": below.axes, "exclude": below.exclude}),
        }
    )


def _check_evaluations(file: GridFile) -> None:
    for name, values in file.scales.items():
        if "evaluations" in values and file.evaluations is None:
            raise UserError(f"scales.{name}.evaluations: the grid has none to stand for; give it `evaluations:` too")


def _scale(name: str, values: dict[str, Any]) -> Scale:
    scale = validated(Scale, values, lambda *keys: key_path("scales", name, *keys))
    if name == PAPER:
        check_paper(scale)
    return scale


def _evaluations(file: GridFile) -> Evaluations | None:
    if file.evaluations is None:
        return None
    return validated(Evaluations, file.evaluations, lambda *keys: key_path("evaluations", *keys))


def _claims(path: Path) -> Path:
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise UserError(f"claims: {path}: {error.strerror}") from None
    raise UserError(f"claims: {path}: no such file")


def _cells(file: GridFile) -> tuple[Cell, ...]:
    raw = raw_cells(file.base, file.axes, file.exclude, file.cells)
    if not raw:
        what = (
            "exclude leaves no cell of the axes" if file.axes else "no cells; a grid needs cells, or axes over a base"
        )
        raise UserError(what)
    cells: dict[str, Cell] = {}
    places: dict[str, str] = {}
    for raw_cell in raw:
        values = {"replicates": file.replicates or REPLICATES, **raw_cell.merged()}
        entry, place = validated(CellEntry, values, raw_cell.locate), raw_cell.locate("name")
        if not entry.name:
            entry = entry.model_copy(update={"name": raw_cell.automatic_name(values)})
        if entry.name in cells:
            raise UserError(
                f"{place}: {entry.name!r} names the cell at {places[entry.name]} too; a cell needs a name of its own"
            )
        cells[entry.name] = resolve(entry, raw_cell.locate)
        places[entry.name] = place
    return tuple(cells.values())
