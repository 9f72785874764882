"""What a user names in a module of their own, as `package.module:name`: a method, a network, a data set, a topic."""

from importlib import import_module
from typing import Any


def find_elsewhere(name: str) -> Any:
    """Return what `package.module:name` names; ImportError that says why there is none, whatever the module does."""
    module, _, attributes = name.partition(":")
    try:
        found: Any = import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (Exception, SystemExit) as error:  # importing runs the user's code, which can raise anything, and exit
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        hint = "; a package that is not installed is found where PYTHONPATH names its folder" if absent else ""
        raise ImportError(f"cannot be imported: {type(error).__name__}: {error}{hint}") from error
    return found
