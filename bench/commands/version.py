"""`--version`: which suite this is, of which commit."""

from typing import Annotated

import typer


def print_version(wanted: bool) -> None:
    """Print the version of the suite and the commit that it runs from, and end the program."""
    if not wanted:
        return
    from bench.work.code import git_state, suite_version

    commit = git_state()
    changed = ", with changes" if commit is not None and commit.dirty else ""
    print(f"freetickets-bench {suite_version()} ({f'commit {commit.commit}{changed}' if commit else 'no checkout'})")
    raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version of the suite and its commit.", callback=print_version, is_eager=True
    ),
]
