"""`python -m bench export | import`: an archive of what a report needs, to deposit, and to rebuild the report from."""

import contextlib
import sys
import tarfile
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.folders import a_writable_folder, check_writable
from bench.commands.options import GridPath, ScaleName, StorePath
from bench.errors import UserError, counted

MOST_LINES = 10


def export(
    grid: GridPath,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The tar to write, compressed as .tar.gz.")] = Path(
        "results.tar.gz"
    ),
    scale: ScaleName = "paper",
    store: StorePath = Path("results"),
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            metavar="SPDX",
            help="The licence of the archive, such as CC-BY-4.0.",
            show_default="not stated",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="FAMILY",
            help="Leave these evaluation sets out, such as cifar-10-c, ood or pgd-20; may be given several times.",
            show_default="all sets are in",
        ),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Tickets and rewind checkpoints too.", show_default="without")
    ] = False,
) -> None:
    """Write an archive of all that the report of a grid needs, with a manifest and checksums.

    Runs that are done are in it; what is unfinished, failed or damaged is named and left out. The same store gives the
    same bytes.
    """
    from bench.grid import load_grid
    from bench.plan import make_plan
    from bench.plan.export import make_export
    from bench.store.archive import GridText, Manifest, Suite, write_archive
    from bench.store.store import Store
    from bench.work.code import git_state, suite_version

    stated = "not stated" if licence is None else _spdx(licence)
    _check_out(out)
    loaded, where = load_grid(grid), Store(store)
    plan = make_plan(loaded, scale, where)
    made = make_export(plan, where, weights=weights, without=without or ())
    suite = Suite(version=suite_version(), git=git_state())
    sources = [loaded.path, *([loaded.claims] if loaded.claims else [])]
    manifest = Manifest(
        suite=suite,
        licence=stated,
        grid=GridText(
            name=plan.grid, scale=scale, files={path.name: path.read_text(encoding="utf-8") for path in sources}
        ),
        runs=tuple(made.runs),
        left_out=tuple(made.left_out),
        rebuild=(
            *([f"git checkout {suite.git.commit}"] if suite.git else []),
            "python -m bench import FILE --store imported",
            f"python -m analysis report {_in_the_suite(loaded.path)} --scale {scale} --store imported",
        ),
        files=made.files(),
    )
    write_archive(out, manifest, made.contents)
    size = out.stat().st_size / 1e6
    what = f"{counted(len(made.runs), 'run')}, {counted(len(manifest.files), 'file')}"
    print(f"{out}: {what}, {size:,.1f} MB; licence: {stated}")
    for entry in made.left_out[:MOST_LINES]:
        print(f"not exported: {entry.what} ({entry.why})", file=sys.stderr)
    if len(made.left_out) > MOST_LINES:
        print(f"not exported: {len(made.left_out) - MOST_LINES:,} more, in the manifest", file=sys.stderr)


def import_(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that `export` wrote.")],
    store: Annotated[
        Path, typer.Option("--store", metavar="DIR", help="The results directory.", callback=a_writable_folder)
    ] = Path("results"),
) -> None:
    """Take the runs of an archive into a store, a new one or one of the same images. All of it, or nothing.

    Every file is compared with its checksum. Nothing that is in the store is changed.
    """
    from bench.store.archive import import_archive
    from bench.store.store import Store

    manifest = import_archive(archive, Store(store))
    print(f"{store}: {counted(len(manifest.runs), 'run')} of grid {manifest.grid.name}, scale {manifest.grid.scale}")
    print(f"licence: {manifest.licence}")
    for entry in manifest.left_out[:MOST_LINES]:
        print(f"not in the archive: {entry.what} ({entry.why})")
    if len(manifest.left_out) > MOST_LINES:
        print(f"not in the archive: {len(manifest.left_out) - MOST_LINES:,} more, in its manifest")


def _check_out(out: Path) -> None:
    """Refuse to write where nothing can be written, and over what is no archive."""
    check_writable("--out", out.parent)
    if out.exists():
        with contextlib.suppress(OSError):
            if out.is_file() and tarfile.is_tarfile(out):
                return
        raise UserError(f"--out {out}: there already, and no archive; give another name")


def _in_the_suite(grid: Path) -> str:
    """Return where a grid is in a checkout, or its name: folders of this machine are nowhere else."""
    checkout, path = Path(__file__).resolve().parents[2], grid.resolve()
    return path.relative_to(checkout).as_posix() if path.is_relative_to(checkout) else path.name


def _spdx(licence: str) -> str:
    """Return a licence as SPDX writes it; UserError for none."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        raise UserError(
            f"--licence: found {licence!r}; allowed: an identifier of spdx.org/licenses, such as CC-BY-4.0 or CC0-1.0, "
            "or an expression of several"
        ) from None
