"""The recipes against the protocol's tables, written out by hand."""

import pytest
from pydantic import ValidationError

from bench.errors import UserError
from bench.recipes import METHODS, RELEASED, Setting
from bench.recipes.dynamic import dst, edst
from bench.recipes.fixed import dense, step_decay
from bench.recipes.setting import PRESETS
from bench.spec.phases import GlobalExploration, Phase, RewireRule, TicketPolicy

SETTING = Setting(members=3, learning_rate=0.1)
AS_RELEASED = Setting(members=3, learning_rate=0.1, semantics=RELEASED)


def rates(phase: Phase) -> list[float]:
    return [pytest.approx(phase.lr.at(10 * epoch, 10, phase.epochs)) for epoch in range(phase.epochs)]


def test_dense_and_static_train_250_epochs_with_two_steps_down() -> None:
    (phase,) = step_decay(SETTING)
    assert rates(phase) == [0.1] * 125 + [0.01] * 62 + [0.001] * 63
    assert (phase.rewire, phase.on_start, phase.ticket) == (None, (), TicketPolicy())
    assert METHODS["static"].recipe is step_decay
    # A dense run is the same, and keeps an early epoch to rewind to.
    assert dense(SETTING) == (phase.model_copy(update={"keep": (5,)}),)
    assert (METHODS["dense"].sparse, METHODS["static"].sparse) == ("never", "always")


def test_dst_is_the_dense_schedule_with_rewiring_every_1000_steps() -> None:
    (phase,) = dst(SETTING)
    (plain,) = step_decay(SETTING)
    assert phase.model_copy(update={"rewire": None}) == plain
    assert phase.rewire is not None
    assert (phase.rewire.every, phase.rewire.drop_fraction, phase.rewire.rule.growth) == (1000, 0.5, "gradient")


@pytest.mark.parametrize(("members", "epochs"), [(3, 450), (7, 850)])
def test_edst_explores_150_epochs_then_refines_100_for_each_ticket(members: int, epochs: int) -> None:
    explore, *refine = edst(Setting(members=members, learning_rate=0.1))
    assert sum(phase.epochs for phase in (explore, *refine)) == epochs
    assert rates(explore) == [0.1] * 150
    assert explore.ticket is None
    assert len(refine) == members
    for phase in refine:
        assert rates(phase) == [0.01] * 50 + [0.001] * 50
        assert phase.ticket is not None
        assert phase.rewire is not None
        assert phase.rewire == explore.rewire
    assert [[action.fraction for action in phase.on_start] for phase in refine] == [[]] + [[0.8]] * (members - 1)


def test_edst_takes_the_total_of_epochs_instead() -> None:
    assert edst(SETTING, epochs=450) == edst(SETTING)
    assert [phase.epochs for phase in edst(SETTING, epochs=14, exploration_epochs=8)] == [8, 2, 2, 2]


@pytest.mark.parametrize("epochs", [149, 150, 155, 451, 454])
def test_edst_refuses_a_total_that_does_not_divide_and_names_one_that_does(epochs: int) -> None:
    with pytest.raises(UserError) as refused:
        edst(SETTING, epochs=epochs)
    suggested = int(str(refused.value).rpartition("; ")[2].split()[0])
    assert str(epochs) in str(refused.value)
    assert sum(phase.epochs for phase in edst(SETTING, epochs=suggested)) == suggested


def test_edst_refuses_a_refinement_without_two_halves() -> None:
    with pytest.raises(UserError, match=r"refinement_epochs: 51 .* 52"):
        edst(SETTING, refinement_epochs=51)


def test_released_switches_reach_the_phases() -> None:
    explore, first, second, third = edst(AS_RELEASED, growth="random")
    assert explore.rewire is not None
    assert explore.rewire.schedule == "constant"
    assert explore.rewire.update_step == "after_optimizer"
    assert explore.rewire.rule == RewireRule(
        growth="random",
        random_growth="bernoulli",
        dense_layers="rewired",
        regrow_dropped=True,
        ties="all",
        inactive_momentum="dense",
    )
    (escape,) = second.on_start
    assert escape == GlobalExploration(fraction=0.8, rule=explore.rewire.rule)
    # Only the first ticket can lose against an epoch of the exploration.
    resets = [phase.ticket and phase.ticket.reset_best for phase in (first, second, third)]
    assert resets == [False, True, True]


def test_a_switch_that_can_not_act_is_not_part_of_the_phases() -> None:
    rules = [phase.rewire and phase.rewire.rule.random_growth for phase in dst(AS_RELEASED, growth="gradient")]
    assert rules == ["exact"]


def test_too_few_epochs_for_three_learning_rates_are_refused() -> None:
    with pytest.raises(ValidationError, match="boundaries must increase"):
        step_decay(SETTING, epochs=2)
    assert len(step_decay(SETTING, epochs=4)) == 1


def test_imagenet_as_released() -> None:
    """ImageNet/main.py: warm-up (e + 1) / 6 by epoch, then 0.1; 0.01, 0.001, 0.0001 in each refinement."""
    setting = Setting(members=2, learning_rate=0.1, semantics=PRESETS["released_imagenet"])
    explore, first, second = edst(
        setting, exploration_epochs=30, refinement_lengths=[30, 30, 10], warmup_epochs=5, update_every=4000
    )
    assert rates(explore) == [0.1 * (epoch + 1) / 6 for epoch in range(5)] + [0.1] * 25
    assert rates(second) == rates(first) == [0.01] * 30 + [0.001] * 30 + [0.0001] * 10
    assert explore.rewire is not None
    assert explore.rewire.schedule == "cosine_restarts"
    assert explore.rewire.update_step == "after_optimizer"
    assert explore.rewire.rule == RewireRule(dense_layers="exempt", regrow_dropped="kept", inactive_momentum="masked")
    (phase,) = dense(setting, epochs=150, decay_epochs=[50, 100, 133], warmup_epochs=5)
    assert rates(phase)[:7] == [0.1 * (epoch + 1) / 6 for epoch in range(5)] + [0.1, 0.1]
    assert rates(phase)[48:52] == [0.1, 0.1, 0.01, 0.01]
