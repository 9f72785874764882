"""The device and the build of torch: precisions, memory format, compilation, and the same bits twice."""

import platform
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from bench.check.finding import NotHereError, reason_of
from bench.evaluation.clock import wait
from bench.models.arithmetic import Forward, forward_function, prepare
from bench.models.build import build_model
from bench.spec.run import Execution, ModelSpec
from bench.store.measured import Finding

PRECISIONS: tuple[str, ...] = get_args(Execution.model_fields["precision"].annotation)
# The rounding of the factors of a product.
UNIT = {"fp32": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-8}
# Side of the matrices whose product says what a device can do: large enough that the result is the chip's.
SIDE = {"cpu": 1024, "cuda": 8192}
SECONDS = 0.3
NETWORK = ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 2})
CPUINFO, DRIVER = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/version")


def execution_of(precision: str, *, channels_last: bool = True, compile: bool = False) -> Execution:
    """Return an execution by the name of its precision."""
    return Execution.model_validate({"precision": precision, "channels_last": channels_last, "compile": compile})


def name_of(device: torch.device) -> str:
    """Return the name of a GPU, or the model of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def facts(device: torch.device) -> dict[str, str]:
    """Return what the machine says of itself."""
    found = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "CPU threads": str(torch.get_num_threads()),
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
        "GPUs": str(torch.cuda.device_count() if torch.cuda.is_available() else 0),
        "CUDA of torch": torch.version.cuda or "none",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["GPU memory"] = f"{properties.total_memory / 1e9:.0f} GB"
        found["compute capability"] = f"{properties.major}.{properties.minor}"
        with suppress(OSError):
            if version := re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER.read_text()):
                found["driver"] = version[1]
    return found


def matrix_tflops(device: torch.device, precision: str) -> float:
    """Return what a large matrix product reaches, in 1e12 FLOPs a second."""
    prepare(nn.Identity(), execution_of(precision), device, deterministic=False)
    side = SIDE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    best = seconds_of(device, lambda: torch.mm(left, right, out=out), SECONDS)
    return float(2 * side**3 / best / 1e12)


def precision(device: torch.device, name: str, tflops: dict[str, float]) -> Finding:
    """Return whether products round as a precision says, and how fast they are beside those of float32."""
    if name == "tf32" and (device.type == "cpu" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise NotHereError("this device has no TensorFloat-32: tf32 is float32 here")
    prepare(nn.Identity(), execution_of(name), device, deterministic=False)
    factors = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
    exact = factors[0].double() @ factors[1].double()
    on_device = factors.to(device, torch.bfloat16 if name == "bf16" else torch.float32)
    error = relative_error(on_device[0] @ on_device[1], exact)
    detail = f"{tflops[name]:.3g} TFLOP/s in a product of {SIDE[device.type]:,} x {SIDE[device.type]:,} matrices"
    if error > 16 * UNIT[name]:
        return Finding(name=name, state="wrong", detail=f"products are off by {error:.1e}: they round otherwise")
    if name == "bf16" and tflops["bf16"] < tflops["fp32"]:
        return Finding(name=name, state="slow", detail=f"{detail}: slower than float32, so it is emulated")
    return Finding(name=name, state="ok", detail=detail)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the norm of the difference over the norm of what is exact, in float64 on the CPU."""
    exact = exact.detach().cpu().double()
    return float((found.detach().cpu().double() - exact).norm() / exact.norm())


def example(device: torch.device, execution: Execution, images: int = 32) -> tuple[nn.Module, Tensor]:
    """Return a small network and random images [images, 3, 32, 32] on a device, in the format of an execution."""
    model = prepare(build_model(NETWORK, 10, seed=0), execution, device, deterministic=False)
    layout = torch.channels_last if execution.channels_last else torch.contiguous_format
    drawn = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return model, drawn.to(device).to(memory_format=layout)


def memory_format(device: torch.device) -> Finding:
    """Return what channels_last does to the speed of a small network, by precision."""
    ratios = []
    for name in ("fp32", "bf16"):
        seconds = {}
        for channels_last in (False, True):
            execution = execution_of(name, channels_last=channels_last)
            model, images = example(device, execution, 128)
            forward = forward_function(model, execution, device)
            seconds[channels_last] = seconds_of(device, partial(_forward_and_backward, forward, images))
        ratios.append((name, seconds[False] / seconds[True]))
    detail = ", ".join(f"{ratio:.2f} times the speed of contiguous images in {name}" for name, ratio in ratios)
    return Finding(name="channels_last", state="ok", detail=detail)


def compilation(device: torch.device, *, wanted: bool) -> Finding:
    """Return whether torch.compile gives the results of the network, and after how long; wanted: a grid asks for it."""
    execution = execution_of("fp32", compile=True)
    model, images = example(device, execution)
    model.eval()
    started = time.perf_counter()
    try:
        compiled = forward_function(model, execution, device)(images)
        torch.autograd.backward(compiled.sum())
        wait(device)
    except Exception as error:
        if wanted:
            detail = f"fails, and the grid asks for it (compile: true): {reason_of(error)}"
            return Finding(name="torch.compile", state="wrong", detail=detail)
        raise NotHereError(f"fails, but the grid does not ask for it: {reason_of(error)}") from error
    seconds = time.perf_counter() - started
    off = relative_error(compiled, model(images))
    if off > 1e-4:
        return Finding(name="torch.compile", state="wrong", detail=f"gives other logits, off by {off:.1e}")
    return Finding(name="torch.compile", state="ok", detail=f"works; a small network took {seconds:.0f} s to compile")


def _forward_and_backward(forward: Forward, images: Tensor) -> None:
    torch.autograd.backward(forward(images).sum())


def seconds_of(device: torch.device, work: Callable[[], object], whole: float = SECONDS) -> float:
    """Return the least time that some work took, over as often as fits, after once that sets libraries up."""
    work()
    best, started = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - started < whole:
        wait(device)
        before = time.perf_counter()
        work()
        wait(device)
        best = min(best, time.perf_counter() - before)
    return best
