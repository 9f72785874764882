"""`python -m tests.simulation`: what runs, workers and the latency of files cost, as a table.

Each row is a simulation of its own; `--row 10000x512@1` is 10,000 runs on 512 workers, a millisecond an operation.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.cluster import Cluster
from tests.simulation.outcome import HOUR, Conditions, Outcome

# Those of docs/slurm.md without options: seconds of one core for the first four, then 1.5, 3 and 8 minutes.
ROWS = ("1000x32@1", "1000x128@1", "1000x128@5", "1000x128@20", "2000x512@5", "5000x512@1", "10000x512@1")
HEAD = ("runs", "workers", "ms", "runs/h", "of ideal", "idle", "claims lost", "calls/min", "a run", "mean/s", "peak/s")


def conditions_of(row: str, hours: float, capacity: float) -> Conditions:
    """Return what a row such as 1000x128@5 asks for."""
    runs, _, rest = row.partition("x")
    workers, _, latency = rest.partition("@")
    return Conditions(
        int(runs),
        int(workers),
        seconds=hours * HOUR,
        evaluation_seconds=hours * 30,
        latency=float(latency) / 1000,
        capacity=capacity,
    )


def line_of(outcome: Outcome) -> tuple[str, ...]:
    """Return a row of the table."""
    made, calls = outcome.conditions, sum(outcome.calls.values())
    return (
        f"{made.runs:,}",
        f"{made.workers}",
        f"{1000 * made.latency:g}",
        f"{outcome.throughput:,.0f}",
        f"{outcome.throughput / outcome.ideal:.0%}",
        f"{outcome.idle:.1%}",
        f"{outcome.lost:,} of {outcome.claims:,}",
        f"{60 * calls / outcome.ended:.2f}",
        f"{outcome.operations / made.runs:,.0f}",
        f"{outcome.operations / outcome.ended:,.0f}",
        f"{outcome.busiest_minute / 60:,.0f}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate the rows, and print each as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--row", action="append", help=f"RUNSxWORKERS@MILLISECONDS; without: {' '.join(ROWS)}")
    parser.add_argument("--hours", type=float, default=1.0, help="mean of a run's training (1)")
    parser.add_argument("--capacity", type=float, default=float("inf"), help="operations a second of the file server")
    parser.add_argument("--folder", type=Path, help="where the stores lie for the time, best in memory")
    chosen = parser.parse_args(arguments)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for row in chosen.row or ROWS:
        started = time.process_time()
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            outcome = Cluster(conditions_of(row, chosen.hours, chosen.capacity), Path(folder) / "store").run()
        print(f"| {' | '.join(line_of(outcome))} |", flush=True)
        purposes = ", ".join(f"{purpose} {count:,.0f}" for purpose, count in outcome.by_purpose.items())
        waits = ", ".join(f"{what} {seconds / HOUR:,.1f} h" for what, seconds in outcome.waited.items())
        print(
            f"<!-- operations: {purposes}; workers: {waits}; killed {outcome.killed}, preempted {outcome.preempted}, "
            f"ended early {outcome.early}; "
            f"{outcome.ended / HOUR:.1f} h simulated in {time.process_time() - started:.0f} s of a core -->",
            flush=True,
        )


if __name__ == "__main__":
    main()
