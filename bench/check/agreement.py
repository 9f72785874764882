"""Whether a device computes what the CPU does: the network, the corruptions, the masks, and the same bits twice."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.check.device import NETWORK, execution_of, relative_error
from bench.check.finding import NotHereError
from bench.data.corruptions.apply import corrupt
from bench.data.corruptions.catalog import CORRUPTIONS
from bench.models.arithmetic import forward_function, prepare
from bench.models.build import build_model
from bench.sparsity.dynamic import DynamicSparsity
from bench.sparsity.select import largest
from bench.store.measured import Finding

CPU = torch.device("cpu")
IMAGES, CLASSES = 16, 10
# How far logits and gradients may be off, relative to their norm. A CPU's are off by 1e-6 and 2e-3 in fp32, by 4e-3 and
# 0.1 in bf16: a rounding that takes one ReLU over its kink moves a gradient by far more than itself. TensorFloat-32
# where float32 was asked for is off by a hundred times what is allowed.
LIMITS = {"fp32": (1e-5, 1e-2), "tf32": (5e-3, 0.1), "bf16": (5e-2, 0.3)}
STEPS, EVERY = 12, 3
SEVERITY = 3


def network(device: torch.device, precision: str) -> Finding:
    """Compare logits and gradients with those of float64 on the CPU, within the LIMITS of the precision."""
    name = f"network in {precision}"
    if precision == "tf32" and (device.type == "cpu" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise NotHereError("this device has no TensorFloat-32")
    execution = execution_of(precision)
    exact = build_model(NETWORK, CLASSES, seed=0).double()
    ours = prepare(build_model(NETWORK, CLASSES, seed=0), execution, device, deterministic=False)
    images, labels = _batch()
    expected = exact(images)
    torch.autograd.backward(functional.cross_entropy(expected, labels))
    on_device = images.float().to(device).to(memory_format=torch.channels_last)
    found = forward_function(ours, execution, device)(on_device)
    torch.autograd.backward(functional.cross_entropy(found, labels.to(device)))
    logits, gradients = relative_error(found, expected), relative_error(_gradients(ours), _gradients(exact))
    most = LIMITS[precision]
    detail = f"logits off by {logits:.1e} (at most {most[0]:g}), gradients by {gradients:.1e} (at most {most[1]:g})"
    right = logits <= most[0] and gradients <= most[1]  # what is not a number is not
    return Finding(name=name, state="ok" if right else "wrong", detail=f"{detail} from float64 on the CPU")


def corruptions(device: torch.device) -> Finding:
    """Compare the corruptions of a few images with those on the CPU, byte for byte."""
    _needs_another(device)
    images = torch.randint(256, (4, 32, 32, 3), generator=_drawn(), dtype=torch.uint8)
    index = torch.arange(len(images))
    differing = [
        kind
        for kind in CORRUPTIONS
        if not torch.equal(
            corrupt(images.to(device), kind, SEVERITY, index.to(device), 0).cpu(),
            corrupt(images, kind, SEVERITY, index, 0),
        )
    ]
    if differing:
        detail = f"{', '.join(differing)}: other bytes than on the CPU; make corrupted sets with --device cpu"
        return Finding(name="corruptions", state="wrong", detail=detail)
    return Finding(name="corruptions", state="ok", detail=f"{len(CORRUPTIONS)} types: the bytes of the CPU")


def selection(device: torch.device) -> Finding:
    """Compare which weights are selected, ties among them, with the CPU."""
    _needs_another(device)
    drawn = torch.randn(64, 64, 3, 3, generator=_drawn())
    for what, values in (("distinct", drawn), ("tied", (drawn * 4).round())):
        among = values != 0
        for count in (1, int(among.sum()) // 5):
            here = largest(values.to(device), among.to(device), count).cpu()
            if not torch.equal(here, largest(values, among, count)):
                detail = f"the largest {count} of {what} magnitudes are others than on the CPU"
                return Finding(name="mask selection", state="wrong", detail=detail)
    return Finding(name="mask selection", state="ok", detail="the weights that the CPU selects, ties among them")


def short_run(device: torch.device) -> Finding:
    """Compare the masks after a few steps of DST in float64 with those on the CPU."""
    _needs_another(device)
    expected, found = masks_of_run(CPU), masks_of_run(device)
    differing = [name for name, mask in expected.items() if not torch.equal(mask, found[name])]
    if differing:
        detail = f"after {STEPS} steps the masks of {', '.join(differing)} are others than on the CPU"
        return Finding(name="short run of DST", state="wrong", detail=detail)
    return Finding(name="short run of DST", state="ok", detail=f"the masks of the CPU after {STEPS} steps in float64")


def determinism(device: torch.device) -> Finding:
    """Train a few steps twice with deterministic algorithms, and compare the bits.

    cuBLAS reads what makes it deterministic when it is first used, so a GPU is tried in a process of its own.
    """
    if device.type == "cpu":
        return repeats(device)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(repeats, device).result()


def repeats(device: torch.device) -> Finding:
    """Return whether two runs of the same few steps in this process give the same bits."""
    first, second = (list(_training(device, torch.float32, deterministic=True)) for _ in range(2))
    if all(torch.equal(one, other) for one, other in zip(first, second, strict=True)):
        return Finding(name="deterministic", state="ok", detail=f"the same bits twice after {STEPS} steps of DST")
    detail = "two runs of the same steps differ: --deterministic does not repeat bits on this device"
    return Finding(name="deterministic", state="wrong", detail=detail)


def masks_of_run(device: torch.device) -> dict[str, Tensor]:
    """Return the masks after a few steps of DST in float64, on the CPU."""
    model, sparsity = _trained(device, torch.float64, deterministic=False)
    del model
    return {name: mask.cpu() for name, mask in sparsity.masks.items()}


def _training(device: torch.device, dtype: torch.dtype, *, deterministic: bool) -> Iterator[Tensor]:
    model, sparsity = _trained(device, dtype, deterministic=deterministic)
    yield from (parameter.detach() for parameter in model.parameters())
    yield from sparsity.masks.values()


def _trained(device: torch.device, dtype: torch.dtype, *, deterministic: bool) -> tuple[nn.Module, DynamicSparsity]:
    model = build_model(NETWORK, CLASSES, seed=0).to(dtype)
    try:
        model = prepare(model, execution_of("fp32"), device, deterministic=deterministic)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        sparsity = DynamicSparsity(model, optimizer, sparsity=0.8, update_every=EVERY, total_steps=STEPS)
        images, labels = (tensor.to(device) for tensor in _batch())
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(images.to(dtype)), labels))
            sparsity.step()
    finally:
        torch.use_deterministic_algorithms(False)
    return model, sparsity


def _batch() -> tuple[Tensor, Tensor]:
    """Return random images float64 and labels on the CPU."""
    generator = _drawn()
    images = torch.randn(IMAGES, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (IMAGES,), generator=generator)


def _drawn() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _gradients(model: nn.Module) -> Tensor:
    """Return all gradients side by side, on the CPU."""
    return torch.cat([p.grad.detach().cpu().double().flatten() for p in model.parameters() if p.grad is not None])


def _needs_another(device: torch.device) -> None:
    if device.type == "cpu":
        raise NotHereError("the CPU would be compared with itself")
