"""The command line: `python -m bench plan | run | data | export | import | schema`.

Imports wait until a command needs them, so that --help is instant.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.archive import export, import_
from bench.commands.options import (
    CheckpointSeconds,
    DataPath,
    Device,
    DeviceName,
    Document,
    GridPath,
    GridPaths,
    Retry,
    ScaleName,
    StorePath,
    a_folder,
    make_console,
    run_app,
)
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.data.inventory import Row


MOST_TFLOPS = 1_000_000_000


def _typer(text: str) -> typer.Typer:
    # Without rich, help takes a tenth of a second; tracebacks stay Python's own.
    return typer.Typer(
        help=text, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )


app = _typer("Plan and train a grid of experiments: cells -> runs -> tickets -> logits.")
data_app = _typer("The images: what is there, whether it is intact, how to get it.")
app.add_typer(data_app, name="data")


@app.command()
def plan(
    grids: GridPaths,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    data: DataPath = None,
    device: Annotated[
        Device,
        typer.Option(
            "--device", help="Whose hours to estimate; auto: a GPU's if the scale needs or the store used one."
        ),
    ] = Device.auto,
    tflops: Annotated[
        float | None,
        typer.Option(
            "--tflops",
            metavar="RATE",
            help="Sustained TFLOP/s to assume where the store has no measured speed.",
            show_default="20 of a GPU, 0.1 of a CPU",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.", show_default="tables")] = False,
) -> None:
    """Show the cells of a grid, the runs behind them, what is done and what the rest costs. Trains nothing.

    Of several grids: what they share, and what they cost together.
    """
    from bench.grid import grid_files, load_grid
    from bench.plan import (
        Together,
        make_plan,
        near_misses,
        print_plan,
        print_several,
        several_to_json,
        to_json,
        variants_of,
    )
    from bench.store.store import Store

    if tflops is not None and not 0 < tflops <= MOST_TFLOPS:
        raise UserError(f"--tflops: found {tflops:g}; allowed: more than 0 and at most {MOST_TFLOPS:,}")
    kind = None if device is Device.auto else device.value
    where = Store(store)
    made = [
        make_plan(loaded, scale, where, variants_of(loaded, scale, where, data), device=kind, tflops=tflops)
        for loaded in map(load_grid, grid_files(grids))
    ]
    misses = near_misses(made, where)
    if len(made) == 1 and as_json:
        print(to_json(made[0], misses))
    elif len(made) == 1:
        print_plan(made[0], make_console(), misses)
    elif as_json:
        print(several_to_json(Together.of(made), misses))
    else:
        print_several(Together.of(made), make_console(), misses)


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


@app.command()
def run(
    grid: GridPath,
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    data: DataPath = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="KEY=VALUE",
            help="Only the runs that fit; keys: cell, method, members, sparsity, run (beginning of an id), seed, "
            "status. Repeat it to narrow down, or with the same key to widen.",
            show_default="all runs",
        ),
    ] = None,
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
) -> None:
    """Train the runs that are missing, in the order of the plan, and evaluate finished runs.

    Runs are evaluated on every set the grid asks for that is still missing. A failed run is recorded, and the others go
    on. Several `run` commands on one store share the work. Exit code: 0 if all selected runs are done and evaluated, 1
    if not, 2 for a mistake in what was given, 75 after an interruption (the same command continues).
    """
    from bench.work.options import Options, set_thread_variables

    set_thread_variables()  # before anything imports torch
    from bench.evaluation.samples import missing_samples
    from bench.grid import load_grid
    from bench.plan import make_plan, variants_of, work_of
    from bench.plan import select as select_runs
    from bench.store.store import Store
    from bench.work.repair import clear_failures
    from bench.work.summary import is_finished, summarise

    where = Store(store)
    loaded = load_grid(grid)
    made = make_plan(loaded, scale, where, variants_of(loaded, scale, where, data))
    chosen = select_runs(made, select or [])
    _log_to_stderr()
    if retry:
        clear_failures(work_of(made, chosen), where)
        made = make_plan(loaded, scale, where, variants_of(loaded, scale, where, data))
        ids = {run.id for run in chosen}
        chosen = tuple(run for run in made.runs if run.id in ids)
    work = work_of(made, chosen, limit)
    options = Options(data, device.value, deterministic, checkpoint_seconds, decoders=decoders)
    sheets = missing_samples(where, ((run.spec.data, run.evaluations) for run in work.runs))
    if is_finished(work, where) and not sheets:
        code = 0  # without the seconds that importing torch takes
    elif parallel == 1:
        from bench.work.worker import run_worker

        code = run_worker(work, where, options)
    else:
        from bench.work.parallel import run_parallel

        code = run_parallel(work, where, options, parallel)
    raise typer.Exit(code or summarise(work_of(made, chosen), where))


RootPath = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="The data folder.",
        show_default="$FREETICKETS_DATA, else data/",
        callback=a_folder,
    ),
]
FromPath = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR_OR_ZIP",
        help="Look at these images instead: as --data of `run`.",
        show_default="what is in the data folder",
    ),
]


@data_app.command("list")
def list_data(root: RootPath = None) -> None:
    """Show which data sets are there, and how to get those that are not. Reads no image."""
    from bench.data.inventory import inventory

    _print_rows(inventory(_root(root)))


@data_app.command("verify")
def verify_data(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A data set.", show_default="all that is there")
    ] = None,
    root: RootPath = None,
    data: FromPath = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="FILE",
            help="Of imagenet: check instead that this state_dict of torchvision's ResNet-50 (IMAGENET1K_V1) has its "
            "published accuracy on the test images.",
            show_default="decode every image",
        ),
    ] = None,
) -> None:
    """Check every file against its checksum and every image; exit code 1 if anything is damaged or absent by name."""
    from bench.data.inventory import verify

    _log_to_stderr()
    if model is None:
        rows = verify(name, _root(root), data)
    elif name != "imagenet":
        raise UserError(
            f"--model: found with {name or 'no data set'}; allowed: bench data verify imagenet --model FILE"
        )
    else:
        from bench.evaluation.reference import verify_with_model
        from bench.work.context import find_device

        rows = [verify_with_model(model, data or _root(root), find_device("auto"))]
    _print_rows(rows)
    bad = ("damaged", "absent") if name else ("damaged",)
    raise typer.Exit(int(any(row.state in bad for row in rows)))


@data_app.command("prepare")
def prepare_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One that `list` names.")],
    root: RootPath = None,
    data: FromPath = None,
) -> None:
    """Download, extract or decode a data set now, for machines without internet later."""
    from bench.data.inventory import prepare

    _log_to_stderr()
    _print_rows([prepare(name, _root(root), data, progress=True)])


app.command()(export)
app.command("import")(import_)


@app.command()
def schema(
    of: Annotated[
        Document,
        typer.Argument(metavar="store|grid|site", help="The files of a store, a grid, or a site file of `slurm`."),
    ],
) -> None:
    """Print a JSON Schema, with which editors complete grids and site files, and programs check a store."""
    import json

    from bench.commands.schema import SCHEMAS

    print(json.dumps(SCHEMAS[of](), indent=2))


def _root(root: Path | None) -> Path:
    from bench.data.cache import default_root

    return default_root() if root is None else root


def _print_rows(rows: Sequence["Row"]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("data set", "images are", "state", "images", "where"):
        table.add_column(title, justify="right" if title == "images" else "left", overflow="fold")
    for row in rows:
        count = "" if row.images is None else f"{row.images:,}"
        table.add_row(row.name, row.variant, row.state, count, str(row.where or "-"))
    console = make_console()
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}")


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("bench").setLevel(logging.INFO)  # not the root: libraries log what nobody asked for


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
