"""A method by name, its parameters checked against the signature of its recipe, and what it returns.

A method is an entry of bench.recipes.METHODS, or any `package.module:function` with the same first argument.
"""

import inspect
from functools import lru_cache
from traceback import extract_tb
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model

from bench.errors import UserError, did_you_mean
from bench.recipes import METHODS, Method, RecipeWithParent, Setting
from bench.spec.elsewhere import find_elsewhere
from bench.spec.messages import Locate, shown, validated
from bench.spec.phases import Phase
from bench.spec.record import Record


def find_method(name: str, locate: Locate) -> Method:
    """Return the method of a cell; UserError if there is none of that name."""
    if ":" not in name:
        if name not in METHODS:
            other = ", or a function elsewhere as package.module:function"
            raise UserError(f"{locate('method')}: found {shown(name)}{did_you_mean(name, METHODS)}{other}")
        return METHODS[name]
    try:
        recipe = find_elsewhere(name)
    except ImportError as error:
        raise UserError(f"{locate('method')}: {name!r} {error}") from None
    if not callable(recipe):
        raise UserError(f"{locate('method')}: {name!r} is not a function")
    method = Method(recipe)
    try:
        parameters_of(method)
    except Exception as error:  # annotations may name what is not there
        raise UserError(f"{locate('method')}: {name!r}: {_described(error)}") from None
    return method


def make_phases(
    method: Method, name: str, parameters: dict[str, Any], setting: Setting, locate: Locate
) -> RecipeWithParent:
    """Return the phases of a recipe, and of its parent if it has one.

    UserError for parameters it does not have or that make no schedule.
    """
    try:
        checked = validated(parameters_of(method), parameters, lambda *keys: locate("recipe", *keys))
    except UserError as error:  # a value on an axis or in base meets methods that it may not suit
        raise UserError(f"{error} (parameters of {name!r})") from None
    arguments = dict(checked)
    try:
        phases = method.recipe(setting, **arguments)
    except UserError as error:
        # A recipe begins with the parameter, "recipe.epochs: ..."; say where in the grid it was written.
        keys, _, reason = str(error).partition(": ")
        known = keys.startswith("recipe.")
        raise UserError(f"{locate(*keys.split('.'))}: {reason}" if known else f"{locate('recipe')}: {error}") from None
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise UserError(f"{locate('recipe')}: {name} with {given} makes no schedule: {reason}") from None
    except Exception as error:
        if ":" not in name:  # a mistake of ours
            raise
        raise UserError(f"{locate('method')}: {name!r} raised {_described(error)}") from None
    if isinstance(phases, RecipeWithParent):
        return phases
    if isinstance(phases, tuple) and phases and all(isinstance(phase, Phase) for phase in phases):
        return RecipeWithParent(phases=phases, parent=())
    raise UserError(
        f"{locate('method')}: {name!r} must return a tuple of bench.spec.phases.Phase, or a "
        "bench.recipes.RecipeWithParent"
    )


@lru_cache
def parameters_of(method: Method) -> type[Record]:
    """Return a record with one field for each parameter of a recipe after the setting."""
    hints = get_type_hints(method.recipe, include_extras=True)
    parameters = list(inspect.signature(method.recipe).parameters.values())[1:]
    for p in parameters:
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            raise UserError(f"found the parameter {p}; a recipe needs named parameters, which are its keys in a grid")
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is inspect.Parameter.empty else p.default) for p in parameters
    }
    return create_model("Parameters", __base__=Record, __doc__=method.recipe.__doc__, **fields)


def _described(error: Exception) -> str:
    """Return an error of a recipe from elsewhere: its type, its message, and the line that raised it."""
    if isinstance(error, UserError):
        return str(error)
    last = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
