"""What a network of the user's own draws is a function of the seed, and nobody else's draws are disturbed."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.models.build import build_model
from bench.models.draws import seeded_generators
from bench.models.predict import member_logits
from bench.models.trace import trace_network
from bench.spec.run import ModelSpec
from tests.models.networks import Drawing
from tests.training.runs import dense_spec, make_trainer, nothing

DRAWING = ModelSpec(name="tests.models.networks:Drawing")


def draw(device: str) -> list[float]:
    numbers = [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002
    return [*numbers, torch.rand((), device=device).item()]


@pytest.mark.parametrize("device", ["cpu"])
def test_a_block_draws_what_its_seed_says_and_the_draws_around_it_go_on(device: str) -> None:
    def drawn(seed: int) -> list[float]:
        with seeded_generators(seed, torch.device(device)):
            return draw(device)

    with seeded_generators(7, torch.device(device)):
        straight = draw(device), draw(device)
    with seeded_generators(7, torch.device(device)):
        first = draw(device)
        inside = drawn(1)
        with pytest.raises(ZeroDivisionError), seeded_generators(2, torch.device(device)):
            _ = draw(device)[0] / 0
        assert (first, draw(device)) == straight
    assert inside == drawn(1) != drawn(2)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(tensor.equal(other[name]) for name, tensor in one.items())


def test_a_network_is_built_from_the_seed_whatever_it_draws_from() -> None:
    first = weights(build_model(DRAWING, 10, 3))
    draw("cpu")
    assert same(first, weights(build_model(DRAWING, 10, 3)))
    assert not same(first, weights(build_model(DRAWING, 10, 4)))


@pytest.mark.parametrize("device", ["cpu"])
def test_a_network_that_draws_predicts_as_the_seed_says(device: str) -> None:
    model, images = Drawing(10).to(device).eval(), torch.randn(4, 3, 32, 32, device=device)
    first = member_logits(model, model, images, 5)
    draw(device)
    assert first.equal(member_logits(model, model, images, 5))
    assert not first.equal(member_logits(model, model, images, 6))


def test_training_and_tracing_leave_the_callers_generators_alone() -> None:
    with seeded_generators(7):
        straight = draw("cpu")
    trainer = make_trainer(dense_spec(model=DRAWING))
    with seeded_generators(7):
        trace_network(lambda: Drawing(10), (3, 32, 32), 10)
        line = trainer.train_epoch(nothing)
        assert draw("cpu") == straight
    again = make_trainer(dense_spec(model=DRAWING))
    draw("cpu")
    repeated = again.train_epoch(nothing)
    assert same(weights(trainer.model), weights(again.model))
    assert line["validation_loss"] == repeated["validation_loss"]
