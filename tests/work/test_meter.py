"""What every session of a run used is in its provenance, of sessions that were killed too."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.store.store import Store
from bench.training.trainer import Trainer
from bench.work import meter
from bench.work.meter import Meter
from tests.grid_text import REPOSITORY
from tests.training.runs import CPU, do, edst_spec

STEPS, SECONDS = 28, 10.0


class KilledError(BaseException):
    """As SIGKILL, it leaves no time for a last word."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that goes on by SECONDS at each step; `kill_at` is a step of the run that no process survives."""
    state = SimpleNamespace(now=1000.0, kill_at=None)
    step = Trainer._step

    def timed(self: Trainer, *batch: Any) -> None:
        if self.at.steps == state.kill_at:
            raise KilledError
        step(self, *batch)
        state.now += SECONDS

    monkeypatch.setattr(Trainer, "_step", timed)
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: state.now))
    return state


def test_the_hours_of_a_run_killed_twice_are_those_of_all_three_sessions(
    clock: SimpleNamespace, tmp_path: Path
) -> None:
    spec, store = edst_spec(), Store(tmp_path)
    for clock.kill_at in (5, 12):
        with pytest.raises(KilledError):
            do([spec], store, checkpoint_seconds=0.0)
    clock.kill_at = None
    assert do([spec], store, checkpoint_seconds=0.0) == 0
    sessions = store.run(spec.run_id).sessions()
    assert [session.usage and session.usage.seconds for session in sessions] == [50, 70, 160]
    assert [session.ended is not None for session in sessions] == [False, False, True]


def test_work_that_was_done_again_counts_each_time(clock: SimpleNamespace, tmp_path: Path) -> None:
    """The checkpoint is damaged, so that the second session starts over."""
    spec, store = edst_spec(), Store(tmp_path)
    clock.kill_at = 5
    with pytest.raises(KilledError):
        do([spec], store, checkpoint_seconds=0.0)
    (store.run(spec.run_id).path / "checkpoint.pt").write_bytes(b"")
    clock.kill_at = None
    assert do([spec], store, checkpoint_seconds=0.0) == 0
    used = [session.usage and session.usage.seconds for session in store.run(spec.run_id).sessions()]
    assert used == [50, STEPS * SECONDS]


def test_a_failed_attempt_says_what_it_used(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, store, begun = edst_spec(), Store(tmp_path), clock.now
    step = Trainer._step

    def failing(self: Trainer, *batch: Any) -> None:
        if self.at.steps == 3:
            raise RuntimeError("out of luck")
        step(self, *batch)

    monkeypatch.setattr(Trainer, "_step", failing)
    assert do([spec], store) == 1
    (session,) = store.run(spec.run_id).sessions()
    assert session.usage is not None
    assert session.usage.seconds == clock.now - begun == 3 * SECONDS
    assert session.ended is not None


PEAKS = """
import torch
from bench.work.meter import Meter

def used(megabytes):
    memory = bytearray(megabytes * 10**6)
    memory[::4096] = b"x" * len(memory[::4096])

used(300)
meter = Meter(torch.device("cpu"))
print(meter.usage().host_bytes)
used(200)
print(meter.usage().host_bytes)
print(Meter(torch.device("cpu")).usage().host_bytes)
"""


@pytest.mark.skipif(not meter._reset_peak(), reason="this system does not let the peak begin anew")
def test_memory_is_the_peak_of_the_session_and_not_of_the_process() -> None:
    """In a process of its own, which gives no memory back meanwhile."""
    ended = subprocess.run([sys.executable, "-c", PEAKS], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    low, high, again = (int(line) for line in ended.stdout.split())
    assert 150e6 < high - low < 250e6
    assert again < high - 150e6


def test_memory_that_cannot_be_read_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(meter, "PROCESS", tmp_path / "none")
    used = Meter(CPU).usage()
    assert (used.host_bytes, used.device_bytes) == (None, None)


def package(root: Path, number: int, energy: int, name: str = "package-0") -> None:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text("999999\n")
    (folder / "energy_uj").write_text(f"{energy}\n")


def test_energy_is_that_of_all_processors_and_goes_on_after_zero(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(meter, "POWERCAP", tmp_path)
    package(tmp_path, 0, 400_000)
    package(tmp_path, 1, 900_000, "package-1")
    package(tmp_path, 2, 0, "dram")  # part of a package
    started = Meter(CPU)
    package(tmp_path, 0, 500_000)
    package(tmp_path, 1, 100_000, "package-1")
    package(tmp_path, 2, 900_000, "dram")
    assert started.usage().joules == pytest.approx({"processors": 0.3})
    package(tmp_path, 0, 600_000)
    assert started.usage().joules == pytest.approx({"processors": 0.4})
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    assert started.usage().joules == {}


@pytest.mark.parametrize("content", [None, "", "many"])
def test_energy_that_cannot_be_read_is_absent(
    content: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(meter, "POWERCAP", tmp_path)
    if content is not None:
        package(tmp_path, 0, 0)
        (tmp_path / "intel-rapl:0/energy_uj").write_text(content)
    assert Meter(CPU).usage().joules == {}


class Nvml:
    """Stands in for NVML: two GPUs, of which torch may see the second; its counter is in millijoules."""

    def __init__(self) -> None:
        self.millijoules, self.code = 5_000, 0

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        handle._obj.value = {b"GPU-first": 1, b"GPU-second": 2}[uuid]
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, into: Any) -> int:  # noqa: N802
        assert handle.value == 2
        into._obj.value = self.millijoules
        return self.code


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    library = Nvml()
    monkeypatch.setattr(meter, "_nvml", lambda: library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="second"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 123)
    return library


def test_a_gpu_tells_its_energy_and_its_memory(gpu: Nvml) -> None:
    started = Meter(torch.device("cuda", 0))
    gpu.millijoules = 7_500
    used = started.usage()
    assert (used.joules["gpu"], used.device_bytes) == (2.5, 123)


def test_a_gpu_that_counts_no_energy_has_none(gpu: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.code = 3  # not supported
    assert "gpu" not in Meter(torch.device("cuda", 0)).usage().joules

    def none() -> Any:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(meter, "_nvml", none)
    assert "gpu" not in Meter(torch.device("cuda", 0)).usage().joules


def test_waiting_for_a_core_is_counted_from_the_beginning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(meter, "PROCESS", tmp_path)
    (tmp_path / "schedstat").write_text("9000000000 2500000000 17\n")
    counted = Meter(CPU)
    (tmp_path / "schedstat").write_text("9900000000 4000000000 21\n")
    assert counted.usage().delayed == 1.5
    (tmp_path / "schedstat").unlink()
    assert counted.usage().delayed is None
    assert Meter(CPU).usage().delayed is None  # no Linux, or one that does not count
