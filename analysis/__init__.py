from typing import TYPE_CHECKING, Any

import bench  # noqa: F401, as it refuses a Python that is too old before anything is imported that is not there

if TYPE_CHECKING:
    from analysis.frames import load_results

__all__ = ["load_results"]


def __getattr__(name: str) -> Any:
    if name == "load_results":  # imported when it is asked for, with pandas and matplotlib
        from analysis.frames import load_results

        return load_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
