"""What shells complete besides commands and options: grids, scales, runs of a store, and --select. Without torch.

A mistake in what was typed so far completes to nothing: a shell is no place for messages.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, get_args

import typer

from bench.errors import UserError

# Bash ends a word at = unless it is quoted, hands its parts over as words, and wants the last part back.
BREAK = "="
NEEDS_QUOTES = re.compile(r"([^\w@%+=:,./*?-])")
RUN_ID = re.compile("[0-9a-f]{16}")


def complete_grid(incomplete: str) -> list[str]:
    """Return the grids of the suite whose names begin so; shells complete paths by themselves."""
    from bench.grid.suite import suite_grids

    return [name for name in suite_grids() if name.startswith(incomplete)]


def complete_scale(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the scales of the grids that were typed."""
    names = [name for grid in _grids(ctx) for name in grid.scales]
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete)))


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the runs that lie in the store that was typed, else in results."""
    folder = Path(ctx.params.get("store") or "results") / "runs"
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if RUN_ID.fullmatch(entry.name))
    except OSError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_selection(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return KEY= of the keys that begin so; of one key, with the values that the runs of the grids have."""
    from bench.plan.selection import KEYS, values_of

    key, equals, value = incomplete.partition(BREAK)
    keys = [name for name in KEYS if (name == key if equals else name.startswith(key))]
    if len(keys) != 1:
        return [f"{name}{BREAK}" for name in keys]
    found: dict[str, None] = {}
    for plan in _plans(ctx):
        found |= dict.fromkeys(_states() if keys[0] == "status" else values_of(plan, keys[0]))
    return [f"{keys[0]}{BREAK}{name}" for name in found if name.startswith(value)]


@contextmanager
def words_of_bash() -> Iterator[None]:
    """Let a program that bash asks for completions see whole words, and give bash the parts that it asked for."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    if "complete_bash" not in os.environ.values() or len(words) < 2:
        yield
        return
    current = int(os.environ.get("COMP_CWORD", "0"))
    joined: list[str] = []
    place, typed, kept = current, "", ""
    for number, word in enumerate(words):
        if joined and number > 1 and BREAK in (word, words[number - 1]):
            joined[-1] += word
        else:
            joined.append(word)
        if number == current:
            place, typed = len(joined) - 1, joined[-1]
            kept = typed if word == BREAK else typed.removesuffix(word)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(place)
    if typed.startswith("--"):  # --select=cell=DST: what the option is given is completed alone
        typed, kept = typed.partition(BREAK)[2], kept.partition(BREAK)[2]
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            yield
    finally:
        for line in answer.getvalue().splitlines():
            rest = line.removeprefix(kept)
            print(rest if typed.startswith(("'", '"')) else NEEDS_QUOTES.sub(r"\\\1", rest))


def _states() -> tuple[str, ...]:
    from bench.work.readiness import State

    return get_args(State)


def _grids(ctx: typer.Context) -> list[Any]:
    from bench.grid import grid_files, load_grid
    from bench.grid.suite import find_grid

    # Where the value of an option is to come next, the words before it are not assigned to arguments yet.
    typed = ctx.params.get("grids") or [ctx.params.get("grid") or name for name in ctx.args or [""]]
    return _known(lambda: [load_grid(path) for path in grid_files([find_grid(Path(name)) for name in typed if name])])


def _plans(ctx: typer.Context) -> list[Any]:
    from bench.plan import make_plan

    scale = ctx.params.get("scale") or "paper"
    return _known(lambda: [make_plan(grid, scale, None) for grid in _grids(ctx)])


def _known(read: Callable[[], list[Any]]) -> list[Any]:
    try:
        return read()
    except (UserError, OSError):
        return []
