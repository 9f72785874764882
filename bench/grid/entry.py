"""The keys of a cell in a grid, with their types, bounds and defaults: the paper's CIFAR setting."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bench.grid.images import Images, ImagesOrNone
from bench.recipes.setting import SemanticsChoice
from bench.spec.record import Name, Record
from bench.spec.run import Execution, Optimizer

# Slips of the finger lie beyond these, and plans that would never end.
MOST_REPLICATES = 1_000
MOST_BATCH = 1_000_000


def _three(value: Any) -> Any:
    """Return the list that a grid writes as the tuple that a record holds."""
    if isinstance(value, list) and len(value) == 3:
        return tuple(value)
    raise ValueError("allowed: a list of three numbers, one a channel")


def _above_zero(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(value) <= 0:
        raise ValueError("allowed: numbers above 0")
    return value


Mean = Annotated[tuple[float, float, float], BeforeValidator(_three)]
Std = Annotated[tuple[float, float, float], BeforeValidator(_three), AfterValidator(_above_zero)]


class DataChoice(Record):
    """Which images: a data set by name, a user's own as package.module:name, or an image folder.

    What is left out is as the record of the data set says (bench.data.record). Of an image folder, `name` is what runs
    and tables call it, the name of the folder unless given, and mean and std are measured unless given. Images that are
    streamed stay in their files and are cropped at random; resident ones are held in memory. How many train, validate
    and test is a number, or a share of those that the record has for it (0.1: a tenth).
    """

    name: Name | None = None
    folder: str | None = None
    storage: Literal["resident", "streamed"] | None = None
    image_size: int | None = Field(default=None, ge=8, le=10_000)
    mean: Mean | None = None
    std: Std | None = None
    train_images: Images | None = None
    validation_images: ImagesOrNone | None = None
    test_images: Images | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folder is None:
            if self.name is None:
                raise ValueError("no data set; give a name, or the path of an image folder as folder")
            for key in ("mean", "std", "storage"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key} is for an image folder (folder: PATH); the record of {self.name} has its own"
                    )
        elif self.image_size is None:
            raise ValueError(
                "an image folder needs image_size, the side that images are resized and cut to, such as 64"
            )
        return self


class OptimizerChoice(Optimizer):
    """SGD with the first learning rate of the schedule."""

    learning_rate: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self


class TopologyChoice(Record):
    """How a sparse cell divides its density over the layers, and what it leaves dense.

    distribution   unless given: by the magnitudes of all layers together where a trained network is pruned at once,
                   else by Erdos-Renyi-kernel
    dense          parameters and modules without masks, by name or pattern (`encoder.*`); the cell's density is that of
                   all other weights
    """

    distribution: Literal["erk", "uniform", "global"] | None = None
    dense: list[str] = Field(default=[])


class CellEntry(Record):
    """The keys of a cell; shorthands (`data: cifar10`) are already written out. A cell of axes is named by them."""

    name: Name = ""
    method: str
    members: int = Field(default=1, ge=1, le=10_000)
    sparsity: float = Field(default=0.0, ge=0, lt=1)
    replicates: int = Field(ge=1, le=MOST_REPLICATES)
    seed: int = Field(default=18, ge=0, le=2**53)
    data: DataChoice
    model: dict[str, Any] = Field(default={"name": "wide_resnet"})
    batch_size: int = Field(default=128, ge=1, le=MOST_BATCH)
    optimizer: OptimizerChoice = OptimizerChoice()
    topology: TopologyChoice = TopologyChoice()
    semantics: SemanticsChoice = SemanticsChoice()
    recipe: dict[str, Any] = Field(default_factory=dict)
    execution: Execution = Execution()
    augmentation: dict[str, Any] = Field(default_factory=dict)
