"""All tables of a grid, in the order of the report; a new one is a function in analysis.tables and an entry here."""

from collections.abc import Sequence
from pathlib import Path

from analysis.context import Context
from analysis.corruptions import claimed
from analysis.formats import write_table
from analysis.robustness_tables import robustness_tables
from analysis.sources import Sources
from analysis.tables import (
    Table,
    calibration_table,
    diversity_table,
    main_table,
    members_table,
    replicates_table,
    scaling_table,
)
from analysis.verdicts import judge, verdict_table


def all_tables(sources: Sources) -> list[Table]:
    """Return results, verdicts (if there are claims about the grid's cells), the other scores, replicates, members."""
    results, context = sources.results, sources.context
    verdicts = judge(sources.claims, results)
    left_out = len(sources.claims) - len(verdicts)
    return [
        main_table(results, sources.published, context),
        *([verdict_table(verdicts, left_out, context, claimed(sources.corruptions))] if verdicts else []),
        calibration_table(results, context),
        scaling_table(results, context),
        diversity_table(results, context),
        *robustness_tables(sources),
        replicates_table(results, context),
        members_table(results, context),
    ]


def write_tables(tables: Sequence[Table], context: Context, folder: Path) -> None:
    """Write each table in every format."""
    for table in tables:
        write_table(table, context, folder)
