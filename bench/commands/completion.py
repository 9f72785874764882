"""What shells complete besides commands and options: grids, scales, runs of a store, and --select. Without torch.

A mistake in what was typed so far completes to nothing: a shell is no place for messages.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from bench.errors import UserError

# Bash ends a word at = unless it is quoted, hands its parts over as words, and wants the last part back.
BREAK = "="
NEEDS_QUOTES = re.compile(r"([^\w@%+=:,./*?-])")
RUN_ID = re.compile("[0-9a-f]{16}")


def complete_grid(ctx: Any, param: Any, incomplete: str) -> list[str]:
    """Return the grids of the suite whose names begin so; shells complete paths by themselves."""
    from bench.grid.suite import suite_grids

    del ctx, param
    return _shown([name for name in suite_grids() if name.startswith(incomplete)])


def complete_scale(ctx: Any, param: Any, incomplete: str) -> list[str]:
    """Return the scales of the grids that were typed."""
    del param
    names = [name for grid in _grids(ctx) for name in grid.scales]
    return _shown(dict.fromkeys(name for name in names if name.startswith(incomplete)))


def complete_run(ctx: Any, param: Any, incomplete: str) -> list[str]:
    """Return the ids of the runs that lie in the store that was typed, else in results."""
    del param
    folder = Path(ctx.params.get("store") or "results") / "runs"
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if RUN_ID.fullmatch(entry.name))
    except OSError:
        return []
    return _shown([name for name in names if name.startswith(incomplete.lower())])


def complete_selection(ctx: Any, param: Any, incomplete: str) -> list[str]:
    """Return KEY= of the keys that begin so; of one key, with the values that the runs of the grids have."""
    from bench.plan.selection import KEYS, values_of

    del param
    key, equals, value = incomplete.partition(BREAK)
    keys = [name for name in KEYS if (name == key if equals else name.startswith(key))]
    if len(keys) != 1:
        return _shown([f"{name}{BREAK}" for name in keys])
    found: dict[str, None] = {}
    for plan in _plans(ctx):
        found |= dict.fromkeys(_states() if keys[0] == "status" else values_of(plan, keys[0]))
    return _shown([f"{keys[0]}{BREAK}{name}" for name in found if name.startswith(value)])


def prepare_completion() -> None:
    """Put the words together again that bash has broken at =, where it asks for completions."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    if "complete_bash" not in os.environ.values() or len(words) < 2:
        return
    current = int(os.environ.get("COMP_CWORD", "0"))
    joined: list[str] = []
    place = current
    for number, word in enumerate(words):
        glued = number > 1 and (word == BREAK or words[number - 1] == BREAK)
        if glued and joined:
            joined[-1] += word
        else:
            joined.append(word)
        if number == current:
            place = len(joined) - 1
            _typed["raw"] = joined[-1]
            _typed["broken"] = joined[-1].removesuffix("" if word == BREAK else word)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(place)


# Of bash: the word at the cursor as it was typed, and the part of it that bash keeps.
_typed: dict[str, str] = {}


def _shown(values: Iterable[str]) -> list[str]:
    """Return completions in the form that the shell wants; zsh quotes by itself."""
    if not _typed:
        return list(values)
    quoted = _typed["raw"].lstrip("-").startswith(("'", '"'))
    # What --select= leaves to the option's own completion is the rest.
    kept = _typed["broken"].partition(BREAK)[2] if _typed["broken"].startswith("-") else _typed["broken"]
    return [
        name.removeprefix(kept) if quoted else NEEDS_QUOTES.sub(r"\\\1", name.removeprefix(kept)) for name in values
    ]


def _states() -> tuple[str, ...]:
    from bench.work.readiness import State

    return get_args(State)


def _grids(ctx: Any) -> list[Any]:
    from bench.grid import grid_files, load_grid
    from bench.grid.suite import find_grid

    # Where the value of an option is to come next, the words before it are not assigned to arguments yet.
    typed = ctx.params.get("grids") or [ctx.params.get("grid") or name for name in ctx.args or [None]]
    return _known(lambda: [load_grid(path) for path in grid_files([find_grid(Path(name)) for name in typed if name])])


def _plans(ctx: Any) -> list[Any]:
    from bench.plan import make_plan

    scale = ctx.params.get("scale") or "paper"
    return _known(lambda: [make_plan(grid, scale, None) for grid in _grids(ctx)])


def _known(read: Callable[[], list[Any]]) -> list[Any]:
    try:
        return read()
    except (UserError, OSError):
        return []
