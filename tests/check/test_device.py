"""What a device can do, and what is said where it cannot, or where nothing can be tried."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.check import agreement, device
from bench.check.finding import attempt
from bench.check.ranks import ranks
from bench.store.measured import Finding
from tests.training.runs import CPU


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SIDE", {"cpu": 64})
    monkeypatch.setattr(device, "SECONDS", 0.0)


def compilation(wanted: bool) -> Finding:
    return attempt("torch.compile", lambda: device.compilation(CPU, wanted=wanted))


def test_a_product_that_rounds_as_its_precision_says_works() -> None:
    tflops = {name: device.matrix_tflops(CPU, name) for name in ("fp32", "bf16")}
    assert all(rate > 0 for rate in tflops.values())
    assert device.precision(CPU, "fp32", tflops).state == "ok"
    assert device.precision(CPU, "bf16", {"fp32": 1.0, "bf16": 2.0}).state == "ok"
    assert device.precision(CPU, "bf16", {"fp32": 2.0, "bf16": 1.0}).state == "slow"


def test_float32_that_rounds_as_bf16_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorFloat-32 does that a library left on."""
    product = Tensor.__matmul__

    def rough(left: Tensor, right: Tensor) -> Tensor:
        return (
            product(left.bfloat16(), right.bfloat16()).float() if left.dtype == torch.float32 else product(left, right)
        )

    monkeypatch.setattr(Tensor, "__matmul__", rough)
    found = device.precision(CPU, "fp32", {"fp32": 1.0})
    assert found.state == "wrong"
    assert "round otherwise" in found.detail


def test_what_a_cpu_does_not_have_is_not_called_passed() -> None:
    tried = {
        "tf32": lambda: device.precision(CPU, "tf32", {"tf32": 1.0}),
        "network in tf32": lambda: agreement.network(CPU, "tf32"),
        "mask selection": lambda: agreement.selection(CPU),
        "short run of DST": lambda: agreement.short_run(CPU),
        "corruptions": lambda: agreement.corruptions(CPU),
    }
    assert {name: attempt(name, one).state for name, one in tried.items()} == dict.fromkeys(tried, "not here")


def test_what_raises_is_wrong_and_says_why() -> None:
    def fails() -> Finding:
        raise RuntimeError("out of luck\nand of memory")

    assert attempt("luck", fails) == Finding(name="luck", state="wrong", detail="RuntimeError: out of luck")


def test_compilation_that_fails_is_wrong_only_where_a_grid_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: nn.Module) -> Callable[[Tensor], Tensor]:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", refuses)
    assert compilation(wanted=True).state == "wrong"
    assert compilation(wanted=False).state == "not here"
    assert "no C++ compiler" in compilation(wanted=False).detail


def test_a_compiled_network_must_give_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: lambda images: model(images) * 1.01)
    assert compilation(wanted=False).state == "wrong"
    monkeypatch.setattr(torch, "compile", lambda model: model)
    assert compilation(wanted=False).state == "ok"


def test_a_device_is_named_with_its_facts() -> None:
    assert device.name_of(CPU)
    assert device.facts(CPU)["torch"] == torch.__version__


def test_processes_meet() -> None:
    found = attempt("ranks", lambda: ranks(CPU))
    assert found.state == "ok", found
    assert found.detail.startswith("Gloo: 2 processes")


# -- agreement with the CPU: here the CPU plays the device, and is made to err ----------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_agrees_with_itself_in_float64(precision: str) -> None:
    assert agreement.network(CPU, precision).state == "ok"


def test_a_network_that_computes_in_bf16_does_not_agree_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    forward_function = agreement.forward_function
    execution = device.execution_of("bf16")
    monkeypatch.setattr(
        agreement, "forward_function", lambda model, _, where: forward_function(model, execution, where)
    )
    found = agreement.network(CPU, "fp32")
    assert found.state == "wrong"
    assert "gradients by" in found.detail


@pytest.fixture
def other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU be compared with itself."""
    monkeypatch.setattr(agreement, "_needs_another", lambda _: None)


@pytest.mark.usefixtures("other_device")
def test_the_same_device_agrees() -> None:
    assert agreement.corruptions(CPU).state == "ok"
    assert agreement.selection(CPU).state == "ok"
    assert agreement.short_run(CPU).state == "ok"
    assert agreement.determinism(CPU).state == "ok"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a GPU would answer")
def test_what_fails_in_a_process_of_its_own_is_said() -> None:
    found = attempt("deterministic", lambda: agreement.determinism(torch.device("cuda")))
    assert found.state == "wrong"
    assert "NVIDIA" in found.detail or "CUDA" in found.detail


def every_second_call(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    calls = 0

    def erring(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        made = function(*args, **kwargs)
        return change(made) if calls % 2 else made

    return erring


@pytest.mark.usefixtures("other_device")
def test_a_device_that_errs_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "corrupt", every_second_call(agreement.corrupt, lambda images: images ^ 1))
    monkeypatch.setattr(agreement, "largest", every_second_call(agreement.largest, lambda mask: mask.flip(0)))
    flipped = every_second_call(agreement.masks_of_run, lambda masks: {name: ~mask for name, mask in masks.items()})
    monkeypatch.setattr(agreement, "masks_of_run", flipped)
    noisy = every_second_call(agreement._trained, lambda made: (noise(made[0]), made[1]))
    assert agreement.corruptions(CPU).state == "wrong"
    assert agreement.selection(CPU).state == "wrong"
    assert agreement.short_run(CPU).state == "wrong"
    monkeypatch.setattr(agreement, "_trained", noisy)
    assert agreement.determinism(CPU).state == "wrong"


@torch.no_grad()
def noise(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter += 1e-6
    return model
