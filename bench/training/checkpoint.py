"""Checkpoints: one file, replaced atomically, checked against its CRC-32s before a byte of it is used."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from bench.store.files import atomic_path

log = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; a kill at any moment leaves the old or the new one, whole."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the state, or None if there is none.

    A truncated or altered checkpoint is named in a warning and set aside as checkpoint.pt.damaged: the run starts over,
    since results must not depend on what the damage was.
    """
    if not path.exists():
        return None
    damage = _damage(path)
    if damage is None:
        return dict(torch.load(path, map_location=device, weights_only=True))
    aside = path.with_suffix(".pt.damaged")
    path.replace(aside)
    log.warning("%s was truncated or altered (%s); kept as %s, the run starts over", path, damage, aside.name)
    return None


def _damage(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return str(error)
    return None if record is None else f"CRC-32 of {record}"
