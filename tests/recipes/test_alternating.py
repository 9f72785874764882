"""AC/DC: the published schedule, and what holds for every length of a run."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.recipes import Setting
from bench.recipes.alternating import acdc
from bench.recipes.fixed import step_decay
from bench.spec.phases import Densify, Prune

SETTING = Setting(members=1, learning_rate=0.1)


def test_200_epochs_switch_where_the_released_configuration_does() -> None:
    # IST-DASLab/ACDC, iht_cifar100_wideresnet_steplr_freq20: prune at 10, 50, ..., 170; restore at 30, 70, ..., 150.
    phases = acdc(SETTING, epochs=200)
    starts = [sum(phase.epochs for phase in phases[:index]) for index in range(len(phases))]
    actions = [(start, action) for start, phase in zip(starts, phases, strict=True) for action in phase.on_start]
    assert [start for start, action in actions if action == Prune()] == [10, 50, 90, 130, 170]
    assert [start for start, action in actions if action == Densify()] == [30, 70, 110, 150]
    assert [phase.ticket is not None for phase in phases] == [False] * 9 + [True]


@given(epochs=st.integers(4, 300), first=st.integers(1, 40), length=st.integers(1, 40))
def test_phases_alternate_end_sparse_and_keep_the_dense_learning_rate(epochs: int, first: int, length: int) -> None:
    assume(epochs >= first + length)
    phases = acdc(SETTING, epochs=epochs, first_dense_epochs=first, alternation_epochs=length)
    assert [phase.on_start for phase in phases] == [(), *[(Prune(),), (Densify(),)] * (len(phases) // 2)][: len(phases)]
    assert phases[-1].on_start == (Prune(),)
    lengths = [phase.epochs for phase in phases]
    assert sum(lengths) == epochs
    assert lengths[:-1] == [first, *[length] * (len(phases) - 2)]
    assert length <= lengths[-1] < 3 * length  # else another dense and another sparse phase would fit
    (whole,) = step_decay(SETTING, epochs=epochs)
    rates = [phase.lr.at(epoch, 1, phase.epochs) for phase in phases for epoch in range(phase.epochs)]
    assert rates == [whole.lr.at(epoch, 1, epochs) for epoch in range(epochs)]


def test_too_few_epochs_for_a_sparse_phase_are_refused_with_the_number_that_is_enough() -> None:
    with pytest.raises(UserError, match=r"epochs: found 29; .* at least 30"):
        acdc(SETTING, epochs=29)
    assert len(acdc(SETTING, epochs=30)) == 2
