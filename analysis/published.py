"""Numbers that others published, read from paper_configs/published/*.csv, beside which ours can be laid.

Each has its source in the file; nothing else may be called published. The paper's own tables are not among them.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.plan import CellPlan

COLUMNS = ("dataset", "model", "method", "members", "accuracy", "nll", "ece", "source")
NUMBERS = ("accuracy", "nll", "ece", "corrupted_accuracy", "corrupted_nll", "corrupted_ece")
Key = tuple[str, str, str, str]
NAMES = {"resnet_imagenet": "resnet"}


@dataclass(frozen=True)
class Published:
    """One published row: accuracy in percent, NLL in nats, ECE over 15 bins (NaN where not given), and its source.

    The same on corrupted images, as the source averages them.
    """

    accuracy: float
    nll: float
    ece: float
    source: str
    corrupted_accuracy: float = math.nan
    corrupted_nll: float = math.nan
    corrupted_ece: float = math.nan


def published_folder(grid: Path) -> Path:
    """Return the folder of published numbers and claims: beside the grid if there is one, else the repository's own."""
    beside = grid.resolve().parent / "published"
    return beside if beside.is_dir() else Path(__file__).resolve().parent.parent / "paper_configs" / "published"


def read_published(folder: Path) -> dict[Key, Published]:
    """Return the rows of the folder's CSV files by data set, network, method and members.

    UserError that names the file, for one without the columns of the README, a wrong number, or a row given twice.
    """
    found: dict[Key, Published] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: no column {', '.join(missing)}; needed: {', '.join(COLUMNS)}")
            for row in reader:
                key = (row["dataset"], row["model"], row["method"], row["members"])
                if key in found:
                    raise UserError(f"{path}, line {reader.line_num}: {', '.join(key)} is given twice")
                numbers = {k: _number(row.get(k) or "", f"{path}, line {reader.line_num}, {k}") for k in NUMBERS}
                found[key] = Published(source=row["source"], **numbers)
    return found


def find_published(table: Mapping[Key, Published], cell: CellPlan) -> Published | None:
    """Return the row of the same data set, network, method and ensemble size, None if nobody published one."""
    # The files call an ensemble of dense networks a method of its own, WRN-28-10 wide_resnet28_10, and ImageNet's
    # ResNet-50 resnet50.
    method, members, model = cell.method, cell.members, cell.model
    if method == "dense" and members > 1:
        method = "dense_ensemble"
    elif method == "mc_dropout":
        method = f"mc_dropout_{members}_sample{'s' if members > 1 else ''}"
    arguments = "_".join(str(model.arguments[key]) for key in ("depth", "width") if key in model.arguments)
    return table.get((cell.data.name, NAMES.get(model.name, model.name) + arguments, method, str(members)))


def _number(text: str, where: str) -> float:
    """Return a number of a CSV file, NaN where the field is empty."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise UserError(f"{where}: found {text!r}; a number or nothing is allowed") from None
