"""Small runs for the tests: real digits, a WRN-10-1, four steps an epoch, every kind of phase."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.augment import DeviceImages
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages, Split, cut
from bench.data.sets.digits import DIGITS
from bench.evaluation.sets import own_sets
from bench.recipes import RELEASED, STANDARD, RecipeWithParent, Semantics, Setting
from bench.recipes.alternating import acdc
from bench.recipes.cyclic import snapshot
from bench.recipes.dynamic import edst
from bench.recipes.fixed import step_decay
from bench.recipes.pruning import gradual_pruning, lottery_rewinding
from bench.spec.phases import Phase
from bench.spec.run import (
    Augmentation,
    BatchEnsemble,
    DataSpec,
    Execution,
    McDropout,
    Mimo,
    ModelSpec,
    Optimizer,
    RunSpec,
    Topology,
)
from bench.store.store import Store
from bench.training.trainer import Trainer
from bench.training.weights import Ticket
from bench.work.items import RunWork, Work
from bench.work.options import Options
from bench.work.repair import clear_failures
from bench.work.summary import summarise
from bench.work.worker import run_worker

DATA = DataSpec(name="digits", train_images=120, validation_images=60, test_images=60)
WRN_10_1 = ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1})
CPU = torch.device("cpu")


def work_of(specs: Sequence[RunSpec]) -> Work:
    """Return the work of training runs and evaluating them on their own images."""
    return Work(runs=tuple(RunWork(spec=spec, cell="a cell", evaluations=own_sets(spec.data)) for spec in specs))


def do(work: Work | Sequence[RunSpec], store: Store, *, retry: bool = False, **options: Any) -> int:
    """Do some work as `bench run` does; return its exit code."""
    work = work if isinstance(work, Work) else work_of(work)
    if retry:
        clear_failures(work, store)
    return run_worker(work, store, Options(device="cpu", **options)) or summarise(work, store)


def run_spec(
    phases: tuple[Phase, ...],
    *,
    density: float | None,
    sampling: str = "exact",
    distribution: str = "erk",
    **changes: Any,
) -> RunSpec:
    choice = {"density": density, "sampling": sampling, "distribution": distribution}
    topology = None if density is None else Topology.model_validate(choice)
    values: dict[str, Any] = {
        "data": DATA,
        "model": WRN_10_1,
        "topology": topology,
        "phases": phases,
        "optimizer": Optimizer(),
        "batch_size": 32,
        "augmentation": Augmentation(padding=4, padding_mode="zero", flip=False),
        "validation_augmented": False,
        "execution": Execution(channels_last=False),
        "seed": 18,
    }
    return RunSpec(**{**values, **changes})


def dense_spec(epochs: int = 4, learning_rate: float = 0.1, **changes: Any) -> RunSpec:
    return run_spec(step_decay(Setting(members=1, learning_rate=learning_rate), epochs=epochs), density=None, **changes)


def edst_spec(semantics: Semantics = STANDARD, *, growth: str = "gradient", every: int = 3, **changes: Any) -> RunSpec:
    """Explore 3 epochs, refine 2 x 2 epochs: 28 steps, an update every 3rd, global exploration after step 20."""
    setting = Setting(members=2, learning_rate=0.05, semantics=semantics)
    parameters: dict[str, Any] = {"update_every": every, "growth": growth}
    phases = edst(setting, exploration_epochs=3, refinement_epochs=2, **parameters)
    return run_spec(
        phases,
        density=0.2,
        sampling=semantics.mask_sampling,
        validation_augmented=semantics.validation_augmented,
        **changes,
    )


def child_spec(recipe: RecipeWithParent, density: float = 0.2, **changes: Any) -> RunSpec:
    """Return the spec of a run with a dense parent of the same seed."""
    parent = run_spec(recipe.parent, density=None, **changes)
    return run_spec(recipe.phases, density=density, distribution="global", parent=parent, **changes)


SETTING = Setting(members=2, learning_rate=0.05)
SPECS: dict[str, Callable[[], RunSpec]] = {
    "dense": dense_spec,
    "edst released": lambda: edst_spec(RELEASED, execution=Execution(channels_last=True)),
    "edst standard": lambda: edst_spec(STANDARD),
    "edst random": lambda: edst_spec(STANDARD, growth="random"),
    "gradual pruning": lambda: run_spec(gradual_pruning(SETTING, epochs=5, update_every=2), density=0.2),
    "acdc": lambda: run_spec(
        acdc(SETTING, epochs=4, first_dense_epochs=1, alternation_epochs=1), density=0.2, distribution="global"
    ),
    "mc dropout": lambda: dense_spec(model=WRN_10_1.model_copy(update={"ensemble": McDropout(rate=0.2, samples=3)})),
    "mimo snapshots": lambda: run_spec(
        snapshot(SETTING, cycle_epochs=1),
        density=None,
        model=WRN_10_1.model_copy(update={"ensemble": Mimo(members=2, batch_repetitions=2, input_repetition=0.5)}),
    ),
    "batch ensemble": lambda: dense_spec(model=WRN_10_1.model_copy(update={"ensemble": BatchEnsemble(members=2)})),
    "own network that draws": lambda: edst_spec(model=ModelSpec(name="tests.models.networks:Drawing")),
    "rewinding": lambda: child_spec(lottery_rewinding(SETTING, epochs=3)),
}


def with_parent(spec: RunSpec) -> list[RunSpec]:
    """Return a run after its parent, if it has one."""
    return [run for run in (spec.parent, spec) if run is not None]


def split(data: DataSpec = DATA) -> Split:
    return cut(DIGITS.read(Path("unused")), data)


def noise(data: DataSpec = DATA) -> Split:
    """Return random images: the flat background of digits puts many ReLUs on their kink, where rounding decides."""
    random = np.random.default_rng(0)

    def images(count: int) -> LabelledImages:
        return LabelledImages(
            random.integers(256, size=(count, 32, 32, 3), dtype=np.uint8), random.integers(10, size=count)
        )

    return Split(images(data.train_images), images(data.validation_images), images(data.test_images))


class MemoryWriter:
    """Holds what a run leaves, as its parent's role for another run."""

    def __init__(self, tickets: dict[int, Ticket]) -> None:
        self.by_index = tickets
        self.early: dict[int, Ticket] = {}

    def write_ticket(self, index: int, tensors: Ticket, _: dict[str, Any]) -> str:
        self.by_index[index] = tensors
        return "checksum"

    def write_rewind_checkpoint(self, index: int, tensors: Ticket) -> str:
        self.early[index] = tensors
        return "checksum"


@dataclass(frozen=True)
class MemoryParent:
    """A finished run as a parent."""

    writer: MemoryWriter

    def tickets(self) -> list[Ticket]:
        return [self.writer.by_index[index] for index in sorted(self.writer.by_index)]

    def checksums(self) -> dict[str, str]:
        return {}

    def rewind_checkpoints(self) -> list[Ticket]:
        return [self.writer.early[index] for index in sorted(self.writer.early)]


def make_trainer(
    spec: RunSpec,
    tickets: dict[int, Ticket] | None = None,
    images: Split | None = None,
    parent: MemoryParent | None = None,
    writer: MemoryWriter | None = None,
) -> Trainer:
    facts, images = DATASETS["digits"], images or split(spec.data)
    train, validation = (
        DeviceImages(
            source, facts.mean, facts.std, augmentation=spec.augmentation, channels_last=spec.execution.channels_last
        )
        for source in (images.train, images.validation)
    )
    writer = writer or MemoryWriter({} if tickets is None else tickets)
    return Trainer(spec, train, validation, CPU, writer, classes=10, parent=parent)


def nothing() -> None:
    """Do nothing between steps."""


def outcome(store: Path, spec: RunSpec) -> dict[str, Any]:
    """Return what must not depend on interruptions: the bytes of tickets and logits, and the history."""
    folder = Store(store).run(spec.run_id)
    files = sorted(file for kind in ("tickets", "kept", "logits") for file in folder.tensors(kind))
    timed = {"seconds", "images_per_second"}
    history = [line.model_dump(exclude=timed) for line in folder.history()]
    return {
        **{str(file.relative_to(folder.path)): file.read_bytes() for file in files},
        "history": history,
        "tickets": folder.result().tickets,
        "parent": outcome(store, spec.parent) if spec.parent else None,
    }
