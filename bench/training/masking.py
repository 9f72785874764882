"""The masks of a run in progress: which topology change a phase asks for, and that all ranks make the same one."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor, nn

from bench.sparsity.maskable import maskable_weights
from bench.sparsity.network import SparseWeights, full_masks, random_masks
from bench.sparsity.steps import Change, SparseSteps
from bench.spec.phases import GlobalExploration, Phase
from bench.spec.run import RunSpec, Topology
from bench.training.optimizer import Sgd
from bench.training.ranks import ALONE, Ranks


class Masking:
    """Moves the weights of a run, dense or sparse; `sparse` holds weights and masks, None of a dense run.

    Ranks that have other masks than rank 0, at first or after an update, end the run with RanksDifferError.
    """

    def __init__(self, model: nn.Module, spec: RunSpec, optimizer: Sgd, ranks: Ranks = ALONE) -> None:
        self._spec, self._optimizer, self._ranks = spec, optimizer, ranks
        self.sparse: SparseWeights | None = None
        self._steps: SparseSteps | None = None
        if spec.topology is not None:
            self.sparse = SparseWeights(model, _first_masks(model, spec, spec.topology), spec.topology)
            self._steps = SparseSteps(
                self.sparse,
                optimizer.torch,
                masked_momentum=any(rule.inactive_momentum == "masked" for rule in spec.rules),
                seed=spec.stream,
                turns=[epoch * spec.steps_per_epoch for epoch in (0, *_explorations(spec), spec.epochs)],
            )
            self._compare("first masks")

    def load(self, masks: Mapping[str, Tensor]) -> None:
        """Continue with the masks of a checkpoint."""
        if self.sparse is not None:
            self.sparse.load(masks)
            self._compare("masks of the checkpoint")

    def density(self) -> float:
        """Return the share of active weights over all maskable weights, 1 of a dense run."""
        return self.sparse.density() if self.sparse else 1.0

    def move(self, phase: Phase, phase_step: int, steps: int, *, explores_next: bool) -> list[dict[str, Any]]:
        """Take the optimiser step and the topology update that are due; return what the history says of the update.

        phase_step and steps count the steps of the phase and of the run, this one included; explores_next: whether a
        phase that starts with a topology change follows, which will want this step's gradients.
        """
        if self._steps is None:
            self._optimizer.torch.step()
            return []
        change = self._steps.step(phase.rewire, steps, keep_gradients=explores_next)
        if change is not None:
            return [self._checked(change)]
        progress = None
        if phase.pruning is not None:
            progress = phase.pruning.progress(phase_step, self._spec.steps_per_epoch)
        return [] if progress is None else [self.prune(steps, progress)]

    def explore(self, action: GlobalExploration, steps: int) -> dict[str, Any]:
        """Change a large part of the topology at once; return what the history says of it."""
        return self._checked(self._required().explore(action.fraction, action.rule, steps))

    def prune(self, steps: int, progress: float = 1.0) -> dict[str, Any]:
        """Prune, `progress` of the way to the run's density; return what the history says of it."""
        sparse, topology = self._required(), self._spec.topology
        if topology is None:
            raise ValueError("a dense network has no density to prune to")
        return self._checked(sparse.prune(topology, steps, progress))

    def densify(self, steps: int) -> dict[str, Any]:
        """Make all weights active again; return what the history says of it."""
        return self._checked(self._required().densify(steps))

    def _checked(self, change: Change) -> dict[str, Any]:
        self._compare(f"masks after step {change.step} ({change.kind})")
        return asdict(change)

    def _compare(self, what: str) -> None:
        if self.sparse is not None and self._ranks.size > 1:
            self._ranks.check_same(_digest(self.sparse.masks), what)

    def _required(self) -> SparseSteps:
        if self._steps is None:
            raise ValueError("a dense network has no topology to change")
        return self._steps


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
