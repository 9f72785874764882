"""What a store holds, without a grid: its runs, each as far as it can be read, and one of them by the start of its id.

A damaged store is read like any other: what cannot be read is named, and everything else is there.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bench.errors import UserError, nearest
from bench.spec.run import RunSpec
from bench.store.files import parsed_yaml, regular_bytes
from bench.store.logits import StoredLogits
from bench.store.run_folder import RunFolder
from bench.store.sizes import Size, Sizes, sizes_below, total
from bench.store.store import Store

MOST_CANDIDATES = 8
RUN_ID = re.compile(r"[0-9a-f]{16}")
# As bench.store.run_folder.Status, but for a folder that is there nothing is missing.
State = Literal["done", "running", "failed", "damaged", "unfinished"]


@dataclass(frozen=True)
class StoredRun:
    """A run that lies in a store."""

    store: Store
    folder: RunFolder

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @cached_property
    def _read(self) -> RunSpec | UserError:
        try:
            return read_spec(self.folder.path)
        except UserError as damage:
            return damage

    @property
    def spec(self) -> RunSpec | None:
        """What it is, None if that cannot be read."""
        return None if isinstance(self._read, UserError) else self._read

    @cached_property
    def state(self) -> State:
        """How far it is, by sizes and not by checksums."""
        status = self.folder.status() if self.spec is None else self.store.status(self.spec)
        return "unfinished" if status == "missing" else status

    @cached_property
    def damage(self) -> tuple[str, ...]:
        """What is damaged of it, a sentence each; sizes are compared, not checksums."""
        found = [str(self._read)] if isinstance(self._read, UserError) else []
        if self.state in ("done", "damaged"):
            found += self._damage_of_result()
        found += self._sizes.unread
        if self.state == "damaged" and not found:
            found = [f"{self.folder.path}: made from weights that its parent no longer has"]
        return tuple(found)

    def _damage_of_result(self) -> list[str]:
        try:
            self.folder.result()
            files = self.folder.damaged_files(deep=False)
            found = [f"{path}: gone, truncated or altered" for path in files if path.name != "spec.yaml" or self.spec]
            logits = StoredLogits.of_run(self.folder)
            lost = [logits.file(name) for name in logits.records() if not logits.has(name)]
            return found + [f"{path}: gone, truncated, or made with other tickets" for path in lost]
        except UserError as damage:
            return [str(damage)]
        except OSError as refused:
            return [f"{self.folder.path}: {refused.strerror}"]

    @cached_property
    def _sizes(self) -> Sizes:
        return sizes_below(self.store.root, self.folder.path)

    @property
    def sizes(self) -> Mapping[str, Size]:
        """Number and size of its files by kind."""
        return self._sizes.kinds

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return total(self.sizes).bytes


@dataclass(frozen=True)
class Contents:
    """The runs of a store in the order of their ids, and what lies among them and is none, a sentence each."""

    runs: tuple[StoredRun, ...]
    others: tuple[str, ...]

    @property
    def damage(self) -> tuple[str, ...]:
        """All that is damaged."""
        return (*self.others, *(sentence for run in self.runs for sentence in run.damage))


def contents(store: Store) -> Contents:
    """Return what lies in a store; UserError if there is none."""
    folder = store.root / "runs"
    if not os.path.lexists(store.root):
        raise UserError(f"--store {store.root}: no such folder; give --store DIR")
    runs: list[StoredRun] = []
    others: list[str] = []
    try:
        paths = sorted(folder.iterdir()) if os.path.lexists(folder) else []
    except OSError as refused:
        return Contents((), (f"{folder}: {refused.strerror}",))
    for path in paths:
        if RUN_ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            runs.append(StoredRun(store, RunFolder(path)))
        else:
            others.append(f"{path}: not the folder of a run")
    return Contents(tuple(runs), tuple(others))


def find_run(store: Store, beginning: str) -> StoredRun:
    """Return the one run whose id begins so; UserError that names the candidates if there are none or several.

    As in git, capitals will do.
    """
    runs = contents(store).runs
    found = [run for run in runs if run.id.startswith(beginning.lower())]
    if len(found) == 1:
        return found[0]
    ids = [run.id for run in found]
    if found:
        raise UserError(f"{beginning}: begins the ids of {len(found):,} runs: {_listed(ids)}; give more of one")
    if not runs:
        raise UserError(f"{beginning}: no such run; {store.root} holds none")
    close = nearest(beginning, [run.id[: len(beginning)] for run in runs])
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserError(
        f"{beginning}: no run in {store.root} has an id that begins so; {hint}"
        f"there are {_listed([run.id for run in runs])}"
    )


def read_spec(folder: Path) -> RunSpec:
    """Return the spec of a run; UserError that names the file if it is not the one that the run was made from."""
    path = folder / "spec.yaml"
    try:
        content = parsed_yaml(regular_bytes(path).decode())
        spec = RunSpec.model_validate_json(json.dumps(content))
    except OSError as refused:
        raise UserError(f"{path}: {refused.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}; it was altered, or another version wrote it") from None
    except (ValueError, TypeError):
        raise UserError(f"{path}: no spec of a run; it was truncated or altered") from None
    if spec.run_id != folder.name:
        raise UserError(f"{path}: the spec of run {spec.run_id}; it was altered, or another version wrote it")
    return spec


def _listed(ids: list[str]) -> str:
    more = f", ... and {len(ids) - MOST_CANDIDATES:,} more" if len(ids) > MOST_CANDIDATES else ""
    return ", ".join(ids[:MOST_CANDIDATES]) + more
