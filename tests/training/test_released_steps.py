"""28 steps of the trainer in float64 against a recording of the authors' code (tests/golden/README.md).

Two topology updates, a global exploration, and an update after it: masks bit for bit, weights and momentum to 1e-12.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.recipes import RELEASED, Setting
from bench.recipes.dynamic import edst
from bench.spec.phases import TicketPolicy
from bench.spec.run import Augmentation, RunSpec
from bench.training.trainer import Trainer
from tests.training.runs import CPU, DATA, MemoryWriter, nothing, run_spec

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "released_dst_wrn-10-1.npz"
STEPS_PER_EPOCH, BATCH_SIZE, EPOCHS = 4, 16, 7
# What lies between the topologies and the weights of float64: the order in which a convolution adds up.
TOLERANCE = 1e-12

Recording = dict[str, np.ndarray[Any, np.dtype[Any]]]
Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def recording() -> Recording:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def steps(recording: Recording) -> tuple[Trainer, list[dict[str, Tensor]]]:
    """Return the trainer after its last step, and its masks after every epoch (and whatever starts the next phase)."""
    spec = _spec()
    trainer = Trainer(spec, RecordedImages(recording), None, CPU, MemoryWriter({}), classes=10)
    trainer.model.double()
    trainer.model.load_state_dict({**_tensors(recording, "start/weight/"), **_tensors(recording, "start/buffer/")})
    trainer.masking.load(_tensors(recording, "start/mask/"))
    masks = []
    for _ in range(EPOCHS):
        trainer.train_epoch(nothing)
        assert trainer.masking.sparse is not None
        masks.append({name: mask.clone() for name, mask in trainer.masking.sparse.masks.items()})
    return trainer, masks


@pytest.mark.parametrize("moment", ["step8", "step16", "step20 explored", "step24"])
def test_masks_are_those_of_the_released_code(
    moment: str, steps: tuple[Trainer, list[dict[str, Tensor]]], recording: Recording
) -> None:
    expected = _tensors(recording, f"{moment}/mask/")
    step = int(moment.removeprefix("step").removesuffix(" explored"))
    actual = steps[1][step // STEPS_PER_EPOCH - 1]
    assert actual.keys() == expected.keys()
    assert {name: int((actual[name] != mask).sum()) for name, mask in expected.items()} == dict.fromkeys(expected, 0)


@pytest.mark.parametrize("kind", ["weight", "buffer", "momentum"])
def test_the_last_step_leaves_what_the_released_code_left(
    kind: str, steps: tuple[Trainer, list[dict[str, Tensor]]], recording: Recording
) -> None:
    expected, trainer = _tensors(recording, f"end/{kind}/"), steps[0]
    actual: Mapping[str, Tensor] = _momentum(trainer) if kind == "momentum" else trainer.model.state_dict()
    assert expected.keys() <= actual.keys()
    assert len(expected) > 5
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


def test_the_losses_are_those_of_the_released_code(
    steps: tuple[Trainer, list[dict[str, Tensor]]], recording: Recording
) -> None:
    expected = recording["losses"].reshape(EPOCHS, STEPS_PER_EPOCH).mean(axis=1)
    assert [line["train_loss"] for line in steps[0].at.history] == pytest.approx(expected, rel=0, abs=TOLERANCE)


class RecordedImages:
    """In the place of DeviceImages: the batches that were recorded."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def __len__(self) -> int:
        return STEPS_PER_EPOCH * BATCH_SIZE

    @contextmanager
    def epoch(self, parts: Sequence[slice], _stream: int, _use: str, epoch: int) -> Iterator[Iterator[Batch]]:
        assert parts == [slice(first, first + BATCH_SIZE) for first in range(0, len(self), BATCH_SIZE)]
        recorded = slice(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        images, labels = (torch.from_numpy(self._recording[name][recorded]) for name in ("images", "labels"))
        yield zip(images.double() / 255, labels, strict=True)


def _spec() -> RunSpec:
    setting = Setting(members=2, learning_rate=0.1, semantics=RELEASED)
    explore, _, refine = edst(setting, exploration_epochs=5, refinement_lengths=[2], update_every=8)
    return run_spec(
        (explore, refine.model_copy(update={"ticket": TicketPolicy(select="last")})),
        density=0.2,
        data=DATA.model_copy(update={"train_images": STEPS_PER_EPOCH * BATCH_SIZE, "validation_images": 0}),
        batch_size=BATCH_SIZE,
        augmentation=Augmentation(padding=0, padding_mode="zero", flip=False),
    )


def _tensors(recording: Recording, prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): torch.from_numpy(value) for key, value in recording.items() if key.startswith(prefix)
    }


def _momentum(trainer: Trainer) -> dict[str, Tensor]:
    # torch numbers parameters in the order of its groups, of which there is one here.
    state = trainer.state_dict()["optimizer"]
    assert len(state["param_groups"]) == 1
    names = [name for name, _ in trainer.model.named_parameters()]
    return {name: state["state"][index]["momentum_buffer"] for index, name in enumerate(names)}
