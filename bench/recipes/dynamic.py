"""Dynamic sparse training: one ticket a run (DST), several tickets from one run (EDST), and those merged into one.

Paper, sections 3.2 and 3.3; released code, main_DST.py and main_EDST.py.
"""

from functools import lru_cache
from typing import Annotated

from pydantic import Field

from bench.errors import UserError
from bench.recipes.fixed import step_decay
from bench.recipes.setting import (
    Count,
    Counts,
    Cycles,
    DropFraction,
    Epochs,
    Growth,
    Positive,
    RecipeWithParent,
    RefinementEpochs,
    Select,
    Semantics,
    Setting,
    StepDecayEpochs,
    warmed_up,
)
from bench.spec.phases import GlobalExploration, Inherit, LearningRate, Phase, Prune, Rewire, RewireRule, TicketPolicy

ExplorationFraction = Annotated[float, Field(ge=0, le=1)]


def dst(
    setting: Setting,
    *,
    epochs: StepDecayEpochs = 250,
    decay_epochs: Counts | None = None,
    decay_factor: Positive = 0.1,
    warmup_epochs: Epochs = 0,
    select: Select = "best_validation",
    update_every: Count = 1000,
    drop_fraction: DropFraction = 0.5,
    growth: Growth = "gradient",
) -> tuple[Phase, ...]:
    """Train as step_decay, and every `update_every` steps drop `drop_fraction` of each layer and grow as many."""
    rewire = rewiring(setting.semantics, update_every, drop_fraction, growth)
    (phase,) = step_decay(
        setting,
        epochs=epochs,
        decay_epochs=decay_epochs,
        decay_factor=decay_factor,
        warmup_epochs=warmup_epochs,
        select=select,
    )
    return (phase.model_copy(update={"rewire": rewire}),)


def edst(
    setting: Setting,
    *,
    exploration_epochs: Count = 150,
    refinement_epochs: RefinementEpochs = 100,
    refinement_lengths: Counts | None = None,
    epochs: Count | None = None,
    tickets: Cycles | None = None,
    warmup_epochs: Epochs = 0,
    exploration_fraction: ExplorationFraction = 0.8,
    update_every: Count = 1000,
    drop_fraction: DropFraction = 0.5,
    growth: Growth = "gradient",
) -> tuple[Phase, ...]:
    """Explore at the first learning rate, then refine `tickets` times (x0.1, then x0.01), one ticket each.

    Between refinements, `exploration_fraction` of every layer changes at once (0: nothing does). `tickets` defaults to
    all members, so that a cell is one run a replicate; `epochs`, where given, is the total and sets refinement_epochs.
    `refinement_lengths`, where given, are the epochs at x0.1, x0.01, ... instead of two equal halves.
    """
    tickets = setting.members if tickets is None else tickets
    if refinement_lengths is None:
        if epochs is not None:
            refinement_epochs = _divide(epochs, exploration_epochs, tickets)
        if refinement_epochs % 2:
            raise UserError(
                f"recipe.refinement_epochs: {refinement_epochs} does not divide into two halves (one learning rate "
                f"each); an even number is allowed, such as {refinement_epochs + 1}"
            )
        refinement_lengths = [refinement_epochs // 2] * 2
    elif epochs is not None:
        raise UserError("recipe.epochs: refinement_lengths set the length of a run already; keep one of them")
    lr = setting.learning_rate
    rewire = rewiring(setting.semantics, update_every, drop_fraction, growth)
    rates = tuple(lr / 10 ** (step + 1) for step in range(len(refinement_lengths)))
    changes = tuple(sum(refinement_lengths[:step]) for step in range(1, len(refinement_lengths)))
    first = warmed_up(LearningRate(values=(lr,), warmup_epochs=warmup_epochs), setting.semantics)
    explore = Phase(name="explore", epochs=exploration_epochs, lr=first, rewire=rewire)
    escape = (GlobalExploration(fraction=exploration_fraction, rule=rewire.rule),) if exploration_fraction else ()
    refine = tuple(
        Phase(
            name=f"refine {index + 1}",
            epochs=sum(refinement_lengths),
            lr=LearningRate(values=rates, boundaries=changes),
            rewire=rewire,
            on_start=escape if index else (),
            ticket=TicketPolicy(reset_best=index > 0 or setting.semantics.first_ticket == "reset"),
        )
        for index in range(tickets)
    )
    return (explore, *refine)


def superposed_edst(
    setting: Setting,
    *,
    tickets: Cycles = 3,
    exploration_epochs: Count = 150,
    refinement_epochs: RefinementEpochs = 100,
    exploration_fraction: ExplorationFraction = 0.8,
    update_every: Count = 1000,
    drop_fraction: DropFraction = 0.5,
    growth: Growth = "gradient",
) -> RecipeWithParent:
    """Average all tickets of an EDST run, prune the mean to the cell's sparsity, re-estimate batch norm.

    After Yin et al., UAI 2022 (Sup-tickets: equal weights, global magnitude, batch norm after pruning), whose tickets
    come from short cycles of one DST run; that the tickets are EDST's is this suite's combination. The parent is the
    very run of an EDST cell of so many tickets.
    """
    parent = edst(
        setting,
        exploration_epochs=exploration_epochs,
        refinement_epochs=refinement_epochs,
        tickets=tickets,
        exploration_fraction=exploration_fraction,
        update_every=update_every,
        drop_fraction=drop_fraction,
        growth=growth,
    )
    statistics = Phase(
        name="batch norm",
        epochs=1,
        lr=LearningRate(values=(0.0,)),  # nothing moves but the running statistics
        on_start=(Inherit(weights="average"), Prune()),
        ticket=TicketPolicy(select="last"),
    )
    return RecipeWithParent(phases=(statistics,), parent=parent, parent_sparse=True)


def rewiring(semantics: Semantics, update_every: int, drop_fraction: float, growth: Growth) -> Rewire:
    """Return the periodic topology update with the switches of the semantics."""
    return Rewire(
        every=update_every,
        drop_fraction=drop_fraction,
        schedule=semantics.drop_schedule,
        update_step=semantics.update_step,
        rule=_rule(semantics, growth),
    )


@lru_cache
def _rule(semantics: Semantics, growth: Growth) -> RewireRule:
    return RewireRule(
        growth=growth,
        # Only the switches that can act are part of the identity: gradient growth draws nothing.
        random_growth=semantics.random_growth if growth == "random" else "exact",
        dense_layers=semantics.dense_layers,
        regrow_dropped=semantics.regrow_dropped,
        ties=semantics.ties,
        inactive_momentum=semantics.inactive_momentum,
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
