"""A loop of one's own with DynamicSparsity gives the bits of the suite's trainer, and the authors' masks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.build import build_model
from bench.recipes import PRESETS, Setting
from bench.recipes.dynamic import dst, edst
from bench.recipes.setting import Growth
from bench.sparsity import DynamicSparsity
from bench.spec.phases import Phase, TicketPolicy
from bench.spec.run import Augmentation, Execution, RunSpec
from bench.training.trainer import Trainer
from tests.training.runs import CPU, DATA, WRN_10_1, MemoryWriter, nothing, run_spec
from tests.training.test_released_steps import GOLDEN

BATCH, STEPS_PER_EPOCH, EPOCHS = 8, 4, 6
EVERY = 3
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    preset: str
    growth: Growth = "gradient"
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.contiguous_format
    several_tickets: bool = True

    @property
    def phases(self) -> tuple[Phase, ...]:
        setting = Setting(members=2, learning_rate=0.05, semantics=PRESETS[self.preset])
        if self.several_tickets:
            phases = edst(setting, exploration_epochs=2, refinement_epochs=2, update_every=EVERY, growth=self.growth)
        else:
            phases = dst(setting, epochs=EPOCHS, update_every=EVERY, growth=self.growth)
        last = TicketPolicy(select="last")
        return tuple(phase.model_copy(update={"ticket": last}) if phase.ticket else phase for phase in phases)

    @property
    def spec(self) -> RunSpec:
        return run_spec(
            self.phases,
            density=0.2,
            sampling=PRESETS[self.preset].mask_sampling,
            data=DATA.model_copy(update={"train_images": STEPS_PER_EPOCH * BATCH, "validation_images": 0}),
            batch_size=BATCH,
            augmentation=Augmentation(padding=0, padding_mode="zero", flip=False),
            execution=Execution(channels_last=self.layout == torch.channels_last),
        )

    def batches(self) -> list[Batch]:
        draws = torch.Generator().manual_seed(5)
        return [
            (
                torch.rand(BATCH, 3, 32, 32, generator=draws).to(self.dtype).to(memory_format=self.layout),
                torch.randint(10, (BATCH,), generator=draws),
            )
            for _ in range(STEPS_PER_EPOCH * EPOCHS)
        ]


class GivenImages:
    """In the place of DeviceImages: batches that are there."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return STEPS_PER_EPOCH * BATCH

    @contextmanager
    def epoch(self, _parts: Sequence[slice], _stream: int, _use: str, epoch: int) -> Iterator[Iterator[Batch]]:
        yield iter(self._batches[epoch * STEPS_PER_EPOCH : (epoch + 1) * STEPS_PER_EPOCH])


CASES = {
    "EDST standard": Case("standard"),
    "EDST standard, channels last": Case("standard", layout=torch.channels_last),
    "EDST standard, float64": Case("standard", dtype=torch.float64),
    "EDST released": Case("released"),
    "EDST released, float64": Case("released", dtype=torch.float64),
    "EDST released, random growth": Case("released", "random"),
    "EDST released_imagenet": Case("released_imagenet"),
    "DST standard": Case("standard", several_tickets=False),
    "DST standard, random growth, float64": Case("standard", "random", torch.float64, several_tickets=False),
    "DST released": Case("released", several_tickets=False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_loop_of_ones_own_gives_the_bits_of_the_trainer(case: Case) -> None:
    batches, spec = case.batches(), case.spec
    assert spec.epochs == EPOCHS
    trainer = Trainer(spec, GivenImages(batches), None, CPU, MemoryWriter({}), classes=10)
    trainer.model.to(case.dtype)
    while not trainer.finished:
        trainer.train_epoch(nothing)

    model = build_model(WRN_10_1, 10, spec.seed).to(case.dtype).to(memory_format=case.layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    explorations = [2 * 2 * STEPS_PER_EPOCH] if case.several_tickets else []
    sparse = DynamicSparsity(
        model,
        optimizer,
        sparsity=0.8,
        growth=case.growth,
        update_every=EVERY,
        total_steps=STEPS_PER_EPOCH * EPOCHS,
        explorations=explorations,
        semantics=case.preset,
    )
    changes = []
    model.train()
    rates = iter(rates_of(spec))
    for images, labels in batches:
        for group in optimizer.param_groups:
            group["lr"] = next(rates)
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        changes.append(sparse.step())
        if sparse.steps in explorations:
            changes.append(sparse.explore(0.8))

    assert trainer.masking.sparse is not None
    assert_same_bits(sparse.masks, trainer.masking.sparse.masks)
    assert_same_bits(model.state_dict(), trainer.model.state_dict())
    assert_same_bits(momenta(model, optimizer), momenta(trainer.model, trainer._optimizer.torch))
    recorded = [update for line in trainer.at.history for update in line["updates"]]
    assert [asdict(change) for change in changes if change is not None] == recorded
    assert len(recorded) == STEPS_PER_EPOCH * EPOCHS // EVERY + len(explorations)
    assert sum(update["grown"] for update in recorded) > 1000


def rates_of(spec: RunSpec) -> Iterator[float]:
    for phase in spec.phases:
        for step in range(phase.epochs * STEPS_PER_EPOCH):
            yield phase.lr.at(step, STEPS_PER_EPOCH, phase.epochs)


def momenta(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {name: optimizer.state[parameter]["momentum_buffer"] for name, parameter in model.named_parameters()}


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert {name: int((found[name] != value).sum()) for name, value in expected.items()} == dict.fromkeys(expected, 0)


def test_a_loop_of_ones_own_gives_the_masks_of_the_released_code() -> None:
    """The recording that the trainer is held to in test_released_steps, without the trainer."""
    with np.load(GOLDEN) as file:
        recording: dict[str, Any] = {key: torch.from_numpy(value) for key, value in file.items()}

    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in recording.items() if key.startswith(prefix)}

    model = build_model(WRN_10_1, 10, 0).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    sparse = DynamicSparsity(model, optimizer, sparsity=0.8, update_every=8, semantics="released")
    model.load_state_dict({**part("start/weight/"), **part("start/buffer/")})
    sparse.load_state_dict({"steps": 0, "masks": part("start/mask/")})
    model.train()
    seen = 0
    for images, labels, rate in zip(recording["images"], recording["labels"], recording["rates"], strict=True):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        functional.cross_entropy(model(images.double() / 255), labels).backward()
        sparse.step()
        moment = f"step{sparse.steps}"
        if sparse.steps == 20:
            sparse.explore(0.8)
            moment = "step20 explored"
        if expected := part(f"{moment}/mask/"):
            assert_same_bits(sparse.masks, expected)
            seen += 1
    assert seen == 4
    for name, value in part("end/weight/").items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=1e-12)
