"""A scale that is of no use without a GPU stops before any work where there is none, unless with --force."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from bench.commands.options import Device
from bench.commands.plan import plan

if TYPE_CHECKING:
    from bench.plan import Plan
    from bench.store.store import Store
    from bench.work.items import Work

Force = Annotated[
    bool, typer.Option("--force", help="Train a scale that needs a GPU without one.", show_default="stop")
]


def lacks_gpu(made: "Plan", work: "Work", store: "Store", device: Device, *, retry: bool) -> bool:
    """Return whether work of a plan that needs a GPU would start here without one; `retry`: failed runs are work."""
    from bench.work.options import set_thread_variables
    from bench.work.summary import is_finished

    if not made.needs_gpu or made.finished or (is_finished(work, store) and not retry):
        return False
    set_thread_variables()  # before anything imports torch
    import torch

    return device is Device.cpu or not torch.cuda.is_available()


def stop_without_gpu(grids: Sequence[Path], scale: str, store: Path, data: Path | None) -> NoReturn:
    """Print what the grids cost and what to do instead, and end the program with exit code 2."""
    plan(list(grids), scale=scale, store=store, data=data)
    print(
        f"Stopped before any work: the scale {scale!r} needs a GPU and this machine offers none. "
        "What makes sense here:\n"
        "  tox -e reproduce-digits\n"
        "  tox -e reproduce-cifar10 -- --scale tiny\n"
        "--force trains it all the same."
    )
    raise typer.Exit(2)
