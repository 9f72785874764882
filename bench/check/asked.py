"""What a plan asks for that differs in its steps: a network, a method, a batch and a precision, each once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.data.augment import NONE, DeviceImages
from bench.data.catalog import facts_of
from bench.data.dataset import LabelledImages
from bench.models.catalog import inputs_per_image
from bench.plan.cost import dense_training_flops
from bench.plan.records import Plan
from bench.spec.phases import LearningRate, Phase, TicketPolicy
from bench.spec.run import Augmentation, RunSpec

# Batches of images that are made; a run has as many more as it likes, of the same.
BATCHES = 4
# So many steps an epoch that none ends while it is measured.
STEPS = 10_000
RATE = LearningRate(values=(1e-3,))


@dataclass(frozen=True)
class Asked:
    """A step to measure, and the cells whose runs take it.

    spec    of a run that takes this step from its first to its last: one phase, no parent, no end in sight
    dense   the same of the plain dense network on as many inputs
    """

    method: str
    spec: RunSpec
    dense: RunSpec
    cells: tuple[str, ...]

    @property
    def flops(self) -> float:
        """FLOPs of a step, as if no weight were masked."""
        return dense_training_flops(self.spec, 1) / STEPS

    @property
    def name(self) -> str:
        """What it is called in a table."""
        execution = self.spec.execution
        arguments = " ".join(f"{key} {value}" for key, value in self.spec.model.arguments.items())
        compiled = " compiled" if execution.compile else ""
        network = f"{self.spec.model.name} {arguments}".strip()
        batch = f"batch {self.spec.batch_size}, {execution.precision}{compiled}"
        return f"{self.method}, {network}, {self.spec.data.name}, {batch}"


def distinct_steps(plan: Plan) -> list[Asked]:
    """Return the distinct steps of a plan, in the order of its cells, dense ones first."""
    specs = {run.id: run.spec for run in plan.runs}
    found: dict[tuple[object, ...], Asked] = {}
    for cell in plan.cells:
        spec = specs[cell.runs[0][0]]
        key = _key(cell.method, spec)
        if key in found:
            earlier = found[key]
            found[key] = Asked(earlier.method, earlier.spec, earlier.dense, (*earlier.cells, cell.name))
        else:
            found[key] = Asked(cell.method, endless(spec), endless(plain(spec)), (cell.name,))
    return sorted(found.values(), key=lambda asked: asked.method != "dense")


def _key(method: str, spec: RunSpec) -> tuple[object, ...]:
    arguments = tuple(spec.model.arguments.items())
    network = spec.model.name, arguments, spec.model.ensemble
    return method, spec.data.name, network, spec.execution, spec.batch_size, spec.topology is None


def step_key(spec: RunSpec) -> str:
    """Return what two specs share that take the same step."""
    return spec.model_copy(update={"seed": 0}).run_id


def plain(spec: RunSpec) -> RunSpec:
    """Return a run of the dense single network behind a run, whose steps have as many inputs."""
    phase = Phase(name="dense", epochs=1, lr=RATE, ticket=TicketPolicy())
    return spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"ensemble": None}),
            "topology": None,
            "phases": (phase,),
            "batch_size": spec.batch_size * inputs_per_image(spec.model),
        }
    )


def endless(spec: RunSpec) -> RunSpec:
    """Return a run whose every step is one of the phase that costs most: that which rewires or prunes, if one does.

    Where weights come from costs a step nothing, so it has no parent; neither does the division of a density over
    layers, which global magnitude would only know of a trained network.
    """
    phase = next((phase for phase in spec.phases if phase.rewire or phase.pruning), spec.phases[0])
    topology = spec.topology
    if topology is not None and topology.distribution == "global":
        topology = topology.model_copy(update={"distribution": "erk"})
    return spec.model_copy(
        update={
            "data": spec.data.model_copy(update={"train_images": STEPS * spec.batch_size}),
            "phases": (phase.model_copy(update={"on_start": (), "lr": RATE, "keep": ()}),),
            "topology": topology,
            "validation_augmented": False,
            "seed": 0,
            "parent": None,
        }
    )


class MadeUpImages:
    """Training images of which few are made, at random: cutting and augmenting a batch is the run's own work.

    Images of sets that are decoded ahead of a step are on the device already, as pixels.
    """

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        facts = facts_of(spec.data)
        count, random = BATCHES * spec.batch_size, np.random.default_rng(0)
        source = LabelledImages(
            random.integers(256, size=(count, facts.image_size, facts.image_size, 3), dtype=np.uint8),
            random.integers(facts.classes, size=count),
        )
        augmentation = spec.augmentation if isinstance(spec.augmentation, Augmentation) else NONE
        self.made = DeviceImages(
            source,
            facts.mean,
            facts.std,
            augmentation=augmentation,
            device=device,
            channels_last=spec.execution.channels_last,
        )
        self._count = spec.data.train_images

    def __len__(self) -> int:
        """Return how many images the run believes to have."""
        return self._count

    @contextmanager
    def epoch(self, parts: Sequence[slice], *draws: str | int) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
        """Give the batches of an epoch: those that there are, again and again."""
        size = max(part.stop - part.start for part in parts)
        there = [slice(start, start + size) for start in range(0, len(self.made) - size + 1, size)]
        with self.made.epoch([there[number % len(there)] for number in range(len(parts))], *draws) as batches:
            yield batches
