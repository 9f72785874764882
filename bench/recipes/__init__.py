"""The methods by name. A method is a function (setting, *, parameters) -> phases; adding one is a line here.

A function outside the repository serves as well, named in a grid as `package.module:function`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.recipes.alternating import acdc
from bench.recipes.cyclic import fge, fge_dst, snapshot, snapshot_dst
from bench.recipes.dynamic import dst, edst, superposed_edst
from bench.recipes.fixed import dense, step_decay
from bench.recipes.pruning import gradual_pruning, lottery_rewinding, prune_finetune
from bench.recipes.setting import PRESETS, RELEASED, STANDARD, RecipeWithParent, Semantics, Setting
from bench.spec.phases import Phase

Recipe = Callable[..., tuple[Phase, ...] | RecipeWithParent]


@dataclass(frozen=True)
class Method:
    """A recipe, and whether its network is sparse: never, always, or as the cell says."""

    recipe: Recipe
    sparse: Literal["never", "always", "optional"] = "optional"


METHODS: dict[str, Method] = {
    "dense": Method(dense, sparse="never"),
    "static": Method(step_decay, sparse="always"),
    "dst": Method(dst, sparse="always"),
    "edst": Method(edst, sparse="always"),
    "superposed_edst": Method(superposed_edst, sparse="always"),
    "prune_finetune": Method(prune_finetune, sparse="always"),
    "lottery_rewinding": Method(lottery_rewinding, sparse="always"),
    "gradual_pruning": Method(gradual_pruning, sparse="always"),
    "acdc": Method(acdc, sparse="always"),
    "snapshot": Method(snapshot, sparse="never"),
    "snapshot_dst": Method(snapshot_dst, sparse="always"),
    "fge": Method(fge, sparse="never"),
    "fge_dst": Method(fge_dst, sparse="always"),
}

__all__ = ["METHODS", "PRESETS", "RELEASED", "STANDARD", "Method", "Recipe", "RecipeWithParent", "Semantics", "Setting"]
