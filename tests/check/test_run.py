"""`python -m bench check`: the whole of it, its table, its exit code, and what it leaves in the store."""

import json
from math import ceil
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.check import agreement, device, run
from bench.check.asked import Asked
from bench.check.steps import Measurer, Outcome
from bench.check.table import in_order
from bench.plan.cost import forward_flops
from bench.store.measured import Finding, Measured, measured_file, read_measured, write_measured
from tests.check.asking import GRID, plan_of
from tests.grid_text import write_grid


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what has tests of its own and takes long."""
    for module, name in (
        (device, "compilation"),
        (device, "memory_format"),
        (agreement, "determinism"),
        (run, "ranks"),
    ):
        found = Finding(name=name, state="ok")
        monkeypatch.setattr(module, name, lambda *_, found=found, **__: found)
    monkeypatch.setattr(device, "SIDE", {"cpu": 64})
    monkeypatch.setattr(device, "SECONDS", 0.0)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments, "--device", "cpu"])
    return int(ended.value.code or 0)


def test_a_grid_is_checked_and_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, store = write_grid(tmp_path, GRID), tmp_path / "results"
    assert call(str(grid), "--store", str(store), "--minutes", "0") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "not here GPU" in printed or "GPUs 1" in printed
    (measured,) = read_measured(store)
    assert {step.method for step in measured.steps} == {
        "dense",
        "dst",
        "lottery_rewinding",
        "gradual_pruning",
        "mimo",
    }
    assert {finding.name for finding in measured.findings} >= {
        "fp32",
        "bf16",
        "tf32",
        "network in fp32",
        "images of digits",
    }
    assert measured.matrix_tflops.keys() == {"fp32", "bf16", "tf32"}


def test_a_plan_takes_hours_and_memory_from_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, store = write_grid(tmp_path, GRID), str(tmp_path / "results")
    call(str(grid), "--store", store, "--minutes", "0")
    (measured,) = read_measured(tmp_path / "results")
    assert all(step.host_bytes for step in measured.steps)
    capsys.readouterr()
    for more in ((), ("--json",)):
        with pytest.raises(SystemExit):
            main(["plan", str(grid), "--store", store, *more])
    table, document = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert "measured by `bench check`" in table
    assert "memory measured by `bench check`: up to" in table
    assert all("host_bytes" in run and run["hours_device"] == "CPU" for run in json.loads(document)["runs"])


def test_without_a_grid_the_device_is_checked_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--store", str(tmp_path), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["steps"] == []
    assert not measured_file(tmp_path, document["device_name"]).read_text().isspace()


def test_a_step_that_cannot_be_taken_is_wrong_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = Measurer.measure

    def out_of_memory(self: Measurer, asked: Asked, seconds: float) -> Outcome:
        if asked.method == "dense":
            raise RuntimeError("CUDA out of memory")
        return measure(self, asked, seconds)

    monkeypatch.setattr(Measurer, "measure", out_of_memory)
    grid = write_grid(tmp_path, GRID)
    assert call(str(grid), "--store", str(tmp_path), "--minutes", "0") == 1
    rows = capsys.readouterr().out
    assert "CUDA out of" in rows
    assert rows.index("wrong") < rows.index("not here") < rows.index("ok ")
    assert len(read_measured(tmp_path)[0].steps) == 4


def test_a_step_that_would_take_too_long_is_left_out_and_not_called_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "matrix_tflops", lambda *_: 1e-5)
    assert call(str(write_grid(tmp_path, GRID)), "--store", str(tmp_path), "--minutes", "1") == 0
    (measured,) = read_measured(tmp_path)
    assert measured.steps == ()
    left_out = [finding for finding in measured.findings if finding.name.startswith("dst, ")]
    assert [finding.state for finding in left_out] == ["not here"]
    # 20 steps of 8 images at half of 1e-5 TFLOP/s, for each of the six steps.
    spec = plan_of(tmp_path).runs[0].spec
    flops = 3 * 8 * forward_flops(spec.model, spec.data)
    assert f"--minutes {ceil(6 * 20 * flops / 5e6 / 60)} would do" in left_out[0].detail


class KilledError(BaseException):
    """As SIGKILL, it leaves no time for a last word."""


def test_a_check_that_is_killed_leaves_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Measurer.measure

    def killed(self: Measurer, asked: Asked, seconds: float) -> Outcome:
        if asked.method == "dst":
            raise KilledError
        return measure(self, asked, seconds)

    monkeypatch.setattr(Measurer, "measure", killed)
    with pytest.raises(KilledError):
        main(["check", str(write_grid(tmp_path, GRID)), "--store", str(tmp_path), "--minutes", "0", "--device", "cpu"])
    (measured,) = read_measured(tmp_path)
    assert {step.method for step in measured.steps} == {"dense"}
    assert "fp32" in {finding.name for finding in measured.findings}


def test_what_is_wrong_comes_first() -> None:
    states = ["ok", "not here", "wrong", "slow", "wrong"]
    findings = tuple(Finding.model_validate({"name": str(place), "state": s}) for place, s in enumerate(states))
    assert [finding.name for finding in in_order(findings)] == ["2", "4", "3", "1", "0"]


def made(name: str = "NVIDIA H100 80GB HBM3", **changes: object) -> Measured:
    values = {"taken": "now", "host": "here", "device": "cuda", "device_name": name, "facts": {}}
    return Measured.model_validate_json(json.dumps(values | changes))  # JSON has lists for tuples


STEP = {
    "data": "digits",
    "image_size": 32,
    "model": {"name": "wide_resnet"},
    "execution": {},
    "batch_size": 8,
    "images_per_second": 1.0,
    "seconds": 8.0,
    "steps": 2,
    "tflops": 0.1,
}


def test_a_later_check_keeps_the_steps_that_it_did_not_measure(tmp_path: Path) -> None:
    first = made(steps=[{**STEP, "method": "dense"}, {**STEP, "method": "dst"}])
    path = write_measured(tmp_path, first)
    assert path == tmp_path / "measured" / "nvidia-h100-80gb-hbm3.json"
    write_measured(tmp_path, made(steps=[{**STEP, "method": "dst", "images_per_second": 2.0}]))
    write_measured(tmp_path, made("another GPU"))
    another, found = read_measured(tmp_path)
    assert another.steps == ()
    assert {step.method: step.images_per_second for step in found.steps} == {"dense": 1.0, "dst": 2.0}


def test_a_damaged_check_is_none_and_a_new_one_takes_its_place(tmp_path: Path) -> None:
    path = write_measured(tmp_path, made())
    path.write_text("{")
    assert read_measured(tmp_path) == []
    write_measured(tmp_path, made())
    assert read_measured(tmp_path) == [made()]
