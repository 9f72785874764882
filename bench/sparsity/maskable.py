"""Which weights of a network can be masked, and why the others cannot.

The weights of convolutions and linear layers have masks. A weight can be masked if the products that torch's counter
of FLOPs knows read it as it is: one that is computed from parameters (normalised, parametrised) is dense whatever the
mask.
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import flop_registry

from bench.spec.run import Topology

# The layers whose weights are masked.
WEIGHTED = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


def maskable_weights(model: nn.Module, topology: Topology | None = None) -> dict[str, nn.Parameter]:
    """Return the weights of all convolutions and linear layers by parameter name, in the model's order.

    A weight that several layers share is there once, by the first of them. Not there: what a topology leaves dense,
    what a module of another kind has first, and weights that are computed from other parameters (weight norm).
    """
    weights: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                if key == "weight" and isinstance(module, WEIGHTED):
                    weights[f"{prefix}.{key}" if prefix else key] = parameter
    return {name: weight for name, weight in weights.items() if topology is None or topology.masks(name)}


def check_shapes(model: nn.Module) -> None:
    """ValueError that names the first parameter of a lazy module, which has no shape yet."""
    if lazy := next((name for name, parameter in model.named_parameters() if is_lazy(parameter)), None):
        raise ValueError(f"{lazy} has no shape before the first image; give its lazy module the sizes")


def unmaskable(model: nn.Module, read: Collection[str] | None = None) -> dict[str, str]:
    """Return the matrices and kernels that cannot be masked, in parameter order, and why, to follow the name.

    read   names of the parameters that a product reads as they are (Products); None: no forward pass has shown them
    """
    parameters, weights = dict(model.named_parameters()), maskable_weights(model)
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
            elif read is not None and name not in read:
                problems[name] = "is not multiplied as it is"
        elif parameter.ndim >= 2 or (read is not None and name in read):
            problems[name] = "is no weight of a convolution or linear layer"
    return problems


class Products:
    """The FLOPs of a forward pass by the weight that is read as it is, and which parameters products read at all."""

    def __init__(self, model: nn.Module) -> None:
        self.total = 0
        self.flops: defaultdict[str, int] = defaultdict(int)
        self.read: set[str] = set()
        self._parameters, self._weights = dict(model.named_parameters()), maskable_weights(model)
        self._names = {_memory(parameter): name for name, parameter in self._parameters.items()}

    def formulas(self) -> dict[Any, Callable[..., int]]:
        """Return torch's formulas, each noting what it counted: the custom_mapping of a FlopCounterMode."""
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


def _memory(tensor: Tensor) -> int:
    """Return what names the memory of a tensor; those on the meta device have none, and differ all the same."""
    return int(tensor.untyped_storage()._cdata)
