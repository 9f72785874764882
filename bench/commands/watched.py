"""How `watch` shows a store: a row for each run that is worked on, its curves as small bars, and what is left."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bench.errors import counted, printable
from bench.plan.live import LiveRun, Snapshot
from bench.plan.show import STATUSES, make_table
from bench.plan.total import duration

if TYPE_CHECKING:
    from rich.console import Console, Group

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
MOST_RUNS, MOST_PROBLEMS = 30, 5
# From so many columns on the loss of validation has its place, and curves are longer.
WIDE = 120


def sparkline(values: Sequence[float | None], width: int, bars: str = BARS) -> str:
    """Return numbers as bars between the least and the greatest of them; of more than fit, the last of each stretch."""
    known = [value for value in values if value is not None and abs(value) != float("inf") and value == value]
    if not known:
        return ""
    shown = known if len(known) <= width else [known[(place + 1) * len(known) // width - 1] for place in range(width)]
    low, high = min(shown), max(shown)
    top = len(bars) - 1
    return "".join(bars[round((value - low) / (high - low) * top) if high > low else 0] for value in shown)


def shown(snapshot: Snapshot, console: "Console", damage: Sequence[str] = ()) -> "Group":
    """Return what a console prints of a store; `damage` are histories that cannot be read."""
    from rich.console import Group
    from rich.text import Text

    lines: list[object] = []
    most = max(1, console.height - 8 - MOST_PROBLEMS) if console.is_terminal else MOST_RUNS
    if snapshot.runs:
        lines.append(_table(snapshot.runs[:most], console))
        if len(snapshot.runs) > most:
            lines.append(Text(f"... and {len(snapshot.runs) - most:,} more at work", style="dim"))
        lines.append(Text(""))
    lines += [Text(line) for line in _totals(snapshot)]
    problems = [*snapshot.problems, *damage]
    lines += [Text(printable(problem)) for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(Text(f"... and {len(problems) - MOST_PROBLEMS:,} more; `bench list` names what is damaged"))
    return Group(*lines)  # type: ignore[arg-type]


def _table(runs: Iterable[LiveRun], console: "Console") -> object:
    wide = console.width >= WIDE
    bars = PLAIN_BARS if console.options.ascii_only else BARS
    width = 16 if wide else 6
    validation = ["validation loss"] if wide else []
    table = make_table(
        "run", "cell", ">epoch", "cell phase", ">images/s", "train loss", *validation, "validation", ">left"
    )
    table.columns[3].header = "phase"
    for run in runs:
        last = run.history[-1] if run.history else None
        curves = [
            _curve([line.train_loss for line in run.history], width, bars, "{:.3f}"),
            _curve([line.validation_loss for line in run.history], width, bars, "{:.3f}"),
            _curve([line.validation_accuracy for line in run.history], width, bars, "{:.1%}"),
        ]
        if not wide:
            del curves[1]
        speed = "" if run.images_per_second is None else f"{run.images_per_second:,.0f}"
        left = "" if run.seconds_left is None else duration(run.seconds_left / 3600)
        epoch = f"{last.epoch if last else 0}/{run.epochs if run.epochs is not None else '?'}"
        phase = f"{run.phase} ({run.damage})" if run.damage else run.phase
        table.add_row(run.id[:8], printable(run.cell), epoch, printable(phase), speed, *curves, left)
    return table


def _curve(values: Sequence[float | None], width: int, bars: str, form: str) -> str:
    last = values[-1] if values else None
    return "" if last is None else f"{sparkline(values, width, bars)} {form.format(last)}"


def _totals(snapshot: Snapshot) -> Iterable[str]:
    states = [*STATUSES, *sorted(set(snapshot.counts) - set(STATUSES))]
    counts = ", ".join(f"{snapshot.counts[state]:,} {state}" for state in states if snapshot.counts[state])
    yield f"{counted(sum(snapshot.counts.values()), 'run')}{f': {counts}' if counts else ''}"
    if not snapshot.runs:
        yield "no process works on any of them"
    if snapshot.left == ():
        yield "nothing is left of the grids"
    yield from (f"left: {part}" for part in snapshot.left or ())
    if snapshot.left and snapshot.hours_left is not None and len(snapshot.runs) > 1:
        workers = counted(len(snapshot.runs), "worker")
        yield f"  about {duration(snapshot.hours_left)} with {workers}, as now"
