"""The drop fraction over a run."""

import pytest

from bench.sparsity.schedule import drop_fraction


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
