"""The layer table of any module, from one forward pass on the meta device, without memory or arithmetic if that can be.

For networks that have no table of their own (plug-ins), and the reference that the tests hold the other tables to.
FLOPs are those of torch's own counter. A weight is a layer's, and can be masked, if the products that the counter knows
read it as it is: a weight that is computed from parameters (normalised, parametrised) is dense whatever the mask.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from bench.models.draws import seeded_generators
from bench.models.tables import Layer, Rest, Unmaskable
from bench.sparsity.network import maskable_weights

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
        parameters = dict(model.named_parameters())
        if lazy := next((name for name, parameter in parameters.items() if is_lazy(parameter)), None):
            raise ValueError(f"{lazy} has no shape before the first image; give its lazy module the sizes")
        weights = {name: model.get_parameter(name) for name in maskable_weights(model)}
        products = _Products(parameters, weights)
        # Batch norm refuses a single value a channel while it trains.
        with _Operations() as others, FlopCounterMode(display=False, custom_mapping=products.formulas()):
            logits = model.eval()(torch.zeros(1, *input_shape))
    if classes is not None and logits.shape != (1, classes):
        raise ValueError(f"it returns {tuple(logits.shape)} for one image, not (1, {classes})")
    if not products.total:
        raise ValueError("torch's counter knows the FLOPs of none of its operations, so nothing of it can be priced")
    problems = _problems(parameters, weights, products)
    layers = tuple(
        Layer(name, tuple(weight.shape), _whole(products.flops[name], 2 * weight.numel()))
        for name, weight in weights.items()
        if name not in problems
    )
    rest = Rest(
        parameters=tuple(Unmaskable(name, tuple(parameters[name].shape), why) for name, why in problems.items()),
        flops=products.total - sum(products.flops[layer.name] for layer in layers),
        uncounted=(*(name for name in problems if name not in products.read), *sorted(others.names)),
    )
    return layers, rest


def _problems(
    parameters: Mapping[str, nn.Parameter], weights: Mapping[str, nn.Parameter], products: "_Products"
) -> dict[str, str]:
    """Return the matrices and kernels that cannot be masked, in parameter order, and why."""
    shared: defaultdict[int, int] = defaultdict(int)
    for parameter in parameters.values():
        shared[_memory(parameter)] += 1
    problems = {}
    for name, parameter in parameters.items():
        if name in weights:
            if not parameter.requires_grad:
                problems[name] = "is frozen"
            elif shared[_memory(parameter)] > 1 or parameter.untyped_storage().nbytes() != parameter.nbytes:
                problems[name] = "is a view of memory that is not its own alone"
            elif name not in products.read:
                problems[name] = "is not multiplied as it is"
        elif parameter.ndim >= 2 or name in products.read:
            problems[name] = "is no weight of a convolution or linear layer"
    return problems


class _Products:
    """The FLOPs of a pass by the weight that is read as it is, and which parameters are read by a product at all."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], weights: Mapping[str, nn.Parameter]) -> None:
        self.total = 0
        self.flops: defaultdict[str, int] = defaultdict(int)
        self.read: set[str] = set()
        self._parameters, self._weights = parameters, weights
        self._names = {_memory(parameter): name for name, parameter in parameters.items()}

    def formulas(self) -> dict[Any, Callable[..., int]]:
        """Return torch's formulas, each noting what it counted."""
        return {operation: self._noting(formula) for operation, formula in flop_registry.items()}

    def _noting(self, formula: Callable[..., int]) -> Callable[..., int]:
        def count(*args: Any, **kwargs: Any) -> int:
            flops: int = formula(*args, **kwargs)
            found = [(self._names.get(_memory(value)), value) for value in args if isinstance(value, Tensor)]
            # A vector is a bias, unless it is read as a matrix.
            read = {name for name, x in found if name and max(self._parameters[name].ndim, x.squeeze().ndim) >= 2}
            self.read |= read
            self.total += flops
            if len(read) == 1 and (name := read.pop()) in self._weights:
                self.flops[name] += flops
            return flops

        count._get_raw = True  # type: ignore[attr-defined]  # tensors, not their shapes: torch.utils.flop_counter
        return count


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


def _memory(tensor: Tensor) -> int:
    """Return what names the memory of a tensor; those on the meta device have none, and differ all the same."""
    return int(tensor.untyped_storage()._cdata)


def _whole(flops: int, each: int) -> int | float:
    return flops / each if flops % each else flops // each
