"""The check of a GPU: it agrees with the CPU, and no step waits for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.check import agreement, device
from bench.check.asked import distinct_steps
from bench.check.finding import attempt
from bench.check.ranks import ranks
from bench.check.steps import Measurer, Watched
from bench.store.measured import Finding
from tests.check.asking import plan_of

RIGHT = ("ok", "not here")


@pytest.mark.parametrize("precision", device.PRECISIONS)
def test_a_network_agrees_with_the_cpu(precision: str, gpu: torch.device) -> None:
    found = attempt(precision, lambda: agreement.network(gpu, precision))
    assert found.state in RIGHT, found


@pytest.mark.parametrize("check", [agreement.corruptions, agreement.selection, agreement.short_run])
def test_the_gpu_does_what_the_cpu_does(check, gpu: torch.device) -> None:
    found: Finding = check(gpu)
    assert found.state == "ok", found


def test_deterministic_algorithms_repeat_the_bits(gpu: torch.device) -> None:
    found = agreement.determinism(gpu)
    assert found.state == "ok", found


def test_gpus_reach_each_other(gpu: torch.device) -> None:
    found = attempt("ranks", lambda: ranks(gpu))
    assert found.state in RIGHT, found


def test_steps_are_measured_with_the_memory_of_the_gpu_and_wait_for_nothing(gpu: torch.device, tmp_path: Path) -> None:
    measurer = Measurer(gpu)
    for asked in distinct_steps(plan_of(tmp_path)):
        outcome = measurer.measure(asked, 0.0)
        assert (outcome.measured.device_bytes or 0) > 0
        assert replace(outcome.watched, accumulated=()) == Watched((), (), ()), asked.name


def test_a_gpu_says_what_it_is(gpu: torch.device) -> None:
    assert device.facts(gpu)["GPU memory"].endswith(" GB")
    assert device.matrix_tflops(gpu, "fp32") > 0
