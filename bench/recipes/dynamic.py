"""Dynamic sparse training: one ticket a run (DST), or several tickets from one run (EDST).

Paper, sections 3.2 and 3.3; released code, main_DST.py and main_EDST.py.
"""

from typing import Literal

from bench.errors import UserError
from bench.recipes.fixed import step_decay
from bench.recipes.setting import Count, RefinementEpochs, Setting, Share, StepDecayEpochs
from bench.spec import GlobalExploration, LearningRate, Phase, Rewire, RewireRule, TicketPolicy

Growth = Literal["gradient", "random"]


def dst(
    setting: Setting,
    *,
    epochs: StepDecayEpochs = 250,
    update_every: Count = 1000,
    drop_fraction: Share = 0.5,
    growth: Growth = "gradient",
) -> tuple[Phase, ...]:
    """Train as dense, and every `update_every` steps drop `drop_fraction` of each layer and grow as many."""
    rewire = rewiring(setting, update_every, drop_fraction, growth)
    return tuple(phase.model_copy(update={"rewire": rewire}) for phase in step_decay(setting, epochs=epochs))


def edst(
    setting: Setting,
    *,
    exploration_epochs: Count = 150,
    refinement_epochs: RefinementEpochs = 100,
    epochs: Count | None = None,
    tickets: Count | None = None,
    exploration_fraction: Share = 0.8,
    update_every: Count = 1000,
    drop_fraction: Share = 0.5,
    growth: Growth = "gradient",
) -> tuple[Phase, ...]:
    """Explore at the first learning rate, then refine `tickets` times (x0.1, then x0.01), one ticket each.

    Between refinements, `exploration_fraction` of every layer changes at once. `tickets` defaults to all members, so
    that a cell is one run a replicate; `epochs`, where given, is the total and sets refinement_epochs.
    """
    tickets = setting.members if tickets is None else tickets
    if epochs is not None:
        refinement_epochs = _divide(epochs, exploration_epochs, tickets)
    if refinement_epochs % 2:
        raise UserError(
            f"recipe.refinement_epochs: {refinement_epochs} does not divide into two halves (one learning rate each); "
            f"an even number is allowed, such as {refinement_epochs + 1}"
        )
    lr = setting.learning_rate
    rewire = rewiring(setting, update_every, drop_fraction, growth)
    refinement = LearningRate(values=(lr / 10, lr / 100), boundaries=(refinement_epochs // 2,))
    explore = Phase(name="explore", epochs=exploration_epochs, lr=LearningRate(values=(lr,)), rewire=rewire)
    escape = GlobalExploration(fraction=exploration_fraction, rule=rewire.rule)
    refine = tuple(
        Phase(
            name=f"refine {index + 1}",
            epochs=refinement_epochs,
            lr=refinement,
            rewire=rewire,
            on_start=escape if index else None,
            ticket=TicketPolicy(reset_best=index > 0 or setting.semantics.first_ticket == "reset"),
        )
        for index in range(tickets)
    )
    return (explore, *refine)


def rewiring(setting: Setting, update_every: int, drop_fraction: float, growth: Growth) -> Rewire:
    """Return the periodic topology update with the switches of the cell's semantics."""
    semantics = setting.semantics
    rule = RewireRule(
        growth=growth,
        # Only the switches that can act are part of the identity: gradient growth draws nothing.
        random_growth=semantics.random_growth if growth == "random" else "exact",
        dense_layers=semantics.dense_layers,
        regrow_dropped=semantics.regrow_dropped,
        ties=semantics.ties,
        inactive_momentum=semantics.inactive_momentum,
    )
    return Rewire(
        every=update_every,
        drop_fraction=drop_fraction,
        schedule=semantics.drop_schedule,
        update_step=semantics.update_step,
        rule=rule,
    )


def _divide(epochs: int, exploration_epochs: int, tickets: int) -> int:
    """Return (epochs - exploration_epochs) / tickets, or say why it is not a whole number of at least 2."""
    rest = epochs - exploration_epochs
    if rest < 2 * tickets or rest % tickets:
        fits = exploration_epochs + tickets * max(2, round(rest / tickets / 2) * 2)
        raise UserError(
            f"recipe.epochs: {epochs} less {exploration_epochs} epochs of exploration do not divide into {tickets} "
            f"equal refinements; {fits} would"
        )
    return rest // tickets
