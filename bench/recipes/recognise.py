"""The method of a run from its phases alone: a spec names none, as a recipe is data.

The name of the last phase tells a recipe of one's own from the methods of the suite, unless it borrows that too.
"""

from dataclasses import dataclass
from functools import cache
from typing import assert_never

from bench.recipes import METHODS, RecipeWithParent, Setting
from bench.spec.phases import LearningRate, Phase, Ramp, parent_weights
from bench.spec.run import RunSpec


@dataclass(frozen=True)
class _Traits:
    """What tells the phases of one method from those of another, however long and many they are."""

    last: str
    rewires: bool
    prunes_on_the_way: bool
    prunes_at_once: bool
    inherits: frozenset[str | None]
    ramps: frozenset[str | None]
    explores_first: bool

    @classmethod
    def of(cls, phases: tuple[Phase, ...]) -> "_Traits":
        return cls(
            last=phases[-1].name.rstrip(" 0123456789"),
            rewires=any(phase.rewire is not None for phase in phases),
            prunes_on_the_way=any(phase.pruning is not None for phase in phases),
            prunes_at_once=any(phase.prunes_at_once for phase in phases),
            inherits=frozenset(parent_weights(action) for phase in phases for action in phase.on_start) - {None},
            ramps=frozenset(_ramp(phase.lr) for phase in phases) - {None},
            explores_first=phases[0].ticket is None,
        )


def _ramp(lr: LearningRate | Ramp) -> str | None:
    """Return the shape of a learning rate that changes with every step, None of one that steps."""
    match lr:
        case Ramp():
            return lr.shape
        case LearningRate():
            return None
        case _:
            assert_never(lr)


@cache
def _methods() -> dict[tuple[_Traits, bool], tuple[str, bool]]:
    """Return each method, and whether its runs may leave several tickets, by its traits and whether it is sparse."""
    known = {}
    for name, method in METHODS.items():
        made = method.recipe(Setting(members=2, learning_rate=0.1))
        phases = made.phases if isinstance(made, RecipeWithParent) else made
        several = sum(phase.ticket is not None for phase in phases) > 1
        known[_Traits.of(phases), method.sparse != "never"] = (name, several)
    return known


def method_of_spec(spec: RunSpec) -> str | None:
    """Return the method of the suite whose runs have such phases, None if there is none."""
    name, several = _methods().get((_Traits.of(spec.phases), spec.topology is not None), (None, True))
    return name if several or spec.tickets == 1 else None
