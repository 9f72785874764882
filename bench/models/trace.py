"""The layer table of any module, from one forward pass on the meta device, without memory or arithmetic if that can be.

For networks that have no table of their own (plug-ins), and the reference that the tests hold the other tables to.
FLOPs are those of torch's own counter. A weight is a layer's if it can be masked (bench.sparsity.maskable).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from bench.models.draws import seeded_generators
from bench.models.tables import Layer, Rest, Unmaskable
from bench.sparsity.maskable import Products, check_shapes, maskable_weights, unmaskable

# Operations that count for nothing, as in RigL: normalisation, pooling, reductions, softmax, interpolation, and what
# moves or makes data. Every other operation without a formula is named.
_FREE = """
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training native_layer_norm native_group_norm
    _fused_rms_norm cudnn_batch_norm _batch_norm_no_update _batch_norm_with_update _adaptive_avg_pool2d avg_pool1d
    avg_pool2d max_pool2d_with_indices adaptive_max_pool2d mean sum amax amin max min prod var std var_mean norm
    linalg_vector_norm cumsum argmax argmin topk sort _softmax _log_softmax logsumexp clone copy _to_copy cat stack
    constant_pad_nd reflection_pad2d replication_pad2d roll flip index index_select gather scatter embedding repeat
    empty empty_like new_empty empty_strided zeros ones zeros_like ones_like full arange scalar_tensor lift_fresh_copy
    native_dropout bernoulli rand rand_like randn randn_like randperm upsample_nearest2d upsample_bilinear2d normal
    upsample_bicubic2d pixel_shuffle channel_shuffle fill zero uniform _unsafe_view _reshape_copy bucketize new_zeros
    new_ones new_full hardswish hardtanh transpose as_strided squeeze unsqueeze _safe_softmax unsafe_split random
"""
FREE = frozenset(_FREE.split())


def trace_layers(
    build: Callable[[], nn.Module], input_shape: tuple[int, ...], classes: int | None = None
) -> tuple[Layer, ...]:
    """Return the layers that trace_network finds."""
    return trace_network(build, input_shape, classes)[0]


def trace_network(
    build: Callable[[], nn.Module], input_shape: tuple[int, ...], classes: int | None = None
) -> tuple[tuple[Layer, ...], Rest]:
    """Return the convolutions and linear layers of build(), in parameter order, and what else it has and computes.

    input_shape is that of one input, without the batch. A layer that runs several times in a pass counts all its
    positions. ValueError for lazy modules, where no operation has known FLOPs, and, with `classes`, unless a pass
    returns [1, classes]; TypeError if build() makes no module.
    """
    try:
        return _trace(build, input_shape, classes, "meta")
    except (NotImplementedError, RuntimeError):  # it looks at values, which there are none of on that device
        return _trace(build, input_shape, classes, "cpu")


def _trace(
    build: Callable[[], nn.Module], input_shape: tuple[int, ...], classes: int | None, device: str
) -> tuple[tuple[Layer, ...], Rest]:
    with seeded_generators(0), torch.device(device):
        model = build()
        if not isinstance(model, nn.Module):
            raise TypeError(f"the factory returned {type(model).__name__}, not a torch.nn.Module")
        check_shapes(model)
        products = Products(model)
        # Batch norm refuses a single value a channel while it trains.
        with _Operations() as others, FlopCounterMode(display=False, custom_mapping=products.formulas()):
            logits = model.eval()(torch.zeros(1, *input_shape))
    if classes is not None and logits.shape != (1, classes):
        raise ValueError(f"it returns {tuple(logits.shape)} for one image, not (1, {classes})")
    if not products.total:
        raise ValueError("torch's counter knows the FLOPs of none of its operations, so nothing of it can be priced")
    problems = unmaskable(model, products.read)
    layers = tuple(
        Layer(name, tuple(weight.shape), _whole(products.flops[name], 2 * weight.numel()))
        for name, weight in maskable_weights(model).items()
        if name not in problems
    )
    rest = Rest(
        parameters=tuple(
            Unmaskable(name, tuple(model.get_parameter(name).shape), why) for name, why in problems.items()
        ),
        flops=products.total - sum(products.flops[layer.name] for layer in layers),
        uncounted=(*(name for name in problems if name not in products.read), *sorted(others.names)),
    )
    return layers, rest


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the operations of a pass that torch's counter has no formula for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, free = func._overloadpacket, torch.Tag.pointwise in func.tags or func.is_view
        if packet not in flop_registry and not free and packet.__name__.rstrip("_") not in FREE:
            self.names.add(str(packet))
        return func(*args, **(kwargs or {}))


def _whole(flops: int, each: int) -> int | float:
    return flops / each if flops % each else flops // each
