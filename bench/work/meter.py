"""What a session of training used: time, the most memory at once, and energy where the machine tells it.

Nothing is guessed: what cannot be read is absent. Energy is that of a whole GPU or of whole processors, with whatever
else ran on them.
"""

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench.store.records import Usage

PROCESS = Path("/proc/self")
POWERCAP = Path("/sys/class/powercap")

# Returns joules since a moment of its own choice; OSError if they cannot be read.
Counter = Callable[[], float]


class Meter:
    """Counts from its creation; `usage` may be asked for as often as one likes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = time.monotonic()
        self._delayed = _delay()
        self._resets = _reset_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._counters = {name: (counter, counter()) for name, counter in _counters(device).items()}

    def usage(self) -> Usage:
        """Return what was used up to now."""
        joules = {}
        for name, (counter, first) in self._counters.items():
            with suppress(OSError):
                joules[name] = counter() - first
        delayed = _delay()
        return Usage(
            seconds=time.monotonic() - self._started,
            delayed=None if delayed is None or self._delayed is None else delayed - self._delayed,
            host_bytes=_peak() if self._resets else None,
            device_bytes=torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None,
            joules=joules,
        )


def _delay() -> float | None:
    """Return the seconds that the first thread of this process has waited for a core while it could run (Linux)."""
    with suppress(OSError, ValueError, IndexError):
        return int((PROCESS / "schedstat").read_text().split()[1]) / 1e9
    return None


def _reset_peak() -> bool:
    """Let the peak of this process's memory begin anew, and say whether that is possible."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return _peak() is not None


def _peak() -> int | None:
    """Return the most bytes of memory that this process had at once since the peak began anew."""
    with suppress(OSError, ValueError, IndexError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _counters(device: torch.device) -> dict[str, Counter]:
    """Return the counters that can be read now."""
    wanted: dict[str, Callable[[], Counter]] = {"processors": _processors}
    if device.type == "cuda":
        wanted["gpu"] = lambda: _gpu(device)
    found = {}
    for name, open_counter in wanted.items():
        with suppress(OSError, ValueError):
            counter = open_counter()
            counter()
            found[name] = counter
    return found


def _processors() -> Counter:
    """Return the counter of all processors of this machine (RAPL); it goes on where one starts from zero again."""
    packages = [path for path in POWERCAP.glob("intel-rapl:*") if (path / "name").read_text().startswith("package")]
    if not packages:
        raise OSError("no counter of processors")
    limits = [int((path / "max_energy_range_uj").read_text()) for path in packages]
    last = [int((path / "energy_uj").read_text()) for path in packages]
    total = 0

    def joules() -> float:
        nonlocal total, last
        now = [int((path / "energy_uj").read_text()) for path in packages]
        total += sum((new - old) % (limit + 1) for new, old, limit in zip(now, last, limits, strict=True))
        last = now
        return total / 1e6

    return joules


def _gpu(device: torch.device) -> Counter:
    """Return NVML's counter of a GPU, found by its UUID, since torch's numbers are of those it may see."""
    library = _nvml()
    handle = ctypes.c_void_p()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    _checked(library.nvmlInit_v2())
    _checked(library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)))

    def joules() -> float:
        millijoules = ctypes.c_ulonglong()
        _checked(library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)))
        return millijoules.value / 1e3

    return joules


def _nvml() -> Any:
    return ctypes.CDLL("libnvidia-ml.so.1")


def _checked(code: int) -> None:
    if code:
        raise OSError(f"NVML: error {code}")
