"""A process that trains one run and dies where it is told: python -m tests.training.victim STORE SPEC WHERE.

WHERE is `step:N` (SIGKILL right after the weights of optimiser step N moved, before anything is saved), `write:N`
(SIGKILL in the N-th atomic write, the temporary file half written and not renamed), `rename:N` (SIGKILL right after the
N-th rename), `signal:NAME:N` (a polite signal at step N), or `never`.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import bench.store.files
import bench.store.logits
import bench.store.run_folder
import bench.training.checkpoint
from bench.store.store import Store
from bench.training.trainer import Trainer
from tests.training.runs import SPECS, do, with_parent


def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def arm(where: str) -> None:
    """Plant the death."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    kind, *arguments = where.split(":")
    if kind in ("step", "signal"):
        number = signal.SIGKILL if kind == "step" else signal.Signals[arguments[0]]
        at, step = int(arguments[-1]), Trainer._step

        def stepping(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> None:
            step(self, images, labels)
            if self.at.steps == at:
                die(number)

        Trainer._step = stepping  # type: ignore[method-assign]
    elif kind in ("write", "rename"):
        real, count = bench.store.files.atomic_path, 0

        @contextmanager
        def dying(path: Path) -> Iterator[Path]:
            nonlocal count
            count += 1
            with real(path) as temporary:
                yield temporary
                if kind == "write" and count == int(arguments[0]):
                    os.truncate(temporary, temporary.stat().st_size // 2)
                    die()
            if kind == "rename" and count == int(arguments[0]):
                die()

        for module in (bench.store.files, bench.store.run_folder, bench.store.logits, bench.training.checkpoint):
            module.atomic_path = dying  # type: ignore[attr-defined]


if __name__ == "__main__":
    store, name, where = sys.argv[1:]
    torch.set_num_threads(1)
    arm(where)
    sys.exit(do(with_parent(SPECS[name]()), Store(Path(store)), checkpoint_seconds=0.0))
