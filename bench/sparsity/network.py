"""A network's sparse weights: which tensors are masked, their masks, and updates over all layers at once.

Masked tensors are the weights of every convolution and linear layer, the first and last included, but those that the
topology leaves dense; biases and batch norm stay dense (released code, Masking.add_module).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor, nn

from bench.sparsity.distribution import DISTRIBUTIONS, exact_counts
from bench.sparsity.maskable import maskable_weights
from bench.sparsity.prune import pruned_masks
from bench.sparsity.rewire import rewire_layer
from bench.sparsity.select import count_true, largest
from bench.spec.phases import RewireRule
from bench.spec.run import Topology
from bench.spec.seeds import derived_seed

# What an optimiser remembers of each weight in tensors of its shape, by parameter name.
Momenta = Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class Update:
    """What one topology update did, over all layers: weights dropped and grown, density afterwards."""

    dropped: int
    grown: int
    density: float


class SparseWeights:
    """The maskable weights of a model with one boolean mask each; inactive weights are exactly zero after apply()."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor], topology: Topology | None = None) -> None:
        self.weights = maskable_weights(model, topology)
        # Masks share their weight's strides, and apply() wants their complement at every step.
        self.masks: dict[str, Tensor] = {}
        self._inactive: dict[str, Tensor] = {}
        self.load(masks)

    def load(self, masks: Mapping[str, Tensor]) -> None:
        """Take masks from elsewhere, on any device and in any memory format, and apply them."""
        if self.weights.keys() != masks.keys():
            raise ValueError(f"masks for {sorted(masks)} do not fit the weights {sorted(self.weights)}")
        for name, mask in masks.items():
            self._set(name, mask.bool())
        self.refit()
        self.apply()

    def refit(self) -> None:
        """Give each mask the device and the memory format that its weight has by now."""
        for name, weight in self.weights.items():
            mask = self.masks[name]
            if mask.device != weight.device or mask.stride() != weight.stride():
                self._set(name, torch.empty_like(weight.data, dtype=torch.bool).copy_(mask))

    @torch.no_grad()
    def apply(self) -> None:
        """Set inactive weights to exactly zero."""
        for name, weight in self.weights.items():
            weight.data.masked_fill_(self._inactive[name], 0.0)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Set the gradients of inactive weights to zero, so that momentum knows active weights only."""
        for name, weight in self.weights.items():
            _gradient(name, weight).masked_fill_(self._inactive[name], 0.0)

    def gradients(self) -> dict[str, Tensor]:
        """Return copies of the dense gradients."""
        return {name: _gradient(name, weight).clone() for name, weight in self.weights.items()}

    def restore_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Make these, which gradients() returned, the gradients of their weights."""
        for name, gradient in gradients.items():
            self.weights[name].grad = gradient

    @torch.no_grad()
    def update(
        self,
        fraction: float,
        rule: RewireRule,
        seed: int,
        gradients: Mapping[str, Tensor] | None = None,
        momenta: Momenta | None = None,
    ) -> Update:
        """Drop and grow in every layer; grown and dropped weights are zero afterwards.

        gradients default to the parameters' own .grad; momenta, where given, are zeroed wherever a weight does not keep
        its value. seed names the random draws of this update.
        """
        dropped = grown = 0
        for name, weight in self.weights.items():
            generator = torch.Generator(weight.device).manual_seed(derived_seed(seed, name))
            gradient = gradients[name] if gradients is not None else weight.grad
            if gradient is not None and gradient.stride() != weight.stride():
                gradient = torch.empty_like(weight.data).copy_(gradient)
            change = rewire_layer(weight.data, self.masks[name], gradient, fraction, rule, generator)
            dropped += change.dropped
            grown += change.grown
            if change.dropped:
                lost = ~change.kept
                weight.data.masked_fill_(lost, 0.0)
                _zero(momenta, name, lost)
                self._set(name, change.mask)
        return Update(dropped, grown, self.density())

    @torch.no_grad()
    def prune(self, topology: Topology, progress: float = 1.0, momenta: Momenta | None = None) -> Update:
        """Prune by magnitude, `progress` of the way to the topology's density, and zero what is pruned."""
        before = sum(self.nonzeros().values())
        weights = {name: weight.data for name, weight in self.weights.items()}
        for name, mask in pruned_masks(weights, self.masks, topology, progress).items():
            self._set(name, mask)
            _zero(momenta, name, self._inactive[name])
        self.apply()
        return Update(before - sum(self.nonzeros().values()), 0, self.density())

    @torch.no_grad()
    def activate_all(self, momenta: Momenta | None = None) -> Update:
        """Make all weights active; those that were not are zero, and so are their momenta where given."""
        before = sum(self.nonzeros().values())
        for name, mask in self.masks.items():
            _zero(momenta, name, self._inactive[name])
            self._set(name, torch.ones_like(mask))
        return Update(0, sum(self.nonzeros().values()) - before, self.density())

    def nonzeros(self) -> dict[str, int]:
        """Return the number of active weights of each layer."""
        return {name: count_true(mask) for name, mask in self.masks.items()}

    def density(self) -> float:
        """Return the achieved share of active weights over all maskable weights."""
        return sum(self.nonzeros().values()) / sum(mask.numel() for mask in self.masks.values())

    def _set(self, name: str, mask: Tensor) -> None:
        self.masks[name] = mask
        self._inactive[name] = ~mask


def full_masks(model: nn.Module, topology: Topology | None = None) -> dict[str, Tensor]:
    """Return masks that leave every maskable weight active, for a run that prunes."""
    weights = maskable_weights(model, topology)
    return {name: torch.ones_like(weight.data, dtype=torch.bool) for name, weight in weights.items()}


def random_masks(shapes: Mapping[str, tuple[int, ...]], topology: Topology, seed: int) -> dict[str, Tensor]:
    """Draw the masks a run starts with (bool): exact counts a layer and in total, or Bernoulli as released.

    The draw happens on the CPU and depends on (seed, layer name) alone.
    """
    densities = DISTRIBUTIONS[topology.distribution](shapes, topology.density)
    counts = exact_counts(shapes, densities)
    masks = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(derived_seed(seed, "mask", name))
        scores = torch.rand(shape, generator=generator)
        match topology.sampling:
            case "exact":
                masks[name] = largest(scores, torch.ones_like(scores, dtype=torch.bool), counts[name])
            case "bernoulli":
                masks[name] = scores < densities[name]
            case _:
                assert_never(topology.sampling)
    return masks


def _gradient(name: str, weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise ValueError(f"{name} has no gradient: it takes no part in the loss")
    return weight.grad


def _zero(momenta: Momenta | None, name: str, where: Tensor) -> None:
    for momentum in momenta[name] if momenta is not None else ():
        momentum.masked_fill_(where, 0.0)
