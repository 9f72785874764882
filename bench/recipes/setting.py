"""What a recipe may know of its cell and what it returns, and the named switches of the protocol."""

from typing import Annotated, Literal

from pydantic import Field

from bench.errors import UserError, did_you_mean
from bench.spec.messages import Locate
from bench.spec.phases import LearningRate, Phase, Schedule
from bench.spec.record import Record

# Parameters of recipes with their bounds, which a grid is checked against.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Counts = Annotated[list[Count], Field(max_length=1_000)]
# What makes phases: each costs a plan time.
Cycles = Annotated[int, Field(ge=1, le=1_000)]
DropFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Epochs = Annotated[int, Field(ge=0, le=100_000)]
# Three learning rates, an epoch each at least.
StepDecayEpochs = Annotated[int, Field(ge=3, le=100_000)]
# Two learning rates, an epoch each at least.
RefinementEpochs = Annotated[int, Field(ge=2, le=100_000)]
Select = Literal["best_validation", "last"]
Growth = Literal["gradient", "random"]


class Semantics(Record):
    """The odd behaviours of the released code as named switches; the defaults are `standard`, the literature's."""

    drop_schedule: Schedule = "cosine"
    inactive_momentum: Literal["masked", "dense"] = "masked"
    dense_layers: Literal["exempt", "rewired"] = "exempt"
    regrow_dropped: bool | Literal["kept"] = False
    mask_sampling: Literal["exact", "bernoulli"] = "exact"
    random_growth: Literal["exact", "bernoulli"] = "exact"
    validation_augmented: bool = False
    first_ticket: Literal["reset", "not_reset"] = "reset"
    ties: Literal["lowest_index", "all"] = "lowest_index"
    update_step: Literal["instead_of_optimizer", "after_optimizer"] = "instead_of_optimizer"
    warmup: Literal["by_step", "by_epoch"] = "by_step"


STANDARD = Semantics()
# Each value read from the authors' code, commit e5540d1 (sparselearning/core.py, main_EDST.py).
RELEASED = Semantics(
    drop_schedule="constant",
    inactive_momentum="dense",
    dense_layers="rewired",
    regrow_dropped=True,
    mask_sampling="bernoulli",
    random_growth="bernoulli",
    validation_augmented=True,
    first_ticket="not_reset",
    ties="all",
    update_step="after_optimizer",
)
# The same, of ImageNet/main.py and ImageNet/sparselearning/core.py.
RELEASED_IMAGENET = Semantics(
    drop_schedule="cosine_restarts",
    inactive_momentum="masked",
    dense_layers="exempt",
    regrow_dropped="kept",
    mask_sampling="bernoulli",
    random_growth="bernoulli",
    validation_augmented=False,
    first_ticket="reset",
    ties="lowest_index",
    update_step="after_optimizer",
    warmup="by_epoch",
)
PRESETS = {"standard": STANDARD, "released": RELEASED, "released_imagenet": RELEASED_IMAGENET}


class SemanticsChoice(Semantics):
    """A preset of the protocol's switches, and those that differ from it."""

    preset: str = "standard"

    def resolved(self, locate: Locate) -> Semantics:
        """Return the preset with its changes; UserError at locate("preset") if there is no such preset."""
        if self.preset not in PRESETS:
            raise UserError(f"{locate('preset')}: found {self.preset!r}{did_you_mean(self.preset, PRESETS)}")
        switches = self.model_fields_set - {"preset"}
        if not switches:
            return PRESETS[self.preset]
        return PRESETS[self.preset].model_copy(update={switch: getattr(self, switch) for switch in switches})


class Setting(Record):
    """The part of a cell that every recipe receives: ensemble size, first learning rate, protocol switches."""

    members: int
    learning_rate: float
    semantics: Semantics = STANDARD


def warmed_up(rate: LearningRate, semantics: Semantics) -> LearningRate:
    """Return a learning rate with its warm-up by step, as it is, or by epoch: (e + 1) / (W + 1) of it in epoch e of W.

    Released code: ImageNet/main.py, adjust_learning_rate.
    """
    epochs = rate.warmup_epochs
    if semantics.warmup == "by_step" or not epochs:
        return rate
    values = tuple(rate.values[0] * (epoch + 1) / (epochs + 1) for epoch in range(epochs))
    return LearningRate(values=(*values, *rate.values), boundaries=(*range(1, epochs + 1), *rate.boundaries))


class RecipeWithParent(Record):
    """What a recipe returns whose runs start from the weights of another run, its parent.

    phases   of the run itself; one of them starts from the parent's weights (bench.spec.phases.Inherit)
    parent   phases of the parent: dense, or sparse as the cell says
    shared   one parent for all runs of a replicate, or one each
    """

    phases: tuple[Phase, ...]
    parent: tuple[Phase, ...]
    parent_sparse: bool = False
    shared: bool = False
