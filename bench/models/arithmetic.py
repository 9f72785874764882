"""How the arithmetic is done: autocast, TensorFloat-32, memory format, compilation, deterministic algorithms."""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.spec.run import Execution

Forward = Callable[[Tensor], Tensor]


def prepare(model: nn.Module, execution: Execution, device: torch.device, *, deterministic: bool) -> nn.Module:
    """Move the model to the device in its memory format, and set the switches torch keeps globally."""
    tf32 = execution.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:  # cuBLAS reads this when its first handle is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    layout = torch.channels_last if execution.channels_last else torch.contiguous_format
    return model.to(device).to(memory_format=layout)


def forward_function(model: nn.Module, execution: Execution, device: torch.device) -> Forward:
    """Return images float32 [N, C, H, W] -> logits float32 [N, classes] in the precision of the run."""
    network: Forward = torch.compile(model) if execution.compile else model
    if execution.precision != "bf16":
        return network

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return network(images).float()

    return forward
