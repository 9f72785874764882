"""Values that others published, from paper_configs/published/*.csv, each beside the one cell that has its recipe.

A row names a cell of a grid: data set, network, method, members, sparsity and all else that this cell trains with. A
cell of another grid stands beside the row if its runs are the same, so an ablation that changes anything has none.
Each value has its source in the file; nothing else may be called published.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from bench.errors import UserError, did_you_mean
from bench.grid import load_grid
from bench.grid.text import read_text
from bench.plan import CellPlan, Plan, make_plan

COLUMNS = ("dataset", "model", "method", "members", "sparsity", "grid", "cell", "metric_definition", "note", "source")
# Columns of a file -> the metrics here that its values may be compared with, and our unit over that of the file. Where
# the source does not say how it bins confidences, its calibration error stands beside both of ours.
METRICS: Mapping[str, tuple[tuple[str, ...], float]] = {
    **{key: ((key,), 1.0) for key in ("accuracy", "nll", "corrupted_accuracy", "corrupted_nll", "disagreement", "kl")},
    **{key: ((key,), 1.0) for key in ("fgsm8_min", "fgsm8_mean", "fgsm8_max")},
    "ece": (("ece", "ece_released"), 1.0),
    "corrupted_ece": (("corrupted_ece_mean", "corrupted_ece_pooled"), 1.0),
    "auroc": (("auroc",), 100.0),
}
DEFINITIONS = ("ub", "top1", "unknown")
NAMES = {"resnet_imagenet": "resnet"}


@dataclass(frozen=True)
class Published:
    """A published value of a metric in the unit of our tables; `text` has the digits of the source.

    definition   "ub": as in uncertainty-baselines; "unknown": the source does not say which of several
    """

    value: float
    text: str
    definition: str
    note: str
    source: str


Beside = Mapping[str, Published]
NOTHING: Beside = MappingProxyType({})


def published_folder(grid: Path) -> Path:
    """Return the folder of published values and claims: beside the grid if there is one, else the repository's own."""
    beside = grid.resolve().parent / "published"
    return beside if beside.is_dir() else Path(__file__).resolve().parents[2] / "paper_configs" / "published"


def find_published(folder: Path, plan: Plan) -> dict[str, Beside]:
    """Return the values by metric that stand beside each cell of a plan at the scale of the paper, if there are any.

    UserError that names file and line of a row without the columns of the README, with a wrong number, with a cell that
    its grid does not have or that is another than the row says, or that is given twice.
    """
    known: dict[tuple[tuple[str, ...], int], Beside] = {}
    for path in sorted(folder.glob("*.csv")):
        for where, row in _rows(path):
            if row["cell"] and any(row["dataset"] == cell.data.name for cell in plan.cells):
                cell = _named_cell(folder, row, where)
                key = (cell.runs[0], cell.members)
                values = _values(row, where)
                if twice := known.get(key, NOTHING).keys() & values.keys():
                    raise UserError(f"{where}: {', '.join(sorted(twice))} of cell {cell.name!r} is given twice")
                known[key] = {**known.get(key, NOTHING), **values}
    found = {cell.name: known.get((cell.runs[0], cell.members)) for cell in plan.cells}
    return {name: values for name, values in found.items() if values}


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Return where each row stands, and its columns."""
    reader = csv.DictReader(io.StringIO(read_text(path, "table"), newline=""))
    try:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: no column {', '.join(missing)}; needed: {', '.join(COLUMNS)}")
        rows = [(f"{path}, line {reader.line_num}", {key: row[key] or "" for key in row if key}) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num + 1}: {error}") from None
    for where, row in rows:
        if not row["source"]:
            raise UserError(f"{where}: no source; a value without one may not be called published")
        if row["metric_definition"] not in DEFINITIONS:
            raise UserError(
                f"{where}, metric_definition: found {row['metric_definition']!r}; allowed: {', '.join(DEFINITIONS)}"
            )
        if bool(row["grid"]) != bool(row["cell"]):
            raise UserError(f"{where}: grid and cell go together: found {row['grid']!r} and {row['cell']!r}")
        _values(row, where)
    return rows


def _values(row: Mapping[str, str], where: str) -> dict[str, Published]:
    """Return the values of a row by metric."""
    found = {}
    for column, (metrics, factor) in METRICS.items():
        text = row.get(column, "")
        if not text:
            continue
        try:
            value = float(text) * factor
            if not math.isfinite(value):
                raise ValueError
        except ValueError:
            raise UserError(f"{where}, {column}: found {text!r}; a number or nothing is allowed") from None
        _, _, decimals = text.partition(".")
        shown = f"{value:.{max(0, len(decimals) - round(math.log10(factor)))}f}"
        asked = metrics if row["metric_definition"] == "unknown" else metrics[:1]
        for metric in asked:
            name = f"{metric}_{row['outside']}" if "outside" in row else metric
            found[name] = Published(value, shown, row["metric_definition"], row["note"], row["source"])
    return found


def _named_cell(folder: Path, row: Mapping[str, str], where: str) -> CellPlan:
    """Return the cell that a row names; UserError if there is none, or it is another than the row says."""
    grid = folder.parent / row["grid"]
    if not grid.is_file():
        raise UserError(f"{where}, grid: found {row['grid']!r}; no such file: {grid}")
    cells = _cells_of(grid)
    cell = cells.get(row["cell"])
    if cell is None:
        raise UserError(f"{where}: {row['grid']} has no cell {row['cell']!r}{did_you_mean(row['cell'], cells)}")
    arguments = "_".join(str(cell.model.arguments[key]) for key in ("depth", "width") if key in cell.model.arguments)
    is_of = {
        "dataset": cell.data.name,
        "model": NAMES.get(cell.model.name, cell.model.name) + arguments,
        "members": str(cell.members),
        "sparsity": f"{cell.sparsity:g}" if cell.sparsity else "",
    }
    for key, value in is_of.items():
        if row[key] != value:
            raise UserError(f"{where}, {key}: found {row[key]!r}; cell {cell.name!r} of {row['grid']} has {value!r}")
    return cell


@lru_cache(maxsize=16)
def _cells_of(grid: Path) -> dict[str, CellPlan]:
    return {cell.name: cell for cell in make_plan(load_grid(grid), "paper", None).cells}
