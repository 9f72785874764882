"""What a paper claims, as data: a file that a grid names.

A claim (paper_configs/published/claims.yaml) compares a metric of two cells of the grid, or of a cell and a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from analysis.columns import Metric
from bench.errors import UserError, did_you_mean
from bench.grid.text import read_record
from bench.spec.record import Record

Direction = Literal["higher", "lower", "level"]
Cells = Annotated[list[str], Field(min_length=1)]


class Side(Record):
    """A metric of a cell, or of each of several."""

    cell: str | None = None
    cells: Cells | None = None
    metric: str

    @model_validator(mode="after")
    def _one_or_several(self) -> "Side":
        if (self.cell is None) == (self.cells is None):
            raise ValueError("allowed: cell, or cells")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The cells."""
        return tuple(self.cells or [str(self.cell)])


class ClaimEntry(Record):
    """`left` is higher than, lower than, or level with `right`, a cell or a number, in the units of the tables.

    text     the claim as a sentence; {left} and {right} stand for the cells, each pair of which makes a claim
    where    the passage that says so
    margin   by how much: a claim of less than that is no claim; of "level", how far apart may still be called so
    data     the data set that the claim is about; of any without it
    """

    id: str
    text: str
    where: str
    left: Side
    right: Side | float
    direction: Direction
    margin: float = 0.0
    data: str | None = None

    @model_validator(mode="after")
    def _level_needs_a_margin(self) -> "ClaimEntry":
        if self.direction == "level" and self.margin <= 0:
            raise ValueError("level: margin must be above 0")
        return self


class ClaimsFile(Record):
    """The claims of a file, in the order of the table; `about` is whose claims they are, such as a paper."""

    about: str = ""
    claims: list[ClaimEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Claim:
    """A claim about one pair of cells, or a cell and a number; `about` is whose it is."""

    id: str
    text: str
    where: str
    left: tuple[str, str]
    right: tuple[str, str] | float
    direction: Direction
    margin: float
    data: str | None = None
    about: str = ""

    @property
    def sides(self) -> list[tuple[str, str]]:
        """The cells and metrics."""
        return [self.left] if isinstance(self.right, float) else [self.left, self.right]


def read_claims(path: Path, metrics: Mapping[str, Metric]) -> list[Claim]:
    """Return the claims of a YAML file, one a pair of cells; UserError that names file and key of a mistake."""
    file = read_record(ClaimsFile, path)
    for entry in file.claims:
        sides = [side for side in (entry.left, entry.right) if isinstance(side, Side)]
        for side in sides:
            if side.metric not in metrics:
                hint = did_you_mean(side.metric, metrics)
                raise UserError(f"{path}: claim {entry.id!r}: metric {side.metric!r}{hint}")
        if len({(metrics[side.metric].factor, metrics[side.metric].better) for side in sides}) > 1:
            both = " and ".join(metrics[side.metric].head for side in sides)
            raise UserError(f"{path}: claim {entry.id!r}: {both} cannot be compared: not of one unit and direction")
    return [claim for entry in file.claims for claim in _pairs(entry, file.about)]


def _pairs(entry: ClaimEntry, about: str) -> list[Claim]:
    rights = entry.right.names if isinstance(entry.right, Side) else ("",)
    several = len(entry.left.names) * len(rights) > 1
    return [
        Claim(
            id=f"{entry.id}: {left}{f' / {right}' if right else ''}" if several else entry.id,
            text=entry.text.replace("{left}", left).replace("{right}", right),
            where=entry.where,
            left=(left, entry.left.metric),
            right=(right, entry.right.metric) if isinstance(entry.right, Side) else entry.right,
            direction=entry.direction,
            margin=entry.margin,
            data=entry.data,
            about=about,
        )
        for left, right in product(entry.left.names, rights)
    ]


def claims_of(path: Path | None, metrics: Mapping[str, Metric]) -> tuple[Claim, ...]:
    """Return the claims of the file that a grid names; none where it names none."""
    return () if path is None else tuple(read_claims(path, metrics))
