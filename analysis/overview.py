"""The table of a grid, which a report begins with: accuracy, calibration, diversity and cost of every cell."""

from collections.abc import Callable
from dataclasses import replace

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.columns import ACCURACY, ECE, NLL
from analysis.diversity.numbers import DISAGREEMENT, KL
from analysis.efficiency import INFERENCE_FLOPS, TRAIN_FLOPS
from analysis.published import Published
from analysis.results import Results
from analysis.table import PUBLISHED_NOTE, REFERENCE_ONLY, Table, cells_table, shown
from bench.plan.cost import GLOBAL_FLOPS

METRICS = (ACCURACY, NLL, ECE, MEMBER_ACCURACY, DISAGREEMENT, KL, TRAIN_FLOPS, INFERENCE_FLOPS)
NO_PUBLISHED = "No published number with a source exists for these cells."
ASSUMED_FLOPS = (
    f"FLOPs of {{}} are assumed: a network pruned by global magnitude is priced at {GLOBAL_FLOPS} x density of the "
    "dense FLOPs; what was left in each layer is drawn in the figure of densities."
)
PUBLISHED_COLUMNS: dict[str, Callable[[Published], str]] = {
    "Published accuracy (%)": lambda row: shown(row.accuracy, 2),
    "Published NLL": lambda row: shown(row.nll, 4),
    f"Published {ECE.head}": lambda row: shown(row.ece, 4),
    "Published source": lambda row: row.source,
}


def main_table(results: Results) -> Table:
    """Return the table of a grid, published numbers beside ours where there are any."""
    cells, context = results.cells, results.context
    table = cells_table("", "Results", results, METRICS, ())
    beside = [results.published.get(cell) for cell in cells["cell"]]
    head = (*table.head, "Runs")
    rows = [(*row, str(runs)) for row, runs in zip(table.rows, cells["runs"], strict=True)]
    notes = [*table.notes]
    if any(beside):
        head += tuple(PUBLISHED_COLUMNS)
        rows = [
            (*row, *(text(published) if published else "" for text in PUBLISHED_COLUMNS.values()))
            for row, published in zip(rows, beside, strict=True)
        ]
        notes.append(PUBLISHED_NOTE + ("" if context.comparable else REFERENCE_ONLY))
    else:
        notes.append(NO_PUBLISHED)
    if assumed := list(cells.loc[cells["flops_assumed"], "cell"]):
        notes.append(ASSUMED_FLOPS.format(", ".join(assumed)))
    notes += [f"{line[:1].upper()}{line[1:]}." for line in dict.fromkeys(cells["flops_uncounted"]) if line]
    notes += [f"{row['cell']}: {row['warnings']}." for row in cells.to_dict("records") if row["warnings"]]
    numbers = table.numbers.copy()
    numbers["runs"] = cells["runs"]
    numbers["flops_assumed"] = cells["flops_assumed"]
    for field in ("accuracy", "nll", "ece", "source"):
        numbers[f"published_{field}"] = [getattr(published, field) if published else None for published in beside]
    return replace(table, name=context.grid, head=head, rows=tuple(rows), notes=tuple(notes), numbers=numbers)
