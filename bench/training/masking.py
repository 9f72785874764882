"""The masks of a run in progress: optimiser steps under them, and topology updates where a phase asks for one.

The order within a step is that of the released code (sparselearning/core.py, Masking.step): optimiser step, masks
applied, then drop and grow when the step is due.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from bench.sparsity.network import SparseWeights, Update, full_masks, maskable_weights, random_masks
from bench.sparsity.schedule import drop_fraction
from bench.spec.phases import GlobalExploration, Phase, RewireRule
from bench.spec.run import RunSpec, Topology
from bench.spec.seeds import derived_seed
from bench.training.optimizer import Sgd
from bench.training.ranks import ALONE, Ranks


class Masking:
    """Moves the weights of a run, dense or sparse; `sparse` holds weights and masks, None of a dense run.

    Ranks that have other masks than rank 0, at first or after an update, end the run with RanksDifferError.
    """

    def __init__(self, model: nn.Module, spec: RunSpec, optimizer: Sgd, ranks: Ranks = ALONE) -> None:
        self._model, self._spec, self._optimizer, self._ranks = model, spec, optimizer, ranks
        self._masked_momentum = any(rule.inactive_momentum == "masked" for rule in spec.rules)
        self._dense_gradients: dict[str, Tensor] | None = None
        # The steps of the run at which it starts, changes a large part of its topology, and ends.
        self._steps = [epoch * spec.steps_per_epoch for epoch in (0, *_explorations(spec), spec.epochs)]
        self.sparse: SparseWeights | None = None
        if spec.topology is not None:
            self.sparse = SparseWeights(model, _first_masks(model, spec, spec.topology), spec.topology)
            self._compare("first masks")

    def load(self, masks: Mapping[str, Tensor]) -> None:
        """Continue with the masks of a checkpoint."""
        if self.sparse is not None:
            self.sparse = SparseWeights(self._model, masks, self._spec.topology)
            self._compare("masks of the checkpoint")

    def density(self) -> float:
        """Return the share of active weights over all maskable weights, 1 of a dense run."""
        return self.sparse.density() if self.sparse else 1.0

    def move(self, phase: Phase, phase_step: int, steps: int, *, explores_next: bool) -> list[dict[str, Any]]:
        """Take the optimiser step and the topology update that are due; return what the history says of the update.

        phase_step and steps count the steps of the phase and of the run, this one included; explores_next: whether a
        phase that starts with a topology change follows, which will want this step's gradients.
        """
        if self.sparse is None:
            self._optimizer.torch.step()
            return []
        rewire = phase.rewire
        due = rewire is not None and steps % rewire.every == 0
        # Masking overwrites the gradients, and growth wants the dense ones.
        wanted = self._masked_momentum and (due or explores_next)
        self._dense_gradients = self.sparse.gradients() if wanted else None
        if rewire is None or not due or rewire.update_step == "after_optimizer":
            if self._masked_momentum:
                self.sparse.mask_gradients()
            self._optimizer.torch.step()
            self.sparse.apply()
        if rewire is not None and due:
            first, last = self._period(steps) if rewire.schedule == "cosine_restarts" else (0, self._steps[-1])
            fraction = drop_fraction(rewire.drop_fraction, rewire.schedule, steps - first, last - first)
            return [self._rewire("rewire", fraction, rewire.rule, steps)]
        progress = None
        if phase.pruning is not None:
            progress = phase.pruning.progress(phase_step, self._spec.steps_per_epoch)
        return [] if progress is None else [self.prune(steps, progress)]

    def _period(self, steps: int) -> tuple[int, int]:
        """Return the steps of the run after which the drop fraction begins and ends to fall, around step `steps`."""
        place = bisect_left(self._steps, steps, lo=1)
        return self._steps[place - 1], self._steps[place]

    def explore(self, action: GlobalExploration, steps: int) -> dict[str, Any]:
        """Change a large part of the topology at once; return what the history says of it."""
        return self._rewire(action.action, action.fraction, action.rule, steps)

    def prune(self, steps: int, progress: float = 1.0) -> dict[str, Any]:
        """Prune, `progress` of the way to the run's density; return what the history says of it."""
        sparse, topology = self._required(), self._spec.topology
        if topology is None:
            raise ValueError("a dense network has no density to prune to")
        update = sparse.prune(topology, progress, self._optimizer.momenta(sparse.weights))
        self._compare(f"masks after step {steps} (prune)")
        return _record("prune", steps, progress, update)

    def densify(self, steps: int) -> dict[str, Any]:
        """Make all weights active again; return what the history says of it."""
        sparse = self._required()
        update = sparse.activate_all(self._optimizer.momenta(sparse.weights))
        self._compare(f"masks after step {steps} (densify)")
        return _record("densify", steps, 1.0, update)

    def _rewire(self, kind: str, fraction: float, rule: RewireRule, steps: int) -> dict[str, Any]:
        sparse = self._required()
        momenta = self._optimizer.momenta(sparse.weights) if self._masked_momentum else None
        seed = derived_seed(self._spec.stream, kind, steps)
        update = sparse.update(fraction, rule, seed, self._dense_gradients, momenta)
        self._compare(f"masks after step {steps} ({kind})")
        return _record(kind, steps, fraction, update)

    def _compare(self, what: str) -> None:
        if self._ranks.size > 1:
            self._ranks.check_same(_digest(self._required().masks), what)

    def _required(self) -> SparseWeights:
        if self.sparse is None:
            raise ValueError("a dense network has no topology to change")
        return self.sparse


def _first_masks(model: nn.Module, spec: RunSpec, topology: Topology) -> dict[str, Tensor]:
    if spec.starts_dense:
        return full_masks(model, topology)
    shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(model, topology).items()}
    return random_masks(shapes, topology, spec.seed)


def _explorations(spec: RunSpec) -> Iterator[int]:
    """Yield the epochs of a run before which a large part of its topology changes."""
    epoch = 0
    for phase in spec.phases:
        if phase.exploration_rules:
            yield epoch
        epoch += phase.epochs


def _digest(masks: Mapping[str, Tensor]) -> bytes:
    """Return the SHA-256 of the masks, in their order."""
    digest = hashlib.sha256()
    for mask in masks.values():
        digest.update(np.packbits(mask.cpu().numpy()).tobytes())
    return digest.digest()


def _record(kind: str, steps: int, fraction: float, update: Update) -> dict[str, Any]:
    counts = {"dropped": update.dropped, "grown": update.grown, "density": update.density}
    return {"kind": kind, "step": steps, "fraction": fraction, **counts}
