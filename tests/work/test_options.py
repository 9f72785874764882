"""How threads wait: as libgomp likes on an idle machine, briefly on a busy one, and always as the user says."""

import os

import pytest

from bench.work.options import SPIN_COUNT, WAITING, most_decoders, set_thread_variables


@pytest.mark.parametrize(
    ("load", "given", "expected"),
    [
        (0.0, {}, None),
        (1.0, {}, None),  # as many as there are cores: this machine's own work
        (1.5, {}, SPIN_COUNT),
        (8.0, {}, SPIN_COUNT),
        (8.0, {"GOMP_SPINCOUNT": "7"}, "7"),
        (8.0, {"OMP_WAIT_POLICY": "active"}, None),
        (0.0, {"GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_threads_wait_briefly_on_a_busy_machine_unless_the_user_has_decided(
    load: float, given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ, **given})
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (4 * load, 0.0, 0.0))
    set_thread_variables(threads=3)
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(("cores", "processes", "decoders"), [(1, 1, 0), (2, 1, 1), (16, 1, 15), (16, 4, 3), (2, 4, 0)])
def test_decoders_are_the_other_cores(
    cores: int, processes: int, decoders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert most_decoders() == decoders
