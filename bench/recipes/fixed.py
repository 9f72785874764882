"""Recipes whose topology never changes: dense training, and static sparse training from one random mask.

Paper, section 4.1; released code, main_individual.py: 250 epochs, learning rate x0.1 after 50% and 75% of them.
"""

from bench.recipes.setting import Setting, StepDecayEpochs
from bench.spec import LearningRate, Phase, TicketPolicy


def step_decay(setting: Setting, *, epochs: StepDecayEpochs = 250) -> tuple[Phase, ...]:
    """Train for `epochs`, learning rate x0.1 at 50% and 75%, and keep the best validation epoch."""
    lr = setting.learning_rate
    schedule = LearningRate(values=(lr, lr / 10, lr / 100), boundaries=(epochs // 2, epochs * 3 // 4))
    return (Phase(name="train", epochs=epochs, lr=schedule, ticket=TicketPolicy()),)
