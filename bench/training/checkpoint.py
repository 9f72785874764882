"""Checkpoints: one file, replaced atomically, checked against its CRC-32s before a byte of it is used."""

import logging
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from bench.store.files import atomic_path
from bench.training.position import Position

log = logging.getLogger(__name__)

# What the state of a trainer consists of.
STATE = {"run", "model", "optimizer", "masks", "at", "loss_sum", "correct", "best"}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; a kill at any moment leaves the old or the new one, whole."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, device: torch.device, run: str) -> dict[str, Any] | None:
    """Return the state of a run, by its id, or None if there is none.

    What is no whole checkpoint of this run is named in a warning and set aside as checkpoint.pt.damaged: the run starts
    over, since results must not depend on what the damage was. OSError if the file cannot be read at all.
    """
    if not path.exists():
        return None
    damage = _damage(path)
    if damage is None:
        state = _read(path, device)
        damage = _mismatch(state, run)
        if damage is None:
            return dict(state)
    aside = path.with_suffix(".pt.damaged")
    path.replace(aside)
    log.warning("%s is no checkpoint of this run (%s); kept as %s, the run starts over", path, damage, aside.name)
    return None


def _damage(path: Path) -> str | None:
    if not path.is_file():
        return "a folder or a pipe in its place"
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except (zipfile.BadZipFile, IsADirectoryError, NotImplementedError, RuntimeError) as error:
        return f"truncated or altered: {error}"
    return None if record is None else f"altered: CRC-32 of {record}"


def _read(path: Path, device: torch.device) -> Any:
    """Return the content, None if torch cannot read it; without torch's advice to let files run code."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        log.debug("%s", error)
        return None


def _mismatch(state: Any, run: str) -> str | None:
    """Return why a content is no state of this run."""
    if not isinstance(state, dict) or not isinstance(state.get("at"), dict):
        return "the content is another"
    if state.get("run") != run:
        return f"it belongs to run {state.get('run')}"
    missing = [*sorted(STATE - state.keys()), *sorted({field.name for field in fields(Position)} ^ state["at"].keys())]
    return f"another version wrote it: {', '.join(missing)}" if missing else None
