"""What a run is: frozen records, and the identity computed from them.

A run is one training trajectory. Its spec holds everything a grid can say that changes its numbers (no paths,
devices, workers), fully resolved, so that the SHA-256 of its canonical JSON names it: two cells that ask for the same
spec share the run, and a stored run never changes meaning. Every one-network method is a tuple of phases (architecture:
"a recipe is data"); the trainer reads phases and knows no method by name.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Raised on purpose when the meaning of a spec changes, so that stored results of the old meaning are not reused.
SPEC_VERSION = 1
# Among the tensors of a ticket, masks are named by this and the parameter they mask.
MASK_PREFIX = "mask/"
# A number that no spec holds, to find the place of the seed in its JSON.
_NO_SEED = -(10**40) - 20_210_614_568


class Record(BaseModel):
    """A frozen record: unknown keys, and values of the wrong type, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataSpec(Record):
    """Which images: the first train_images of the training set train, the last validation_images validate.

    `variant` is "official", or the fingerprint of the substitute images a user supplied (bench.data).
    """

    name: str
    variant: str = "official"
    train_images: int = Field(gt=0)
    validation_images: int = Field(gt=0)
    test_images: int = Field(gt=0)


class ModelSpec(Record):
    """A network of bench.models by name, and its arguments (depth, width, ...)."""

    name: str
    arguments: dict[str, int | float | bool | str] = {}


class Augmentation(Record):
    """Random crop after padding by `padding` pixels, and random horizontal flip."""

    padding: int = Field(ge=0)
    padding_mode: Literal["reflect", "zero"]
    flip: bool


class Topology(Record):
    """The masks a sparse run starts with: global density, its division over layers, how positions are drawn."""

    density: float = Field(gt=0, lt=1)
    distribution: Literal["erk", "uniform"] = "erk"
    sampling: Literal["exact", "bernoulli"] = "exact"


class LearningRate(Record):
    """Piecewise constant over the epochs of a phase: values[i] from epoch boundaries[i-1] on (0-based)."""

    values: tuple[float, ...] = Field(min_length=1)
    boundaries: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError("a learning rate needs exactly one value more than boundaries")
        if list(self.boundaries) != sorted(set(self.boundaries)) or any(b < 1 for b in self.boundaries):
            raise ValueError(f"boundaries must increase from at least 1, not {list(self.boundaries)}")
        if any(value <= 0 for value in self.values):
            raise ValueError("learning rates must be positive")
        return self

    def at(self, epoch: int) -> float:
        """Return the rate in 0-based epoch `epoch` of the phase."""
        return self.values[sum(boundary <= epoch for boundary in self.boundaries)]


class RewireRule(Record):
    """How weights are dropped and grown; the fields where released code and literature differ are protocol switches.

    growth            rank candidates by |dense gradient| (RigL) or draw them uniformly (SET)
    random_growth     random growth of the exact count, or an independent draw per candidate with that expectation
    dense_layers      layers of density 1: exempt, or their smallest weights set to 0 with the mask kept at ones
    regrow_dropped    may a weight dropped in this update be grown again at once (its value is lost)?
    ties              of weights tied at the drop threshold, those of lowest index go (exact count), or all of them
    inactive_momentum "masked": gradients and momentum of inactive weights are zero; "dense": they keep accumulating
    """

    growth: Literal["gradient", "random"] = "gradient"
    random_growth: Literal["exact", "bernoulli"] = "exact"
    dense_layers: Literal["exempt", "rewired"] = "exempt"
    regrow_dropped: bool = False
    ties: Literal["lowest_index", "all"] = "lowest_index"
    inactive_momentum: Literal["masked", "dense"] = "masked"


class Rewire(Record):
    """Drop and grow every `every` optimiser steps (counted over the run): the topology search of DST.

    update_step: topology changes "instead_of_optimizer" step (RigL) or "after_optimizer" step (released code)
    """

    every: int = Field(ge=1)
    drop_fraction: float = Field(gt=0, lt=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    update_step: Literal["instead_of_optimizer", "after_optimizer"] = "instead_of_optimizer"
    rule: RewireRule = RewireRule()


class GlobalExploration(Record):
    """On entering a phase, drop `fraction` of every layer at once and regrow: from one ticket to the next."""

    action: Literal["global_exploration"] = "global_exploration"
    fraction: float = Field(gt=0, lt=1)
    rule: RewireRule = RewireRule()


class TicketPolicy(Record):
    """Which epoch of a phase becomes its ticket.

    reset_best False compares with the best validation accuracy seen before the phase too, as the released code does
    for the first ticket, which can then be missing.
    """

    select: Literal["best_validation", "last"] = "best_validation"
    reset_best: bool = True


class Phase(Record):
    """A stretch of training with one schedule, at the end of which a ticket may be taken."""

    name: str
    epochs: int = Field(ge=1)
    lr: LearningRate
    rewire: Rewire | None = None
    on_start: GlobalExploration | None = None
    ticket: TicketPolicy | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lr.boundaries and self.lr.boundaries[-1] >= self.epochs:
            raise ValueError(
                f"{self.epochs} epochs are too few for {len(self.lr.values)} learning rates (changes at epochs "
                f"{list(self.lr.boundaries)})"
            )
        return self


class Optimizer(Record):
    """SGD; the learning rate belongs to the phases, weight decay acts on all parameters."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=5e-4, ge=0)


class Execution(Record):
    """How the arithmetic is done; part of the identity because each option changes rounding.

    tf32 is float32 with TensorFloat-32 multiplications where the device has them.
    """

    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    channels_last: bool = True
    compile: bool = False


class RunSpec(Record):
    """Everything a grid can say that changes the numbers of a run.

    Code, and facts that are code (how a network is built, how a data set is normalised), are not in it: a change of
    those that makes old results mean something else raises SPEC_VERSION.
    """

    spec_version: int = SPEC_VERSION
    data: DataSpec
    model: ModelSpec
    topology: Topology | None
    phases: tuple[Phase, ...] = Field(min_length=1)
    optimizer: Optimizer
    batch_size: int = Field(ge=1)
    augmentation: Augmentation
    validation_augmented: bool
    execution: Execution
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.topology is None and any(phase.rewire or phase.on_start for phase in self.phases):
            raise ValueError("a recipe that rewires needs a sparse network")
        if self.phases[0].on_start is not None and self.phases[0].on_start.rule.growth == "gradient":
            raise ValueError("a topology change before the first step has no gradient to grow by")
        if len({rule.inactive_momentum for rule in self.rules}) > 1:
            raise ValueError("inactive_momentum must be the same in all phases: momentum outlives a phase")
        if self.tickets == 0:
            raise ValueError("no phase of the recipe leaves a ticket")
        return self

    @property
    def tickets(self) -> int:
        """Number of tickets the run leaves."""
        return sum(phase.ticket is not None for phase in self.phases)

    @property
    def rules(self) -> list[RewireRule]:
        """The rules of every topology change in the recipe."""
        return [change.rule for phase in self.phases for change in (phase.rewire, phase.on_start) if change]

    @property
    def epochs(self) -> int:
        """Epochs over all phases."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch, a last partial batch included."""
        return -(-self.data.train_images // self.batch_size)

    @property  # not a cached one, which model_copy would hand on to a spec of another seed
    def run_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON of the spec."""
        return identity(self)


def canonical_json(spec: RunSpec) -> str:
    """Return the JSON text that names a run: every default written out, keys sorted, no spaces."""
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def identity(spec: RunSpec) -> str:
    """Return the run id: 16 hex digits."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:16]


def identities(spec: RunSpec, seeds: Iterable[int]) -> list[str]:
    """Return the run ids of a spec under other seeds, as identity() would, without writing the JSON for each."""
    before, after = canonical_json(spec.model_copy(update={"seed": _NO_SEED})).split(str(_NO_SEED))
    prefix = hashlib.sha256(before.encode())
    ids = []
    for seed in seeds:
        digest = prefix.copy()
        digest.update(f"{seed}{after}".encode())
        ids.append(digest.hexdigest()[:16])
    return ids
