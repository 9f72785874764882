"""What metrics take besides NumPy arrays: tensors of torch and lists, made arrays at the door of bench.metrics."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, get_args, get_origin

import numpy as np
import numpy.typing as npt

R = TypeVar("R")
Convert = Callable[[Any], Any]


def as_array(values: Any) -> npt.NDArray[Any]:
    """Return values as an array: an array as it is, a tensor of any device with or without gradient, nested lists.

    Lists may hold tensors, as the outputs of several networks are. Half precision becomes float32, which
    holds its values: NumPy has no bfloat16.
    """
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "detach"):  # a tensor; torch itself is not imported here, since analysis starts without it
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() == 2:
            values = values.float()
    if isinstance(values, list | tuple) and _of_tensors(values):
        return np.asarray([as_array(value) for value in values])
    return np.asarray(values)


def _of_tensors(values: Any) -> bool:
    """Whether a nested list holds tensors; the first entry says it for all."""
    while isinstance(values, list | tuple) and len(values):
        values = values[0]
    return hasattr(values, "detach")


def takes_arrays(function: Callable[..., R]) -> Callable[..., R]:
    """Return the function with as_array before every parameter annotated as an array, or as a mapping of arrays.

    A function without such a parameter is returned as it is.
    """
    signature = inspect.signature(function)
    converters = {
        name: convert
        for name, parameter in signature.parameters.items()
        if (convert := _converter(parameter.annotation)) is not None
    }
    if not converters:
        return function

    @wraps(function)
    def metric(*args: Any, **kwargs: Any) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, convert in converters.items():
            if name in bound.arguments:
                bound.arguments[name] = convert(bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return metric


def _converter(annotation: Any) -> Convert | None:
    kind = get_origin(annotation)
    if kind is np.ndarray:
        return as_array
    if kind is tuple:
        parts = [_converter(part) for part in get_args(annotation)]
        if None in parts:
            return None
        return lambda values: tuple(part(value) for part, value in zip(parts, values, strict=True) if part)
    if kind is Mapping:
        convert = _converter(get_args(annotation)[1])
        return None if convert is None else lambda values: {key: convert(value) for key, value in values.items()}
    return None
