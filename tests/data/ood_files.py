"""Files in the formats of SVHN and MNIST, of a few images, whose MD5s pass for the published ones."""

import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from bench.data.catalog import SHOWN
from tests.data.records import change_set

SVHN = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
MNIST = np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)


def write_ood(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Write both files where torchvision keeps them; return their paths."""
    paths = {name: root / SHOWN[name].path for name in ("svhn", "mnist")}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    savemat(paths["svhn"], {"X": SVHN.transpose(1, 2, 3, 0), "y": np.array([[10]] * len(SVHN))}, do_compression=True)
    header = struct.pack(">4i", 2051, *MNIST.shape)
    paths["mnist"].write_bytes(gzip.compress(header + MNIST.tobytes()))
    for name, path in paths.items():
        publish(name, path, monkeypatch)
    return paths


def publish(name: str, path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Make the MD5 of this file the published one."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    change_set(name, monkeypatch, md5=md5, **changes)
