"""How to work, as a command line says it. Without torch, so that a process can still set what torch reads at import."""

import os
from dataclasses import dataclass
from pathlib import Path

CHECKPOINT_SECONDS = 120.0
# How often a thread of libgomp looks for work before it sleeps. Its own default, about 300,000, costs a machine that
# other processes use most of its speed, since threads that only wait keep the cores. docs/benchmarks.md has both sides.
SPIN_COUNT = "2000"
# A user who set one of these has decided how threads wait.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@dataclass(frozen=True)
class Options:
    """How a worker works.

    data                 where the images are, None: where the store's runs had them, else the data folder
    checkpoint_seconds   what a run that is killed outright may lose
    threads              CPU threads, None: torch's own choice; rounding follows their number
    bars                 draw progress bars on a terminal; log lines otherwise
    """

    data: Path | None = None
    device: str = "auto"
    deterministic: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    threads: int | None = None
    bars: bool = True


def set_thread_variables(threads: int | None = None) -> None:
    """Set the variables that torch's threads read when torch is imported, unless the user has set them."""
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
