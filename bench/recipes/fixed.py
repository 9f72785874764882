"""Recipes whose topology never changes: dense training, and static sparse training from one random mask.

Paper, section 4.1; released code, main_individual.py: 250 epochs, learning rate x0.1 after 50% and 75% of them.
"""

from functools import lru_cache

from bench.recipes.setting import Count, Counts, Epochs, Positive, Select, Setting, StepDecayEpochs, warmed_up
from bench.spec.phases import LearningRate, Phase, TicketPolicy

# Frankle et al. 2020: rewinding to 2% of training is early enough to be cheap and late enough to work.
REWIND_PERCENT = 2


def step_decay(
    setting: Setting,
    *,
    epochs: StepDecayEpochs = 250,
    decay_epochs: Counts | None = None,
    decay_factor: Positive = 0.1,
    warmup_epochs: Epochs = 0,
    select: Select = "best_validation",
) -> tuple[Phase, ...]:
    """Train for `epochs`, learning rate x`decay_factor` at each of `decay_epochs` (50% and 75% unless given).

    select   the epoch that becomes the ticket
    """
    decays = None if decay_epochs is None else tuple(decay_epochs)
    schedule = step_schedule(setting.learning_rate, epochs, decays, decay_factor, warmup_epochs)
    return _step_phase(epochs, warmed_up(schedule, setting.semantics), select)


def dense(
    setting: Setting,
    *,
    epochs: StepDecayEpochs = 250,
    decay_epochs: Counts | None = None,
    decay_factor: Positive = 0.1,
    warmup_epochs: Epochs = 0,
    select: Select = "best_validation",
    rewind_epoch: Count | None = None,
) -> tuple[Phase, ...]:
    """Train as step_decay, and write a rewind checkpoint after an early epoch (2% of training unless given)."""
    (phase,) = step_decay(
        setting,
        epochs=epochs,
        decay_epochs=decay_epochs,
        decay_factor=decay_factor,
        warmup_epochs=warmup_epochs,
        select=select,
    )
    return (phase.model_copy(update={"keep": (rewind_epoch or max(1, epochs * REWIND_PERCENT // 100),)}),)


def step_schedule(
    learning_rate: float, epochs: int, decay_epochs: tuple[int, ...] | None, decay_factor: float, warmup_epochs: int = 0
) -> LearningRate:
    """Return the learning rate of step_decay."""
    boundaries = (epochs // 2, epochs * 3 // 4) if decay_epochs is None else decay_epochs
    # Divided where the factor is one over a whole number: 0.1 / 10 is 0.01, and 0.1 * 0.1 is not.
    over = round(1 / decay_factor)
    exact = over >= 1 and decay_factor == 1 / over
    steps = range(len(boundaries) + 1)
    values = tuple(learning_rate / over**n if exact else learning_rate * decay_factor**n for n in steps)
    return LearningRate(values=values, boundaries=boundaries, warmup_epochs=warmup_epochs)


def part(schedule: LearningRate, start: int, stop: int) -> LearningRate:
    """Return what a schedule without warm-up does in epochs start..stop - 1, for a phase of its own."""
    first = sum(boundary <= start for boundary in schedule.boundaries)
    inside = tuple(boundary - start for boundary in schedule.boundaries if start < boundary < stop)
    return LearningRate(values=schedule.values[first : first + len(inside) + 1], boundaries=inside)


@lru_cache(maxsize=4096)  # the cells of a grid share a few schedules
def _step_phase(epochs: int, schedule: LearningRate, select: Select) -> tuple[Phase]:
    return (Phase(name="train", epochs=epochs, lr=schedule, ticket=TicketPolicy(select=select)),)
