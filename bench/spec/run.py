"""What a run is: frozen records, and the identity computed from them.

A run is one training trajectory. Its spec holds everything a grid can say that changes its numbers (no paths,
devices, workers), fully resolved, so that the SHA-256 of its canonical JSON names it: two cells that ask for the same
spec share the run, and a stored run never changes meaning. A run that starts from another one's weights holds the spec
of that parent, so that it is named by all that came before it.
"""

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal, Self, assert_never, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bench.spec.phases import Densify, GlobalExploration, Inherit, Phase, Prune, RewireRule, parent_weights
from bench.spec.record import Record
from bench.spec.seeds import derived_seed

# Raised on purpose when the meaning of a spec changes, so that stored results of the old meaning are not reused.
SPEC_VERSION = 2
# Among the tensors of a ticket, masks are named by this and the parameter they mask.
MASK_PREFIX = "mask/"


class ImageFacts(Record):
    """What a network is built and fed for: classes, side of the square images, mean and std of images in [0, 1]."""

    classes: int = Field(gt=0)
    image_size: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class DataSpec(Record):
    """Which images: the first train_images of the training set train, the last validation_images validate.

    variant   "official", or the fingerprint of the images a user supplied (bench.data)
    facts     of a user's own data set, or of images in another size; those of most of the suite's data sets are code
              (bench.data.catalog.facts_of)
    """

    name: str
    variant: str = "official"
    train_images: int = Field(gt=0)
    validation_images: int = Field(ge=0)
    test_images: int = Field(gt=0)
    facts: ImageFacts | None = None

    @model_serializer(mode="wrap")
    def _without_no_facts(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        if self.facts is None:  # so that the runs of the suite's data sets keep the names that they have
            content.pop("facts", None)
        return content


class McDropout(Record):
    """Dropout on the residual branches, element by element, while training and at test (Gal & Ghahramani 2016).

    samples   predictions drawn at test; a cell may count fewer of them
    """

    kind: Literal["mc_dropout"] = "mc_dropout"
    rate: float = Field(default=0.1, ge=0, lt=1)
    samples: int = Field(default=30, ge=1, le=10_000)


class Mimo(Record):
    """One network that reads and classifies `members` images at once (Havasi et al. 2021).

    batch_repetitions   how often a step sees each of its images
    input_repetition    probability that all members of an input read the same image
    """

    kind: Literal["mimo"] = "mimo"
    members: int = Field(default=3, ge=1, le=1_000)
    batch_repetitions: int = Field(default=4, ge=1, le=1_000)
    input_repetition: float = Field(default=0.0, ge=0, le=1)


class BatchEnsemble(Record):
    """Shared weights, scaled by a rank-one factor a member; every member sees every image (Wen et al. 2020).

    fast_std             fast weights (the factors) start from N(1, fast_std^2)
    fast_learning_rate   their learning rate over that of the other weights
    """

    kind: Literal["batch_ensemble"] = "batch_ensemble"
    members: int = Field(default=4, ge=1, le=1_000)
    fast_std: float = Field(default=0.5, ge=0)
    fast_learning_rate: float = Field(default=0.5, gt=0)


class TreeNet(Record):
    """A shared trunk and `members` heads of the last `head_blocks` residual blocks each (Lee et al. 2015)."""

    kind: Literal["tree_net"] = "tree_net"
    members: int = Field(default=3, ge=1, le=1_000)
    head_blocks: int = Field(ge=0, le=10_000)


MultiMemberSpec = Annotated[McDropout | Mimo | BatchEnsemble | TreeNet, Field(discriminator="kind")]
# The kinds by name, in the order in which messages list them.
MULTI_MEMBER_KINDS: dict[str, type[McDropout | Mimo | BatchEnsemble | TreeNet]] = {
    kind.model_fields["kind"].default: kind for kind in get_args(get_args(MultiMemberSpec)[0])
}


class ModelSpec(Record):
    """A network of bench.models by name, or `package.module:factory`; its arguments; how it holds several members."""

    name: str
    arguments: dict[str, int | float | bool | str] = Field(default={})
    ensemble: MultiMemberSpec | None = None

    @property
    def members(self) -> int:
        """Number of predictions that one ticket makes of an image."""
        match self.ensemble:
            case None:
                return 1
            case McDropout():
                return self.ensemble.samples
            case Mimo() | BatchEnsemble() | TreeNet():
                return self.ensemble.members
            case _:
                assert_never(self.ensemble)

    @property
    def samples_members(self) -> bool:
        """Whether the members are random samples of one network, of which a cell may count fewer."""
        match self.ensemble:
            case McDropout():
                return True
            case None | Mimo() | BatchEnsemble() | TreeNet():
                return False
            case _:
                assert_never(self.ensemble)


class Augmentation(Record):
    """Random crop after padding by `padding` pixels, and random horizontal flip."""

    padding: int = Field(ge=0, le=10_000)
    padding_mode: Literal["reflect", "zero"]
    flip: bool


class ResizedCrop(Record):
    """Random part of an image, resized to the image size, and random horizontal flip (Szegedy et al. 2015).

    scale   least and most area of the part, as a share of the image's
    ratio   least and most width over height of the part
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True


class Topology(Record):
    """The masks of a sparse run: global density, its division over layers, how positions are drawn.

    A run starts with random masks of this density, unless its recipe prunes: then all weights are active at first, and
    pruning ends here. "global" leaves the division to the magnitudes of all layers together, so only pruning knows it.

    dense   patterns of the parameters and modules that have no masks; the density is that of all other weights
    """

    density: float = Field(gt=0, lt=1)
    distribution: Literal["erk", "uniform", "global"] = "erk"
    sampling: Literal["exact", "bernoulli"] = "exact"
    dense: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _without_no_dense(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        if not self.dense:  # so that runs without such a choice keep the names that they have
            content.pop("dense", None)
        return content

    def masks(self, parameter: str) -> bool:
        """Return whether a weight of a layer, by its parameter name, has a mask."""
        return not any(names(pattern, parameter) for pattern in self.dense)


def names(pattern: str, parameter: str) -> bool:
    """Return whether a pattern (as of file names, or plain) is of a parameter, or of a module that holds it."""
    keys = parameter.split(".")
    return any(fnmatchcase(".".join(keys[:length]), pattern) for length in range(1, len(keys) + 1))


class Optimizer(Record):
    """SGD on cross-entropy; the learning rate belongs to the phases.

    decay             which parameters decay: all, or all but those of normalisation layers
    label_smoothing   share of the target that is spread over all classes
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=5e-4, ge=0)
    decay: Literal["all", "not_norm"] = "all"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


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
    phases: tuple[Phase, ...] = Field(min_length=1, max_length=1_000)
    optimizer: Optimizer
    batch_size: int = Field(ge=1)
    augmentation: Augmentation | ResizedCrop
    validation_augmented: bool
    execution: Execution
    seed: int = Field(ge=0)
    parent: "RunSpec | None" = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problem = self._phase_problem() or self._densify_problem() or self._parent_problem()
        if problem is not None:
            raise ValueError(problem)
        return self

    def _phase_problem(self) -> str | None:
        if self.topology is None:
            if any(phase.prunes or phase.rules for phase in self.phases):
                return "a recipe that rewires or prunes needs a sparse network"
        elif self.topology.distribution == "global" and not self.starts_dense:
            return "a density by global magnitude needs a recipe that prunes"
        if any(rule.growth == "gradient" for rule in self.phases[0].exploration_rules):
            return "a topology change before the first step has no gradient to grow by"
        if len({rule.inactive_momentum for rule in self.rules}) > 1:
            return "inactive_momentum must be the same in all phases: momentum outlives a phase"
        if self.tickets == 0:
            return "no phase of the recipe leaves a ticket"
        if not self.data.validation_images and any(p.ticket and p.ticket.select != "last" for p in self.phases):
            return "without validation images there is no best epoch: its tickets must be the last of their phase"
        return None

    def _densify_problem(self) -> str | None:
        pruned = dense_again = False
        for phase in self.phases:
            for action in phase.on_start:
                match action:
                    case Prune():
                        pruned, dense_again = True, False
                    case Densify():
                        if not pruned:
                            return "a recipe that makes all weights active again must have pruned them before"
                        dense_again = True
                    case GlobalExploration() | Inherit():
                        pass
                    case _:
                        assert_never(action)
            if phase.pruning is not None:
                pruned, dense_again = True, False
            if dense_again and phase.ticket is not None:
                return f"phase {phase.name!r} leaves a ticket with all weights active; prune before it"
        return None

    def _parent_problem(self) -> str | None:
        wanted = {parent_weights(action) for phase in self.phases for action in phase.on_start} - {None}
        if (self.parent is not None) != bool(wanted):
            return "a recipe that starts from a parent's weights needs a parent run, and no other recipe has one"
        if self.parent is not None and "kept" in wanted and not any(phase.keep for phase in self.parent.phases):
            return "the parent run writes no rewind checkpoint to start from"
        return None

    @property
    def stream(self) -> int:
        """The seed of what is drawn while training: a child does not repeat the draws of a parent of the same seed."""
        return self.seed if self.parent is None else derived_seed(self.seed, "child")

    @property
    def starts_dense(self) -> bool:
        """Whether all weights are active at first: of a dense run, and of one that prunes."""
        return self.topology is None or any(phase.prunes for phase in self.phases)

    @property
    def tickets(self) -> int:
        """Number of tickets the run leaves."""
        return sum(phase.ticket is not None for phase in self.phases)

    @property
    def rules(self) -> list[RewireRule]:
        """The rules of every topology change in the recipe."""
        return [rule for phase in self.phases for rule in phase.rules]

    @property
    def epochs(self) -> int:
        """Epochs over all phases."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch, a last partial batch included."""
        return -(-self.data.train_images // self.batch_size)

    @cached_property
    def run_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON of the spec."""
        return identity(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with changes, which has an id of its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("run_id", None)
        return copied


def canonical_json(spec: RunSpec) -> str:
    """Return the JSON text that names a run: every default written out, keys sorted, no spaces."""
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def identity(spec: RunSpec) -> str:
    """Return the run id: 16 hex digits."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:16]
