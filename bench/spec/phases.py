"""The alphabet of recipes: a phase, and what may happen in it. The trainer executes these and knows no method by name.

Learning rates, topology updates while a phase lasts, actions on entering it, tickets on leaving it. A method that these
cannot spell needs a new letter here, and no branch on its name: docs/adding-a-letter.md.
"""

import math
from typing import Annotated, Literal, Self, assert_never

from pydantic import Field, model_validator

from bench.spec.record import Record


class LearningRate(Record):
    """Piecewise constant over the epochs of a phase: values[i] from epoch boundaries[i-1] on (0-based).

    In the first `warmup_epochs` it rises linearly from 0, step by step, to values[0]. A rate of 0 moves no weight: a
    phase of it re-estimates the running statistics of batch norm.
    """

    values: tuple[float, ...] = Field(min_length=1)
    boundaries: tuple[int, ...] = ()
    warmup_epochs: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError("a learning rate needs exactly one value more than boundaries")
        if list(self.boundaries) != sorted(set(self.boundaries)) or any(b < 1 for b in self.boundaries):
            raise ValueError(f"boundaries must increase from at least 1, not {list(self.boundaries)}")
        if any(value < 0 for value in self.values):
            raise ValueError("learning rates must not be negative")
        if self.boundaries and self.warmup_epochs > self.boundaries[0]:
            raise ValueError(f"{self.warmup_epochs} epochs of warm-up end after the first change of the rate")
        return self

    @property
    def highest(self) -> float:
        """The largest rate of the schedule."""
        return max(self.values)

    def at(self, step: int, steps_per_epoch: int, epochs: int) -> float:  # noqa: ARG002, as of every schedule
        """Return the rate of 0-based step `step` of a phase."""
        epoch = step // steps_per_epoch
        if epoch < self.warmup_epochs:
            return self.values[0] * step / (steps_per_epoch * self.warmup_epochs)
        return self.values[sum(boundary <= epoch for boundary in self.boundaries)]


class Ramp(Record):
    """From `start` to `end` over a phase, step by step.

    cosine   end + (start - end) / 2 * (1 + cos(pi * step / steps)), as a cycle of Huang et al. 2017, equation 2
    linear   reaches `end` at the last step, as half a cycle of Garipov et al. 2018, section 4
    """

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    shape: Literal["cosine", "linear"]

    @property
    def highest(self) -> float:
        """The largest rate of the schedule."""
        return max(self.start, self.end)

    def at(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Return the rate of 0-based step `step` of a phase."""
        steps = steps_per_epoch * epochs
        match self.shape:
            case "linear":
                return self.start + (self.end - self.start) * (step + 1) / steps
            case "cosine":
                return self.end + (self.start - self.end) / 2 * (1 + math.cos(math.pi * step / steps))
            case _:
                assert_never(self.shape)


class RewireRule(Record):
    """How weights are dropped and grown; the fields where released code and literature differ are protocol switches.

    growth            rank candidates by |dense gradient| (RigL) or draw them uniformly (SET)
    random_growth     random growth of the exact count, or an independent draw per candidate with that expectation
    dense_layers      layers of density 1: exempt, or their smallest weights set to 0 with the mask kept at ones
    regrow_dropped    may a weight dropped in this update be grown again at once? "kept": it may, and keeps its value,
                      which true loses
    ties              of weights tied at the drop threshold, those of lowest index go (exact count), or all of them
    inactive_momentum "masked": gradients and momentum of inactive weights are zero; "dense": they keep accumulating
    """

    growth: Literal["gradient", "random"] = "gradient"
    random_growth: Literal["exact", "bernoulli"] = "exact"
    dense_layers: Literal["exempt", "rewired"] = "exempt"
    regrow_dropped: bool | Literal["kept"] = False
    ties: Literal["lowest_index", "all"] = "lowest_index"
    inactive_momentum: Literal["masked", "dense"] = "masked"


# Of the drop fraction (bench.sparsity.schedule).
Schedule = Literal["constant", "cosine", "cosine_restarts"]


class Rewire(Record):
    """Drop and grow every `every` optimiser steps (counted over the run): the topology search of DST.

    update_step: topology changes "instead_of_optimizer" step (RigL) or "after_optimizer" step (released code)
    """

    every: int = Field(ge=1)
    drop_fraction: float = Field(gt=0, lt=1)
    schedule: Schedule = "cosine"
    update_step: Literal["instead_of_optimizer", "after_optimizer"] = "instead_of_optimizer"
    rule: RewireRule = RewireRule()


class GradualPruning(Record):
    """Prune by magnitude every `every` steps, layer by layer, on the cubic schedule of Zhu & Gupta 2017, equation 1.

    Sparsity rises from 0 at the end of epoch `begin` of the phase to that of the run's topology at the end of epoch
    `end`.
    """

    every: int = Field(ge=1)
    begin: int = Field(ge=0)
    end: int = Field(ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"pruning that begins at epoch {self.begin} must end later than at epoch {self.end}")
        return self

    def progress(self, step: int, steps_per_epoch: int) -> float | None:
        """Return the share of the final sparsity after step `step` (1-based) of the phase; None if none is due."""
        first, last = self.begin * steps_per_epoch, self.end * steps_per_epoch
        if not (first < step <= last and ((step - first) % self.every == 0 or step == last)):
            return None
        return float(1 - (1 - (step - first) / (last - first)) ** 3)


class GlobalExploration(Record):
    """Drop `fraction` of every layer at once and regrow: from one ticket to the next (paper, section 3.3)."""

    action: Literal["global_exploration"] = "global_exploration"
    fraction: float = Field(gt=0, le=1)
    rule: RewireRule = RewireRule()


class Inherit(Record):
    """Take all weights and buffers from the parent run; masks stay, and are applied.

    weights   "ticket": those of its last ticket; "kept": its first rewind checkpoint (Phase.keep); "average": the mean
              of all its tickets, active where any ticket is
    """

    action: Literal["inherit"] = "inherit"
    weights: Literal["ticket", "kept", "average"] = "ticket"


class Prune(Record):
    """Keep the weights of largest magnitude, as many as the run's topology says: in each layer, or over all of them."""

    action: Literal["prune"] = "prune"


class Densify(Record):
    """Make all weights active again: those that were pruned start at zero, and so does their momentum."""

    action: Literal["densify"] = "densify"


Action = Annotated[GlobalExploration | Inherit | Prune | Densify, Field(discriminator="action")]


def prunes(action: Action) -> bool:
    """Return whether an action takes weights away, so that the run starts with all of them."""
    match action:
        case Prune():
            return True
        case GlobalExploration() | Inherit() | Densify():
            return False
        case _:
            assert_never(action)


def rule_of(action: Action) -> RewireRule | None:
    """Return the rule by which an action drops and grows weights, None if it does not."""
    match action:
        case GlobalExploration():
            return action.rule
        case Inherit() | Prune() | Densify():
            return None
        case _:
            assert_never(action)


def parent_weights(action: Action) -> Literal["ticket", "kept", "average"] | None:
    """Return which weights of the parent an action loads, None if it loads none."""
    match action:
        case Inherit():
            return action.weights
        case GlobalExploration() | Prune() | Densify():
            return None
        case _:
            assert_never(action)


class TicketPolicy(Record):
    """Which epoch of a phase becomes its ticket.

    reset_best False compares with the best validation accuracy seen before the phase too, as the released code does
    for the first ticket, which can then be missing.
    """

    select: Literal["best_validation", "last"] = "best_validation"
    reset_best: bool = True


class Phase(Record):
    """A stretch of training with one schedule.

    rewire     drop and grow while it lasts
    pruning    prune while it lasts
    on_start   what happens before its first step, in this order
    ticket     the ticket taken when it ends
    keep       after how many of its epochs a rewind checkpoint is written: all weights, for runs that start from them
    """

    name: str
    epochs: int = Field(ge=1, le=1_000_000)
    lr: LearningRate | Ramp = Field(union_mode="left_to_right")
    rewire: Rewire | None = None
    pruning: GradualPruning | None = None
    on_start: tuple[Action, ...] = ()
    ticket: TicketPolicy | None = None
    keep: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        match self.lr:
            case LearningRate():
                if max(self.lr.warmup_epochs, *self.lr.boundaries, 0) >= self.epochs:
                    raise ValueError(
                        f"{self.epochs} epochs are too few for {len(self.lr.values)} learning rates (changes at epochs "
                        f"{list(self.lr.boundaries)}, {self.lr.warmup_epochs} epochs of warm-up)"
                    )
            case Ramp():
                pass
            case _:
                assert_never(self.lr)
        if self.pruning is not None and self.pruning.end > self.epochs:
            raise ValueError(f"pruning ends at epoch {self.pruning.end} of a phase of {self.epochs}")
        if self.pruning is not None and self.rewire is not None:
            raise ValueError("a phase prunes or rewires: dropped weights that grow again are not pruned")
        if any(not 1 <= epoch <= self.epochs for epoch in self.keep):
            raise ValueError(f"keep: {list(self.keep)} are not all among the {self.epochs} epochs of the phase")
        return self

    @property
    def prunes(self) -> bool:
        """Whether the phase takes weights away, so that the run starts with all of them."""
        return self.pruning is not None or self.prunes_at_once

    @property
    def prunes_at_once(self) -> bool:
        """Whether an action that starts the phase takes weights away."""
        return any(prunes(action) for action in self.on_start)

    @property
    def exploration_rules(self) -> list[RewireRule]:
        """The rules of the topology changes that start the phase."""
        return [rule for action in self.on_start if (rule := rule_of(action)) is not None]

    @property
    def rules(self) -> list[RewireRule]:
        """The rules of every topology change of the phase, those on its start last."""
        return [*([self.rewire.rule] if self.rewire else []), *self.exploration_rules]
