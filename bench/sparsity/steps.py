"""Optimiser steps under masks, and the changes of the topology between them: of the trainer, and of DynamicSparsity.

The order within a step is that of the released code (sparselearning/core.py, Masking.step): optimiser step, masks
applied, then drop and grow when the step is due.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from bench.sparsity.network import SparseWeights, Update
from bench.sparsity.schedule import fraction_after
from bench.spec.phases import Rewire, RewireRule
from bench.spec.run import Topology
from bench.spec.seeds import derived_seed


@dataclass(frozen=True)
class Change:
    """One change of the topology: after which step, and how many weights it dropped and grew, over all layers."""

    kind: str
    step: int
    fraction: float
    dropped: int
    grown: int
    density: float


class SparseSteps:
    """Moves masked weights by an optimiser of torch, and changes their topology.

    masked_momentum   keep gradients, and what the optimiser remembers, of inactive weights at zero
    seed              of the random draws, which the kind and the step of a change tell apart
    turns             as in bench.sparsity.schedule.fraction_after
    """

    def __init__(
        self, weights: SparseWeights, optimizer: Optimizer, *, masked_momentum: bool, seed: int, turns: Sequence[int]
    ) -> None:
        self.weights = weights
        self._optimizer = optimizer
        self._masked_momentum, self._seed, self._turns = masked_momentum, seed, turns

    def step(self, rewire: Rewire | None, steps: int, *, keep_gradients: bool) -> Change | None:
        """Take the optimiser step and the topology update that are due; return what the update changed, if one was due.

        steps counts this one too; keep_gradients: an exploration may follow, which will want the dense gradients.
        """
        due = rewire if rewire is not None and steps % rewire.every == 0 else None
        if due is None or due.update_step == "after_optimizer":
            self._move(keep_gradients=keep_gradients or due is not None)
        if due is None:
            return None
        return self._rewire("rewire", fraction_after(due, steps, self._turns), due.rule, steps)

    def explore(self, fraction: float, rule: RewireRule, steps: int) -> Change:
        """Change a large part of the topology at once, by the gradients of the step before."""
        return self._rewire("global_exploration", fraction, rule, steps)

    def prune(self, topology: Topology, steps: int, progress: float = 1.0) -> Change:
        """Prune, `progress` of the way to the topology's density."""
        return _change("prune", steps, progress, self.weights.prune(topology, progress, self._momenta()))

    def densify(self, steps: int) -> Change:
        """Make all weights active again."""
        return _change("densify", steps, 1.0, self.weights.activate_all(self._momenta()))

    def _move(self, *, keep_gradients: bool) -> None:
        dense: dict[str, Tensor] = {}
        if self._masked_momentum:
            if keep_gradients:  # masking overwrites them, and growth wants the dense ones
                dense = self.weights.gradients()
            self.weights.mask_gradients()
        self._optimizer.step()
        self.weights.apply()
        self.weights.restore_gradients(dense)

    def _rewire(self, kind: str, fraction: float, rule: RewireRule, steps: int) -> Change:
        momenta = self._momenta() if self._masked_momentum else None
        seed = derived_seed(self._seed, kind, steps)
        return _change(kind, steps, fraction, self.weights.update(fraction, rule, seed, momenta=momenta))

    def _momenta(self) -> dict[str, list[Tensor]]:
        """Return the optimiser's tensors of the shape of each weight, none before its first step."""
        states = self._optimizer.state
        return {
            name: [t for t in states.get(weight, {}).values() if isinstance(t, Tensor) and t.shape == weight.shape]
            for name, weight in self.weights.weights.items()
        }


def _change(kind: str, steps: int, fraction: float, update: Update) -> Change:
    return Change(kind, steps, fraction, update.dropped, update.grown, update.density)
