"""Images alone, as fast as they come: from a device, from files, or not at all where there are none."""

from pathlib import Path

import pytest

from bench.check import pipeline as module
from bench.check.asked import MadeUpImages, distinct_steps
from bench.check.finding import attempt
from bench.check.pipeline import decoded_per_second, images_per_second, pipeline
from bench.plan import Plan
from bench.store.measured import Finding, MeasuredStep
from tests.check.asking import plan_of
from tests.data.streamed.photographs import write_imagenet
from tests.training.runs import CPU
from tests.training.test_streamed import GRID as STREAMED


def step(plan: Plan, **changes: float) -> MeasuredStep:
    spec = plan.runs[0].spec
    values = {
        "data": spec.data.name,
        "image_size": 32,
        "method": "dst",
        "model": spec.model,
        "execution": spec.execution,
        "batch_size": spec.batch_size,
        "images_per_second": 100.0,
        "seconds": 1.0,
        "steps": 2,
        "tflops": 1.0,
    }
    return MeasuredStep.model_validate(values | changes)


def found(plan: Plan, places: dict[str, Path], **changes: float) -> Finding:
    return attempt("images", lambda: pipeline(plan.runs[0].spec, [step(plan, **changes)], CPU, places))


def test_images_on_the_device_are_beside_the_fastest_step(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert found(plan, {}, input_images_per_second=1_000.0).state == "ok"
    slow = found(plan, {}, input_images_per_second=50.0)
    assert slow.state == "slow"
    assert "50 images/s alone, cut and augmented on the device; the fastest step takes 100" in slow.detail


def test_without_a_step_there_is_nothing_to_say(tmp_path: Path) -> None:
    spec = plan_of(tmp_path).runs[0].spec
    assert attempt("images", lambda: pipeline(spec, [], CPU, {})).state == "not here"


def test_few_images_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = distinct_steps(plan_of(tmp_path))[0]
    monkeypatch.setattr(module, "SECONDS", 0.0)
    assert images_per_second(MadeUpImages(asked.spec, CPU), 8, CPU) > 0


def test_images_in_files_are_decoded_as_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_imagenet(tmp_path / "images")
    plan = plan_of(tmp_path, STREAMED)
    places = {"imagenet": tmp_path / "images"}
    monkeypatch.setattr(module, "most_decoders", lambda: 1)
    assert decoded_per_second(plan.runs[0].spec, CPU, places["imagenet"]) > 0
    slow = found(plan, places, images_per_second=1e9)
    assert slow.state == "slow"
    assert "decoded by 1 decoder" in slow.detail
    assert "decoders would keep up" in slow.detail
    assert found(plan, places, images_per_second=1e-3).state == "ok"


def test_files_that_are_not_here_are_said_to_be_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "none"))
    nothing = found(plan_of(tmp_path, STREAMED), {})
    assert nothing.state == "not here"
    assert nothing.detail.startswith("decoding was not tried")
