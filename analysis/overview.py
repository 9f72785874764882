"""The table of a grid, which a report begins with: accuracy, calibration, diversity and cost of every cell."""

from dataclasses import replace

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.calibration.numbers import ECE_RELEASED
from analysis.columns import ACCURACY, ECE, NLL
from analysis.diversity.numbers import DISAGREEMENT, KL
from analysis.efficiency import HOURS, INFERENCE_FLOPS, TRAIN_FLOPS
from analysis.paper.beside import with_published
from analysis.results import Results
from analysis.table import Table, cells_table
from bench.plan.cost import GLOBAL_FLOPS

METRICS = (
    ACCURACY, NLL, ECE, ECE_RELEASED, MEMBER_ACCURACY, DISAGREEMENT, KL, TRAIN_FLOPS, HOURS, INFERENCE_FLOPS,
)  # fmt: skip
NO_PUBLISHED = "No published value with a source exists for these cells."
ASSUMED_FLOPS = (
    f"FLOPs of {{}} are assumed: a network pruned by global magnitude is priced at {GLOBAL_FLOPS} x density of the "
    "dense FLOPs; what was left in each layer is drawn in the figure of densities."
)
SELECTION = (
    "Epochs are chosen on images to validate on: augmented ones, as released, for {}; plain ones for {}. The two "
    "choices differ a little in what they favour."
)


def main_table(results: Results) -> Table:
    """Return the table of a grid, published values beside ours where there are any."""
    cells, context = results.cells, results.context
    table = cells_table("", "Results", results, METRICS, ())
    rows = tuple((*row, str(runs)) for row, runs in zip(table.rows, cells["runs"], strict=True))
    numbers = table.numbers.copy()
    numbers["runs"] = cells["runs"]
    numbers["flops_assumed"] = cells["flops_assumed"]
    table = replace(table, name=context.grid, head=(*table.head, "Runs"), rows=rows, numbers=numbers)
    table = with_published(table, results, (ACCURACY, NLL, ECE, ECE_RELEASED))
    notes = [*table.notes] if "Published source" in table.head else [*table.notes, NO_PUBLISHED]
    by_choice = {choice: list(group["cell"]) for choice, group in cells.groupby("selection")}
    if "augmented" in by_choice and "plain" in by_choice:
        notes.append(SELECTION.format(", ".join(by_choice["augmented"]), ", ".join(by_choice["plain"])))
    if assumed := list(cells.loc[cells["flops_assumed"], "cell"]):
        notes.append(ASSUMED_FLOPS.format(", ".join(assumed)))
    for key in ("flops_uncounted", "flops_reference"):
        notes += [f"{line[:1].upper()}{line[1:]}." for line in dict.fromkeys(cells[key]) if line]
    notes += [f"{row['cell']}: {row['warnings']}." for row in cells.to_dict("records") if row["warnings"]]
    return replace(table, notes=tuple(notes))
