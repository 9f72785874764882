"""What is left of some work, in words and as an exit code."""

import logging
from collections import Counter

from bench.errors import counted
from bench.store.run_folder import NO_WEIGHTS
from bench.store.store import Store
from bench.work.items import TrainRun, Work
from bench.work.readiness import StoreView

log = logging.getLogger(__name__)

# States of a run that a user has to do something about.
EXPLAINED = ("failed", "damaged", "blocked")


def summarise(work: Work, store: Store) -> int:
    """Log how many runs are in which state, and why some are left; return 0 if everything is done, else 1."""
    view = StoreView(store)
    runs = [(item.run, view.may_start(item)) for item in work.items() if isinstance(item, TrainRun)]
    for run, readiness in runs:
        if readiness.state in EXPLAINED:
            hint = "" if readiness.state == "blocked" else "; --retry tries again"
            log.error("%s %s: %s: %s%s", run.cell, run.id[:8], readiness.state, readiness.reason, hint)
        if readiness.state == "done" and (warnings := view.warnings(run.spec)):
            log.warning("%s %s: %s", run.cell, run.id[:8], "; ".join(warnings))
    counts = Counter(readiness.state for _, readiness in runs)
    log.info("%s: %s", counted(len(runs), "run"), ", ".join(f"{count} {state}" for state, count in counts.items()))
    sets = [view.may_start(item) for item in work.items() if not isinstance(item, TrainRun)]
    for reason in dict.fromkeys(
        readiness.reason
        for readiness in sets
        if readiness.state in ("failed", "damaged") or readiness.reason == NO_WEIGHTS
    ):
        log.error("evaluation sets are left: %s", reason)
    made = sum(readiness.state == "done" for readiness in sets)
    if sets:
        log.info("%s: %d made, %d left", counted(len(sets), "evaluation set"), made, len(sets) - made)
    return int(counts["done"] != len(runs) or made != len(sets))


def is_finished(work: Work, store: Store) -> bool:
    """Whether no item of some work is left that a worker could start, now or once another worker is done."""
    view = StoreView(store)
    # From the end of the plan, where work is left: a worker asks in its last seconds, of thousands of finished runs.
    items = reversed([*work.items()])
    left = any(view.may_start(item).state in ("missing", "running", "waiting") for item in items)
    return not left and not view.away  # else nobody knows, and a worker at its time limit had better come back
