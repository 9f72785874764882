"""`python -m bench run`: one worker, or several, for the open work of a grid."""

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.folders import check_writable
from bench.commands.gpu import Force, lacks_gpu, stop_without_gpu
from bench.commands.options import (
    CheckpointSeconds,
    DataPath,
    Device,
    DeviceName,
    GridPath,
    Retry,
    ScaleName,
    Selections,
    StorePath,
    log_to_stderr,
)

Parallel = Annotated[
    int,
    typer.Option(
        "--parallel",
        min=1,
        max=1_000,
        metavar="N",
        help="Work in N processes at once, each with its share of the cores: for runs too small to fill a device. "
        "Rounding depends on the number of threads, and so on N.",
    ),
]
Decoders = Annotated[
    int | None,
    typer.Option(
        "--decoders",
        min=0,
        max=256,
        metavar="N",
        help="Decode images of ImageNet and other sets that stay in their files in N processes beside training. No "
        "number of a run depends on it.",
        show_default="one for each other core",
    ),
]


def run(
    grid: GridPath,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    data: DataPath = None,
    select: Selections = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, max=1_000_000, metavar="N", help="Train at most N runs.", show_default="no limit"
        ),
    ] = None,
    retry: Retry = False,
    device: DeviceName = Device.auto,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Deterministic algorithms on a GPU, slower.", show_default="fastest"),
    ] = False,
    checkpoint_seconds: CheckpointSeconds = 120.0,
    parallel: Parallel = 1,
    decoders: Decoders = None,
    force: Force = False,
) -> None:
    """Train the runs that are missing, in the order of the plan, and evaluate finished runs.

    Runs are evaluated on every set the grid asks for that is still missing. A failed run is recorded, and the others go
    on. Several `run` commands on one store share the work. Exit code: 0 if all selected runs are done and evaluated, 1
    if not, 2 for a mistake in what was given or a missing GPU, 75 after an interruption (the same command continues).
    """
    from bench.work.options import Options, set_thread_variables

    set_thread_variables()  # before anything imports torch
    from bench.evaluation.samples import missing_samples
    from bench.grid import load_grid
    from bench.plan import make_plan, variants_of, work_of
    from bench.plan import select as select_runs
    from bench.plan.total import say_left
    from bench.store.store import Store
    from bench.work.repair import clear_failures
    from bench.work.summary import is_finished, summarise

    where = Store(store)
    loaded = load_grid(grid)
    made = make_plan(loaded, scale, where, variants_of(loaded, scale, where, data))
    chosen = select_runs(made, select or [])
    work = work_of(made, chosen, limit)
    if not force and lacks_gpu(made, work, where, device, retry=retry):
        stop_without_gpu([grid], scale, store, data)
    log_to_stderr()
    if retry:
        check_writable("--store", store)
        clear_failures(work_of(made, chosen), where)
        made = make_plan(loaded, scale, where, variants_of(loaded, scale, where, data))
        ids = {run.id for run in chosen}
        chosen = tuple(run for run in made.runs if run.id in ids)
        work = work_of(made, chosen, limit)
        if not force and lacks_gpu(made, work, where, device, retry=False):  # checksums may have found more to train
            stop_without_gpu([grid], scale, store, data)
    ids = {run.id for run in work.runs}

    def left() -> str:
        now = make_plan(loaded, scale, where, variants_of(loaded, scale, where, data))
        return say_left([now], ids, parallel)

    options = Options(data, device.value, deterministic, checkpoint_seconds, decoders=decoders)
    sheets = missing_samples(where, ((run.spec.data, run.evaluations) for run in work.runs))
    code = 0
    if not is_finished(work, where) or sheets:  # else without the seconds that importing torch takes
        check_writable("--store", store)
        if parallel == 1:
            from bench.work.worker import run_worker

            code = run_worker(work, where, options, say_left=left)
        else:
            from bench.work.parallel import run_parallel

            code = run_parallel(work, where, options, parallel, left)
    raise typer.Exit(code or summarise(work_of(made, chosen), where))
