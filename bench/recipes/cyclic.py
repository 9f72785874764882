"""Recipes that take several tickets from one run by cycles of the learning rate, dense or on a DST network.

Snapshot ensembles, Huang et al. 2017; fast geometric ensembling (FGE), Garipov et al. 2018. Cycles on a network whose
topology keeps changing are this suite's combination, not the paper's.
"""

from bench.recipes.dynamic import rewiring
from bench.recipes.setting import Count, Cycles, DropFraction, Growth, Positive, Setting
from bench.spec.phases import LearningRate, Phase, Ramp, Rewire, TicketPolicy

LAST = TicketPolicy(select="last")
# The share of the first rate that is left after the first `constant_epochs` and `anneal_epochs` of FGE: its schedule of
# 200 epochs (dnn-mode-connectivity, train.py) falls linearly from 1 at epoch 100 to 0.01 at epoch 180, and is left at
# 160.
FGE_ANNEALED = 1 - 0.99 * 60 / 80


def snapshot(setting: Setting, *, cycle_epochs: Count = 40, cycles: Cycles | None = None) -> tuple[Phase, ...]:
    """Train in cosine cycles from the learning rate to 0, as many as members unless given, a ticket after each.

    Huang et al., equation 2; the released code trains 5 cycles of 40 epochs and keeps the momentum from cycle to cycle.
    """
    lr = Ramp(start=setting.learning_rate, end=0.0, shape="cosine")
    return tuple(
        Phase(name=f"cycle {index + 1}", epochs=cycle_epochs, lr=lr, ticket=LAST)
        for index in range(cycles or setting.members)
    )


def snapshot_dst(
    setting: Setting,
    *,
    cycle_epochs: Count = 40,
    cycles: Cycles | None = None,
    update_every: Count = 1000,
    drop_fraction: DropFraction = 0.5,
    growth: Growth = "gradient",
) -> tuple[Phase, ...]:
    """Train as snapshot, and rewire as DST does all along."""
    phases = snapshot(setting, cycle_epochs=cycle_epochs, cycles=cycles)
    return _rewired(phases, rewiring(setting.semantics, update_every, drop_fraction, growth))


def fge(
    setting: Setting,
    *,
    constant_epochs: Count = 100,
    anneal_epochs: Count = 60,
    half_cycle_epochs: Count = 1,
    cycles: Cycles | None = None,
    high_factor: Positive = 0.5,
    low_factor: Positive = 0.1,
) -> tuple[Phase, ...]:
    """Train most of a schedule, then move along triangles of the learning rate with a ticket at each minimum.

    The triangles run between `high_factor` and `low_factor` times the first rate (WRN-28-10 in the released code's
    README: 0.05 and 0.01, cycles of two epochs from epoch 160 on). The network they start from is no ticket.
    """
    lr = setting.learning_rate
    high, low = lr * high_factor, lr * low_factor
    phases = [
        Phase(name="train", epochs=constant_epochs, lr=LearningRate(values=(lr,))),
        Phase(name="anneal", epochs=anneal_epochs, lr=Ramp(start=lr, end=lr * FGE_ANNEALED, shape="linear")),
    ]
    for index in range(cycles or setting.members):
        if index:
            up = Ramp(start=low, end=high, shape="linear")
            phases.append(Phase(name=f"up {index + 1}", epochs=half_cycle_epochs, lr=up))
        down = Ramp(start=high, end=low, shape="linear")
        phases.append(Phase(name=f"down {index + 1}", epochs=half_cycle_epochs, lr=down, ticket=LAST))
    return tuple(phases)


def fge_dst(
    setting: Setting,
    *,
    constant_epochs: Count = 100,
    anneal_epochs: Count = 60,
    half_cycle_epochs: Count = 1,
    cycles: Cycles | None = None,
    high_factor: Positive = 0.5,
    low_factor: Positive = 0.1,
    update_every: Count = 1000,
    drop_fraction: DropFraction = 0.5,
    growth: Growth = "gradient",
) -> tuple[Phase, ...]:
    """Train as fge, and rewire as DST does all along."""
    phases = fge(
        setting,
        constant_epochs=constant_epochs,
        anneal_epochs=anneal_epochs,
        half_cycle_epochs=half_cycle_epochs,
        cycles=cycles,
        high_factor=high_factor,
        low_factor=low_factor,
    )
    return _rewired(phases, rewiring(setting.semantics, update_every, drop_fraction, growth))


def _rewired(phases: tuple[Phase, ...], rewire: Rewire) -> tuple[Phase, ...]:
    return tuple(phase.model_copy(update={"rewire": rewire}) for phase in phases)
