"""How to work, as a command line says it. Without torch, so that a process can still set what torch reads at import."""

import os
from dataclasses import dataclass
from pathlib import Path

CHECKPOINT_SECONDS = 120.0
# How often a thread of libgomp looks for work before it sleeps; its own default is about 300,000. Where other processes
# want the cores, threads that only wait cost a small network most of its speed. On an idle machine sleeping costs more
# than it gives. docs/benchmarks.md has both sides.
SPIN_COUNT = "2000"
# So many processes a core, over the last minute, want to run on a machine that is not idle.
BUSY = 1.25
# A user who set one of these has decided how threads wait.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@dataclass(frozen=True)
class Options:
    """How a worker works.

    data                 where the images are, None: where the store's runs had them, else the data folder
    checkpoint_seconds   what a run that is killed outright may lose
    threads              CPU threads, None: torch's own choice; rounding follows their number
    decoders             processes that decode images ahead of training; None: one for each other core
    bars                 draw progress bars on a terminal; log lines otherwise
    """

    data: Path | None = None
    device: str = "auto"
    deterministic: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    threads: int | None = None
    bars: bool = True
    decoders: int | None = None


def set_thread_variables(threads: int | None = None) -> None:
    """Set the variables that torch's threads read when torch is imported, unless the user has set them."""
    if os.getloadavg()[0] > BUSY * (os.cpu_count() or 1) and not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def most_decoders() -> int:
    """Return how many processes may decode images beside this one: one for each other core that is its own.

    Several processes that train one run on a node divide its cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)
