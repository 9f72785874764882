"""Recipes that take weights away from a dense network by magnitude: pruning after, before and during training.

Paper, section 4.1 (its baselines PF and LTR); gradual magnitude pruning, Zhu & Gupta 2017, is the dense-to-sparse one.
"""

from bench.errors import UserError
from bench.recipes.fixed import dense, part, step_decay, step_schedule
from bench.recipes.setting import Count, Epochs, Positive, RecipeWithParent, Setting, StepDecayEpochs
from bench.spec.phases import GradualPruning, Inherit, LearningRate, Phase, Prune, TicketPolicy


def prune_finetune(
    setting: Setting,
    *,
    epochs: Count = 250,
    learning_rate_factor: Positive = 0.01,
    dense_epochs: StepDecayEpochs = 250,
    rewind_epoch: Count | None = None,
) -> RecipeWithParent:
    """Prune a trained dense network once and finetune it for `epochs` at a constant rate, masks fixed.

    Its parent is the `dense` run of the same seed (`rewind_epoch` as there), so the runs of a dense ensemble serve.
    """
    finetune = Phase(
        name="finetune",
        epochs=epochs,
        lr=LearningRate(values=(setting.learning_rate * learning_rate_factor,)),
        on_start=(Inherit(weights="ticket"), Prune()),
        ticket=TicketPolicy(),
    )
    return RecipeWithParent(phases=(finetune,), parent=dense(setting, epochs=dense_epochs, rewind_epoch=rewind_epoch))


def lottery_rewinding(
    setting: Setting, *, epochs: StepDecayEpochs = 250, rewind_epoch: Count | None = None
) -> RecipeWithParent:
    """Prune a trained dense network, rewind what is left to an early epoch, and train it again on the same schedule.

    Frankle et al. 2020. All runs of a replicate share one dense parent and its mask, and differ in the order of their
    images. The released code has no such script: the schedule is that of the protocol.
    """
    (train,) = step_decay(setting, epochs=epochs)
    rewound = (Inherit(weights="ticket"), Prune(), Inherit(weights="kept"))
    retrain = train.model_copy(update={"name": "retrain", "on_start": rewound})
    parent = dense(setting, epochs=epochs, rewind_epoch=rewind_epoch)
    return RecipeWithParent(phases=(retrain,), parent=parent, shared=True)


def gradual_pruning(
    setting: Setting,
    *,
    epochs: StepDecayEpochs = 250,
    begin_epoch: Epochs | None = None,
    end_epoch: Count | None = None,
    update_every: Count = 1000,
) -> tuple[Phase, ...]:
    """Train as dense and prune on the way, from 20% to 80% of training unless given; the ticket comes after that.

    Near the baseline of RigL (rigl/cifar_resnet/resnet_train_eval.py: steps 20,000 to 75,000 of 97,656, every layer to
    the same density). Here a pruned weight never returns; there the mask is drawn from all magnitudes again.
    """
    begin = epochs // 5 if begin_epoch is None else begin_epoch
    end = epochs * 4 // 5 if end_epoch is None else end_epoch
    if not begin < end < epochs:
        raise UserError(
            f"recipe.end_epoch: pruning from epoch {begin} to {end} of {epochs}; allowed: an end after its begin and "
            "before the last epoch"
        )
    schedule = step_schedule(setting.learning_rate, epochs, None, 0.1)
    return (
        Phase(
            name="prune",
            epochs=end,
            lr=part(schedule, 0, end),
            pruning=GradualPruning(every=update_every, begin=begin, end=end),
        ),
        Phase(
            name="finetune",
            epochs=epochs - end,
            lr=part(schedule, end, epochs),
            ticket=TicketPolicy(),
        ),
    )
