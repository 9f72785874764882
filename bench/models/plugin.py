"""Networks of the user's own: any importable callable `factory(classes, **arguments) -> torch.nn.Module`.

Factories of torchvision and timm, which call the outputs num_classes, are taken as they are. Arguments are read from
the signature, the layer table by tracing what the factory returns; torch is imported for the trace alone.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

from bench.models.tables import Layer, Rest
from bench.spec.elsewhere import find_elsewhere

Argument = int | float | bool | str
IMAGE_CHANNELS = 3
# Parameters of a factory that the suite fills in: outputs, and input channels where it takes them.
OUTPUTS = ("classes", "num_classes")
OURS = (*OUTPUTS, "channels")


@dataclass(frozen=True)
class Plugin:
    """What a factory's signature says of it: arguments with defaults, those without, whether it takes channels."""

    factory: str
    arguments: dict[str, Argument]
    required: dict[str, type[Argument]]
    takes_channels: bool

    def layers(self, classes: int, image_size: int, /, **arguments: Argument) -> tuple[Layer, ...]:
        """Return the traced weight layers, in parameter order; ValueError where the factory refuses or can't run."""
        return _traced(self.factory, classes, image_size, tuple(sorted(arguments.items())))[0]

    def rest(self, classes: int, image_size: int, /, **arguments: Argument) -> Rest:
        """Return what the network has beside its weight layers; ValueError as for layers()."""
        return _traced(self.factory, classes, image_size, tuple(sorted(arguments.items())))[1]

    def blocks(self, **arguments: Argument) -> tuple[str, ...]:  # noqa: ARG002, as of every network
        """Return no blocks: a trace does not know them."""
        return ()


def import_factory(name: str) -> Callable[..., Any]:
    """Return the callable that `package.module:factory` names; ValueError if there is none."""
    try:
        factory = find_elsewhere(name)
    except ImportError as error:
        raise ValueError(f"{name} {error}") from error
    if not callable(factory):
        raise ValueError(f"{name} is a {type(factory).__name__}, not a callable that returns a torch.nn.Module")
    return typing.cast(Callable[..., Any], factory)


def call_factory(name: str, classes: int, /, **arguments: Argument) -> Any:
    """Return what `package.module:factory` makes, the number of classes under the name that the factory has for it."""
    factory = import_factory(name)
    return factory(**{_outputs(inspect.signature(factory).parameters) or "classes": classes}, **arguments)


def _outputs(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Return which parameter is the number of outputs, None if none is; torchvision and timm hand it on with others."""
    named = next((name for name in OUTPUTS if name in parameters), None)
    handed_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return named or ("num_classes" if handed_on else None)


@cache
def load_plugin(name: str) -> Plugin:
    """Return what the signature of `package.module:factory` says; ValueError where it is no factory of networks."""
    factory = import_factory(name)
    try:
        parameters = inspect.signature(factory).parameters
        annotations = typing.get_type_hints(
            vars(factory).get("__init__", factory) if isinstance(factory, type) else factory
        )
    except (TypeError, ValueError, NameError) as error:
        raise ValueError(f"the arguments of {name} cannot be read: {error}") from error
    if _outputs(parameters) is None:
        raise ValueError(
            f"{name} has no parameter `classes` or `num_classes`, the number of outputs; where yours is called "
            "otherwise, name a function of your own that calls it"
        )
    arguments: dict[str, Argument] = {}
    required: dict[str, type[Argument]] = {}
    for key, parameter in parameters.items():
        if key in OURS or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default, annotation = parameter.default, annotations.get(key)
        if isinstance(default, Argument):
            # A float with an integer as its default is a float.
            arguments[key] = float(default) if annotation is float else default
        elif default is parameter.empty:
            if annotation not in (int, float, bool, str):
                raise ValueError(
                    f"argument {key!r} of {name} needs a default, or an annotation: int, float, bool or str"
                )
            required[key] = annotation
    return Plugin(name, arguments, required, "channels" in parameters)


@lru_cache(maxsize=256)  # a plan asks for the same few tables thousands of times
def _traced(
    name: str, classes: int, image_size: int, arguments: tuple[tuple[str, Argument], ...]
) -> tuple[tuple[Layer, ...], Rest]:
    from bench.models.trace import trace_network

    channels = dict(arguments).get("channels", IMAGE_CHANNELS)
    build = partial(call_factory, name, classes, **dict(arguments))
    try:
        return trace_network(build, (int(channels), image_size, image_size), classes)
    except Exception as error:  # the user's code again
        raise ValueError(f"{name} cannot be built or traced: {type(error).__name__}: {error}") from error
