"""The methods by name. A method is a function (setting, *, parameters) -> phases; adding one is a line here.

A function outside the repository serves as well, named in a grid as `package.module:function`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.recipes.dynamic import dst, edst
from bench.recipes.fixed import step_decay
from bench.recipes.setting import PRESETS, RELEASED, STANDARD, Semantics, Setting
from bench.spec import Phase

Recipe = Callable[..., tuple[Phase, ...]]


@dataclass(frozen=True)
class Method:
    """A recipe, and whether its network is sparse: never, always, or as the cell says."""

    recipe: Recipe
    sparse: Literal["never", "always", "optional"] = "optional"


METHODS: dict[str, Method] = {
    "dense": Method(step_decay, sparse="never"),
    "static": Method(step_decay, sparse="always"),
    "dst": Method(dst, sparse="always"),
    "edst": Method(edst, sparse="always"),
}

__all__ = ["METHODS", "PRESETS", "RELEASED", "STANDARD", "Method", "Recipe", "Semantics", "Setting"]
