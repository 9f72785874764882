"""What was written into a synthetic store, and what a table shows."""

import numpy as np
import scipy.special
import scipy.stats

from tests.analysis.stores import cell_of
from tests.analysis.synthetic import logits_of

IMAGES = 300


def spec_of(plan, run):
    return next(planned.spec for planned in plan.runs if planned.id == run)


def probabilities(plan, name, replicate):
    """Members of a replicate straight from the logits that were written."""
    cell = cell_of(plan, name)
    specs = [spec_of(plan, run) for run in cell.runs[replicate - 1]]
    return np.concatenate(
        [scipy.special.softmax(logits_of(cell.method, s.seed, s.tickets, IMAGES).astype(float), axis=-1) for s in specs]
    )


def column(table, head, keys=1):
    index = table.head.index(head)
    return {row[:keys] if keys > 1 else row[0]: row[index] for row in table.rows}


def grouped_column(table, group, head):
    """The texts by cell of a column that stands under a group."""
    index = list(zip(table.groups, table.head, strict=True)).index((group, head))
    return {row[0]: row[index] for row in table.rows}


def mean_and_half_width(values):
    return np.mean(values), scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)


def interval_text(half_width, digits):
    """What stands behind a mean; nothing where all replicates are alike, which tells no spread."""
    return f" ± {half_width:.{digits}f}" if half_width > 1e-9 else ""
