"""AC/DC: dense and sparse phases alternate, and the last one is sparse (Peste et al., NeurIPS 2021)."""

from bench.errors import UserError
from bench.recipes.fixed import part, step_schedule
from bench.recipes.setting import Count, Setting, StepDecayEpochs
from bench.spec.phases import Densify, Phase, Prune, TicketPolicy


def acdc(
    setting: Setting,
    *,
    epochs: StepDecayEpochs = 250,
    first_dense_epochs: Count = 10,
    alternation_epochs: Count = 20,
) -> tuple[Phase, ...]:
    """Train dense, then alternate: prune by magnitude and train under fixed masks, make all weights active and train.

    A sparse and a dense phase last `alternation_epochs` each; the last sparse phase takes the epochs that are left, at
    least as many, and leaves the ticket. Of 200 epochs that is the published schedule for CIFAR-100 (10 epochs dense,
    switches every 20 epochs, 30 epochs sparse). The learning rate is that of `step_decay`. The released code resets all
    momentum when the network becomes dense again; here that of the revived weights is zero, and the rest goes on.
    """
    rest = epochs - first_dense_epochs
    if rest < alternation_epochs:
        raise UserError(
            f"recipe.epochs: found {epochs}; {first_dense_epochs} dense epochs and a sparse phase of "
            f"{alternation_epochs} need at least {first_dense_epochs + alternation_epochs}"
        )
    switches = range(first_dense_epochs, epochs - alternation_epochs + 1, alternation_epochs)
    # An even number of phases in all: the dense phase that would be last belongs to the sparse one before it.
    starts = [0, *switches][: (len(switches) + 1) // 2 * 2]
    schedule = step_schedule(setting.learning_rate, epochs, None, 0.1)
    phases = []
    for index, (start, stop) in enumerate(zip(starts, [*starts[1:], epochs], strict=True)):
        sparse = index % 2 == 1
        phases.append(
            Phase(
                name=f"{'sparse' if sparse else 'dense'} {index // 2 + 1}",
                epochs=stop - start,
                lr=part(schedule, start, stop),
                on_start=(Prune(),) if sparse else (Densify(),) if index else (),
                ticket=TicketPolicy() if stop == epochs else None,
            )
        )
    return tuple(phases)
