"""The layer table of any module, from one forward pass on the meta device: no memory, no arithmetic.

For networks that have no table of their own (plug-ins), and the reference that the tests hold the other tables to.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.tables import Layer

# The modules whose weights are masked (bench.sparsity.network.maskable_weights).
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def trace_layers(
    build: Callable[[], nn.Module], input_shape: tuple[int, ...], classes: int | None = None
) -> tuple[Layer, ...]:
    """Return the convolutions and linear layers of build(), in parameter order.

    input_shape is that of one input, without the batch. A layer that runs several times in a pass counts all its
    positions. With `classes`, ValueError unless a pass returns [1, classes]; TypeError if build() makes no module.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = build()
        if not isinstance(model, nn.Module):
            raise TypeError(f"the factory returned {type(model).__name__}, not a torch.nn.Module")
        weighted = {name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)}
        positions = dict.fromkeys(weighted, 0)

        def count(name: str, module: nn.Module, _: Any, output: Tensor) -> None:  # noqa: ARG001, as of every hook
            positions[name] += output.numel() // len(weighted[name].weight)

        for name, module in weighted.items():
            module.register_forward_hook(partial(count, name))
        # Batch norm refuses a single value a channel while it trains.
        logits = model.eval()(torch.empty(1, *input_shape))
    if classes is not None and logits.shape != (1, classes):
        raise ValueError(f"it returns {tuple(logits.shape)} for one image, not (1, {classes})")
    return tuple(
        Layer(f"{name}.weight" if name else "weight", tuple(module.weight.shape), positions[name])
        for name, module in weighted.items()
    )
