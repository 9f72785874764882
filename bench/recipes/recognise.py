"""The method of a run from its phases alone: a spec names none, as a recipe is data."""

from dataclasses import dataclass
from functools import cache

from bench.recipes import METHODS, RecipeWithParent, Setting
from bench.spec.phases import Phase, Ramp, parent_weights
from bench.spec.run import RunSpec


@dataclass(frozen=True)
class _Traits:
    """What tells the phases of one method from those of another, however long and many they are."""

    rewires: bool
    prunes_on_the_way: bool
    prunes_at_once: bool
    inherits: frozenset[str | None]
    ramps: frozenset[str]
    explores_first: bool

    @classmethod
    def of(cls, phases: tuple[Phase, ...]) -> "_Traits":
        return cls(
            rewires=any(phase.rewire is not None for phase in phases),
            prunes_on_the_way=any(phase.pruning is not None for phase in phases),
            prunes_at_once=any(phase.prunes_at_once for phase in phases),
            inherits=frozenset(parent_weights(action) for phase in phases for action in phase.on_start) - {None},
            ramps=frozenset(phase.lr.shape for phase in phases if isinstance(phase.lr, Ramp)),
            explores_first=phases[0].ticket is None,
        )


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
