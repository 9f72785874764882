"""`python -m bench data list | verify | prepare | pack`: the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.folders import a_folder, a_writable_folder
from bench.commands.options import log_to_stderr, make_app, make_console
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.data.inventory import Row

app = make_app("The images: what is there, whether it is intact, how to get it.", inside=True)

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


@app.command("list")
def list_data(root: RootPath = None) -> None:
    """Show which data sets are there, and how to get those that are not. Reads no image."""
    from bench.data.inventory import inventory

    _print_rows(inventory(_root(root)))


@app.command("verify")
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

    log_to_stderr()
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


@app.command("prepare")
def prepare_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One that `list` names.")],
    root: RootPath = None,
    data: FromPath = None,
) -> None:
    """Download, extract or decode a data set now, for machines without internet later."""
    from bench.data.inventory import prepare

    log_to_stderr()
    _print_rows([prepare(name, _root(root), data, progress=True)])


@app.command("pack")
def pack_data(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="The images: folders, tars, webdataset shards or Parquet files."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Where the packs go.", callback=a_writable_folder, show_default=False
        ),
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A data set.", show_default="a folder of your own")
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option(
            "--short-side",
            metavar="PIXELS",
            min=16,
            max=4096,
            help="Encode all images anew, those with a longer short side made this small: other images, and the "
            "variant of the data says so.",
            show_default="bytes as they are",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option("--quality", min=1, max=100, help="Of JPEGs that are encoded anew.", show_default="90"),
    ] = None,
) -> None:
    """Write the images into one tar for each part, with a CRC-32 of each image that every later read checks.

    For Parquet files, which give no single image, and for file systems where a million files are too many. Give the
    folder of the packs as --data of other commands.
    """
    from bench.data.pack import pack
    from bench.data.streamed.pack import Encoding

    if quality is not None and short_side is None:
        raise UserError("--quality: found without --short-side, without which the bytes stay as they are")
    encoding = None if short_side is None else Encoding(short_side, quality or 90)
    log_to_stderr()
    _print_rows(pack(name, data, out, encoding))


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
