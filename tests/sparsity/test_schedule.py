"""The drop fraction over a run."""

import pytest

from bench.sparsity.schedule import drop_fraction, fraction_after
from bench.spec.phases import Rewire


def test_cosine_starts_at_the_given_fraction_is_half_of_it_half_way_and_ends_at_exactly_zero() -> None:
    assert drop_fraction(0.5, "cosine", 0, 1000) == 0.5
    assert drop_fraction(0.5, "cosine", 500, 1000) == pytest.approx(0.25)
    assert drop_fraction(0.5, "cosine", 1000, 1000) == 0.0


def test_cosine_at_a_third_and_two_thirds() -> None:
    # cos(60 degrees) = 1/2 and cos(120 degrees) = -1/2.
    assert drop_fraction(0.8, "cosine", 30, 90) == pytest.approx(0.6)
    assert drop_fraction(0.8, "cosine", 60, 90) == pytest.approx(0.2)


def test_cosine_never_rises_and_never_leaves_its_range() -> None:
    fractions = [drop_fraction(0.3, "cosine", step, 777) for step in range(778)]
    assert fractions == sorted(fractions, reverse=True)
    assert all(0 <= fraction <= 0.3 for fraction in fractions)


@pytest.mark.parametrize("step", [0, 1, 500, 1000])
def test_constant_is_constant_to_the_last_step(step: int) -> None:
    assert drop_fraction(0.5, "constant", step, 1000) == 0.5


@pytest.mark.parametrize(("epoch", "fraction"), [(0, 0.5), (50, 0.2525), (99, 0.005), (100, 0.005)])
def test_restarted_cosine_falls_to_what_the_released_code_leaves(epoch: int, fraction: float) -> None:
    assert drop_fraction(0.5, "cosine_restarts", epoch, 100) == pytest.approx(fraction, abs=2e-4)


def test_a_cosine_lasts_from_the_first_step_to_the_last_and_a_restarted_one_from_turn_to_turn() -> None:
    turns = (0, 40, 60)
    cosine = Rewire(every=10, drop_fraction=0.5)
    assert [fraction_after(cosine, step, turns) for step in (30, 60)] == pytest.approx([0.25, 0.0])
    restarted = cosine.model_copy(update={"schedule": "cosine_restarts"})
    half, least = 0.005 + 0.2475, 0.005
    found = [fraction_after(restarted, step, turns) for step in (20, 40, 50, 60)]
    assert found == pytest.approx([half, least, half, least])
